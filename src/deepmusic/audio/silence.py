"""Silence in a recording: the level of each frame of 50 ms, and a gate that leaves silence out.

A frame is silent if its RMS, offset removed, is below -60 dBFS, or 50 dB below the loudest frame
before it, as the hiss after loud music is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import AudioError

SILENCE_DB = -60.0
"""In dBFS of the RMS of a frame."""
SILENCE = 10 ** (SILENCE_DB / 10)
"""The same as a mean square."""
FRAMES_PER_SECOND = 20
MOSTLY_SILENT = 0.5
"""Share of a recording's duration from which its silence is reported."""
_BELOW_LOUDEST = 1e-5  # of the mean square
_SHORTEST_S = 3.0  # shorter silence belongs to the music
Block = NDArray[np.float32]


def frame_levels(samples: Block, sample_rate: int) -> NDArray[np.float32]:
    """Mean square without offset of each whole frame of ``(n,)``; of all where there is none."""
    frame = min(_frame(sample_rate), max(1, len(samples)))
    framed = samples[: len(samples) // frame * frame].reshape(-1, frame)
    means = framed @ np.full(frame, 1 / frame, np.float32)
    levels: NDArray[np.float32] = np.einsum("ij,ij->i", framed, framed) / frame - means * means
    return np.maximum(levels, 0)


def silent_frames(blocks: Iterable[Block], sample_rate: int) -> NDArray[np.bool_]:
    """Whether each frame of 50 ms of blocks ``(n,)`` is below `SILENCE_DB`."""
    frames = _whole_frames(blocks, sample_rate)
    return np.concatenate([frame_levels(part, sample_rate) < SILENCE for part in frames])


def _frame(sample_rate: int) -> int:
    return max(1, sample_rate // FRAMES_PER_SECOND)


def _whole_frames(blocks: Iterable[Block], sample_rate: int) -> Iterator[Block]:
    """The same sound in blocks of whole frames; the last is what remains."""
    waiting = np.empty(0, np.float32)
    for block in blocks:
        sound = np.concatenate([waiting, block])
        whole = len(sound) - len(sound) % _frame(sample_rate)
        waiting = sound[whole:].copy()
        if whole:
            yield sound[:whole]
    if len(waiting):
        yield waiting


def start_with_sound(
    start_s: float, earliest_s: float, latest_s: float, length: float, is_silent: NDArray[np.bool_]
) -> float:
    """The start of a clip, moved to where there is least silence if it would be half silent."""
    starts = np.arange(int(earliest_s * FRAMES_PER_SECOND), int(latest_s * FRAMES_PER_SECOND) + 1)
    starts = np.append(starts, round(start_s * FRAMES_PER_SECOND))
    frames = round(length * FRAMES_PER_SECOND)
    before = np.append(0, np.cumsum(is_silent))  # silent frames before each
    ends = np.minimum(starts + frames, len(is_silent))
    silent = before[ends] - before[np.minimum(starts, len(is_silent))]
    if silent[-1] < MOSTLY_SILENT * frames or silent[-1] == silent.min():
        return start_s
    best = starts[silent == silent.min()] / FRAMES_PER_SECOND
    return float(best[np.abs(best - start_s).argmin()])


class SilenceGate:
    """Passes on the sound of a recording without silent stretches of three seconds or more.

    Args:
        sample_rate: of the blocks in Hz.
        name: of the recording, as a message begins with it.

    Attributes:
        silences: start and end in seconds of each stretch that was left out, in order.
    """

    def __init__(self, sample_rate: int, name: str) -> None:
        self.silences: list[tuple[float, float]] = []
        self._rate, self._name = sample_rate, name
        self._shortest = _SHORTEST_S * sample_rate

    def through(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield blocks ``(n,)``, of other sizes; silence of three seconds at most is kept.

        Raises:
            AudioError: at the end, where all is silent (code ``silent``).
        """
        held: list[Block] = []  # silence that may turn out to be short
        silent = position = 0  # samples: of the latest silence; up to here
        has_sound = False
        for part, is_silent in self._runs(blocks):
            if is_silent:
                silent += len(part)
                held = [*held, part] if silent < self._shortest else []
            else:
                yield from self._released(held, silent, position)
                held, silent, has_sound = [], 0, True
                yield part
            position += len(part)
        if not has_sound:
            message = f"{self._name} is silent: it never reaches {SILENCE_DB:g} dBFS."
            raise AudioError(message, code="silent")
        yield from self._released(held, silent, position)

    def _released(self, held: list[Block], silent: int, position: int) -> list[Block]:
        """What is passed on of the silence that ends at ``position``."""
        if silent >= self._shortest:
            span = (position - silent) / self._rate, position / self._rate
            self.silences.append(span)
        return held

    def _runs(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, bool]]:
        """Parts of the sound, and whether they are silent."""
        loudest = np.float32(0)
        for sound in _whole_frames(blocks, self._rate):
            levels = frame_levels(sound, self._rate)
            so_far = np.maximum(np.maximum.accumulate(levels), loudest)
            loudest = so_far[-1]
            is_silent = levels < np.maximum(SILENCE, _BELOW_LOUDEST * so_far)
            edges = [0, *(np.flatnonzero(np.diff(is_silent)) + 1).tolist(), len(levels)]
            for first, last in pairwise(edges):
                span = slice(first * _frame(self._rate), last * _frame(self._rate))
                yield sound[span], bool(is_silent[first])

    def spans(self, starts_s: Iterable[float], length_s: float) -> list[tuple[float, float]]:
        """Start and end in the recording of parts of what was passed on; they end at silence."""
        result = []
        for start in starts_s:
            end = np.inf
            for first, last in self.silences:
                if first > start:
                    end = first
                    break
                start += last - first
            result.append((start, min(start + length_s, end)))
        return result

    def gaps(self, per_second: float) -> NDArray[np.int64]:
        """For each frame that was left out, its index among those that were passed on."""
        spans = np.array(self.silences).reshape(-1, 2)
        lengths = spans[:, 1] - spans[:, 0]
        indices = (spans[:, 0] - np.cumsum(lengths) + lengths) * per_second
        return np.repeat(indices.round(), (lengths * per_second).round().astype(int)).astype(int)
