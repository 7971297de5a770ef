"""Levels of a recording while it is decoded: peak, offset, silence and clipping, by channel.

All is measured before the channels are mixed: in the mean of two channels clipping is hidden, and
channels of opposite phase are silent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SILENCE_DB = -60.0
"""A 50 ms frame is silent if the RMS of its loudest channel, offset removed, is below, in dBFS."""

CLIPPED_RUN = 3
"""Samples at full scale count as clipped from so many in a row on: a peak may touch it once."""

_FRAMES_A_SECOND = 20
_SILENT = 10 ** (SILENCE_DB / 10)
# The greatest value that these codings know, a little less than 1; elsewhere it is that of 16 bits.
_FULL_SCALE = {
    "pcm_u8": 127 / 128,
    "pcm_s8": 127 / 128,
    "pcm_mulaw": 32124 / 32768,
    "pcm_alaw": 32256 / 32768,
}
_FULL_SCALE_16 = 32767 / 32768
_LOUDEST = 2.0**32  # as in decoding; squares stay finite


class LevelMeter:
    """Takes blocks as they are decoded; give its ``add`` to :func:`~deepmusic.audio.open_audio`.

    Attributes:
        frames: samples a channel.
        peak: greatest absolute sample; full scale is 1, and lossy codings go beyond.
        mean_square: of all channels.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.peak = 0.0
        self._samples = 0
        self._energy = 0.0
        self._sums = np.zeros(0)
        self._clipped = 0
        self._silent = 0
        self._zero = 0

    def add(self, block: NDArray[np.float32], sample_rate: int, codec: str) -> None:
        """Take a block ``(n, channels)``, its rate in Hz and its codec."""
        length, channels = block.shape
        if not length:
            return
        if channels > len(self._sums):
            self._sums = np.pad(self._sums, (0, channels - len(self._sums)))
        full_scale = np.float32(_FULL_SCALE.get(codec, _FULL_SCALE_16))
        frame = max(1, sample_rate // _FRAMES_A_SECOND)
        whole = length - length % frame
        for start, end in ((0, whole), (whole, length)):
            if end > start:
                self._measure(block[start:end], min(frame, end - start), full_scale)
        self.frames += length
        self._samples += length * channels

    def _measure(self, block: NDArray[np.float32], frame: int, full_scale: np.float32) -> None:
        """Measure a block that is cut into frames of equal length."""
        ones = np.ones(frame, np.float32)
        loudest = np.zeros(len(block) // frame)
        is_zero = np.ones(len(loudest), bool)
        for channel in range(block.shape[1]):
            samples = np.ascontiguousarray(block[:, channel])
            peak = max(float(samples.max()), -float(samples.min()))
            if not peak <= _LOUDEST:  # what is no sound is silenced by the decoder, too
                samples = np.where(np.abs(samples) <= _LOUDEST, samples, np.float32(0))
                peak = float(np.abs(samples).max())
            self.peak = max(self.peak, peak)
            if peak == 0:
                continue
            if peak >= full_scale:
                self._clipped += _clipped(samples, full_scale)
            pieces = samples.reshape(-1, frame)
            totals = (pieces @ ones).astype(np.float64)
            # each row by itself: BLAS is quicker at that than einsum
            energies = np.matmul(pieces[:, None, :], pieces[:, :, None]).ravel().astype(np.float64)
            self._sums[channel] += totals.sum()
            self._energy += energies.sum()
            is_zero &= energies == 0
            np.maximum(loudest, energies / frame - (totals / frame) ** 2, out=loudest)
        self._silent += frame * int(np.count_nonzero(loudest < _SILENT))
        self._zero += frame * int(np.count_nonzero(is_zero))

    @property
    def mean_square(self) -> float:
        """Mean of the squared samples of all channels."""
        return self._energy / max(1, self._samples)

    @property
    def offset(self) -> float:
        """The mean of the channel whose mean is farthest from zero."""
        return float(np.abs(self._sums).max(initial=0.0)) / max(1, self.frames)

    @property
    def clipped_share(self) -> float:
        """Share of the samples that stand at full scale, three or more in a row."""
        return self._clipped / max(1, self._samples)

    @property
    def silent_share(self) -> float:
        """Share of the time that is below :data:`SILENCE_DB` in all channels."""
        return self._silent / max(1, self.frames)

    @property
    def zero_share(self) -> float:
        """Share of the time, in frames of 50 ms, in which every sample is zero."""
        return self._zero / max(1, self.frames)


def _clipped(samples: NDArray[np.float32], full_scale: np.float32) -> int:
    """How many samples stand at one end of the scale in runs of :data:`CLIPPED_RUN` or more."""
    places = np.flatnonzero(np.abs(samples) >= full_scale)
    sides = samples[places] > 0
    breaks = np.flatnonzero((np.diff(places) != 1) | (sides[1:] != sides[:-1])) + 1
    runs = np.diff(np.concatenate([[0], breaks, [len(places)]]))
    return int(runs[runs >= CLIPPED_RUN].sum())
