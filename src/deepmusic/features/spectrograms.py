"""Spectrograms on their own: log-mel, MFCC, constant-Q, chroma; tempo is in ``rhythm``.

Each equals librosa's function of that kind with its defaults, frames every 512 samples.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig
from deepmusic.audio.mel import mel_power
from deepmusic.errors import RequestError
from deepmusic.features.chroma import chroma_filters, fold_filters, normalised
from deepmusic.features.constant_q import BINS, ConstantQ, highest_hz
from deepmusic.features.spectra import FFT_SIZE, HOP, magnitudes
from deepmusic.features.spectral import decibels
from deepmusic.features.tuning import PeakFinder

TOP_DB = 80.0
"""Log-mel goes no further down from the loudest."""

Sound = NDArray[np.float32]


def log_mel_spectrogram(
    samples: Sound, sample_rate: int = 22050, *, n_mels: int = 128, is_fast: bool = False
) -> Sound:
    """Power in mel bands in dB, no more than 80 dB below the loudest.

    Equal to librosa's. :func:`deepmusic.audio.log_mel` has no cut.

    Args:
        samples: ``(n,)`` mono.
        sample_rate: samples per second.
        n_mels: bands, up to half the rate.
        is_fast: whether the transform is in single precision: music is then within 1e-3 dB of
            librosa's, pure tones within 5e-3 near the cut.

    Returns:
        ``(mels, 1 + n // 512)``.
    """
    power = _mel_power(samples, sample_rate, n_mels, is_double=not is_fast)
    np.maximum(power, np.float32(1e-10), out=power)
    np.log10(power, out=power)
    power *= 10
    np.maximum(power, power.max() - np.float32(TOP_DB), out=power)
    return np.ascontiguousarray(power.T)


def _mel_power(samples: Sound, sample_rate: int, n_mels: int, *, is_double: bool = True) -> Sound:
    """Power in mel bands, ``(frames, n_mels)``."""
    config = LogMelConfig(sample_rate=sample_rate, n_mels=n_mels)
    sound = np.ascontiguousarray(samples, np.float32)
    result = np.empty((1 + len(sound) // HOP, n_mels), np.float32)
    done = 0
    for spectra in magnitudes([sound], is_double=is_double):
        here = result[done : done + spectra.shape[1]]
        spectra *= spectra
        mel_power(spectra.T, config, here)
        done += len(here)
    return result


def mfcc(
    samples: Sound, sample_rate: int = 22050, *, coefficients: int = 20, n_mels: int = 128
) -> Sound:
    """Mel-frequency cepstral coefficients, ``(coefficients, 1 + n // 512)``.

    Args:
        samples: ``(n,)`` mono.
        sample_rate: samples per second.
        coefficients: how many, at most ``n_mels``.
        n_mels: bands that they are made from.
    """
    power = _mel_power(samples, sample_rate, n_mels)
    loud = decibels(power, float(power.max()))
    transformed = scipy.fft.dct(loud, axis=1, type=2, norm="ortho")
    return np.ascontiguousarray(transformed[:, :coefficients].T, np.float32)


def estimate_tuning(samples: Sound, sample_rate: int = 22050) -> float:
    """By how many semitones sound is out of tune with A = 440 Hz, in [-0.5, 0.5)."""
    peaks = PeakFinder(sample_rate, FFT_SIZE)
    for spectra in magnitudes([np.ascontiguousarray(samples, np.float32)]):
        peaks.add(spectra, spectra.max(axis=0))
    return peaks.tuning()


def cqt(samples: Sound, sample_rate: int = 22050, *, tuned: float | None = None) -> Sound:
    """Magnitude of the constant-Q transform: 7 octaves of 12 bins from C1, ``(84, frames)``.

    Args:
        samples: ``(n,)`` mono.
        sample_rate: samples per second.
        tuned: semitones that the sound is out of tune; None measures it.

    Raises:
        RequestError: the rate is too low, which is so below 8,390 Hz or so.
    """
    tuned = estimate_tuning(samples, sample_rate) if tuned is None else tuned
    if highest_hz(tuned) > sample_rate / 2:
        raise RequestError(
            f"{sample_rate} samples per second are too few for the constant-Q transform; it needs "
            f"{2 * highest_hz(tuned):.0f}."
        )
    sound = np.ascontiguousarray(samples, np.float32)
    return ConstantQ(sample_rate, tuned).push(sound, is_last=True)


def chroma_cqt(samples: Sound, sample_rate: int = 22050) -> Sound:
    """Pitch classes from the constant-Q transform, C first, the loudest 1, ``(12, frames)``.

    Of bins of a semitone each; librosa's default is three bins to the semitone.

    Raises:
        RequestError: as in :func:`cqt`.
    """
    return normalised(fold_filters(BINS, 12) @ cqt(samples, sample_rate), np.inf)


def chroma_stft(samples: Sound, sample_rate: int = 22050) -> Sound:
    """Pitch classes from spectra of power, C first, the loudest 1, ``(12, 1 + n // 512)``."""
    peaks, parts = PeakFinder(sample_rate, FFT_SIZE), []
    for spectra in magnitudes([np.ascontiguousarray(samples, np.float32)]):
        power = spectra * spectra
        peaks.add(power, power.max(axis=0))
        parts.append(power)
    power = np.concatenate(parts, axis=1)
    return normalised(chroma_filters(sample_rate, peaks.tuning()) @ power, np.inf)
