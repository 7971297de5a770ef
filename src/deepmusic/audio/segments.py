"""Cuts a log-mel spectrogram into segments of equal length, whole or streamed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ShapeError


def segment_starts(frames: int, *, length: int, hop: int) -> list[int]:
    """First frames of the segments that cover a track.

    Segments of ``length`` frames begin every ``hop`` frames; where the last of them would leave
    frames at the end uncovered, one more ends at the last frame. A track shorter than a segment
    gives ``[0]``.

    Raises:
        ValueError: there is no frame, or ``hop`` is not 1 to ``length``.
    """
    _check(length, hop)
    if frames < 1:
        raise ValueError(f"a track has at least 1 frame; got {frames}")
    last = max(frames - length, 0)
    return [*range(0, last, hop), last]


def wrap(log_mel: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Repeat a spectrogram ``(n_mels, frames)`` from its start until it has ``length`` frames.

    One that is long enough is returned unchanged.

    Raises:
        ShapeError: there is no frame to repeat.
    """
    if log_mel.ndim != 2 or log_mel.shape[1] == 0:
        raise ShapeError(f"log_mel is (n_mels, frames), one frame or more; got {log_mel.shape}")
    frames = log_mel.shape[1]
    if frames >= length:
        return log_mel
    return np.tile(log_mel, (1, -(-length // frames)))[:, :length]


def segment_batches(
    log_mel: NDArray[np.floating], *, length: int, hop: int, batch_size: int = 64
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Cut a spectrogram ``(n_mels, frames)`` into the segments of `segment_starts`, in batches.

    It needs at least ``length`` frames (see `wrap`).

    Yields:
        The first frame of each segment, and the segments ``(n, n_mels, length)`` in float32.
    """
    starts = segment_starts(log_mel.shape[1], length=length, hop=hop)
    for first in range(0, len(starts), batch_size):
        batch = starts[first : first + batch_size]
        segments = np.stack([log_mel[:, start : start + length] for start in batch])
        yield batch, segments.astype(np.float32, copy=False)


class SegmentStream:
    """Segments of a spectrogram that arrives in blocks, in bounded memory.

    They equal those of `segment_starts` and `wrap` on the whole spectrogram: ``length`` frames
    each, one every ``hop`` frames.
    """

    def __init__(self, length: int, hop: int) -> None:
        _check(length, hop)
        self._length = length
        self._hop = hop
        self._kept: NDArray[np.float32] | None = None  # (n_mels, frames)
        self._offset = 0  # index in the track of the first kept frame
        self._next = 0  # first frame of the next segment

    def push(self, block: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Take ``(n_mels, k)`` more frames; yield the segments completed by them.

        Yields:
            First frame and ``(n_mels, length)``. Take all of them before the next push.
        """
        kept = block if self._kept is None else np.concatenate([self._kept, block], axis=1)
        end = self._offset + kept.shape[1]
        ready = []
        while self._next + self._length <= end:
            start = self._next - self._offset
            ready.append((self._next, kept[:, start : start + self._length].copy()))
            self._next += self._hop
        # the last `length` frames stay: the segment at the very end may need them
        drop = max(0, min(self._next - self._offset, kept.shape[1] - self._length))
        self._kept = kept[:, drop:].copy()
        self._offset += drop
        return iter(ready)

    def flush(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the segment that ends at the last frame, unless it was yielded already."""
        kept = self._kept
        if kept is None or kept.shape[1] == 0:
            return
        end = self._offset + kept.shape[1]
        if end < self._length:
            yield 0, wrap(kept, self._length)
        elif self._next - self._hop != end - self._length:
            yield end - self._length, kept[:, -self._length :]


def _check(length: int, hop: int) -> None:
    if length < 1 or not 1 <= hop <= length:
        raise ValueError(f"segments need length >= 1 and 1 <= hop <= length; got {length}, {hop}")
