"""How loud a recording sounds, by ITU-R BS.1770-4, and how far its waveform really reaches.

FFmpeg's ``ebur128`` filter measures the same and stands beside this one in the tests. It is not
used here: it hands peaks out with three decimals of full scale, too few for quiet music, and only
newer versions of PyAV pass its results on.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_OFFSET_LU = -0.691  # makes 1 kHz in one channel read as its level; BS.1770-4, section 2
_SILENCE_LUFS = -70.0  # absolute gate
_BELOW_LU = -10.0  # relative gate
_BLOCK_S, _STEP_S = 0.4, 0.1

# Analogue prototypes of the two filters that the standard gives as coefficients at 48 kHz: its
# values come out of them to 1e-9, and those of any other rate.
_SHELF_HZ, _SHELF_DB, _SHELF_Q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
_HIGHPASS_HZ, _HIGHPASS_Q = 38.13547087602444, 0.5003270373238773

_LOWEST_RATE_HZ = 16_000  # below, the shelf comes too near to the highest frequency there is
_ORDINARY_RATE_HZ = 48_000

# By number of channels in the order of WAVE and FLAC: front, centre, low-frequency effects (not
# counted), back, side. Sound from beside the listener counts 1.5 dB more.
_WEIGHTS = {
    4: (1.0, 1.0, 1.41, 1.41),
    5: (1.0, 1.0, 1.0, 1.41, 1.41),
    6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41),
    8: (1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.41, 1.41),
}


@lru_cache(maxsize=8)
def k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """The filter that stands for the head and the ear.

    Args:
        sample_rate: samples per second, at least 16,000.

    Returns:
        ``(2, 6)`` second-order sections, as SciPy's ``sosfilt`` takes them.

    Raises:
        ValueError: the rate is lower.
    """
    if sample_rate < _LOWEST_RATE_HZ:
        raise ValueError(f"rate is {_LOWEST_RATE_HZ} Hz or more; got {sample_rate}")
    k = np.tan(np.pi * _SHELF_HZ / sample_rate)
    high = 10 ** (_SHELF_DB / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / _SHELF_Q + k * k
    shelf = [
        (high + band * k / _SHELF_Q + k * k) / a0,
        2 * (k * k - high) / a0,
        (high - band * k / _SHELF_Q + k * k) / a0,
        1.0,
        2 * (k * k - 1) / a0,
        (1 - k / _SHELF_Q + k * k) / a0,
    ]
    k, ordinary = (np.tan(np.pi * _HIGHPASS_HZ / hz) for hz in (sample_rate, _ORDINARY_RATE_HZ))
    a0 = 1 + k / _HIGHPASS_Q + k * k
    # The standard leaves the numerator at (1, -2, 1), which lifts all by 0.04 dB at 48 kHz, and
    # would by 0.25 dB at 8 kHz: it is scaled to the same lift at every rate.
    gain = (1 + ordinary / _HIGHPASS_Q + ordinary * ordinary) / a0
    highpass = [
        gain,
        -2 * gain,
        gain,
        1.0,
        2 * (k * k - 1) / a0,
        (1 - k / _HIGHPASS_Q + k * k) / a0,
    ]
    return np.array([shelf, highpass])


def integrated_loudness(samples: NDArray[np.floating], sample_rate: int) -> float | None:
    """The loudness of a whole recording, quiet passages left out (ITU-R BS.1770-4).

    Channels count as the standard has it: a mono file is measured as one loudspeaker, 3 LU below
    the same sound in both channels of a stereo file. More than three channels are taken in the
    order of WAVE files.

    Args:
        samples: ``(n,)`` or ``(n, channels)``, full scale at 1.
        sample_rate: samples per second.

    Returns:
        LUFS; None for less than 0.4 s and for silence (all below -70 LUFS).

    Example:
        >>> seconds = np.arange(96_000) / 48_000
        >>> tone = 10 ** (-20 / 20) * np.sin(2 * np.pi * 1000 * seconds)
        >>> round(integrated_loudness(np.stack([tone, tone], axis=1), 48_000), 1)
        -20.0
    """
    from scipy.signal import sosfilt

    samples = samples[:, None] if samples.ndim == 1 else samples
    if sample_rate < _LOWEST_RATE_HZ:
        import soxr

        samples = soxr.resample(samples, sample_rate, _ORDINARY_RATE_HZ)
        sample_rate = _ORDINARY_RATE_HZ
    # rounded as a whole, so that a quarter of a block need not be a whole number of samples
    blocks = int((len(samples) / sample_rate - _BLOCK_S) / _STEP_S + 1e-9) + 1
    if len(samples) < round(_BLOCK_S * sample_rate):
        return None
    first = np.round(np.arange(blocks) * _STEP_S * sample_rate).astype(np.int64)
    last = np.minimum(first + round(_BLOCK_S * sample_rate), len(samples))
    channels = samples.shape[1]
    power = np.zeros(blocks)  # of each block, all channels together
    for channel, weight in enumerate(_WEIGHTS.get(channels, (1.0,) * channels)):
        if weight:
            heard = sosfilt(k_weighting(sample_rate), samples[:, channel].astype(np.float64))
            energy = np.concatenate([[0.0], np.cumsum(heard * heard)])
            power += weight * (energy[last] - energy[first]) / (last - first)
    power = power[power > _power(_SILENCE_LUFS)]
    if not len(power):
        return None
    power = power[power > _power(_lufs(power.mean()) + _BELOW_LU)]
    return _lufs(power.mean())


def true_peak(samples: NDArray[np.floating], sample_rate: int) -> float:
    """The greatest amplitude of the waveform between the samples, too (BS.1770-4, annex 2).

    Args:
        samples: ``(n,)`` or ``(n, channels)``, full scale at 1.
        sample_rate: in Hz; below 96 kHz the signal is oversampled four times, below 192 kHz twice.

    Returns:
        0 or more; 1 is full scale.
    """
    if not samples.size:
        return 0.0
    peak = float(np.abs(samples).max())
    times = 4 if sample_rate < 96_000 else 2 if sample_rate < 192_000 else 1
    if times > 1 and peak > 0:
        import soxr

        denser = soxr.resample(samples, sample_rate, times * sample_rate, quality="HQ")
        peak = max(peak, float(np.abs(denser).max(initial=0.0)))
    return peak


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET_LU) / 10))


def _lufs(power: float) -> float:
    return float(_OFFSET_LU + 10 * np.log10(power))
