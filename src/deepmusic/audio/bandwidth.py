"""The bandwidth of a recording: where a low-pass, a coder or a low sample rate cuts off its treble.

Music with little treble rolls off; what was cut off has an edge with next to nothing above it. The
edge is looked for in the mean spectrum, in which loud parts outweigh silence and fades. The level
of a band is the median of its bins, so that single tones, which end like an edge, do not count.

Tools that detect transcoded files also look for a steep fall of the mean spectrum (fakeflac by M.
van der Schee, bandcheck).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.sources import LARGEST_SAMPLE

_WINDOW = 4096  # samples
_WINDOWS_PER_SECOND = 2
_LOWEST_HZ = 1000.0
_PER_OCTAVE = 12  # bands, each a third of an octave wide
_THIRD = _PER_OCTAVE // 3
# Falls, from a band to all that lie so many bands higher or more, in dB, that music does not have:
# clips of emotify fall by up to 24 dB in a third of an octave and 33 dB in an octave. Resampled to
# 8 kHz they fall by 35 dB in a third, after a Butterworth filter of order 8 by 38 in an octave.
_FALLS = ((_THIRD, 28.0), (_PER_OCTAVE, 36.0))
_EDGE_DB = 12.0  # below the level of its beginning lies the edge


class BandwidthMeter:
    """Measures the bandwidth of a recording; give its ``add`` to `open_audio`."""

    def __init__(self) -> None:
        self._power = np.zeros(_WINDOW // 2 + 1)
        self._taper = np.hanning(_WINDOW).astype(np.float32)[:, None]
        self._sample_rate = 0
        self._begun = np.empty((0, 1), np.float32)  # the window that is not full yet
        self._wait = 0  # samples until the next window

    def add(self, block: NDArray[np.float32], sample_rate: int, codec: str = "") -> None:
        """Take a block ``(n, channels)`` and its rate in Hz; only the first rate counts."""
        self._sample_rate = self._sample_rate or sample_rate
        if sample_rate != self._sample_rate:
            return
        begun, at = self._begun, self._wait
        if begun.shape[1] != block.shape[1]:
            begun = np.empty((0, block.shape[1]), np.float32)
        while at < len(block):
            taken = block[at : at + _WINDOW - len(begun)]
            begun, at = np.concatenate([begun, taken]), at + len(taken)
            if len(begun) == _WINDOW:
                if np.abs(begun).max() <= LARGEST_SAMPLE:  # false where there is a NaN
                    spectrum = np.fft.rfft(begun * self._taper, axis=0)
                    self._power += (np.abs(spectrum) ** 2).mean(axis=1)
                begun, at = begun[:0], at + max(0, sample_rate // _WINDOWS_PER_SECOND - _WINDOW)
        self._begun, self._wait = begun, max(0, at - len(block))

    def bandwidth_hz(self) -> int | None:
        """Where the spectrum ends, to 100 Hz: half the sample rate where nothing was cut off.

        None for silence, and for less than 4,096 samples.
        """
        if not self._power.any():
            return None
        half = round(self._sample_rate / 2)
        if half < 2 * _LOWEST_HZ:
            return half
        power = np.maximum(self._power, self._power.max() * 1e-16)
        level = self._levels(power)
        # the loudest of a band and those above it, by band; the last is repeated
        above = np.maximum.accumulate(level[::-1])[::-1]
        above = np.pad(above, (0, _PER_OCTAVE), mode="edge")
        fall = {span: level - above[span : span + len(level)] for span, _ in _FALLS}
        is_cut = np.any([fall[span] >= limit for span, limit in _FALLS], axis=0)
        if not is_cut.any():
            return half
        first = int(is_cut.argmax())
        steep = fall[_THIRD][first : first + _PER_OCTAVE]
        begin = first + int((steep >= steep.max() / 2).argmax())
        last = np.flatnonzero(10 * np.log10(power) >= level[begin] - _EDGE_DB)[-1]
        return min(half, 100 * round(int(last) * self._sample_rate / _WINDOW / 100))

    def _levels(self, power: NDArray[np.float64]) -> NDArray[np.float64]:
        """Levels of bands in dB, from low to high."""
        bins = _WINDOW / self._sample_rate  # per Hz
        count = int(_PER_OCTAVE * np.log2(self._sample_rate / 2 / _LOWEST_HZ))
        centres = _LOWEST_HZ * bins * 2 ** (np.arange(count) / _PER_OCTAVE)
        ends = np.outer(centres, [2 ** (-1 / 6), 2 ** (1 / 6)]).astype(int).tolist()
        bands = [np.sort(power[low : high + 1]) for low, high in ends]  # np.median imports a lot
        return 10 * np.log10([(b[(len(b) - 1) // 2] + b[len(b) // 2]) / 2 for b in bands])


def nothing_above(bandwidth_hz: int) -> str:
    """A bandwidth in words, such as "nothing above 5.5 kHz"."""
    return f"nothing above {bandwidth_hz / 1000:.1f} kHz"
