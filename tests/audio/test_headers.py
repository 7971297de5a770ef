"""Headers that tell less, more or nothing of the sound, and files joined from several."""

from __future__ import annotations

import io
import struct
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.stream import Disposition
from numpy.typing import NDArray
from sounds import loudest_hz, music, tone, write_with_ffmpeg

from deepmusic.audio import load, open_audio
from deepmusic.audio.chunks import mended
from deepmusic.audio.scan import AudioScan, scan_file
from deepmusic.errors import AudioError

RATE = 8000
SOUND = np.stack([music(3, 1, RATE), music(3, 2, RATE)], axis=1)
# kind: endianness, name of the chunk, where its size is, its form, bytes counted besides the sound
SIZES = {
    "WAV": ("LITTLE", b"data", 4, "<I", 0),
    "RIFX": ("BIG", b"data", 4, ">I", 0),
    "RF64": ("FILE", b"ds64", 16, "<Q", 0),
    "BW64": ("FILE", b"ds64", 16, "<Q", 0),
    "W64": ("FILE", b"data\xf3\xac", 16, "<q", 24),
    "AIFF": ("FILE", b"SSND", 4, ">I", 8),
    "AU": ("BIG", b".snd", 8, ">I", 0),
    "AUL": ("LITTLE", b"dns.", 8, "<I", 0),
    "CAF": ("FILE", b"data", 4, ">q", 4),
}
NOTE = {
    "WAV": b"LIST" + struct.pack("<I", 8000) + b"INFO" + b"\x55" * 7996,
    "RIFX": b"LIST" + struct.pack(">I", 8000) + b"INFO" + b"\x55" * 7996,
    "AIFF": b"ID3 " + struct.pack(">I", 8001) + b"\x55" * 8002 + b"ANNO\0\0\0\4text",
    "CAF": b"info" + struct.pack(">q", 7999) + b"\x55" * 7999,
    "W64": bytes.fromhex("6c6973742f91cf11a5d628db04c10000") + struct.pack("<q", 424) + bytes(400),
}  # fmt: skip
NOTE |= {"RF64": NOTE["WAV"] + b"id3 \2\0\0\0XX", "BW64": NOTE["WAV"]}


def file_of(kind: str, claim: int | None = None, *, note: bool = False) -> bytes:
    """A file whose header claims so many bytes of sound, or what there are."""
    endian, name, at, form, counted = SIZES[kind]
    buffer = io.BytesIO()
    container = {"RIFX": "WAV", "BW64": "RF64", "AUL": "AU"}.get(kind, kind)
    soundfile.write(buffer, SOUND, RATE, format=container, subtype="PCM_16", endian=endian)
    data = bytearray(buffer.getvalue())
    if kind == "BW64":
        data[:4] = b"BW64"
    if note:
        data += NOTE[kind]
    if claim is not None:
        at += data.index(name)
        claim += counted if 0 < claim < 1 << 31 else 0
        data[at : at + struct.calcsize(form)] = struct.pack(form, claim)
    return bytes(data)


def decoded(data: bytes) -> tuple[NDArray[np.float32], AudioScan]:
    blocks: list[NDArray[np.float32]] = []
    with open_audio(
        io.BytesIO(data), sample_rate=None, on_block=lambda block, *_: blocks.append(block)
    ) as stream:
        list(stream)
    faults, damage = stream.faults, stream.damage or ""
    scan = AudioScan("", header_s=stream.header_s, faults=faults, damage=damage)
    return np.concatenate(blocks), scan


PCM = np.round(SOUND * 32768) / 32768


@pytest.mark.parametrize("claim", ["true", "none", "unknown", "streamed", "small"])
@pytest.mark.parametrize(("kind", "note"), [*product(SIZES, [False]), *product(NOTE, [True])])
def test_sound_is_read_to_its_end_whatever_its_size_says(kind: str, note: bool, claim: str) -> None:
    form = SIZES[kind][3]
    bits = 8 * struct.calcsize(form)
    unknown = -1 if form.islower() and form[1] == "q" else (1 << bits) - 1
    claims = {"none": 0, "unknown": unknown, "streamed": 0x7FFFF000, "small": 16_000}
    if bits == 64:
        claims["streamed"] = (1 << 63) - 32
    samples, scan = decoded(file_of(kind, claims.get(claim), note=note))
    np.testing.assert_allclose(samples, PCM, atol=1e-4)
    assert (scan.faults, scan.damage) == ((), "")
    if claim == "small":
        assert scan.header_s == pytest.approx(0.5)  # `data check` says that there is more


@pytest.mark.parametrize("kind", SIZES)
def test_a_true_size_is_believed_without_ado(kind: str, tmp_path: Path) -> None:
    for tail in (b"", NOTE.get(kind, b""), b"TAG" + bytes(125), NOTE.get(kind, b"")[:3000]):
        path = tmp_path / "song"
        path.write_bytes(file_of(kind) + tail)
        with open(path, "rb", buffering=0) as file:
            assert mended(file) == (file, 1.0) or kind == "W64"
        assert decoded(path.read_bytes())[0].shape == SOUND.shape


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "head"), [("WAV", 44), ("RIFX", 44), ("AIFF", 54), ("AU", 24)])
def test_a_size_that_wrapped_at_4_gib(kind: str, head: int, tmp_path: Path) -> None:
    path = tmp_path / "long"
    note = NOTE.get(kind, b"")
    size = (1 << 32) + 1_000_000
    with open(path, "wb") as out:
        out.write(file_of(kind, 1_000_000)[: head + 1_000_000])
        try:
            out.seek(head + size)
            out.write(note)
            out.truncate(head + size + len(note))  # of holes: it takes no space
        except OSError:
            pytest.skip("files of this file system are shorter than 4 GiB")
    with open(path, "rb", buffering=0) as file:
        whole, share = mended(file)
        whole.seek(0)
        with soundfile.SoundFile(whole) as sound:
            if kind in ("WAV", "AU"):
                assert (sound.frames, share) == (size // 4, None)
            else:  # libsndfile reads only up to here: the header's promise says so
                assert sound.frames * (share or 0) == pytest.approx(size // 4)
            sound.seek(1000)
            np.testing.assert_allclose(sound.read(1000), PCM[1000:2000], atol=1e-4)


@pytest.mark.parametrize("kind", ["WAV", "AIFF"])
def test_a_file_that_was_cut_is_called_so(kind: str) -> None:
    samples, scan = decoded(file_of(kind)[:-20_000])
    assert len(samples) == len(SOUND) - 5000
    assert scan.faults == ("cut_off",)


def test_a_size_that_is_too_large_before_other_chunks() -> None:
    size = SOUND.size * 2
    samples, scan = decoded(file_of("WAV", 2 * size, note=True))
    assert samples.shape == SOUND.shape
    assert scan.header_s == pytest.approx(6)
    assert scan.faults == ("header_length",)
    assert decoded(file_of("WAV", size + 40, note=True))[1].faults == ("header_length",)


@pytest.mark.parametrize("claimed", [1, 20, 400])
def test_a_count_of_mp3_frames_that_is_too_small(claimed: int) -> None:
    for sound in (tone(6, 22050), music(6, 3, 22050)):
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, 22050, format="MP3")
        data = bytearray(buffer.getvalue())
        at = data.index(b"Info" if b"Info" in data else b"Xing")
        data[at + 8 : at + 12] = claimed.to_bytes(4, "big")
        samples, scan = decoded(bytes(data))
        assert len(samples) / 22050 == pytest.approx(6, abs=0.2)
        assert bool(scan.faults) == (claimed == 400)


@pytest.mark.data
def test_cases_of_wrong_sizes(shared_data: Path) -> None:
    cases = shared_data / "cases" / "audio"
    expected = load(cases / "music.wav")
    for name in ("piped.wav", "wav-data-size-too-small.wav"):
        audio = load(cases / name)
        assert audio.warning is None
        np.testing.assert_array_equal(audio.samples, expected.samples)


# --------------------------------------------------------------------------------- FLAC


def flac(path: Path, *, bits: int = 16, channels: int = 2, seed: int = 0) -> bytes:
    noise = 0.2 * np.random.default_rng(seed).standard_normal((2 * RATE, channels))
    soundfile.write(path, noise, RATE, subtype="PCM_S8" if bits == 8 else f"PCM_{bits}")
    return path.read_bytes()


@pytest.mark.parametrize(("bits", "channels"), [(8, 1), (16, 2), (16, 5), (24, 1)])
def test_the_md5_of_a_flac_is_compared(bits: int, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    data = flac(path, bits=bits, channels=channels)
    assert scan_file(path).faults == ()
    for head in (b"", b"ID3\4\0\0\0\0\1\0" + bytes(128)):
        path.write_bytes(head + data[:26] + bytes(15) + b"\1" + data[42:])
        scan = scan_file(path)
        assert scan.faults == ("damaged",)
        assert "MD5" in scan.damage
        path.write_bytes(head + data[:26] + bytes(16) + data[42:])  # none was taken
        assert scan_file(path).faults == ()


def test_any_hole_in_a_flac_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    data = flac(path, channels=1)
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(audio=0) if packet.size]
    start = len(data) - sum(sizes)
    second, third = start + sizes[0], start + sizes[0] + sizes[1]
    path.write_bytes(data[:second] + data[third:])
    assert "damaged" in scan_file(path).faults  # libsndfile fills whole frames with silence
    for end in (third, second + 400):
        path.write_bytes(data[: second + 50] + data[end:])
        scan = scan_file(path)
        assert scan.duration_s < 2
        assert set(scan.faults) == {"header_length", "damaged"}
    # the length and the MD5 are unknown, as when piped: the numbers of the frames remain
    blank = data[:21] + bytes([data[21] & 0xF0]) + bytes(20) + data[42:]
    path.write_bytes(blank)
    assert scan_file(path).faults == ()
    path.write_bytes(blank[: second + 50] + blank[third:])
    assert scan_file(path).faults == ("damaged",)


def test_a_flac_that_lacks_a_few_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    data = bytearray(flac(path))
    data[22:26] = (2 * RATE + 40).to_bytes(4, "big")
    path.write_bytes(data)
    with open_audio(path) as stream:
        list(stream)
    assert stream.faults == ("header_length",)
    assert stream.warning is not None
    assert "5 ms" in stream.warning


@pytest.mark.parametrize(("extension", "codec"), [("wv", "wavpack"), ("tta", "tta")])
def test_a_short_hole_in_other_lossless_files(extension: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"song.{extension}"
    write_with_ffmpeg(path, music(8, 5, 44_100), 44_100, codec)
    assert scan_file(path).faults == ()
    with av.open(str(path)) as container:
        second = list(container.demux(audio=0))[1]
    data, start = path.read_bytes(), second.pos or 0
    path.write_bytes(data[:start] + data[start + second.size :])
    assert scan_file(path).faults


@pytest.mark.data
def test_case_of_a_flac_with_a_hole(shared_data: Path) -> None:
    scan = scan_file(shared_data / "cases" / "audio" / "flac-hole.flac")
    assert set(scan.faults) == {"header_length", "damaged"}


# ------------------------------------------------------------------------------ joined files

ID3V2 = b"ID3\4\0\0\0\0\x40\0" + b"\xff\xfb\x90\x64" * 2048  # what looks like frames is a picture
ID3V1 = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 2000, 9, 0xA0000000) + bytes(8 + 2000)


def mp3(hz: float, rate: int, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    sound = np.stack([tone(3, rate, hz=hz)] * channels, axis=1)
    soundfile.write(buffer, sound, rate, format="MP3")
    return buffer.getvalue()


@pytest.mark.parametrize("between", [b"", ID3V1, ID3V2, APE, APE + ID3V1 + ID3V2])
@pytest.mark.parametrize("second", [(22050, 1), (44100, 2), (44100, 1), (16000, 2)])
def test_joined_mp3s_are_heard_whole(between: bytes, second: tuple[int, int]) -> None:
    data = ID3V2 + mp3(440, 22050) + between + mp3(880, *second) + ID3V1
    with open_audio(io.BytesIO(data)) as stream:
        samples = np.concatenate(list(stream))
    assert (stream.faults, stream.warning) == ((), None)
    assert len(samples) == pytest.approx(6 * 22050, abs=100)
    assert stream.header_s == pytest.approx(6, abs=0.01)
    assert loudest_hz(samples[:66_000], 22050) == pytest.approx(440, abs=1)
    assert loudest_hz(samples[66_300:], 22050) == pytest.approx(880, abs=1)
    joint = samples[3 * 22050 - 600 : 3 * 22050 + 600].reshape(-1, 60)
    assert np.sqrt(np.mean(joint**2, axis=1)).min() > 0.2  # no silent frame where they meet


@pytest.mark.slow
def test_damage_in_joined_mp3s_is_found(rng: np.random.Generator) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, rng.uniform(-0.5, 0.5, 6 * 22050), 22050, format="MP3")
    whole = buffer.getvalue()
    third = len(whole) // 3
    for hole in (b"", bytes(6000), bytes(range(250)) * 24):
        holed = whole[:third] + hole + whole[third + 6000 :]
        for data in (whole + holed, holed + whole, whole + ID3V1 + ID3V2 + holed):
            with open_audio(io.BytesIO(data)) as stream:
                list(stream)
            assert stream.faults
            assert stream.duration_s > 10


@pytest.mark.data
def test_case_of_joined_mp3s(shared_data: Path) -> None:
    cases = shared_data / "cases" / "audio"
    joined, single = load(cases / "two-mp3s-joined.mp3"), load(cases / "music.mp3")
    assert joined.warning is None
    twice = np.concatenate([single.samples, single.samples])
    np.testing.assert_allclose(joined.samples, twice[: len(joined.samples)], atol=0.1)
    assert len(joined.samples) == pytest.approx(len(twice), abs=50)


def joinable(kind: str, hz: float, rate: int, channels: int, seconds: float = 2) -> bytes:
    container, _, coding = kind.partition(" ")
    sound = np.stack([tone(seconds, rate, hz=hz)] * channels, axis=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format=container, subtype=coding or None)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", [*sorted(SIZES.keys() & {*soundfile.available_formats()}), "FLAC", "OGG", "OGG OPUS"]
)
@pytest.mark.parametrize("second", [(24_000, 1), (48_000, 2)])
def test_other_joined_files_are_heard_whole(
    kind: str, second: tuple[int, int], tmp_path: Path
) -> None:
    note = NOTE.get(kind, b"")
    data = joinable(kind, 440, 24_000, 1) + note + joinable(kind, 880, *second, seconds=4)
    path = tmp_path / "joined"
    path.write_bytes(data + joinable(kind, 1320, *second, seconds=0.25))
    with open_audio(path, sample_rate=24_000) as stream:
        samples = np.concatenate(list(stream))
    assert (stream.faults, stream.warning, stream.decoder) == ((), None, "libsndfile")
    assert stream.header_s == pytest.approx(6.25, abs=0.01)
    assert len(samples) == pytest.approx(6.25 * 24_000, abs=100)
    for start, end, hz in ((0, 2, 440), (2, 6, 880), (6, 6.25, 1320)):
        part = samples[round(start * 24_000) + 100 : round(end * 24_000) - 100]
        assert loudest_hz(part, 24_000) == pytest.approx(hz, abs=5)
    assert scan_file(path).faults == ()


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "OGG"])
def test_damage_in_other_joined_files_is_found(kind: str) -> None:
    first, second = joinable(kind, 440, RATE, 1), joinable(kind, 880, RATE, 1)
    broken = second[:200] + bytes(2000) + second[2200:]
    for data in (first + second[: len(second) // 2], *([first + broken] if kind == "FLAC" else [])):
        with open_audio(io.BytesIO(data)) as stream:
            list(stream)
        assert stream.faults
        assert stream.duration_s >= 2
    # no second file: its name alone in the samples
    sound = np.frombuffer(b"RIFFxxxxWAVEfLaC\0\0\0\x22" * 2000, "<i2")
    for data in (soundfile_bytes(sound, "WAV"), soundfile_bytes(sound, "FLAC")):
        assert len(load(io.BytesIO(data), sample_rate=RATE).samples) == len(sound)


def soundfile_bytes(sound: NDArray[np.int16], kind: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format=kind)
    return buffer.getvalue()


# --------------------------------------------------------------------------- sound tracks


def write_tracks(path: Path, marks: list[Disposition], *, picture: bool = False) -> None:
    """A file with a sound track for each mark: tones of 300, 600, 900 Hz."""
    rate = 44_100
    with av.open(str(path), "w") as container:
        tracks = []
        if picture:
            cover = container.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
            if path.suffix == ".mp4":
                cover.disposition = Disposition.attached_pic
        for mark in marks:
            track = container.add_stream("aac", rate=rate, layout="mono")
            track.disposition = mark
            tracks.append(track)
        if picture:
            image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(cover.encode(image))
            container.mux(cover.encode(None))
        for number, track in enumerate(tracks, start=1):
            sound = tone(2 + number, rate, hz=300 * number)
            for start in range(0, len(sound) - 1024, 1024):
                piece = sound[None, start : start + 1024]
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = rate, start
                container.mux(track.encode(frame))
            container.mux(track.encode(None))


D = Disposition


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extension", "picture"), [("mka", False), ("mkv", True), ("mp4", False), ("mp4", True)]
)
@pytest.mark.parametrize(
    ("marks", "chosen"),
    [
        ([D(0), D.default], 2),
        ([D.default, D(0)], 1),
        ([D(0), D(0), D.default], 3),
        ([D.default, D.default], 1),
        ([D.comment, D.default], 2),
        ([D.default | D.comment, D.default], 2),
    ],
)
def test_the_default_track_is_taken(
    marks: list[Disposition], chosen: int, extension: str, picture: bool, tmp_path: Path
) -> None:
    path = tmp_path / f"song.{extension}"
    write_tracks(path, marks, picture=picture)
    audio = load(path)
    if extension != "mp4" or D.comment not in marks[0]:  # mp4 has no such mark
        assert loudest_hz(audio.samples, 22050) == pytest.approx(300 * chosen, abs=2)
        assert audio.duration_s == pytest.approx(2 + chosen, abs=0.1)
    assert audio.warning is None


def test_a_track_in_an_unknown_coding_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "song.mka"
    write_tracks(path, [D.default, D(0)])
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_XYZ", 1))
    audio = load(path)
    assert loudest_hz(audio.samples, 22050) == pytest.approx(600, abs=2)


@pytest.mark.data
def test_case_of_a_second_track(shared_data: Path) -> None:
    cases = shared_data / "cases" / "audio"
    with av.open(str(cases / "second-track-is-default.mka")) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=1)]
    audio = load(cases / "second-track-is-default.mka", sample_rate=44_100)
    np.testing.assert_array_equal(audio.samples, np.concatenate(frames))


# ------------------------------------------------------------------------------- garbage


def test_garbage_far_beyond_full_scale_is_refused(rng: np.random.Generator) -> None:
    noise = rng.standard_normal(30_000).astype("f4")
    for level in (1e8, 1e9, 1e30):
        with pytest.raises(AudioError, match="holds no sound") as caught:
            load((noise * np.float32(level), 22050))
        assert caught.value.code == "not_finite"
    bursts = np.where(np.arange(30_000) % 3000 < 30, 1e9, noise).astype("f4")
    with pytest.raises(AudioError, match=r"1\.0% of its samples"):
        load((bursts, 22050))


def test_integers_stored_as_floats_are_sound(rng: np.random.Generator) -> None:
    noise = rng.uniform(-1, 1, 30_000)
    for scale in (1, 1e3, 2**15, 2**23):
        assert load((noise * scale, 22050)).warning is None
