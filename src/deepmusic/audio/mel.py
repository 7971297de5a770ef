"""Log-mel spectrograms in NumPy, whole or while the sound arrives.

Equal to ``librosa.power_to_db(librosa.feature.melspectrogram(...), top_db=None)`` with Slaney's mel
scale and area normalisation, centred frames padded with zeros and a periodic Hann window.

The Fourier transform is in double precision: above the low-pass of lossy coders, where recordings
are almost silent, float32 rounding moves cells by up to 0.2 dB. All the rest is float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ShapeError

_BLOCK_FRAMES = 32  # a block of windows and spectra stays inside the second-level cache
_BANDS = 8  # neighbouring filters multiplied together: most of the full matrix is zero


@dataclass(frozen=True)
class LogMelConfig:
    """Settings of a log-mel spectrogram; a ValueError refuses those out of range."""

    sample_rate: int = 22050  # samples per second
    n_fft: int = 2048  # samples of a window, even
    hop_length: int = 512  # samples from one frame to the next, at most n_fft
    n_mels: int = 128  # filters
    f_min: float = 0.0  # lower end of the first filter in Hz
    f_max: float | None = None  # upper end of the last one; None is half the sample rate
    floor_db: float = -100.0  # no value is lower (dB of power, 0 dB is a power of 1)

    def __post_init__(self) -> None:
        if not 1 <= self.sample_rate < np.inf:
            raise ValueError(f"sample_rate is at least 1 Hz; got {self.sample_rate}")
        for name in ("n_fft", "hop_length", "n_mels"):
            whole_number(name, getattr(self, name))
        if self.n_fft % 2:
            raise ValueError(f"n_fft is even; got {self.n_fft}")
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length is at most n_fft; got {self.hop_length}")
        if not 0 <= self.f_min < self.top_hz <= self.sample_rate / 2:
            raise ValueError(
                f"0 <= f_min < f_max <= {self.sample_rate / 2:g} (half the rate) must hold; "
                f"got {self.f_min:g} and {self.top_hz:g}"
            )

    @property
    def top_hz(self) -> float:
        """Upper end of the last filter in Hz."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max

    @property
    def frames_per_second(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    def frames(self, samples: int) -> int:
        """Number of frames of a signal of ``samples`` samples."""
        return 1 + samples // self.hop_length


def whole_number(name: str, value: object, most: int = 2**31 - 1) -> None:
    """Check that a parameter is a whole number, of Python or NumPy, from 1 to ``most``.

    Raises:
        ValueError: it is not.
    """
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or not 1 <= int(value) <= most:  # type: ignore[call-overload]
        raise ValueError(f"{name} is a whole number from 1 to {most}; got {value!r}")


def mel_filters(config: LogMelConfig) -> NDArray[np.float32]:
    """Triangular filters of equal area, ``(n_mels, n_fft // 2 + 1)``.

    Slaney, Auditory Toolbox, 1998; equal to ``librosa.filters.mel``. His mel scale is linear below
    1 kHz (mel 15) and logarithmic above.
    """
    bins = np.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1)
    log_step = np.log(6.4) / 27
    hz = np.array([config.f_min, config.top_hz])
    ends = np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1) / 1000) / log_step)
    mel = np.linspace(ends[0], ends[1], config.n_mels + 2)
    edges = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(log_step * (mel - 15)))
    slopes = edges[:, None] - bins  # (mels + 2, bins)
    widths = np.diff(edges)[:, None]
    rising = -slopes[:-2] / widths[:-1]
    falling = slopes[2:] / widths[1:]
    areas = 2 / (edges[2:] - edges[:-2])
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * areas[:, None]
    return triangles.astype(np.float32)


@lru_cache(maxsize=8)
def _window(size: int) -> NDArray[np.float64]:
    """Periodic Hann window."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return window


def mel_power(
    power: NDArray[np.float32], config: LogMelConfig, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Apply the filters to power spectra ``(frames, bins)`` into ``out``, ``(frames, n_mels)``."""
    for band, bins, weights in _banded(config):
        np.matmul(power[:, bins], weights, out=out[:, band])
    return out


@lru_cache(maxsize=8)
def _banded(config: LogMelConfig) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """The filters in groups: slices of mels and of the bins they span, weights (bins, mels)."""
    weights = mel_filters(config)
    groups = []
    for rows in np.array_split(np.arange(config.n_mels), min(_BANDS, config.n_mels)):
        band = slice(int(rows[0]), int(rows[-1]) + 1)
        reached = np.flatnonzero(weights[band].any(axis=0))
        bins = slice(int(reached[0]), int(reached[-1]) + 1) if len(reached) else slice(0, 1)
        groups.append((band, bins, np.ascontiguousarray(weights[band, bins].T)))
    return groups


def _frames_in_db(padded: NDArray[np.float32], config: LogMelConfig) -> NDArray[np.float32]:
    """All complete frames of a padded signal: ``(n_mels, frames)``."""
    size, hop = config.n_fft, config.hop_length
    count = max(0, 1 + (len(padded) - size) // hop)
    result = np.empty((config.n_mels, count), np.float32)
    if count == 0:
        return result
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window = _window(size)
    mel = np.empty((_BLOCK_FRAMES, config.n_mels), np.float32)
    floor = np.float32(10 ** (config.floor_db / 10))
    for start in range(0, count, _BLOCK_FRAMES):
        framed = windows[start : min(start + _BLOCK_FRAMES, count)] * window  # (frames, size)
        # as fast as SciPy's, whose import takes a fifth of a second
        spectrum = np.fft.rfft(framed, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)  # (frames, bins)
        block = mel_power(power, config, mel[: len(power)])
        np.maximum(block, floor, out=block)
        np.log10(block, out=block)
        block *= 10
        result[:, start : start + len(block)] = block.T
    return result


def _checked(samples: NDArray[np.floating]) -> NDArray[np.float32]:
    if samples.ndim != 1:
        raise ShapeError(f"samples are one channel, shape (n,); got {samples.shape}")
    if not np.issubdtype(samples.dtype, np.floating):  # whole numbers have another full scale
        raise ShapeError(f"samples are floating, with full scale 1; got {samples.dtype}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(samples, dtype=np.float32)


def checked_sound(samples: NDArray[np.floating], *, least: int = 1) -> NDArray[np.float32]:
    """Sound in memory, ``(n,)``, as float32; n must be ``least`` or more.

    Raises:
        ShapeError: samples are not one channel of floating numbers, too few, or not finite.
    """
    sound = _checked(np.asarray(samples))
    if len(sound) < least:
        raise ShapeError("samples are one channel, shape (n,), n > 0; got none")
    if not np.isfinite(sound).all():
        raise ShapeError("samples must be finite numbers in float32; some are not")
    return sound


def log_mel(
    samples: NDArray[np.float32], config: LogMelConfig | None = None
) -> NDArray[np.float32]:
    """Log-mel spectrogram ``(n_mels, 1 + n // hop_length)`` of a mono signal ``(n,)``.

    In dB of power, float32, at least ``floor_db``.

    Raises:
        ShapeError: samples are not one channel of floating numbers, or not finite.
    """
    config = config or LogMelConfig()
    return _frames_in_db(np.pad(checked_sound(samples, least=0), config.n_fft // 2), config)


class LogMelStream:
    """Log-mel frames of sound that arrives in blocks of any size.

    The frames of all pushes and the flush, concatenated, equal `log_mel` of the whole signal;
    at most one window and one hop of samples is kept between calls.

    Example:
        >>> stream = LogMelStream()
        >>> stream.push(np.zeros(22050, np.float32)).shape, stream.flush().shape
        ((128, 42), (128, 2))
    """

    def __init__(self, config: LogMelConfig | None = None) -> None:
        self._config = config or LogMelConfig()
        self._half = self._config.n_fft // 2
        self._waiting = np.zeros(self._half, np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take ``(n,)`` more samples; returns the ``(n_mels, k)`` frames completed by them."""
        hop = self._config.hop_length
        waiting = np.concatenate([self._waiting, _checked(samples)])
        frames = _frames_in_db(waiting, self._config)
        self._waiting = waiting[frames.shape[1] * hop :]
        return frames

    def flush(self) -> NDArray[np.float32]:
        """The last frames, ``(n_mels, k)``, padded with silence; push nothing after it."""
        return self.push(np.zeros(self._half, np.float32))
