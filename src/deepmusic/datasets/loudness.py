"""Integrated loudness (ITU-R BS.1770-4) and true peak.

FFmpeg's `ebur128` filter agrees in the tests. It is not used, as it gives peaks with three
decimals of full scale, too few for quiet music.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import soxr
from numpy.typing import NDArray

_OFFSET_LU = -0.691  # makes 1 kHz in one channel read as its level; BS.1770-4, section 2
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_BLOCK_S, _STEP_S = 0.4, 0.1

# Analogue prototypes of the two filters that the standard gives as coefficients at 48 kHz: they
# reproduce its values to 1e-9, and give those of any other rate.
_SHELF_HZ, _SHELF_DB, _SHELF_Q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
_HIGHPASS_HZ, _HIGHPASS_Q = 38.13547087602444, 0.5003270373238773
_MIN_RATE_HZ = 16_000  # below, the shelf is too near to the Nyquist frequency
_REFERENCE_RATE_HZ = 48_000

# By number of channels, in the order of WAVE and FLAC: front, centre, low-frequency effects (not
# counted), back, side. Surround channels weigh 1.5 dB more.
_WEIGHTS = {
    4: (1.0, 1.0, 1.41, 1.41),
    5: (1.0, 1.0, 1.0, 1.41, 1.41),
    6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41),
    8: (1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.41, 1.41),
}


@lru_cache(maxsize=8)
def k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """The K-weighting filter: `(2, 6)` second-order sections for SciPy's `sosfilt`.

    Args:
        sample_rate: in Hz, at least 16,000.
    """
    from scipy.signal import bilinear

    def digital(b: list[float], q: float, hz: float, rate: int) -> NDArray[np.float64]:
        """A section with poles of quality `q`, warped so that `hz` is where it is in analogue."""
        fs = 0.5 / np.tan(np.pi * hz / rate)
        return np.concatenate(bilinear(b, [1, 1 / q, 1], fs))

    high = 10 ** (_SHELF_DB / 20)
    band = high**0.4996667741545416 / _SHELF_Q
    shelf = digital([high, band, 1], _SHELF_Q, _SHELF_HZ, sample_rate)
    highpass = digital([1, 0, 0], _HIGHPASS_Q, _HIGHPASS_HZ, sample_rate)
    # The standard's numerator (1, -2, 1) amplifies by 0.04 dB at 48 kHz, and would by 0.25 dB at
    # 8 kHz: it is scaled to the same gain at every rate.
    highpass[:3] /= digital([1, 0, 0], _HIGHPASS_Q, _HIGHPASS_HZ, _REFERENCE_RATE_HZ)[0]
    return np.array([shelf, highpass])


def integrated_loudness(samples: NDArray[np.floating], sample_rate: int) -> float | None:
    """The gated loudness of a whole recording (ITU-R BS.1770-4).

    A mono file is measured as one loudspeaker, 3 LU below the same sound in both channels of a
    stereo file. More than three channels are taken in the order of WAVE files.

    Args:
        samples: `(n,)` or `(n, channels)`, full scale at 1.
        sample_rate: in Hz.

    Returns:
        LUFS; None for less than 0.4 s and for silence (below -70 LUFS throughout).

    Example:
        >>> seconds = np.arange(96_000) / 48_000
        >>> tone = 10 ** (-20 / 20) * np.sin(2 * np.pi * 1000 * seconds)
        >>> round(integrated_loudness(np.stack([tone, tone], axis=1), 48_000), 1)
        -20.0
    """
    from scipy.signal import sosfilt

    samples = samples[:, None] if samples.ndim == 1 else samples
    if sample_rate < _MIN_RATE_HZ:
        samples = soxr.resample(samples, sample_rate, _REFERENCE_RATE_HZ)
        sample_rate = _REFERENCE_RATE_HZ
    block = round(_BLOCK_S * sample_rate)
    if len(samples) < block:
        return None
    # a step need not be a whole number of samples
    blocks = int((len(samples) / sample_rate - _BLOCK_S) / _STEP_S + 1e-9) + 1
    first = np.round(np.arange(blocks) * _STEP_S * sample_rate).astype(np.int64)
    last = np.minimum(first + block, len(samples))
    channels = samples.shape[1]
    power = np.zeros(blocks)
    for channel, weight in enumerate(_WEIGHTS.get(channels, (1.0,) * channels)):
        weighted = sosfilt(k_weighting(sample_rate), samples[:, channel].astype(np.float64))
        energy = np.concatenate([[0.0], np.cumsum(weighted * weighted)])
        power += weight * (energy[last] - energy[first]) / (last - first)
    power = power[power > 10 ** ((_ABSOLUTE_GATE_LUFS - _OFFSET_LU) / 10)]
    if not len(power):
        return None
    power = power[power > power.mean() * 10 ** (_RELATIVE_GATE_LU / 10)]
    return float(_OFFSET_LU + 10 * np.log10(power.mean()))


def true_peak(samples: NDArray[np.floating], sample_rate: int) -> float:
    """The largest amplitude, also between the samples (BS.1770-4, annex 2); 1 is full scale.

    Args:
        samples: `(n,)` or `(n, channels)`, full scale at 1.
        sample_rate: in Hz; below 96 kHz the signal is oversampled four times, below 192 kHz twice.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    factor = 4 if sample_rate < 96_000 else 2 if sample_rate < 192_000 else 1
    if factor > 1 and peak > 0:
        oversampled = soxr.resample(samples, sample_rate, factor * sample_rate, quality="HQ")
        peak = max(peak, float(np.abs(oversampled).max(initial=0.0)))
    return peak
