"""Clips are where they should be, and their bytes depend on nothing but their sound."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sounds import write_with_ffmpeg

from deepmusic.audio import clips as clips_module
from deepmusic.audio.clips import (
    _ogg_checksum,
    copy_clips,
    cut_clips,
    encode,
    read_metadata,
)
from deepmusic.errors import AudioError

RATE = 44_100


@pytest.fixture
def music(rng: np.random.Generator) -> NDArray[np.float32]:
    """Six seconds of stereo noise, each sample unlike all others."""
    return (0.2 * rng.standard_normal((6 * RATE + 321, 2))).clip(-0.99, 0.99).astype("f4")


@pytest.fixture
def track(tmp_path: Path, music: NDArray[np.float32]) -> Path:
    path = tmp_path / "track.wav"
    soundfile.write(path, music, RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize("kept", [1 << 25, 1000])
def test_clips_are_the_samples_of_the_track(
    track: Path, music: NDArray[np.float32], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips_module, "_KEPT_SAMPLES", kept)  # 1000: decoded twice
    lengths: list[float] = []

    def cut(duration_s: float) -> list[tuple[float, float]]:
        lengths.append(duration_s)
        return [(0.5, 2.0), (2.0, 1.0), (5.0, 100.0)]

    clips, warning = cut_clips(track, cut)
    assert warning is None
    assert lengths == [len(music) / RATE]
    for clip, (first, last) in zip(
        clips, [(22_050, 110_250), (88_200, 132_300), (220_500, len(music))], strict=True
    ):
        np.testing.assert_array_equal(clip.samples, music[first:last])
        assert clip.start_s == first / RATE
        assert clip.duration_s == (last - first) / RATE


def test_mono_and_another_rate_are_those_of_the_reader(track: Path) -> None:
    from deepmusic.audio import load

    heard = load(track, sample_rate=16_000)
    (clip,), _ = cut_clips(track, lambda d: [(1.0, 2.0)], sample_rate=16_000, mono=True)
    np.testing.assert_allclose(clip.samples[:, 0], heard.samples[16_000:48_000], atol=1e-6)
    (clip,), _ = cut_clips(track, lambda d: [(1.0, 2.0)], sample_rate=16_000)
    assert clip.samples.shape == (32_000, 2)
    np.testing.assert_allclose(clip.samples.mean(axis=1), heard.samples[16_000:48_000], atol=1e-6)


def test_the_length_of_the_header_is_not_believed(track: Path) -> None:
    content = track.read_bytes()
    track.write_bytes(content[: len(content) // 2])
    lengths = []
    _, warning = cut_clips(track, lambda d: [lengths.append(d) or (0.0, d)])  # type: ignore[func-returns-value]
    assert lengths[0] == pytest.approx(3, abs=0.1)
    assert warning is not None


@pytest.mark.parametrize("form", ["flac", "wav"])
def test_lossless_formats_lose_only_what_16_bits_cannot_hold(
    form: str, music: NDArray[np.float32]
) -> None:
    content = encode(music, RATE, form)  # type: ignore[arg-type]
    back, sample_rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert sample_rate == RATE
    np.testing.assert_allclose(back, music, atol=1 / 32768)


@pytest.mark.parametrize("form", ["flac", "wav", "ogg", "mp3"])
def test_the_same_sound_gives_the_same_bytes(
    form: str, music: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode(music, RATE, form)  # type: ignore[arg-type]
    soundfile.write(io.BytesIO(), music[:1000], RATE, format="OGG")  # moves its random numbers on
    assert encode(music, RATE, form) == first  # type: ignore[arg-type]
    back, sample_rate = soundfile.read(io.BytesIO(first), dtype="float32")
    assert (sample_rate, len(back)) == (RATE, len(music))


def test_the_checksum_of_ogg_pages_is_that_of_libsndfile(music: NDArray[np.float32]) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, music, RATE, format="OGG", subtype="VORBIS")
    content, place, pages = buffer.getvalue(), 0, 0
    while place < len(content):
        segments = content[place + 26]
        size = 27 + segments + sum(content[place + 27 : place + 27 + segments])
        page = content[place : place + size]
        (claimed,) = struct.unpack("<I", page[22:26])
        assert _ogg_checksum(page[:22] + bytes(4) + page[26:]) == claimed
        place, pages = place + size, pages + 1
    assert pages > 3


def test_an_ogg_with_another_serial_number_decodes_to_the_same_sound(
    music: NDArray[np.float32],
) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, music, RATE, format="OGG", subtype="VORBIS")
    ours = encode(music, RATE, "ogg")
    assert len(ours) == len(buffer.getvalue())
    buffer.seek(0)
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(ours))[0], soundfile.read(buffer)[0])


@pytest.mark.parametrize(
    ("form", "sample_rate", "channels"),
    [("mp3", 96_000, 2), ("mp3", 44_100, 3), ("flac", 44_100, 9)],
)
def test_what_does_not_fit_into_a_format_is_said(
    form: str, sample_rate: int, channels: int
) -> None:
    with pytest.raises(AudioError) as refusal:
        encode(np.zeros((1000, channels), np.float32), sample_rate, form)  # type: ignore[arg-type]
    assert refusal.value.code == "not_in_format"


def test_loud_samples_are_clipped_not_wrapped() -> None:
    content = encode(np.array([[1.5], [-1.5]] * 500, np.float32), RATE, "wav")
    back = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    assert back[0] > 0.99
    assert back[1] < -0.99


@pytest.fixture
def mp3(tmp_path: Path, music: NDArray[np.float32]) -> Path:
    path = tmp_path / "track.mp3"
    soundfile.write(path, music, RATE, format="MP3")
    return path


def test_copied_frames_are_those_of_the_track(mp3: Path) -> None:
    whole = soundfile.read(mp3, dtype="float32")[0]
    first, second = copy_clips(mp3, lambda d: [(1.0, 2.0), (3.0, 2.5)])
    for clip, start_s, seconds in ((first, 1.0, 2.0), (second, 3.0, 2.5)):
        assert clip.content is not None
        assert clip.start_s == pytest.approx(start_s, abs=1152 / RATE)
        assert clip.duration_s == pytest.approx(seconds, abs=2 * 1152 / RATE)
        # beyond the first frames, which lean on bytes before them
        heard = clip.samples[8000:40_000, 0]
        best = min(
            float(np.abs(whole[begin : begin + len(heard), 0] - heard).max())
            for begin in range(
                round(clip.start_s * RATE) + 8000 - 3000, round(clip.start_s * RATE) + 8000 + 3000
            )
        )
        assert best < 1e-4
    again = copy_clips(mp3, lambda d: [(1.0, 2.0)])[0]
    assert again.content == first.content


def test_only_mp3_frames_are_copied(track: Path) -> None:
    with pytest.raises(AudioError) as refusal:
        copy_clips(track, lambda d: [(0.0, 1.0)])
    assert refusal.value.code == "not_mp3"


def test_tags_that_are_there_are_read(tmp_path: Path, music: NDArray[np.float32]) -> None:
    path = tmp_path / "tagged.flac"
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        file.title, file.date, file.license = "Title", "1999", "CC0"
        file.write(music[:1000])
    found = read_metadata(path)
    assert (found["title"], found["date"], found["license"]) == ("Title", "1999", "CC0")
    assert read_metadata(tmp_path / "missing.flac") == {}


def test_sound_that_only_ffmpeg_reads_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "track.m4a"
    sound = 0.5 * np.sin(np.arange(3 * RATE) / 20).astype("f4")
    write_with_ffmpeg(path, sound, RATE, "aac")
    (clip,), _ = cut_clips(path, lambda d: [(d / 2 - 0.5, 1.0)])
    assert clip.samples.shape == (RATE, 1)
    assert np.abs(clip.samples).max() == pytest.approx(0.5, abs=0.05)
