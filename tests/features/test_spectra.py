"""Spectra and half-band filters of our own, against SciPy and against sines."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from hypothesis import example, given, settings, strategies as st
from numpy.typing import NDArray

from deepmusic.features.half_band import HalfBand
from deepmusic.features.spectra import HOP, hann, magnitudes
from deepmusic.features.spectral import contrast_ends

Sound = NDArray[np.float32]


def pieces(sound: Sound, seed: int) -> list[Sound]:
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(sound) + 1, 4))
    return np.split(sound, cuts)


def by_scipy(sound: Sound) -> NDArray[np.float64]:
    padded = np.pad(sound.astype(np.float64), 1024)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::HOP]
    return np.abs(scipy.fft.rfft(windows * hann(2048), axis=1)).T


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 90 * HOP), st.integers(0, 99))
@example(0, 0)
@example(HOP - 1, 0)
@example(63 * HOP, 0)
@example(64 * HOP, 0)
def test_spectra_are_those_of_scipy(samples: int, seed: int) -> None:
    sound = np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    found = np.concatenate(list(magnitudes(pieces(sound, seed))), axis=1)
    expected = by_scipy(sound)
    assert found.shape == expected.shape == (1025, 1 + samples // HOP)
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=1e-12 * expected.max(initial=1))


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 64, 70])
def test_single_precision_is_that_of_the_loudest_bin(frames: int) -> None:
    sound = np.random.default_rng(frames).standard_normal(frames * HOP - 1).astype(np.float32)
    found = np.concatenate(list(magnitudes([sound], is_double=False)), axis=1)
    expected = by_scipy(sound)
    assert found.shape == expected.shape == (1025, frames)
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())


def test_what_is_faint_beside_what_is_loud_is_exact() -> None:
    # above the low-pass of an mp3 there is a millionth of what lies below
    random = np.random.default_rng(0)
    spectrum = scipy.fft.rfft(random.standard_normal(1 << 16))
    spectrum[len(spectrum) // 2 :] *= 1e-8
    sound = scipy.fft.irfft(spectrum).astype(np.float32)
    found = np.concatenate(list(magnitudes([sound])), axis=1)
    expected = by_scipy(sound)
    assert np.median(expected[700:]) < 1e-5 * np.median(expected[:400])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 64])
@pytest.mark.parametrize("sample_rate", [22050.0, 44100.0])
def test_contrast_is_the_mean_of_the_loudest_and_the_faintest(
    frames: int, sample_rate: float
) -> None:
    spectra = np.random.default_rng(frames).exponential(size=(1025, frames)).astype(np.float32)
    found = contrast_ends(spectra, sample_rate)
    assert found.shape == (14, frames)
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
        np.testing.assert_allclose(found[band], ordered[-count:].mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(found[7 + band], ordered[:count].mean(axis=0), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 0.9), st.integers(1, 4000), st.integers(0, 99))
def test_half_the_rate_in_pieces_is_that_of_the_whole(
    highest: float, samples: int, seed: int
) -> None:
    sound = np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    whole = HalfBand(highest).push(sound, is_last=True)
    assert len(whole) == -(-samples // 2)
    halving = HalfBand(highest)
    parts = [halving.push(piece, is_last=False) for piece in pieces(sound, seed)]
    parts.append(halving.push(np.empty(0, np.float32), is_last=True))
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


@pytest.mark.parametrize("highest", [0.2, 0.38, 0.7])
def test_half_band_passes_what_is_wanted_and_stops_what_would_fall_on_it(highest: float) -> None:
    time = np.arange(20_000)
    for share in np.linspace(0.01, highest, 7):
        # a share of half the new rate, which is a quarter of the old
        wanted = np.cos(np.pi * time * share / 2).astype(np.float32)
        found = HalfBand(highest).push(wanted, is_last=True)[500:-500]
        np.testing.assert_allclose(found, np.sqrt(2) * wanted[::2][500:-500], atol=3e-6)
        folded = np.cos(np.pi * time * (1 - share / 2)).astype(np.float32)
        assert np.abs(HalfBand(highest).push(folded, is_last=True)[500:-500]).max() < 3e-6
