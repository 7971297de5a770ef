"""An acoustic fingerprint: 32 bits eight times per second that survive coding, gain and noise.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): a bit says
whether the difference between the energies of two neighbouring bands grew over a short lag. For
speed on one processor it departs from the paper: eight frames per second instead of 86, a lag of
3/8 of a second, and a frame in which hardly anything changes (silence, a steady tone) has code 0,
since its bits would be random. Two recordings are the same where their codes differ in few bits.
"""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from deepmusic.errors import ShapeError

CODES_PER_SECOND = 8
"""Codes per second of sound, whatever the sample rate."""

_MIN_RATE = 3100  # all recordings are brought down to at least this rate
_WINDOW_S = 0.3
_F_MIN, _F_MAX = 250.0, 1350.0  # Hz
_BANDS = 33
_LAG = 3  # codes between the two frames that are compared
_BATCH = 64  # spectra at a time: they stay in the processor's cache
# Bands below this share of the loudest one count as silent: there are only the leakage of the
# window and what lossy coders discard.
_FLOOR = np.float32(1e-5)
_FAINTEST = np.float32(1e-12)  # about -100 dBFS in a band
_STEADY = 0.1  # neper; a band whose level changes less is steady
_LEAST_CHANGES = 12  # bands of 32 that must not be steady


def acoustic_fingerprint(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.uint32]:
    """The fingerprint ``(codes,)`` of mono samples ``(n,)``, finite, full scale at 1.

    There are `CODES_PER_SECOND` for each second beyond the first half; 0 where nothing changes.
    Below a sample rate of 2,700 Hz the upper bands are lost.

    Raises:
        ShapeError: ``samples`` has another shape.
        ValueError: ``sample_rate`` is below 1000.
    """
    stream = FingerprintStream(sample_rate)
    stream.add(samples)
    return stream.finish()


class FingerprintStream:
    """The fingerprint of a recording that arrives in blocks, in bounded memory.

    Four bytes are kept per code. The size of the blocks makes no difference.

    Raises:
        ValueError: ``sample_rate`` is below 1000.
    """

    def __init__(self, sample_rate: int) -> None:
        if sample_rate < 1000:
            raise ValueError(f"sample_rate is 1000 Hz or more; got {sample_rate}")
        step = self._step = max(1, sample_rate // _MIN_RATE)  # samples per one of the lower rate
        rate = self._rate = sample_rate / step
        # The low-pass, two samples of the lower rate long, (2, step), is short: what it passes
        # above the bands is weak in music, and what it attenuates within them is always
        # attenuated, so that growth does not depend on it.
        taps = np.hamming(2 * step) * np.sinc((np.arange(2 * step) - (2 * step - 1) / 2) / step)
        self._filter = (taps / taps.sum()).astype(np.float32).reshape(2, step)
        # a length without a prime factor above 5: its transform is fast
        length = next(n for n in count(round(_WINDOW_S * rate)) if pow(30, 64, n) == 0)
        window = np.hanning(length + 2)[1:-1]
        self._window = (window / window.sum()).astype(np.float32)
        # the share of each bin from the first one on in each band, real and imaginary part
        edges = np.geomspace(_F_MIN, _F_MAX, _BANDS + 1) * length / rate + 0.5
        edges = np.minimum(edges, length // 2 + 1)  # a low rate has no upper bands
        self._first_bin = int(edges[0])
        bins = np.arange(self._first_bin, min(int(edges[-1]), length // 2) + 1)[:, None]
        shares = np.minimum(edges[1:], bins + 1) - np.maximum(edges[:-1], bins)
        self._bands = np.repeat(np.maximum(shares, 0).astype(np.float32), 2, axis=0)
        self._row = np.zeros(0, np.float32)  # samples that do not make one of the lower rate yet
        self._carry = np.float32(0)  # the first half of the filter on the previous row
        self._low = np.zeros(0, np.float32)  # samples of the lower rate from the next frame on
        self._start = 0  # position in the recording of the first of them
        self._frames = 0  # spectra so far
        self._past = np.zeros((0, _BANDS - 1), np.float32)  # differences of the latest frames
        self._codes = [np.zeros(0, np.uint32)]

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples, mono, ``(n,)``; a `ShapeError` refuses others."""
        if samples.ndim != 1:
            raise ShapeError(f"samples are mono, (n,); got an array of shape {samples.shape}")
        samples = np.concatenate([self._row, samples])
        whole = len(samples) - len(samples) % self._step
        self._row = samples[whole:].copy()
        if not whole:
            return
        # each row ends one sample of the lower rate and begins the next
        rows = samples[:whole].reshape(-1, self._step)
        begins, ends = self._filter
        begun = rows @ begins
        low = rows @ ends
        low[0] += self._carry
        low[1:] += begun[:-1]
        self._carry = begun[-1]
        self._low = np.concatenate([self._low, low])
        while self._transform():
            pass

    def finish(self) -> NDArray[np.uint32]:
        """The fingerprint, ``(codes,)`` uint32; add nothing after it."""
        self.add(np.zeros(self._step, np.float32))
        return np.concatenate(self._codes)

    def _transform(self) -> bool:
        """Turn samples into codes, up to ``_BATCH``; whether there were enough for one."""
        length = len(self._window)
        seconds = (self._start + len(self._low) - length) / self._rate
        ready = min(_BATCH, int(np.floor(seconds * CODES_PER_SECOND)) + 1 - self._frames)
        if ready < 1:
            return False
        frames = np.arange(self._frames, self._frames + ready + 1)
        starts = (frames * self._rate / CODES_PER_SECOND).astype(np.int64) - self._start
        windows = sliding_window_view(self._low, length)[starts[:-1]] * self._window
        # SciPy's is faster, but takes longer to import than it saves in a hundred files
        spectra = np.fft.rfft(windows).view(np.float32)
        power = np.square(spectra[:, 2 * self._first_bin :][:, : len(self._bands)])
        differences = np.concatenate([self._past, _differences(power @ self._bands)])
        self._codes.append(_coded(differences))
        self._past = differences[-_LAG:]
        self._frames += ready
        used = min(int(starts[-1]), len(self._low))
        self._low = self._low[used:]
        self._start += used
        return True


def _differences(energy: NDArray[np.float32]) -> NDArray[np.float32]:
    """The level of each band minus that of the next one above, neper of energy, ``(n, 32)``."""
    energy += _FLOOR * energy.max(axis=1, keepdims=True) + _FAINTEST
    levels = np.log(energy)
    differences: NDArray[np.float32] = levels[:, :-1] - levels[:, 1:]
    return differences


def _coded(differences: NDArray[np.float32]) -> NDArray[np.uint32]:
    """A code for each frame that has ``_LAG`` frames before it."""
    growth = differences[_LAG:] - differences[:-_LAG]
    codes = np.packbits(growth > 0, axis=1).view(">u4")[:, 0].astype(np.uint32)
    changes = np.count_nonzero(np.abs(growth) > _STEADY, axis=1)
    codes[changes < _LEAST_CHANGES] = 0
    return codes
