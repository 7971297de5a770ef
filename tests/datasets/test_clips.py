"""Clips hold the samples of their track, and encoding loses no more than the format must."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from deepmusic.audio import load
from deepmusic.datasets import clips as clips_module
from deepmusic.datasets.clips import copy_clips, cut_clips, encode
from deepmusic.errors import AudioError

RATE = 44_100
FRAME = 1152


@pytest.fixture
def music(rng: np.random.Generator) -> NDArray[np.float32]:
    """Six seconds of stereo noise."""
    return (0.2 * rng.standard_normal((6 * RATE + 321, 2))).clip(-0.99, 0.99).astype("f4")


@pytest.fixture
def track(tmp_path: Path, music: NDArray[np.float32]) -> Path:
    path = tmp_path / "track.wav"
    soundfile.write(path, music, RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize("in_memory", [1 << 27, 1000])
def test_clips_are_the_samples_of_the_track(
    track: Path, music: NDArray[np.float32], in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips_module, "_MAX_MEMORY_BYTES", in_memory)
    durations: list[float] = []

    def spans(duration_s: float, is_silent: NDArray[np.bool_]) -> list[tuple[float, float]]:
        assert len(is_silent) == pytest.approx(20 * duration_s, abs=1)
        durations.append(duration_s)
        return [(0.5, 2.0), (2.0, 1.0), (5.0, 100.0)]

    clips, warning = cut_clips(track, spans)
    assert warning is None
    assert durations == [len(music) / RATE]
    ends = [(22_050, 110_250), (88_200, 132_300), (220_500, len(music))]
    for clip, (first, last) in zip(clips, ends, strict=True):
        np.testing.assert_array_equal(clip.samples, music[first:last])
        assert clip.start_s == first / RATE
        assert len(clip.samples) == last - first


def test_mono_and_resampling_agree_with_load(track: Path) -> None:
    loaded = load(track, sample_rate=16_000).samples[16_000:48_000]
    (mono,), _ = cut_clips(track, lambda *_: [(1.0, 2.0)], sample_rate=16_000, mono=True)
    np.testing.assert_allclose(mono.samples[:, 0], loaded, atol=1e-6)
    (stereo,), _ = cut_clips(track, lambda *_: [(1.0, 2.0)], sample_rate=16_000)
    assert stereo.samples.shape == (32_000, 2)
    np.testing.assert_allclose(stereo.samples.mean(axis=1), loaded, atol=1e-6)


def test_invalid_samples_are_silence(tmp_path: Path, music: NDArray[np.float32]) -> None:
    music[100] = np.nan
    soundfile.write(tmp_path / "a.wav", music, RATE, subtype="FLOAT")
    (clip,), _ = cut_clips(tmp_path / "a.wav", lambda *_: [(0.0, 1.0)])
    np.testing.assert_array_equal(clip.samples[100], [0, 0])
    np.testing.assert_array_equal(clip.samples[101], music[101])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["flac", "wav", "ogg", "mp3"])
def test_encoding(form: Any, music: NDArray[np.float32]) -> None:
    content = encode(music, RATE, form)
    samples, sample_rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (sample_rate, samples.shape) == (RATE, music.shape)
    if form in ("flac", "wav"):
        np.testing.assert_allclose(samples, music, atol=1 / 32768)
    if form != "ogg":
        assert encode(music, RATE, form) == content


def test_samples_beyond_full_scale_are_clipped() -> None:
    content = encode(np.array([[1.5], [-1.5]] * 500, np.float32), RATE, "wav")
    samples = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    assert samples[0] > 0.99
    assert samples[1] < -0.99


@pytest.mark.parametrize(
    ("form", "sample_rate", "channels"),
    [("mp3", 96_000, 2), ("mp3", 44_100, 3), ("flac", 44_100, 9), ("ogg", 200_001, 1)],
)
def test_what_a_format_cannot_hold(form: Any, sample_rate: int, channels: int) -> None:
    with pytest.raises(AudioError) as refusal:
        encode(np.zeros((1000, channels), np.float32), sample_rate, form)
    assert refusal.value.code == "not_in_format"


@pytest.mark.slow
def test_copied_frames_are_those_of_the_track(tmp_path: Path, music: NDArray[np.float32]) -> None:
    path = tmp_path / "track.mp3"
    soundfile.write(path, music, RATE, format="MP3")
    whole = soundfile.read(path, dtype="float32")[0]
    clips = copy_clips(path, lambda *_: [(1.0, 2.0), (3.0, 2.5)])
    for clip, start_s, seconds in zip(clips, (1.0, 3.0), (2.0, 2.5), strict=True):
        assert clip.start_s == pytest.approx(start_s, abs=FRAME / RATE)
        assert len(clip.samples) == pytest.approx(seconds * RATE, abs=2 * FRAME)
        # beyond the first frames, which refer to bytes before them
        samples = clip.samples[8000:40_000, 0]
        start = round(clip.start_s * RATE) + 8000
        error = min(
            np.abs(whole[begin : begin + len(samples), 0] - samples).max()
            for begin in range(start - 3000, start + 3000)
        )
        assert error < 1e-4
    assert copy_clips(path, lambda *_: [(1.0, 2.0)])[0].content == clips[0].content
