"""Decoding: formats, sources, damage, streaming, threads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from sounds import loudest_hz, tone, write_with_ffmpeg

from deepmusic.audio import load, open_audio
from deepmusic.errors import AudioError
from peak_memory import PEAK_MB

RATE = 22050


def code_of(source: object) -> str:
    with pytest.raises(AudioError) as caught:
        load(source)  # type: ignore[arg-type]
    return caught.value.code


def wav_bytes(
    samples: NDArray[np.float32], sample_rate: int = RATE, subtype: str = "FLOAT"
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype=subtype)
    return file.getvalue()


# ------------------------------------------------------------------------------ formats

LIBSNDFILE = ["wav", "flac", "ogg", "opus", "mp3", "aiff", "au", "w64", "caf", "rf64"]
FFMPEG = {
    "aac.m4a": "aac",
    "alac.m4a": "alac",
    "bare.aac": "aac",
    "song.wma": "wmav2",
    "song.webm": "libopus",
    "video.webm": "libopus",
    "video.mp4": "aac",
    "video.mkv": "flac",
    "video.avi": "mp2",
    "song.tta": "tta",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LIBSNDFILE, *FFMPEG])
def test_formats(name: str, tmp_path: Path) -> None:
    codec = FFMPEG.get(name)
    rate = 48000 if "opus" in (name, (codec or "")[3:]) else 44100
    path = tmp_path / (name if codec else f"song.{name}")
    if codec:
        picture = None
        if name.startswith("video"):
            picture = "libvpx" if name == "video.webm" else "mpeg4"
        write_with_ffmpeg(path, tone(3, rate), rate, codec, picture=picture)
    elif name == "opus":
        soundfile.write(path, tone(3, rate), rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, tone(3, rate), rate, format=name.upper())
    with open_audio(path) as stream:
        samples = np.concatenate(list(stream))
        assert stream.decoder == ("ffmpeg" if codec else "libsndfile")
        assert stream.warning is None
        assert (stream.source_rate, stream.channels) == (rate, 1)
    assert len(samples) == pytest.approx(3 * RATE, abs=0.1 * RATE)
    assert loudest_hz(samples, RATE) == pytest.approx(440, abs=0.5)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


def test_mp3_agrees_with_librosa(shared_data: Path) -> None:
    for path in sorted((shared_data / "clips").glob("*.mp3"))[:3]:
        expected, _ = librosa.load(path, sr=RATE)
        audio = load(path)
        assert audio.warning is None
        assert audio.channels == 2
        assert len(audio.samples) == len(expected)
        np.testing.assert_allclose(audio.samples, expected, atol=2e-5)


@pytest.mark.parametrize("source_rate", [8000, 7919, 11025, 22050, 44100, 48000, 192000])
def test_resampling_in_blocks_equals_resampling_at_once(
    source_rate: int, rng: np.random.Generator
) -> None:
    noise = rng.uniform(-0.9, 0.9, round(3.3 * source_rate)).astype("f4")
    audio = load(io.BytesIO(wav_bytes(noise, source_rate)))
    expected = soxr.resample(noise, source_rate, RATE, quality="HQ")
    assert audio.samples.dtype == np.float32
    assert abs(len(audio.samples) - len(expected)) <= 1
    n = min(len(expected), len(audio.samples))
    np.testing.assert_allclose(audio.samples[:n], expected[:n], atol=1e-5)
    assert audio.duration_s == pytest.approx(3.3, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_mono_is_the_mean_of_the_channels(channels: int, rng: np.random.Generator) -> None:
    noise = rng.uniform(-0.9, 0.9, (2 * RATE + 17, channels)).astype("f4")
    audio = load(io.BytesIO(wav_bytes(noise)))
    assert audio.channels == channels
    np.testing.assert_allclose(audio.samples, noise.mean(axis=1), atol=1e-6)


def test_planar_and_packed_frames_of_ffmpeg_keep_their_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object) -> object:
        raise AudioError("not today", code="not_audio")

    monkeypatch.setattr("deepmusic.audio.decode.SndfileReader", refuse)
    chord = np.stack([tone(2, RATE, hz=440), tone(2, RATE, hz=700)], axis=1)
    for kind in ("WAV", "FLAC", "OGG"):  # packed floats or integers, planar floats
        path = tmp_path / f"song.{kind.lower()}"
        soundfile.write(path, chord, RATE, format=kind)
        audio = load(path)
        assert audio.channels == 2
        error = audio.samples[: len(chord)] - chord.mean(axis=1)
        assert np.sqrt(np.mean(error**2)) < (0.03 if kind == "OGG" else 1e-4)


def test_load_reads_a_part(rng: np.random.Generator) -> None:
    noise = rng.uniform(-0.9, 0.9, 5 * RATE).astype("f4")
    data = wav_bytes(noise)
    part = load(io.BytesIO(data), offset_s=1.3, seconds=2.1)
    first = round(1.3 * RATE)
    np.testing.assert_array_equal(part.samples, noise[first : first + round(2.1 * RATE)])
    rest = load(io.BytesIO(data), offset_s=4.5)
    np.testing.assert_array_equal(rest.samples, noise[round(4.5 * RATE) :])
    assert rest.duration_s == pytest.approx(0.5)
    with pytest.raises(AudioError, match="ends before 9 s") as caught:
        load(io.BytesIO(data), offset_s=9)
    assert caught.value.code == "too_short"


def test_max_seconds_is_respected_and_reported() -> None:
    data = wav_bytes(tone(5, RATE))
    cut = load(io.BytesIO(data), max_seconds=2.5)
    assert cut.duration_s == 2.5
    assert str(cut.warning).startswith("2.5 s of sound was decoded")
    assert load(io.BytesIO(data), max_seconds=5.0).warning is None
    for options in ({"sample_rate": 0}, {"max_seconds": 0}, {"seconds": -1}):
        with pytest.raises(ValueError, match="got"):
            load(io.BytesIO(data), **options)  # type: ignore[arg-type]


def test_file_objects_are_read_from_their_start_and_left_open(tmp_path: Path) -> None:
    samples = tone(2, RATE)
    path = tmp_path / "song.wav"
    path.write_bytes(wav_bytes(samples))
    with open(path, "rb") as file:
        file.seek(100)
        np.testing.assert_array_equal(load(file).samples, samples)
        assert not file.closed
        np.testing.assert_array_equal(load(file).samples, samples)
    write_with_ffmpeg(tmp_path / "song.m4a", samples, RATE, "alac")
    memory = io.BytesIO((tmp_path / "song.m4a").read_bytes())
    np.testing.assert_allclose(load(memory).samples, samples, atol=1e-4)
    assert not memory.closed


def test_file_objects_that_cannot_seek_or_are_text() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        assert code_of(pipe) == "not_seekable"
    for wrong in (io.StringIO("la la la"), 3, None):
        with pytest.raises(TypeError, match="path, a binary file object or a pair"):
            load(wrong)  # type: ignore[arg-type]


def test_paths_that_are_not_files(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").mkdir()
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "self.mp3").symlink_to("self.mp3")
    (tmp_path / "dangling.mp3").symlink_to("gone.mp3")
    os.mkfifo(tmp_path / "fifo.mp3")
    assert code_of(tmp_path / "song.mp3") == "directory"
    assert code_of(tmp_path / "empty.mp3") == "empty"
    assert code_of(tmp_path / "gone.mp3") == "missing"
    assert code_of(tmp_path / "dangling.mp3") == "missing"
    assert code_of("null\0character.mp3") == "missing"
    assert code_of(tmp_path / "self.mp3") == "unreadable"
    assert code_of(tmp_path / ("x" * 300)) == "unreadable"
    assert code_of(tmp_path / "fifo.mp3") == "not_a_file"
    assert code_of(os.devnull) == "not_a_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads files without permission too")
def test_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(wav_bytes(tone(1, RATE)))
    path.chmod(0)
    assert code_of(path) == "permission"


NAMES = [
    "-leading-dash.mp3", "new\nline.mp3", "tab\tand\x1b[31mred.mp3", "trailing space.mp3 ", " .mp3",
    "cafe\u0301.mp3", "caf\xe9.mp3", "音楽 🎵.mp3", "שיר.mp3", ".hidden.mp3",
    "12:30 [take] *?{1}.mp3", 'quote\'s "and" $(echo) `x`;&|.mp3', "back\\slash.mp3", "%s%n.mp3",
    "[bold]markup[/bold].mp3", "latin1_\udce9.mp3", "x" * 196 + ".mp3",
]  # fmt: skip


def test_odd_names(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.mp3", tone(0.2, RATE), RATE)
    write_with_ffmpeg(tmp_path / "good.m4a", tone(0.2, RATE), RATE, "aac")
    goods = [path.read_bytes() for path in tmp_path.iterdir()]
    (tmp_path / "names").mkdir()
    for name in NAMES:
        path = tmp_path / "names" / name
        try:
            path.touch()
        except OSError:
            continue  # this file system has no such names
        for good in goods:
            path.write_bytes(good)
            assert load(path).duration_s == pytest.approx(0.2, abs=0.1)
        path.write_bytes(b"no music")
        with pytest.raises(AudioError) as caught:
            load(path)
        assert str(caught.value).isprintable()


def test_lists_of_other_files_are_refused(tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(wav_bytes(tone(1, RATE)))
    for name, text in {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{song}\n#EXT-X-ENDLIST\n",
        "list.mp3": "ffconcat version 1.0\nfile 'song.wav'\n",
        "list.mpd": f"<MPD><Period><BaseURL>{song}</BaseURL></Period></MPD>",
        "list.sdp": "v=0\nm=audio 5004 RTP/AVP 0\nc=IN IP4 127.0.0.1\n",
    }.items():
        (tmp_path / name).write_text(text)
        assert code_of(tmp_path / name) == "not_audio"


def encoded(seconds: float, hz: float, sample_rate: int, kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(seconds, sample_rate, hz=hz), sample_rate, format=kind)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "second_rate"), [("MP3", RATE), ("MP3", 2 * RATE), ("OGG", RATE)])
def test_joined_files_are_decoded_in_full(kind: str, second_rate: int) -> None:
    """Two mp3 files, also of different rates; two links of an Ogg file."""
    joined = encoded(4, 440, RATE, kind) + encoded(4, 880, second_rate, kind)
    with open_audio(io.BytesIO(joined)) as stream:
        samples = np.concatenate(list(stream))
        assert stream.decoder == "libsndfile"
        assert stream.warning is None
    assert len(samples) / RATE == pytest.approx(8, abs=0.3)
    # nothing is decoded twice: each tone lasts as long as it was
    tenths = samples[: len(samples) // (RATE // 10) * (RATE // 10)].reshape(-1, RATE // 10)
    is_low = [loudest_hz(tenth, RATE) < 660 for tenth in tenths]
    assert sum(is_low) / 10 == pytest.approx(4, abs=0.2)
    assert not any(is_low[42:])


def test_a_file_cut_in_half_has_a_warning(tmp_path: Path, rng: np.random.Generator) -> None:
    noise = rng.uniform(-0.5, 0.5, 8 * RATE).astype("f4")
    for extension in ("wav", "aiff", "flac", "ogg", "mp3"):
        soundfile.write(tmp_path / f"song.{extension}", noise, RATE)
    write_with_ffmpeg(tmp_path / "song.mka", noise, RATE, "flac")
    write_with_ffmpeg(tmp_path / "song.wma", noise, RATE, "wmav2")
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        audio = load(path)
        assert 1 < audio.duration_s < 7, path.name
        assert audio.warning is not None, path.name
        assert audio.warning.startswith(f"{audio.duration_s:.1f} s of sound was decoded")


def test_tags_and_pictures_after_the_sound_cost_no_second_decoding(tmp_path: Path) -> None:
    data = wav_bytes(tone(3, RATE), subtype="PCM_16")
    note = b"LIST" + (8000).to_bytes(4, "little") + b"INFO" + bytes(7996)
    size = len(data) + len(note) - 8
    (tmp_path / "song.wav").write_bytes(b"RIFF" + size.to_bytes(4, "little") + data[8:] + note)
    (tmp_path / "song.mp3").write_bytes(encoded(3, 440, RATE, "MP3") + b"TAG" + bytes(125))
    for name in ("song.wav", "song.mp3"):
        with open_audio(tmp_path / name) as stream:
            list(stream)
            assert stream.decoder == "libsndfile"
            assert stream.warning is None


def test_nan_and_infinite_samples_become_silence() -> None:
    samples = tone(1, RATE)
    samples[100], samples[200], samples[300] = np.nan, np.inf, 1e30
    audio = load(io.BytesIO(wav_bytes(samples)))
    assert np.isfinite(audio.samples).all()
    assert (audio.samples[[100, 200, 300]] == 0).all()
    np.testing.assert_array_equal(audio.samples[301:], samples[301:])
    assert audio.warning is not None
    assert "3 samples" in audio.warning
    assert code_of(io.BytesIO(wav_bytes(np.full(RATE, np.nan, "f4")))) == "not_finite"


def test_a_file_object_that_fails_while_reading_gives_a_warning() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 60_000:
                raise OSError("the disk is gone")
            return super().read(size)

        def readinto(self, buffer: object, /) -> int:
            data = self.read(len(buffer))  # type: ignore[arg-type]
            buffer[: len(data)] = data  # type: ignore[index]
            return len(data)

    audio = load(Failing(wav_bytes(tone(5, RATE))))
    assert audio.duration_s < 2
    assert audio.warning is not None


def test_blocks_are_short_and_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(wav_bytes(tone(10, 44100), 44100))
    with open_audio(path) as stream:
        sizes = [len(block) for block in stream]
        assert stream.duration_s == 10
    assert sum(sizes) == pytest.approx(10 * RATE, abs=1)
    assert max(sizes) <= 3 * RATE
    with open_audio(path) as stream:
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert stream._file.closed


@pytest.mark.slow
def test_four_threads_decode_like_one(
    shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = shared_data / "odd" / "audio"
    paths = sorted((shared_data / "clips").glob("*.mp3"))[:4]
    paths += [odd / "mp3" / f"{n}.mp3" for n in ("block_flipped", "vbr_no_xing", "junk_last")]
    paths += [odd / "flac" / f"{n}.flac" for n in ("plain", "bad_frame", "length_unknown")]
    paths += [odd / "other" / n for n in ("aac.m4a", "video.webm", "wma2.wma")]
    paths += [odd / "ogg" / "opus.opus", odd / "wav" / "8_channels.wav", odd / "ogg" / "vorbis.ogg"]
    assert len(paths) == 16
    alone = [load(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(load, paths))
    for path, one, other in zip(paths, alone, together, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples, err_msg=path.name)
        assert one.warning == other.warning
    assert capfd.readouterr() == ("", "")


MEMORY = (
    PEAK_MB
    + """
import sys
from deepmusic.audio import LogMelStream, SegmentStream, open_audio
mel, segments = LogMelStream(), SegmentStream(128, 64)
with open_audio(sys.argv[1], max_seconds=float(sys.argv[2])) as stream:
    for block in stream:
        for _ in segments.push(mel.push(block)):
            pass
print(stream.duration_s, peak_mb())
"""
)


@pytest.mark.slow
def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    noise = (0.1 * np.random.default_rng(1).standard_normal((60 * RATE, 2))).astype("f4")
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        for _ in range(20):
            file.write(noise)
    peaks = []
    for seconds in (30, 1200):
        command = [sys.executable, "-c", MEMORY, str(path), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        decoded, peak_mb = map(float, done.stdout.split())
        assert decoded == seconds
        peaks.append(peak_mb)
    assert peaks[1] < peaks[0] + 20
