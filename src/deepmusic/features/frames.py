"""Single features over time: log-mel, MFCC, constant-Q, chroma, tuning; tempo is in ``rhythm``.

Each equals the librosa function of its name with default settings; frames are 512 samples apart.
A ValueError refuses samples that are not one channel ``(n,)`` of finite floating numbers, n > 0,
and parameters out of range.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig
from deepmusic.audio.mel import checked_sound, mel_power, whole_number
from deepmusic.errors import RequestError
from deepmusic.features.chroma import (
    N_CHROMA,
    TuningEstimator,
    chroma_filters,
    fold_filters,
    normalize,
)
from deepmusic.features.constant_q import N_BINS, ConstantQ, f_max
from deepmusic.features.spectral_shape import power_to_db
from deepmusic.features.stft import HOP_LENGTH, magnitudes

Float32 = NDArray[np.float32]


def log_mel_spectrogram(
    samples: Float32, sample_rate: int = 22050, *, n_mels: int = 128
) -> Float32:
    """Power in mel bands in dB, clipped at 80 dB below the maximum.

    ``deepmusic.audio.log_mel`` is the same without the clipping.

    Args:
        samples: ``(n,)`` mono.
        sample_rate: samples per second.
        n_mels: number of bands.

    Returns:
        ``(n_mels, 1 + n // 512)``.
    """
    power = _mel_power(samples, sample_rate, n_mels)
    np.maximum(power, np.float32(1e-10), out=power)
    np.log10(power, out=power)
    power *= 10
    np.maximum(power, power.max() - np.float32(80), out=power)
    return np.ascontiguousarray(power.T)


def _mel_power(samples: Float32, sample_rate: int, n_mels: int) -> Float32:
    """Power in mel bands, ``(frames, n_mels)``."""
    config = LogMelConfig(sample_rate=sample_rate, n_mels=n_mels)
    sound = checked_sound(samples)
    result = np.empty((1 + len(sound) // HOP_LENGTH, n_mels), np.float32)
    done = 0
    for spectra in magnitudes([sound]):
        block = result[done : done + spectra.shape[1]]
        mel_power((spectra * spectra).T, config, block)
        done += len(block)
    return result


def mfcc(
    samples: Float32, sample_rate: int = 22050, *, n_mfcc: int = 20, n_mels: int = 128
) -> Float32:
    """Mel-frequency cepstral coefficients, ``(n_mfcc, 1 + n // 512)``.

    Args:
        samples: ``(n,)`` mono.
        sample_rate: samples per second.
        n_mfcc: number of coefficients, at most ``n_mels``.
        n_mels: number of mel bands.
    """
    power = _mel_power(samples, sample_rate, n_mels)
    whole_number("n_mfcc", n_mfcc, most=n_mels)
    mel_db = power_to_db(power, float(power.max()))
    transformed = scipy.fft.dct(mel_db, axis=1, type=2, norm="ortho")
    return np.ascontiguousarray(transformed[:, :n_mfcc].T, np.float32)


def _checked_rate(sample_rate: int) -> int:
    return LogMelConfig(sample_rate=sample_rate).sample_rate


def estimate_tuning(samples: Float32, sample_rate: int = 22050) -> float:
    """Deviation from A = 440 Hz in semitones, in [-0.5, 0.5)."""
    tuning = TuningEstimator(_checked_rate(sample_rate))
    for spectra in magnitudes([checked_sound(samples)]):
        tuning.add(spectra, spectra.max(axis=0))
    return tuning.result()


def cqt(samples: Float32, sample_rate: int = 22050, *, tuning: float | None = None) -> Float32:
    """Magnitude of the constant-Q transform: 7 octaves of 12 bins from C1, ``(84, frames)``.

    Args:
        samples: ``(n,)`` mono.
        sample_rate: samples per second.
        tuning: deviation from A = 440 Hz in semitones; None estimates it.

    Raises:
        RequestError: the sample rate is below about 8,240 Hz, depending on the tuning.
    """
    sound, _ = checked_sound(samples), _checked_rate(sample_rate)
    tuning = estimate_tuning(sound, sample_rate) if tuning is None else tuning
    if not -N_CHROMA <= tuning <= N_CHROMA:
        raise ValueError(f"tuning is in semitones, at most an octave; got {tuning}")
    if f_max(tuning) > sample_rate / 2:
        raise RequestError(
            f"A sample rate of {sample_rate} Hz is too low for the constant-Q transform; it needs "
            f"{2 * f_max(tuning):.0f} Hz."
        )
    return ConstantQ(sample_rate, tuning).push(sound, is_last=True)


def chroma_cqt(samples: Float32, sample_rate: int = 22050) -> Float32:
    """Pitch classes from the constant-Q transform, C first, maximum 1, ``(12, frames)``.

    Each bin is a semitone; the default of librosa is three bins per semitone.

    Raises:
        RequestError: as in ``cqt``.
    """
    return normalize(fold_filters(N_BINS, 12) @ cqt(samples, sample_rate), np.inf)


def chroma_stft(samples: Float32, sample_rate: int = 22050) -> Float32:
    """Pitch classes from power spectra, C first, maximum 1, ``(12, 1 + n // 512)``."""
    tuning, parts = TuningEstimator(_checked_rate(sample_rate)), []
    for spectra in magnitudes([checked_sound(samples)]):
        power = spectra * spectra
        tuning.add(power, power.max(axis=0))
        parts.append(power)
    power = np.concatenate(parts, axis=1)
    return normalize(chroma_filters(sample_rate, tuning.result()) @ power, np.inf)
