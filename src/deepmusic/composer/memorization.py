"""How much a piece copies of the training music, without that music, beside how much people do.

People share passages too, and longer pieces longer ones. So a figure means something only beside
that of people's pieces *of similar length* that were not trained on: a ``HumanReference``
(Yin, Reuben, Stepney and Collins 2021 likewise compare with a held-out part of the corpus).

``CopyIndex`` keeps hashes of short windows (Bloom 1970, doi:10.1145/362686.362692), ships with
a model, and bounds from above what a search of the music itself would find
(``ReferenceCorpus``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.repetition import ODD, mixed
from deepmusic.composer.shared_passages import (
    MIN_CHORDS,
    ChordSteps,
    Overlap,
    ReferenceCorpus,
    chord_steps,
    common_steps_per_beat,
)
from deepmusic.errors import CheckpointError
from deepmusic.music import Grid

_VERSION = 2
_MAX_HASHES = 64


@dataclass(frozen=True, eq=False)
class CopyIndex:
    """Hashes of training music, which bound how much of it a piece may copy.

    A Bloom filter holds a hash of every window of given lengths, except windows with one chord or
    none. Consecutive windows of a piece that are all in the filter form a chain, and every shared
    passage of at least a window lies within one. The converse does not hold: the windows of a
    chain may come from several pieces, and a few unknown windows are taken for known. So the
    figures are upper bounds. Short windows detect short passages but chain unrelated ones, long
    windows do neither; so there are several lengths, and a passage is bounded by the chains of the
    longest windows that it can hold. Passages below the shortest length are not detected: the
    figures are never below that length less one step.

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

    is_exact = False

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
            ValueError: a number is out of range, or grids differ in steps per beat.
        """
        steps_per_beat = common_steps_per_beat(grids)
        shorter = max(2, 2 * steps_per_beat)
        lengths = (shorter, 2 * shorter) if windows is None else tuple(windows)
        count = max(1, round(bits_per_window * float(np.log(2))))
        if not _are_lengths(lengths) or bits_per_window <= 0 or count > _MAX_HASHES:
            raise ValueError(
                "windows ascend from at least 2, and bits_per_window is above 0 and at most 90; "
                f"got {lengths} and {bits_per_window}"
            )
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
        """Upper bounds of ``ReferenceCorpus.overlap`` with the same music.

        Raises:
            ValueError: the piece has other steps per beat.
        """
        common_steps_per_beat([piece], self.steps_per_beat)
        return self.overlap_of(chord_steps(piece))

    def overlap_of(self, steps: ChordSteps) -> Overlap:
        """As ``overlap``, of steps."""
        spans = list(self._spans(steps))
        start, stop = (np.concatenate(column) for column in zip(*spans, strict=True))
        start, stop, chords = _trimmed(steps, start, stop)
        length = np.where(chords >= MIN_CHORDS, stop - start, 0)
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
            CheckpointError: the arrays are not those of an index of this version.
        """
        try:
            head, bits = np.asarray(arrays["head"]), np.asarray(arrays["bits"])
            version, steps_per_beat, kept, hashes, size, *windows = map(int, head.tolist())
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError("The copy index lacks its head or its bits.") from error
        if version != _VERSION:
            raise CheckpointError(f"The copy index has version {version}, not {_VERSION}.")
        lengths = tuple(windows)
        fits = bits.dtype == np.uint8 and bits.shape == (size,) and size >= 1
        if not fits or not 1 <= hashes <= _MAX_HASHES or not _are_lengths(lengths):
            raise CheckpointError("The copy index is damaged: its bits do not fit its head.")
        return cls(lengths, steps_per_beat, kept, hashes, bits)


def _are_lengths(windows: tuple[int, ...]) -> bool:
    return bool(windows) and windows[0] >= 2 and list(windows) == sorted(set(windows))


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
    is_passage = (chords >= MIN_CHORDS) & (pauses[window:] == pauses[:-window])
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
    sounds, count = steps.sounds, len(steps.low)
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
        pieces: pieces, or excerpts, measured.
        excerpt_steps: length of the excerpts; None where whole pieces were measured.
        is_exact: whether the figures are exact; otherwise they are bounds of an index.
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
        """Read what ``dataclasses.asdict`` made of a reference, through JSON or not.

        Raises:
            CheckpointError: it is not one.
        """
        try:
            percentiles = {name: Percentiles(**content[name]) for name in ("steps", "chords")}
            return cls(**(dict(content) | percentiles))
        except (KeyError, TypeError) as error:
            raise CheckpointError("The human reference of copying lacks its figures.") from error


def human_reference(
    train: ReferenceCorpus | CopyIndex,
    test: Sequence[Grid],
    *,
    style: str = "",
    excerpt_steps: int | None = None,
) -> HumanReference:
    """Measure how much people's pieces share with the training music.

    Args:
        train: the training music. An index bounds these figures as it will bound those of a piece,
            so that the two can be compared.
        test: pieces of the style that are not in it.
        style: their style.
        excerpt_steps: cut the pieces into excerpts of this length, and leave out shorter ones:
            the length of the pieces that will be compared. None takes pieces whole.

    Raises:
        ValueError: ``excerpt_steps`` is below 1, no piece is that long, or a grid does not fit.
    """
    if excerpt_steps is not None and excerpt_steps < 1:
        raise ValueError(f"excerpt_steps is at least 1; got {excerpt_steps}")
    common_steps_per_beat(test, train.steps_per_beat)
    excerpts = [part for grid in test for part in chord_steps(grid).excerpts(excerpt_steps)]
    if not excerpts:
        raise ValueError(f"a reference takes pieces of at least {excerpt_steps or 1} steps")
    overlaps = [train.overlap_of(excerpt) for excerpt in excerpts]
    return HumanReference(
        style,
        len(overlaps),
        excerpt_steps,
        train.is_exact,
        steps=Percentiles.of([overlap.steps for overlap in overlaps]),
        chords=Percentiles.of([overlap.chords for overlap in overlaps]),
    )


@dataclass(frozen=True)
class CopyReport:
    """How much a piece copies, beside how much people do.

    Args:
        steps: length of the longest passage shared with a training piece, or a bound of it.
        chords: chords of the shared passage with the most, or a bound.
        at: step at which the longest begins.
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


def copy_report(
    piece: Grid, source: ReferenceCorpus | CopyIndex, reference: HumanReference
) -> CopyReport:
    """Measure a piece beside a reference.

    Args:
        piece: what may copy.
        source: the training music, or its index.
        reference: measured with the same kind of source, on pieces of about this length.

    Raises:
        ValueError: the reference is exact and the source bounds, or the other way round; or the
            piece has other steps per beat.
    """
    if reference.is_exact != source.is_exact:
        raise ValueError("exact figures and bounds are not compared: measure the reference again")
    return CopyReport(*source.overlap(piece), piece.steps, reference)
