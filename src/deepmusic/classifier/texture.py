"""The texture of a segment: statistics of its log-mel frames.

Second and higher moments say much about a genre (brightness, density, roughness, change at each
time scale), and a small network hardly learns them from a few hundred tracks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepmusic.classifier.model_numpy import BANDS, COEFFICIENTS, LAGS, RANGE_DB
from deepmusic.errors import ShapeError

TEXTURE_FAMILIES = {
    "timbre": 7 * COEFFICIENTS,
    "correlation": COEFFICIENTS * (COEFFICIENTS - 1) // 2,
    "movement": BANDS * len(LAGS),
}
"""Number of statistics in each family, in the order of `texture`."""


def texture(log_mel: Tensor) -> Tensor:
    """Statistics of each segment, independent of its loudness.

    *timbre*: of 20 cepstral coefficients (orthonormal DCT-II of the mels) the mean, logarithm of
    the standard deviation, skewness, logarithm of the kurtosis, maximum, minimum and median.
    *correlation*: between each two coefficients over time. *movement*: for 32 bands, the logarithm
    of the mean absolute change (dB) between frames 1 to 64 apart, the structure function of the
    spectrogram.

    Args:
        log_mel: ``(b, mels, frames)`` in dB; mels a multiple of 32, more than 64 frames.

    Returns:
        ``(b, 554)``, finite for any finite input.

    Raises:
        ShapeError: too few frames, or mels that 32 does not divide.
    """
    if log_mel.ndim != 3 or log_mel.shape[1] % BANDS or log_mel.shape[2] <= LAGS[-1]:
        raise ShapeError(
            f"texture needs (batch, mels, frames) with mels a multiple of {BANDS} and more than "
            f"{LAGS[-1]} frames; got {tuple(log_mel.shape)}"
        )
    with torch.autocast(log_mel.device.type, enabled=False):  # moments need all their digits
        return _statistics(log_mel.float())


def _statistics(log_mel: Tensor) -> Tensor:
    level = log_mel - log_mel.amax(dim=(1, 2), keepdim=True)
    level = level.clamp_min(-RANGE_DB)
    cepstrum = _dct(level.shape[1]).to(level) @ level  # (b, c, t)
    mean = cepstrum.mean(dim=2)
    centred = cepstrum - mean.unsqueeze(2)
    deviation = (centred.square().mean(dim=2) + 1e-4).sqrt()
    scaled = centred / deviation.unsqueeze(2)
    correlation = scaled @ scaled.transpose(1, 2) / scaled.shape[2]  # (b, c, c)
    row, column = torch.triu_indices(COEFFICIENTS, COEFFICIENTS, 1, device=level.device)
    power = _bands(10 ** (level / 10))  # (b, bands, t)
    band_db = 10 * torch.log10(power + 1e-10)
    changes = [
        (band_db[:, :, lag:] - band_db[:, :, :-lag]).abs().mean(dim=2).clamp_min(1e-3).log()
        for lag in LAGS
    ]
    statistics = [
        mean,
        deviation.log(),
        scaled.pow(3).mean(dim=2),
        (scaled.pow(4).mean(dim=2) + 1e-2).log(),
        cepstrum.amax(dim=2),
        cepstrum.amin(dim=2),
        cepstrum.median(dim=2).values,
        correlation[:, row, column],
        *changes,
    ]
    return torch.cat(statistics, dim=1)


def _bands(power: Tensor) -> Tensor:
    """Neighbouring mels added up: ``(b, mels, t)`` to ``(b, bands, t)``."""
    return power.reshape(len(power), BANDS, -1, power.shape[2]).sum(dim=2)


def _dct(n_mels: int) -> Tensor:
    """The first rows of the orthonormal DCT-II, ``(coefficients, n_mels)``."""
    k = torch.arange(COEFFICIENTS, dtype=torch.float64).unsqueeze(1)
    n = torch.arange(n_mels, dtype=torch.float64)
    rows = torch.cos(math.pi / n_mels * (n + 0.5) * k) * math.sqrt(2 / n_mels)
    rows[0] /= math.sqrt(2)
    return rows.float()
