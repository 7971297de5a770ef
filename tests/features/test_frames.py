"""Single features, compared with librosa's functions with default settings."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from recordings import chord

from deepmusic.errors import RequestError
from deepmusic.features import (
    chroma_cqt,
    chroma_stft,
    cqt,
    estimate_tuning,
    log_mel_spectrogram,
    mfcc,
)


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [16000, 22050, 44100])
def test_log_mel_equals_that_of_librosa(sample_rate: int) -> None:
    y = chord(sample_rate)
    expected = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sample_rate))
    result = log_mel_spectrogram(y, sample_rate)
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_log_mel_of_a_low_passed_sound() -> None:
    # nothing above 5 kHz, where the rounding of a float32 transform would show
    y = librosa.resample(chord(10000), orig_sr=10000, target_sr=44100)
    expected = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=44100))
    result = log_mel_spectrogram(y, 44100)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("sample_rate", [22050, 44100])
def test_mfcc_chroma_and_constant_q(sample_rate: int) -> None:
    y = chord(sample_rate)
    assert estimate_tuning(y, sample_rate) == librosa.estimate_tuning(y=y, sr=sample_rate)
    np.testing.assert_allclose(
        mfcc(y, sample_rate, n_mfcc=13),
        librosa.feature.mfcc(y=y, sr=sample_rate, n_mfcc=13),
        atol=2e-3,
    )
    theirs = np.abs(librosa.cqt(y, sr=sample_rate, tuning=None))
    np.testing.assert_allclose(cqt(y, sample_rate), theirs, atol=1e-6 * theirs.max())
    np.testing.assert_allclose(
        chroma_cqt(y, sample_rate),
        librosa.feature.chroma_cqt(C=theirs, bins_per_octave=12),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        chroma_stft(y, sample_rate), librosa.feature.chroma_stft(y=y, sr=sample_rate), atol=1e-5
    )


@settings(max_examples=15, deadline=None)
@given(st.floats(-0.45, 0.45), st.integers(0, 100))
def test_tuning_is_found(detuned: float, seed: int) -> None:
    result = estimate_tuning(chord(22050, 2, detuned, seed))
    assert abs(result - detuned) < 0.1


def test_silence_and_low_rates() -> None:
    silent = np.zeros(22050, np.float32)
    np.testing.assert_allclose(log_mel_spectrogram(silent), -100, rtol=1e-6)
    assert estimate_tuning(silent) == 0
    assert not chroma_stft(silent).any()
    assert not cqt(silent).any()
    with pytest.raises(RequestError, match="8000 Hz is too low"):
        cqt(silent, 8000)
