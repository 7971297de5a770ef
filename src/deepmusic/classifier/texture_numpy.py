"""The statistics of :mod:`deepmusic.classifier.texture` in NumPy, for hearing without PyTorch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

COEFFICIENTS = 20
BANDS = 32
LAGS = (1, 2, 4, 8, 16, 32, 64)
"""Frames apart at which change is measured: 23 ms to 1.5 s at the default hop."""
RANGE_DB = 80.0
"""What lies further below the loudest cell counts as this far below."""
TEXTURE_SIZE = 7 * COEFFICIENTS + COEFFICIENTS * (COEFFICIENTS - 1) // 2 + BANDS * len(LAGS)
_NATURAL = np.float32(np.log(10) / 10)  # decibels to natural logarithms of power


def texture(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """What :func:`deepmusic.classifier.texture.texture` gives, up to rounding.

    Args:
        log_mel: ``(b, mels, frames)`` in dB; mels a multiple of 32, more than 64 frames.

    Returns:
        ``(b, 554)``, finite for any finite input.
    """
    batch, n_mels, frames = log_mel.shape
    level = log_mel - log_mel.max(axis=(1, 2), keepdims=True)
    np.maximum(level, -RANGE_DB, out=level)
    cepstrum = _dct(n_mels) @ level  # (b, c, t)
    mean = cepstrum.mean(axis=2)
    centred = cepstrum - mean[:, :, None]
    deviation = np.sqrt(np.square(centred).mean(axis=2) + np.float32(1e-4))
    scaled = centred / deviation[:, :, None]
    squared = np.square(scaled)
    correlation = scaled @ scaled.transpose(0, 2, 1) / np.float32(frames)  # (b, c, c)
    row, column = np.triu_indices(COEFFICIENTS, 1)
    power = np.exp(level * _NATURAL).reshape(batch, BANDS, -1, frames).sum(axis=2)
    band_db = np.log(power + np.float32(1e-10)) / _NATURAL  # (b, bands, t)
    changes = [
        np.log(np.maximum(np.abs(band_db[:, :, lag:] - band_db[:, :, :-lag]).mean(axis=2), 1e-3))
        for lag in LAGS
    ]
    middle = (frames - 1) // 2  # torch takes the lower of two middle values
    statistics = [
        mean,
        np.log(deviation),
        (squared * scaled).mean(axis=2),
        np.log(np.square(squared).mean(axis=2) + np.float32(1e-2)),
        cepstrum.max(axis=2),
        cepstrum.min(axis=2),
        np.partition(cepstrum, middle, axis=2)[:, :, middle],
        correlation[:, row, column],
        *changes,
    ]
    return np.concatenate(statistics, axis=1)


@lru_cache(maxsize=4)
def _dct(n_mels: int) -> NDArray[np.float32]:
    """The first rows of the orthonormal DCT-II, ``(coefficients, n_mels)``."""
    k = np.arange(COEFFICIENTS)[:, None]
    rows = np.cos(np.pi / n_mels * (np.arange(n_mels) + 0.5) * k) * np.sqrt(2 / n_mels)
    rows[0] /= np.sqrt(2)
    result: NDArray[np.float32] = rows.astype(np.float32)
    return result
