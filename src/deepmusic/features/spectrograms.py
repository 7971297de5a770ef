"""Spectrograms on their own: log-mel, MFCC, constant-Q, chroma; tempo is in ``rhythm``.

Each equals librosa's function of that kind with its defaults, frames every 512 samples.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig
from deepmusic.audio.log_mel import mel_power
from deepmusic.errors import RequestError
from deepmusic.features.chroma import chroma_filters, fold_filters, normalised
from deepmusic.features.compiled import compiled
from deepmusic.features.constant_q import BINS, ConstantQ, highest_hz
from deepmusic.features.spectra import FFT_SIZE, HOP, hann, magnitudes, windowed
from deepmusic.features.spectral import decibels
from deepmusic.features.tuning import PeakFinder

__all__ = [
    "chroma_cqt",
    "chroma_stft",
    "cqt",
    "estimate_tuning",
    "log_mel_spectrogram",
    "mfcc",
]

_BLOCK_FRAMES = 64
_TOP_DB = 80.0
_WINDOW = hann(FFT_SIZE).astype(np.float32)

Sound = NDArray[np.float32]


def log_mel_spectrogram(samples: Sound, rate: int = 22050, *, mels: int = 128) -> Sound:
    """Power in mel bands in dB, no more than 80 dB below the loudest.

    All of it is in single precision: on music within 1e-3 dB of librosa's in double, on pure tones
    within 5e-3 near the cut. :func:`deepmusic.audio.log_mel` has no cut, and a transform in double
    precision.

    Args:
        samples: ``(n,)`` mono.
        rate: samples a second.
        mels: bands, up to half the rate.

    Returns:
        ``(mels, 1 + n // 512)``.
    """
    config = LogMelConfig(rate=rate, mels=mels)
    padded = np.pad(np.ascontiguousarray(samples, np.float32), FFT_SIZE // 2)
    frames = 1 + (len(padded) - FFT_SIZE) // HOP
    result = np.empty((mels, frames), np.float32)
    framed = np.empty((_BLOCK_FRAMES, FFT_SIZE), np.float32)
    power = np.empty((_BLOCK_FRAMES, FFT_SIZE // 2 + 1), np.float32)
    mel = np.empty((_BLOCK_FRAMES, mels), np.float32)
    for start in range(0, frames, _BLOCK_FRAMES):
        count = min(_BLOCK_FRAMES, frames - start)
        windowed(padded, start * HOP, _WINDOW, framed[:count])
        _power(scipy.fft.rfft(framed[:count], axis=1), power[:count])
        result[:, start : start + count] = mel_power(power[:count], config, mel[:count]).T
    np.maximum(result, np.float32(1e-10), out=result)
    np.log10(result, out=result)
    result *= 10
    np.maximum(result, result.max() - np.float32(_TOP_DB), out=result)
    return result


@compiled
def _power(spectra: NDArray[np.complex64], out: Sound) -> None:
    for frame in range(spectra.shape[0]):
        for place in range(spectra.shape[1]):
            value = spectra[frame, place]
            out[frame, place] = value.real * value.real + value.imag * value.imag


def mfcc(samples: Sound, rate: int = 22050, *, coefficients: int = 20, mels: int = 128) -> Sound:
    """Mel-frequency cepstral coefficients, ``(coefficients, 1 + n // 512)``.

    Args:
        samples: ``(n,)`` mono.
        rate: samples a second.
        coefficients: how many, at most ``mels``.
        mels: bands that they are made from.
    """
    config = LogMelConfig(rate=rate, mels=mels)
    parts = [
        mel_power(spectra * spectra, config, np.empty((len(spectra), mels), np.float32))
        for spectra in magnitudes([np.ascontiguousarray(samples, np.float32)])
    ]
    power = np.concatenate(parts)
    loud = decibels(power, float(power.max()))
    transformed = scipy.fft.dct(loud, axis=1, type=2, norm="ortho")
    return np.ascontiguousarray(transformed[:, :coefficients].T, np.float32)


def estimate_tuning(samples: Sound, rate: int = 22050) -> float:
    """By how many semitones sound is out of tune with A = 440 Hz, in [-0.5, 0.5)."""
    peaks = PeakFinder(rate, FFT_SIZE)
    for spectra in magnitudes([np.ascontiguousarray(samples, np.float32)]):
        peaks.add(spectra, spectra.max(axis=1))
    return peaks.tuning()


def cqt(samples: Sound, rate: int = 22050, *, tuned: float | None = None) -> Sound:
    """Magnitude of the constant-Q transform: 7 octaves of 12 bins from C1, ``(84, frames)``.

    Args:
        samples: ``(n,)`` mono.
        rate: samples a second.
        tuned: semitones that the sound is out of tune; None measures it.

    Raises:
        RequestError: the rate is too low, which is so below 8,390 Hz or so.
    """
    tuned = estimate_tuning(samples, rate) if tuned is None else tuned
    if highest_hz(tuned) > rate / 2:
        raise RequestError(
            f"{rate} samples a second are too few for the constant-Q transform; it needs "
            f"{2 * highest_hz(tuned):.0f}."
        )
    sound = np.ascontiguousarray(samples, np.float32)
    return ConstantQ(rate, tuned).push(sound, is_last=True)


def chroma_cqt(samples: Sound, rate: int = 22050) -> Sound:
    """Pitch classes from the constant-Q transform, C first, the loudest 1, ``(12, frames)``.

    Of bins of a semitone each; librosa's default is three bins to the semitone.

    Raises:
        RequestError: as in :func:`cqt`.
    """
    return normalised(fold_filters(BINS, 12) @ cqt(samples, rate), np.inf)


def chroma_stft(samples: Sound, rate: int = 22050) -> Sound:
    """Pitch classes from spectra of power, C first, the loudest 1, ``(12, 1 + n // 512)``."""
    peaks, parts = PeakFinder(rate, FFT_SIZE), []
    for spectra in magnitudes([np.ascontiguousarray(samples, np.float32)]):
        power = spectra * spectra
        peaks.add(power, power.max(axis=1))
        parts.append(power)
    power = np.concatenate(parts)
    return normalised(chroma_filters(rate, peaks.tuning()) @ power.T, np.inf)
