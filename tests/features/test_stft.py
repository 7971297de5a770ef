"""Spectra and spectral contrast, compared with SciPy and with sorting."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from hypothesis import example, given, settings, strategies as st
from numpy.typing import NDArray

from deepmusic.features.spectral_shape import contrast_extremes
from deepmusic.features.stft import HOP_LENGTH, hann, magnitudes

Sound = NDArray[np.float32]


def pieces(sound: Sound, seed: int) -> list[Sound]:
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(sound) + 1, 4))
    return np.split(sound, cuts)


def by_scipy(sound: Sound) -> NDArray[np.float64]:
    padded = np.pad(sound.astype(np.float64), 1024)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::HOP_LENGTH]
    return np.abs(scipy.fft.rfft(windows * hann(2048), axis=1)).T


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 90 * HOP_LENGTH), st.integers(0, 99))
@example(0, 0)
@example(HOP_LENGTH - 1, 0)
@example(63 * HOP_LENGTH, 0)
@example(64 * HOP_LENGTH, 0)
def test_spectra_equal_those_of_scipy(samples: int, seed: int) -> None:
    sound = np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    result = np.concatenate(list(magnitudes(pieces(sound, seed))), axis=1)
    expected = by_scipy(sound)
    assert result.shape == expected.shape == (1025, 1 + samples // HOP_LENGTH)
    np.testing.assert_allclose(result, expected, rtol=3e-7, atol=1e-12 * expected.max(initial=1))


def test_weak_bins_beside_strong_ones_are_exact() -> None:
    # as above the low-pass of an mp3
    random = np.random.default_rng(0)
    spectrum = scipy.fft.rfft(random.standard_normal(1 << 16))
    spectrum[len(spectrum) // 2 :] *= 1e-8
    sound = scipy.fft.irfft(spectrum).astype(np.float32)
    result = np.concatenate(list(magnitudes([sound])), axis=1)
    expected = by_scipy(sound)
    assert np.median(expected[700:]) < 1e-5 * np.median(expected[:400])
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 64])
@pytest.mark.parametrize("sample_rate", [22050.0, 44100.0])
def test_contrast_is_the_mean_of_the_strongest_and_the_weakest_bins(
    frames: int, sample_rate: float
) -> None:
    spectra = np.random.default_rng(frames).exponential(size=(1025, frames)).astype(np.float32)
    result = contrast_extremes(spectra, sample_rate)
    assert result.shape == (14, frames)
    hz = np.fft.rfftfreq(2048, 1 / sample_rate)
    edges = [0, *(200 * 2.0 ** np.arange(7))]
    for band in range(7):
        inside = np.flatnonzero((hz >= edges[band]) & (hz <= edges[band + 1]))
        if band:
            inside = np.concatenate([[inside[0] - 1], inside])
        if band == 6:
            inside = np.arange(inside[0], 1025)
        count = max(round(0.02 * len(inside)), 1)
        ordered = np.sort(spectra[inside if band == 6 else inside[:-1]].astype(np.float64), axis=0)
        np.testing.assert_allclose(result[band], ordered[-count:].mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(result[7 + band], ordered[:count].mean(axis=0), rtol=1e-6)
