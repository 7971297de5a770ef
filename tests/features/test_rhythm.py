"""Onset strength, tempograms and tempos, compared with librosa."""

from __future__ import annotations

import math
from pathlib import Path

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, load, log_mel
from deepmusic.errors import ShapeError
from deepmusic.features.rhythm import (
    MAX_BPM,
    most_likely_bpm,
    onset_strength,
    tempo,
    tempo_window,
    tempogram,
    tempogram_blocks,
)


def beats(bpm: float, *, sample_rate: int, seconds: float = 12.0) -> NDArray[np.float32]:
    """Bursts of noise over a quiet tone."""
    rng = np.random.default_rng(3)
    sound = 0.05 * np.sin(2 * np.pi * 330 * np.arange(round(seconds * sample_rate)) / sample_rate)
    burst = rng.normal(size=sample_rate // 10) * np.exp(
        -np.arange(sample_rate // 10) / (0.02 * sample_rate)
    )
    for start in np.arange(0.2, seconds - 0.2, 60 / bpm):
        index = round(start * sample_rate)
        sound[index : index + len(burst)] += 0.3 * burst
    return sound.astype(np.float32)


def onsets_of(sound: NDArray[np.float32], sample_rate: int) -> NDArray[np.floating]:
    return onset_strength(log_mel(sound, LogMelConfig(sample_rate=sample_rate)))


def assert_equals_librosa(sound: NDArray[np.float32], sample_rate: int) -> None:
    onsets = onsets_of(sound, sample_rate)
    expected = librosa.onset.onset_strength(y=sound, sr=sample_rate)
    assert onsets.shape == expected.shape
    np.testing.assert_allclose(onsets, expected, atol=1e-4)  # dB
    expected_tempogram = librosa.feature.tempogram(y=sound, sr=sample_rate)
    np.testing.assert_allclose(tempogram(onsets), expected_tempogram, atol=1e-5)
    assert tempo(onsets, sample_rate) == librosa.feature.tempo(y=sound, sr=sample_rate)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bpm", "sample_rate"), [(90, 22050), (128, 44100), (150, 8000), (60, 22050)]
)
def test_beats_equal_those_of_librosa(bpm: float, sample_rate: int) -> None:
    sound = beats(bpm, sample_rate=sample_rate)
    assert_equals_librosa(sound, sample_rate)
    # lags are whole frames: at 150 BPM and 8 kHz, one frame is 24 BPM
    frames = 60 / bpm * sample_rate / 512
    result = tempo(onsets_of(sound, sample_rate), sample_rate)
    assert min(abs(60 / result * sample_rate / 512 * k - frames) for k in (0.5, 1, 2)) <= 1


def test_a_real_clip_equals_librosa(shared_data: Path) -> None:
    audio = load(shared_data / "emotify" / "electronic" / "1.mp3", sample_rate=22050, seconds=15)
    assert_equals_librosa(audio.samples, audio.sample_rate)


@pytest.mark.parametrize("window", [384, 383, 50, 2])
@pytest.mark.parametrize("frames", [1, 2, 40, 700])
def test_tempogram_of_any_length_equals_librosa(frames: int, window: int) -> None:
    onsets = np.random.default_rng(frames).random(frames)
    expected = librosa.feature.tempogram(onset_envelope=onsets, win_length=window)
    result = tempogram(onsets, window_frames=window)
    assert result.shape == (window, frames)
    np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.parametrize("size", [1, 7, 256, 1000])
def test_blocks_equal_the_whole(size: int) -> None:
    onsets = np.random.default_rng(2).random(300)
    blocks = list(tempogram_blocks(onsets, window_frames=64, block_frames=size))
    assert max(block.shape[1] for block in blocks) <= size
    np.testing.assert_array_equal(
        np.concatenate(blocks, axis=1), tempogram(onsets, window_frames=64)
    )


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
def test_onsets_of_very_short_sound(frames: int) -> None:
    mel_db = np.random.default_rng(frames).normal(-20, 10, (128, frames)).astype(np.float32)
    expected = librosa.onset.onset_strength(S=mel_db, sr=22050) if frames > 1 else np.zeros(1)
    np.testing.assert_allclose(onset_strength(mel_db), expected, rtol=1e-6)


def test_silence_has_no_tempo() -> None:
    onsets = onsets_of(np.zeros(22050 * 4, np.float32), 22050)
    assert not onsets.any()
    assert not tempogram(onsets).any()
    assert math.isnan(tempo(onsets, 22050))


def test_80_db_below_the_maximum_counts_as_silence() -> None:
    mel_db = np.full((128, 6), -100.0, np.float32)
    mel_db[:, 1] = -95
    mel_db[:, 3] = 0
    # an increase is assigned to two frames later
    np.testing.assert_array_equal(onset_strength(mel_db), [0, 0, 0, 0, 0, 80])


def test_tempos_are_below_the_maximum() -> None:
    every_frame = np.ones(tempo_window(22050))
    assert tempo_window(22050) == 344
    assert 60 < most_likely_bpm(every_frame, 22050) < MAX_BPM
    fast = np.zeros(344)
    fast[[0, 2]] = 1  # 1,292 BPM
    assert most_likely_bpm(fast, 22050) < MAX_BPM


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(n_mels, frames\).*\(5,\)"):
        onset_strength(np.zeros(5))
    with pytest.raises(ShapeError, match=r"\(128, 0\)"):
        onset_strength(np.zeros((128, 0)))
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        tempogram(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"\(0,\)"):
        tempo(np.zeros(0), 22050)
    with pytest.raises(ValueError, match="at least 2; got 1"):
        tempogram(np.zeros(3), window_frames=1)
