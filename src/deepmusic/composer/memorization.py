"""How much a piece copies of the training music, without that music, beside how much people do.

Two passages are the same when, step by step, the same pitches sound after all pitches of one are
moved by one interval. Parts make no difference, nor whether a note is an onset or sustained; drums
are ignored. A passage begins and ends with a sounding step and holds at least two chords: silence,
or one long chord, is in all music. It holds no pause, a silence of more than four beats.

``CopyIndex`` keeps hashes of short windows of the training music (Bloom 1970,
doi:10.1145/362686.362692) and ships with a model. People share passages too, and longer pieces
longer ones, so a figure means something only beside that of people's pieces *of similar length*
that were not trained on: a ``HumanReference`` (Yin, Reuben, Stepney and Collins 2021 likewise
compare with a held-out part of the corpus).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.encoding import ODD, mixed
from deepmusic.errors import CheckpointError
from deepmusic.music import Grid

_MIN_CHORDS = 2
_MAX_REST = 4  # beats: a bar, in most music
_VERSION = 2


class Overlap(NamedTuple):
    """How much a piece shares with other music, in figures that may be of different passages.

    Args:
        steps: length of the longest shared passage, 0 where there is none.
        chords: chords in the shared passage that holds most of them.
        at: step of the piece at which the longest begins, 0 where there is none.
    """

    steps: int
    chords: int
    at: int


class ChordSteps(NamedTuple):
    """What sounds in each step, relative to the bass.

    Args:
        low: ``(n,)`` uint64, bit i is set where a pitch sounds i semitones above the bass.
        high: ``(n,)`` uint64, the same from 64 semitones on; both are 0 in silence.
        bass: ``(n,)`` int64, the lowest pitch; during silence the one before it.
        is_pause: ``(n,)`` bool, in a silence too long for a passage.
    """

    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    bass: NDArray[np.int64]
    is_pause: NDArray[np.bool_]

    @property
    def is_change(self) -> NDArray[np.bool_]:
        """``(n,)``, whether a chord, or silence, begins in this step; true for the first."""
        change = np.ones(len(self.low), bool)
        columns = (self.low, self.high, self.bass)
        change[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        return change

    def excerpts(self, length: int) -> list[ChordSteps]:
        """Consecutive excerpts of this length, without a shorter rest."""
        spans = (slice(stop - length, stop) for stop in range(length, len(self.low) + 1, length))
        return [
            ChordSteps(self.low[s], self.high[s], self.bass[s], self.is_pause[s]) for s in spans
        ]


def chord_steps(grid: Grid) -> ChordSteps:
    """The steps of a piece, without drums."""
    is_drum = np.array([part.is_drum for part in grid.parts], bool)
    frames = grid.frames()
    is_pitched = ~is_drum[frames.part]
    step = np.repeat(np.arange(grid.steps), np.diff(frames.offsets))
    roll = np.zeros((grid.steps, 256), np.bool_)  # twice the pitches, to look above any bass
    roll[step[is_pitched], frames.pitch[is_pitched]] = True
    bass = roll.argmax(axis=1)
    is_silent: NDArray[np.bool_] = np.all(~roll, axis=1)
    sounding = np.flatnonzero(~is_silent)
    if len(sounding):
        previous = np.searchsorted(sounding, np.arange(grid.steps), side="right") - 1
        bass = bass[sounding[np.maximum(previous, 0)]]
    above = np.take_along_axis(roll, bass[:, None] + np.arange(128), axis=1)
    low, high = np.packbits(above, axis=1, bitorder="little").view("<u8").astype(np.uint64).T
    start = np.flatnonzero(np.diff(is_silent, prepend=~is_silent[:1]))
    length = np.diff(start, append=grid.steps)
    is_long = length > _MAX_REST * grid.steps_per_beat
    return ChordSteps(low, high, bass, np.repeat(is_silent[start] & is_long, length))


def _common_steps_per_beat(grids: Iterable[Grid], index: int = 0) -> int:
    """The steps per beat of all grids, and of an index; 0 where there is none."""
    values = {grid.steps_per_beat for grid in grids} | {index} - {0}
    if len(values) > 1:
        raise ValueError(f"pieces are compared on one grid; got {sorted(values)} steps per beat")
    return values.pop() if values else 0


@dataclass(frozen=True, eq=False)
class CopyIndex:
    """Hashes of training music, which bound how much of it a piece may copy.

    A Bloom filter holds a hash of every window of given lengths, except windows with one chord or
    none. Consecutive windows of a piece that are all in the filter form a chain, and every shared
    passage of at least a window lies within one. The windows of a chain may come from several
    pieces, and a few unknown windows are taken for known, so the figures are upper bounds. Short
    windows detect short passages but chain unrelated ones; so there are several lengths, and a
    passage is bounded by the chains of the longest windows that it can hold. The bound is at least
    the shortest length less one step.

    Args:
        windows: lengths in steps, ascending.
        steps_per_beat: of all pieces; 0 where the index is empty.
        kept: number of different windows in the filter.
        hashes: bits set for each.
        bits: ``(bytes,)`` uint8, the filter.
    """

    windows: tuple[int, ...]
    steps_per_beat: int
    kept: int
    hashes: int
    bits: NDArray[np.uint8]

    @classmethod
    def build(
        cls,
        grids: Sequence[Grid],
        *,
        windows: Sequence[int] | None = None,
        bits_per_window: float = 12.0,
    ) -> CopyIndex:
        """Index music.

        Args:
            grids: the pieces, all with the same steps per beat.
            windows: lengths in steps, ascending from at least 2; None takes two beats and four
                (see benchmarks/memorization.py).
            bits_per_window: size of the filter; with 12 about 1 unknown window in 300 is taken
                for known.

        Raises:
            ValueError: the windows do not ascend, or grids differ in steps per beat.
        """
        steps_per_beat = _common_steps_per_beat(grids)
        shorter = max(2, 2 * steps_per_beat)
        lengths = (shorter, 2 * shorter) if windows is None else tuple(windows)
        if not lengths or lengths[0] < 2 or list(lengths) != sorted(set(lengths)):
            raise ValueError(f"windows ascend from at least 2; got {lengths}")
        count = max(1, round(bits_per_window * float(np.log(2))))
        hashes = [np.zeros(0, np.uint64)]
        for steps in map(chord_steps, grids):
            for length in lengths:
                window_hashes, is_passage = _windows(steps, length)
                hashes.append(np.unique(window_hashes[is_passage]))
        unique = np.unique(np.concatenate(hashes))
        size = int(len(unique) * bits_per_window / 8) + 1
        flags = np.zeros(8 * size, bool)
        for indices in _bit_indices(unique, count, 8 * size):
            flags[indices] = True
        return cls(lengths, steps_per_beat, len(unique), count, np.packbits(flags))

    def overlap(self, piece: Grid) -> Overlap:
        """Upper bounds of what a piece shares with the music.

        Raises:
            ValueError: the piece has other steps per beat.
        """
        _common_steps_per_beat([piece], self.steps_per_beat)
        return self.overlap_of(chord_steps(piece))

    def overlap_of(self, steps: ChordSteps) -> Overlap:
        """As ``overlap``, of the steps of a piece or of an excerpt."""
        spans = list(self._spans(steps))
        start, stop = (np.concatenate(column) for column in zip(*spans, strict=True))
        start, stop, chords = _trimmed(steps, start, stop)
        length = np.where(chords >= _MIN_CHORDS, stop - start, 0)
        if not length.any():
            return Overlap(0, 0, 0)
        longest = int(np.argmax(length))
        return Overlap(int(length[longest]), int(chords.max()), int(start[longest]))

    def _spans(self, steps: ChordSteps) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Starts and stops of spans such that every shared passage lies in one of them."""
        count = len(steps.low)
        is_known = ~steps.is_pause  # windows of one step
        shorter = 1
        for window in self.windows:
            # from each step in a chain on, as far as a passage without such a window can go
            yield _chains(is_known, shorter, window - 1)
            hashes, is_passage = _windows(steps, window)
            inner = _cumulative(is_known)  # a window is known only if the shorter ones in it are
            inside = window - shorter + 1
            is_known = (inner[inside:] - inner[:-inside] == inside)[: len(hashes)]
            is_known &= self.contains(hashes) | ~is_passage
            shorter = window
        yield _chains(is_known, shorter, count)

    def contains(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """``(n,)``, whether windows with these hashes ``(n,)`` are in the filter."""
        result = np.ones(len(hashes), bool)
        for indices in _bit_indices(hashes, self.hashes, 8 * len(self.bits)):
            result &= (self.bits[indices >> 3] >> (7 - (indices & 7)).astype(np.uint8)) & 1 == 1
        return result

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The index as arrays to save: ``head`` uint32 and ``bits`` uint8, both flat."""
        head = (_VERSION, self.steps_per_beat, self.kept, self.hashes, len(self.bits))
        return {"head": np.array(head + self.windows, np.uint32), "bits": self.bits}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> CopyIndex:
        """The index of ``to_arrays``.

        Raises:
            CheckpointError: they are of another version, or do not fit each other.
        """
        version, steps_per_beat, kept, hashes, size, *windows = map(int, arrays["head"])
        if version != _VERSION or arrays["bits"].shape != (size,):
            raise CheckpointError(f"The copy index is not one of version {_VERSION}.")
        return cls(tuple(windows), steps_per_beat, kept, hashes, arrays["bits"])


def _windows(steps: ChordSteps, window: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hashes of all windows, and which may be a passage, ``(n - window + 1,)`` or empty.

    Hashes are equal for equal passages in any transposition: the first step of a window counts
    without its bass, each other with the motion of the bass.
    """
    count = len(steps.low) - window + 1
    if count < 1:
        return np.zeros(0, np.uint64), np.zeros(0, bool)
    starts = np.arange(count)
    _, _, chords = _trimmed(steps, starts, starts + window)
    pauses = _cumulative(steps.is_pause)
    is_passage = (chords >= _MIN_CHORDS) & (pauses[window:] == pauses[:-window])
    odd = np.uint64(ODD)
    chord = mixed(mixed(steps.low + odd) + steps.high)
    motion = np.diff(steps.bass).astype(np.uint64)  # wraps around, equally on all machines
    move = mixed(chord[1:] + mixed(motion + odd))
    total = chord[:count].copy()
    for k in range(window - 1):
        total = total * odd + move[k : k + count]
    return mixed(total), is_passage


def _cumulative(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``(n + 1,)``: how many of the first t are set."""
    return np.concatenate([[0], np.cumsum(flags)])


def _trimmed(
    steps: ChordSteps, start: NDArray[np.int64], stop: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Starts, stops and numbers of chords of spans, without the silence at their ends."""
    sounds, count = steps.low != 0, len(steps.low)  # the bass sets bit 0
    chords_begun = _cumulative(steps.is_change & sounds)
    following = np.where(sounds, np.arange(count), count)
    following = np.append(np.minimum.accumulate(following[::-1])[::-1], count)
    previous = np.append(np.maximum.accumulate(np.where(sounds, np.arange(count), -1)), -1)
    start = following[start]
    stop = np.maximum(previous[stop - 1] + 1, start)  # the appended -1 serves stop = 0
    inside = np.minimum(start + 1, count)
    chords = chords_begun[np.maximum(stop, inside)] - chords_begun[inside] + (stop > start)
    return start, stop, chords


def _chains(
    is_known: NDArray[np.bool_], window: int, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From the start of each known window to the end of its chain, but at most ``limit`` steps."""
    start = np.flatnonzero(is_known)
    unknown = np.flatnonzero(~np.append(is_known, False))
    end = unknown[np.searchsorted(unknown, start)] + window - 1
    return start, np.minimum(end, start + limit)


def _bit_indices(hashes: NDArray[np.uint64], count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """The bits that stand for each hash, ``count`` arrays ``(n,)`` of numbers below ``size``.

    One hash gives them all (Kirsch and Mitzenmacher 2006, doi:10.1007/11841036_42).
    """
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    value, stride = hashes & mask, (hashes >> shift) | np.uint64(1)
    for _ in range(count):
        yield ((value * np.uint64(size)) >> shift).astype(np.int64)
        value = (value + stride) & mask


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of people's pieces, and the greatest value."""

    p50: float
    p75: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Those of at least one value, linearly interpolated."""
        return cls(*(float(value) for value in np.percentile(values, [50, 75, 95, 100])))


@dataclass(frozen=True)
class HumanReference:
    """How much people's pieces, none of them trained on, share with the training music.

    Args:
        style: of the pieces.
        pieces: number of excerpts measured.
        excerpt_steps: their length; None where whole pieces were measured.
        is_exact: False where the figures are bounds of an index.
        steps: length of the longest shared passage.
        chords: chords of the shared passage with the most.
    """

    style: str
    pieces: int
    excerpt_steps: int | None
    is_exact: bool
    steps: Percentiles
    chords: Percentiles

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> HumanReference:
        """Read what ``dataclasses.asdict`` made of a reference, through JSON or not."""
        percentiles = {name: Percentiles(**content[name]) for name in ("steps", "chords")}
        return cls(**{**content, **percentiles})


def human_reference(
    index: CopyIndex, pieces: Sequence[Grid], *, style: str, excerpt_steps: int
) -> HumanReference:
    """Bound how much people's pieces share with the training music.

    Args:
        index: of the training music.
        pieces: of the style, not in the training music.
        style: their style.
        excerpt_steps: cut the pieces into excerpts of this length, and leave out shorter ones:
            the length of the pieces that will be compared.

    Raises:
        ValueError: no piece is that long, or the steps per beat differ.
    """
    _common_steps_per_beat(pieces, index.steps_per_beat)
    excerpts = [part for grid in pieces for part in chord_steps(grid).excerpts(excerpt_steps)]
    if not excerpts:
        raise ValueError(f"a reference takes pieces of at least {excerpt_steps} steps")
    steps, chords, _ = zip(*map(index.overlap_of, excerpts), strict=True)
    figures = Percentiles.of(steps), Percentiles.of(chords)
    return HumanReference(style, len(excerpts), excerpt_steps, False, *figures)


@dataclass(frozen=True)
class CopyReport:
    """How much a piece copies, beside how much people do.

    Args:
        steps, chords, at: as in ``Overlap``.
        piece_steps: length of the piece.
        reference: people's pieces, of similar length.
    """

    steps: int
    chords: int
    at: int
    piece_steps: int
    reference: HumanReference

    @property
    def is_beyond(self) -> bool:
        """Whether it copies more than 95 of 100 pieces by people, by either figure."""
        return self.steps > self.reference.steps.p95 or self.chords > self.reference.chords.p95

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with ``is_beyond`` and the ``share`` of the piece."""
        share = self.steps / self.piece_steps if self.piece_steps else 0.0
        return asdict(self) | {"share": share, "is_beyond": self.is_beyond}
