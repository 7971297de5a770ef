"""How much a piece copies: the longest passage it shares with other music, in any transposition.

Two passages are the same when, step by step, the same pitches sound after all pitches of one are
moved by one interval. Parts, and whether a note is struck or held, make no difference; drums are
left out. A passage begins and ends with a sounding step and holds at least two chords: silence,
or one chord held for long, is in all music and copied from none. Nor is there a pause in it, a
silence of more than four beats: what follows one is another passage.

People share passages too, by style and by chance, and longer pieces longer ones. So a figure says
something only beside that of people's pieces *of like length* that were not trained on: a
:class:`HumanReference` (Yin, Reuben, Stepney and Collins 2021 compare with a held-out part of the
corpus likewise).

:class:`Originals` searches the music itself and is exact. :class:`CopyIndex` needs none of it: it
keeps hashes of short windows (Bloom 1970, doi:10.1145/362686.362692), ships with a model, and
bounds the figures from above.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.repetition import ODD, mixed
from deepmusic.errors import CheckpointError
from deepmusic.music import Grid

_LEAST_CHORDS = 2
_LONGEST_REST = 4  # beats: a bar, in most music


@dataclass(frozen=True)
class SharedRun:
    """A passage that two pieces share.

    Args:
        steps: its length.
        chords: chords one after the other in it; one that is held counts once, silence does not.
            (A passage with n changes of chord and no rests has n + 1.)
        at: the step of the piece at which it begins.
        other: index of the other piece.
        at_other: the step of the other piece at which it begins there.
        semitones: how much higher it lies in the piece than in the other.
    """

    steps: int
    chords: int
    at: int
    other: int
    at_other: int
    semitones: int


class CopyFigures(NamedTuple):
    """How much a piece copies, in two figures that need not come from one passage.

    Args:
        steps: length of the longest shared passage, 0 where there is none.
        chords: chords in the shared passage that holds most of them.
        at: the step of the piece at which the longest begins, 0 where there is none. Of bounds it
            is that of the span that may hold the longest.
    """

    steps: int
    chords: int
    at: int


class _Steps(NamedTuple):
    """What sounds in each step, so that only the bass tells one transposition from another.

    Args:
        low: ``(n,)`` uint64, bit i is set where a pitch sounds i semitones above the bass.
        high: ``(n,)`` uint64, the same from 64 semitones on; both are 0 in silence.
        bass: ``(n,)`` int64, the lowest pitch; through silence the one before it.
        is_pause: ``(n,)`` bool, in a silence too long for a passage.
    """

    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    bass: NDArray[np.int64]
    is_pause: NDArray[np.bool_]

    @property
    def sounds(self) -> NDArray[np.bool_]:
        """``(n,)``, whether a pitch sounds; the bass always sets bit 0."""
        sounds: NDArray[np.bool_] = self.low != 0
        return sounds

    @property
    def is_change(self) -> NDArray[np.bool_]:
        """``(n,)``, whether the chord, or silence, begins in this step; true for the first."""
        change = np.ones(len(self.low), bool)
        columns = (self.low, self.high, self.bass)
        change[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        return change

    def cut(self, start: int, stop: int) -> _Steps:
        here = slice(start, stop)
        return _Steps(self.low[here], self.high[here], self.bass[here], self.is_pause[here])


def _steps(grid: Grid, part: int | None) -> _Steps:
    """The steps of one part, or of all parts but drums."""
    if part is not None and not 0 <= part < len(grid.parts):
        raise ValueError(f"part is 0 to {len(grid.parts) - 1}; got {part}")
    wanted = np.array([part in (None, i) and not p.is_drum for i, p in enumerate(grid.parts)], bool)
    frames = grid.frames()
    is_wanted = wanted[frames.part]
    step = np.repeat(np.arange(grid.steps), np.diff(frames.offsets))[is_wanted]
    pitch = frames.pitch[is_wanted].astype(np.int64)
    first = np.flatnonzero(np.diff(step, prepend=-1))  # rows of a step ascend: its bass
    sounding = step[first]
    bass = np.zeros(grid.steps, np.int64)
    bass[sounding] = pitch[first]
    interval = pitch - bass[step]
    one = np.uint64(1)
    bit = one << (interval % 64).astype(np.uint64)
    words = np.zeros((2, grid.steps), np.uint64)
    if len(first):
        for word, is_inside in zip(words, (interval < 64, interval >= 64), strict=True):
            word[sounding] = np.bitwise_or.reduceat(np.where(is_inside, bit, np.uint64(0)), first)
        before = np.searchsorted(sounding, np.arange(grid.steps), side="right") - 1
        bass = bass[sounding[np.maximum(before, 0)]]
    is_pause = _in_long_runs(words[0] == 0, _LONGEST_REST * grid.steps_per_beat)
    return _Steps(words[0], words[1], bass, is_pause)


def _in_long_runs(flags: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """``(n,)``, whether a flag is set in a run of more than ``most`` that are."""
    edges = np.diff(flags.astype(np.int8), prepend=0, append=0)
    start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    is_long = stop - start > most
    inside = np.zeros(len(flags) + 1, np.int64)
    inside[start[is_long]] = 1
    inside[stop[is_long]] = -1
    long: NDArray[np.bool_] = np.cumsum(inside)[:-1] > 0
    return long


def _one_grid(grids: Iterable[Grid], steps_per_beat: int | None = None) -> int:
    """The steps a beat that all grids have, 0 where there is none."""
    found = {grid.steps_per_beat for grid in grids} | (
        set() if steps_per_beat is None else {steps_per_beat}
    )
    if len(found) > 1:
        raise ValueError(f"pieces are compared on one grid; got {sorted(found)} steps a beat")
    return found.pop() if found else 0


# ---------------------------------------------------------------------------------------- exact


class _Chords(NamedTuple):
    """Steps as chords with lengths: columns ``(m,)``, a row for each chord or silence.

    Args:
        start: its first step, counted from the beginning of its piece.
        length: in steps.
        sounds: whether it is a chord.
        is_pause: whether it is a silence too long for a passage.
        key: ``(m, 5)`` int64, alike for two rows when the chord before, this chord, and the motion
            of the bass between them are alike.
        bass: lowest pitch.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    sounds: NDArray[np.bool_]
    is_pause: NDArray[np.bool_]
    key: NDArray[np.int64]
    bass: NDArray[np.int64]


def _chords(steps: _Steps) -> _Chords:
    start = np.flatnonzero(steps.is_change)
    # as signed numbers the bits stay what they are
    low, high = steps.low[start].astype(np.int64), steps.high[start].astype(np.int64)
    bass = steps.bass[start]
    before = np.maximum(np.arange(len(start)) - 1, 0)
    key = np.stack([low[before], high[before], low, high, bass - bass[before]], axis=1)
    length = np.diff(start, append=len(steps.low))
    return _Chords(start, length, low != 0, steps.is_pause[start], key, bass)


class Originals:
    """Music that may have been copied from, made ready for exact search.

    Args:
        grids: the pieces, all with the same steps a beat.
        part: compare this part only, such as the melody, in these and in what is searched for;
            None compares all parts but drums.

    Raises:
        ValueError: grids differ in steps a beat, or lack the part.
    """

    is_exact = True

    def __init__(self, grids: Sequence[Grid], *, part: int | None = None) -> None:
        self.part = part
        self.steps_per_beat = _one_grid(grids)
        # an empty one is there even where there are none
        empty = Grid(1, 0, *np.zeros((3, 0), np.int64))
        pieces = [*(_chords(_steps(grid, part)) for grid in grids), _chords(_steps(empty, None))]
        self._piece = np.repeat(np.arange(len(pieces)), [len(piece.start) for piece in pieces])
        self._all = _Chords(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))
        # the first chord of a piece follows none
        self._slices, self._places = _slices_by_key(self._all.key, self._all.start > 0)

    def longest(self, piece: Grid) -> SharedRun | None:
        """The longest passage of a piece that one of these shares; None where there is none.

        Of those of equal length it is one with the most chords.

        Raises:
            ValueError: the piece has other steps a beat, or lacks the part.
        """
        return self._runs(self._read(piece))[0]

    def richest(self, piece: Grid) -> SharedRun | None:
        """The shared passage with the most chords; otherwise as :meth:`longest`."""
        return self._runs(self._read(piece))[1]

    def figures(self, piece: Grid) -> CopyFigures:
        """Both figures of a piece; raises as :meth:`longest`."""
        return self._figures(self._read(piece))

    def _read(self, piece: Grid) -> _Steps:
        _one_grid([piece], self.steps_per_beat or None)
        return _steps(piece, self.part)

    def _figures(self, steps: _Steps) -> CopyFigures:
        longest, richest = self._runs(steps)
        if longest is None or richest is None:
            return CopyFigures(0, 0, 0)
        return CopyFigures(longest.steps, richest.chords, longest.at)

    def _runs(self, steps: _Steps) -> tuple[SharedRun | None, SharedRun | None]:
        """The longest run and the one with most chords."""
        mine = _chords(steps)
        longest = richest = (0, 0)
        found: list[SharedRun | None] = [None, None]
        for i, here, so_far, chords in self._followed(mine):
            total = so_far + np.minimum(mine.length[i], self._all.length[here])
            k = np.lexsort((chords, total))[-1]
            if (total[k], chords[k]) > longest:
                longest = (total[k], chords[k])
                found[0] = self._shared(mine, i, here[k], so_far[k], chords[k])
            k = np.lexsort((total, chords))[-1]
            if (chords[k], total[k]) > richest:
                richest = (chords[k], total[k])
                found[1] = self._shared(mine, i, here[k], so_far[k], chords[k])
        return found[0], found[1]

    def _followed(
        self, mine: _Chords
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """Follow all runs through the chords of a piece.

        Wherever the others have the same chord after the same, the run that came to the chord
        before goes on if that was held as long, and otherwise a run begins within it.

        Yields:
            For each chord of the piece at which runs may end: its index, the indices of the
            others' chords that end them, the steps of each up to the chord, and the chords of each.
        """
        others = self._all
        run_steps = np.zeros(len(others.start), np.int64)  # up to a chord; 0 where there is no run
        run_chords = np.zeros_like(run_steps)
        last = np.zeros(0, np.int64)
        for i, key in enumerate(map(tuple, mine.key.tolist())):
            here = self._places[self._slices.get(key, slice(0))] if i else last
            held, its_held = mine.length[i - 1], others.length[here - 1]
            goes_on = (run_steps[here - 1] > 0) & (its_held == held)
            # silence begins no run, and a pause ends all
            begun = np.minimum(held, its_held) * mine.sounds[i - 1]
            so_far = np.where(goes_on, run_steps[here - 1] + held, begun) * ~mine.is_pause[i]
            # one more, the first, where a run begins
            chords = np.where(goes_on, run_chords[here - 1], 1) + mine.sounds[i]
            run_steps[last] = 0
            run_steps[here], run_chords[here] = so_far, chords
            last = here
            is_run = so_far > 0
            if mine.sounds[i] and is_run.any():
                yield i, here[is_run], so_far[is_run], chords[is_run]

    def _shared(
        self, mine: _Chords, i: int, j: np.int64, so_far: np.int64, chords: np.int64
    ) -> SharedRun:
        """The run that ends with chord ``i`` of the piece and ``j`` of the others."""
        return SharedRun(
            int(so_far + min(mine.length[i], self._all.length[j])),
            int(chords),
            at=int(mine.start[i] - so_far),
            other=int(self._piece[j]),
            at_other=int(self._all.start[j] - so_far),
            semitones=int(mine.bass[i] - self._all.bass[j]),
        )


def _slices_by_key(
    keys: NDArray[np.int64], is_wanted: NDArray[np.bool_]
) -> tuple[dict[tuple[int, ...], slice], NDArray[np.int64]]:
    """For each key the slice, in the second result, of the wanted rows that have it."""
    places = np.flatnonzero(is_wanted)
    places = places[np.lexsort(keys[places].T)]
    ordered = keys[places]
    is_new = np.ones(len(places), bool)
    is_new[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    first = np.flatnonzero(is_new)
    slices = map(slice, first.tolist(), np.append(first[1:], len(places)).tolist())
    return dict(zip(map(tuple, ordered[first].tolist()), slices, strict=True)), places


def longest_shared_run(
    piece: Grid, others: Sequence[Grid], *, part: int | None = None
) -> SharedRun | None:
    """The longest passage that a piece shares with any one of others, in any transposition.

    To search for several pieces, make :class:`Originals` once.

    Args:
        piece: what may be a copy.
        others: what it may be copied from, on the same grid.
        part: compare this part only; None compares all parts but drums.

    Returns:
        The passage, or None where no two chords are shared.

    Raises:
        ValueError: grids differ in steps a beat, or lack the part.

    Example:
        >>> tune = Grid(4, 12, onset=[0, 4, 8], duration=[4, 4, 4], pitch=[60, 62, 64])
        >>> other = Grid(4, 12, onset=[0, 4, 8], duration=[4, 4, 4], pitch=[57, 70, 72])
        >>> longest_shared_run(tune, [other])
        SharedRun(steps=8, chords=2, at=0, other=0, at_other=4, semitones=-10)
    """
    return Originals(others, part=part).longest(piece)


# ---------------------------------------------------------------------------------------- index

_VERSION = 1
_MOST_HASHES = 64


def _window_hashes(steps: _Steps, window: int) -> NDArray[np.uint64]:
    """``(n - window + 1,)``: alike for passages that are alike, whatever the transposition.

    The first step of a window counts without its bass, each other with the motion of the bass.
    """
    odd = np.uint64(ODD)
    chord = mixed(mixed(steps.low + odd) + steps.high)
    motion = np.diff(steps.bass).astype(np.uint64)  # wraps round, alike on all machines
    move = mixed(chord[1:] + mixed(motion + odd))
    count = len(chord) - window + 1
    total = chord[:count].copy()
    for k in range(window - 1):
        total = total * odd + move[k : k + count]
    return mixed(total)


def _counted(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``(n + 1,)``: how many of the first t are set."""
    return np.concatenate([[0], np.cumsum(flags)])


class _Sounding:
    """Counts chords and trims silence in any span of a piece."""

    def __init__(self, steps: _Steps) -> None:
        self.sounds = steps.sounds
        self._begun = _counted(steps.is_change & self.sounds)
        ahead = np.where(self.sounds, np.arange(len(self.sounds)), len(self.sounds))
        self._next = np.append(np.minimum.accumulate(ahead[::-1])[::-1], len(self.sounds))
        behind = np.where(self.sounds, np.arange(len(self.sounds)), -1)
        self._previous = np.append(np.maximum.accumulate(behind), -1)  # [-1] serves stop = 0

    def trimmed(
        self, start: NDArray[np.int64], stop: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Starts, stops and chords of spans, without the silence at their ends."""
        start = self._next[start]
        stop = np.maximum(self._previous[stop - 1] + 1, start)
        inside = np.minimum(start + 1, len(self.sounds))
        chords = self._begun[np.maximum(stop, inside)] - self._begun[inside] + (stop > start)
        return start, stop, chords


@dataclass(frozen=True, eq=False)
class CopyIndex:
    """What is left of training music to tell, without it, how much a piece may copy of it.

    Of every window of so many steps a hash is kept, in a Bloom filter, except of those that hold
    one chord or none. Windows of a piece that follow one another and are all in the filter make a
    chain, and every shared passage of a window or more lies within a chain. The other way round
    that is not so: the windows of a chain may come from several pieces, and of those in none a few
    are taken for known. So the figures are upper bounds. Short windows see short passages but
    chain what does not belong together, long ones do neither; so there are several lengths, and a
    passage is bounded by the chains of the longest windows that it can hold. What is shorter than
    the shortest is not looked for: the figures are never below that length less one step.

    Args:
        windows: lengths in steps, ascending.
        steps_per_beat: of all pieces; 0 where the index is empty.
        part: the part compared; None is all parts but drums.
        kept: different windows in the filter.
        hashes: bits set for each.
        bits: ``(bytes,)`` uint8, the filter.
    """

    windows: tuple[int, ...]
    steps_per_beat: int
    part: int | None
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
        part: int | None = None,
        bits_per_window: float = 12.0,
    ) -> CopyIndex:
        """The index of music.

        Args:
            grids: the pieces, all with the same steps a beat.
            windows: lengths in steps, ascending from at least 2; None takes two beats and four,
                and of one part, where less happens, twice that (see benchmarks/copying.py).
            part: compare this part only; None compares all parts but drums.
            bits_per_window: size of the filter; 12 takes about 1 unknown window in 300 for known.

        Raises:
            ValueError: a number out of range, or grids that differ in steps a beat.
        """
        steps_per_beat = _one_grid(grids)
        lengths = _usual_windows(steps_per_beat, part) if windows is None else tuple(windows)
        count = max(1, round(bits_per_window * float(np.log(2))))
        if not _are_lengths(lengths) or bits_per_window <= 0 or count > _MOST_HASHES:
            raise ValueError(
                "windows ascend from at least 2, and bits_per_window is above 0 and at most 90; "
                f"got {lengths} and {bits_per_window}"
            )
        found = [np.zeros(0, np.uint64)]
        for steps in (_steps(grid, part) for grid in grids):
            for length in lengths:
                hashes, is_passage = _windows(steps, length)
                found.append(np.unique(hashes[is_passage]))
        known = np.unique(np.concatenate(found))
        size = int(len(known) * bits_per_window / 8) + 1
        flags = np.zeros(8 * size, bool)
        for places in _places(known, count, 8 * size):
            flags[places] = True
        return cls(lengths, steps_per_beat, part, len(known), count, np.packbits(flags))

    def figures(self, piece: Grid) -> CopyFigures:
        """Upper bounds of what :meth:`Originals.figures` of the same music would give.

        Raises:
            ValueError: the piece has other steps a beat, or lacks the part.
        """
        _one_grid([piece], self.steps_per_beat or None)
        return self._figures(_steps(piece, self.part))

    def _figures(self, steps: _Steps) -> CopyFigures:
        spans = list(self._spans(steps))
        start, stop = (np.concatenate(column) for column in zip(*spans, strict=True))
        start, stop, chords = _Sounding(steps).trimmed(start, stop)
        length = np.where(chords >= _LEAST_CHORDS, stop - start, 0)
        if not length.any():
            return CopyFigures(0, 0, 0)
        longest = int(np.argmax(length))
        return CopyFigures(int(length[longest]), int(chords.max()), int(start[longest]))

    def _spans(self, steps: _Steps) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Starts and stops of spans such that every shared passage lies in one of them."""
        count = len(steps.low)
        is_known = ~steps.is_pause  # windows of one step
        shorter = 1
        for window in self.windows:
            # from each step in a chain on, as far as a passage goes that holds no such window
            yield _sliding(is_known, shorter, window - 1)
            hashes, is_passage = _windows(steps, window)
            inner = _counted(is_known)  # a window is known only if the shorter ones in it are
            inside = window - shorter + 1
            is_known = (inner[inside:] - inner[:-inside] == inside)[: len(hashes)]
            is_known &= self.knows(hashes) | ~is_passage
            shorter = window
        yield _sliding(is_known, shorter, count)

    def knows(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """``(n,)``, whether windows with these hashes ``(n,)`` are in the filter."""
        known = np.ones(len(hashes), bool)
        for places in _places(hashes, self.hashes, 8 * len(self.bits)):
            known &= (self.bits[places >> 3] >> (7 - (places & 7)).astype(np.uint8)) & 1 == 1
        return known

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The index as arrays to be saved: ``head`` uint32 and ``bits`` uint8, both flat."""
        part = 0 if self.part is None else self.part + 1
        head = (_VERSION, self.steps_per_beat, part, self.kept, self.hashes, len(self.bits))
        return {"head": np.array(head + self.windows, np.uint32), "bits": self.bits}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> CopyIndex:
        """The index of :meth:`to_arrays`.

        Raises:
            CheckpointError: the arrays are not those of an index of this version.
        """
        try:
            head, bits = np.asarray(arrays["head"]), np.asarray(arrays["bits"])
            version, steps_per_beat, part, kept, hashes, size, *windows = map(int, head.tolist())
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError("The copy index lacks its head or its bits.") from error
        if version != _VERSION:
            raise CheckpointError(f"The copy index has version {version}, not {_VERSION}.")
        lengths = tuple(windows)
        fits = bits.dtype == np.uint8 and bits.shape == (size,) and size >= 1
        if not fits or not 1 <= hashes <= _MOST_HASHES or not _are_lengths(lengths):
            raise CheckpointError("The copy index is damaged: its bits do not fit its head.")
        return cls(lengths, steps_per_beat, part - 1 if part else None, kept, hashes, bits)


def _usual_windows(steps_per_beat: int, part: int | None) -> tuple[int, int]:
    beats = 2 if part is None else 4
    shorter = max(2, beats * steps_per_beat)
    return shorter, 2 * shorter


def _are_lengths(windows: tuple[int, ...]) -> bool:
    return bool(windows) and windows[0] >= 2 and list(windows) == sorted(set(windows))


def _windows(steps: _Steps, window: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hashes of all windows, and which may be a passage, ``(n - window + 1,)`` or empty."""
    count = len(steps.low) - window + 1
    if count < 1:
        return np.zeros(0, np.uint64), np.zeros(0, bool)
    starts = np.arange(count)
    _, _, chords = _Sounding(steps).trimmed(starts, starts + window)
    pauses = _counted(steps.is_pause)
    is_passage = (chords >= _LEAST_CHORDS) & (pauses[window:] == pauses[:-window])
    return _window_hashes(steps, window), is_passage


def _sliding(
    is_known: NDArray[np.bool_], window: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From the start of each known window to the end of its chain, but ``most`` steps at most."""
    start = np.flatnonzero(is_known)
    unknown = np.flatnonzero(~np.append(is_known, False))
    end = unknown[np.searchsorted(unknown, start)] + window - 1
    return start, np.minimum(end, start + most)


def _places(hashes: NDArray[np.uint64], count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """The bits that stand for each hash, one array ``(n,)`` after the other, each below ``size``.

    One hash gives them all (Kirsch and Mitzenmacher 2006, doi:10.1007/11841036_42).
    """
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    place, stride = hashes & mask, (hashes >> shift) | np.uint64(1)
    for _ in range(count):
        yield ((place * np.uint64(size)) >> shift).astype(np.int64)
        place = (place + stride) & mask


# --------------------------------------------------------------------------------------- report


@dataclass(frozen=True)
class Percentiles:
    """Of pieces by people: half have no more than ``p50``, three of four ``p75``, and so on."""

    p50: float
    p75: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Those of at least one value, between two values in proportion."""
        return cls(*(float(value) for value in np.percentile(values, [50, 75, 95, 100])))


@dataclass(frozen=True)
class HumanReference:
    """How much people's pieces, none of them trained on, share with the training music.

    Args:
        style: of the pieces.
        part: the part compared; None is all parts but drums.
        pieces: pieces, or excerpts, measured.
        excerpt_steps: length of the excerpts; None where whole pieces were measured.
        is_exact: whether the figures are exact; otherwise they are bounds of an index.
        steps: length of the longest shared passage.
        chords: chords of the shared passage with the most.
    """

    style: str
    part: int | None
    pieces: int
    excerpt_steps: int | None
    is_exact: bool
    steps: Percentiles
    chords: Percentiles

    def to_dict(self) -> dict[str, Any]:
        """The reference in what JSON knows."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> HumanReference:
        """The reference of :meth:`to_dict`.

        Raises:
            CheckpointError: it is none.
        """
        try:
            percentiles = {name: Percentiles(**content[name]) for name in ("steps", "chords")}
            return cls(**(dict(content) | percentiles))
        except (KeyError, TypeError) as error:
            raise CheckpointError("The human reference of copying lacks its figures.") from error


def human_reference(
    train: Sequence[Grid] | Originals | CopyIndex,
    test: Sequence[Grid],
    *,
    style: str = "",
    part: int | None = None,
    excerpt_steps: int | None = None,
) -> HumanReference:
    """Measure how much people's pieces share with the training music.

    Args:
        train: the training music. An index bounds these figures as it will bound those of a piece,
            so that the two can be compared.
        test: pieces that are not in it, of the style.
        style: their style.
        part: compare this part only; None compares all parts but drums. Originals and indices have
            it settled.
        excerpt_steps: cut the pieces into excerpts of this length, and leave out what is shorter:
            the length of the pieces that will be compared. None takes pieces whole.

    Raises:
        ValueError: ``excerpt_steps`` is below 1, no piece is that long, or a grid does not fit.
    """
    if excerpt_steps is not None and excerpt_steps < 1:
        raise ValueError(f"excerpt_steps is at least 1; got {excerpt_steps}")
    source = train if isinstance(train, Originals | CopyIndex) else Originals(train, part=part)
    _one_grid(test, source.steps_per_beat or None)
    excerpts = [
        excerpt for grid in test for excerpt in _excerpts(_steps(grid, source.part), excerpt_steps)
    ]
    if not excerpts:
        raise ValueError(f"a reference takes pieces of at least {excerpt_steps or 1} steps")
    figures = [source._figures(excerpt) for excerpt in excerpts]
    return HumanReference(
        style,
        source.part,
        len(figures),
        excerpt_steps,
        source.is_exact,
        steps=Percentiles.of([found.steps for found in figures]),
        chords=Percentiles.of([found.chords for found in figures]),
    )


def _excerpts(steps: _Steps, length: int | None) -> list[_Steps]:
    """Excerpts that follow one another, each of this length; the whole where it is None."""
    if length is None:
        return [steps] if len(steps.low) else []
    return [steps.cut(i, i + length) for i in range(0, len(steps.low) - length + 1, length)]


@dataclass(frozen=True)
class CopyReport:
    """How much a piece copies, beside how much people do.

    Args:
        steps: length of the longest passage shared with a training piece, or a bound of it.
        chords: chords of the shared passage with the most, or a bound.
        at: the step at which the longest begins.
        piece_steps: length of the piece.
        reference: people's pieces, of like length.
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
        """The report in what JSON knows, with ``is_beyond`` and ``share``, of the piece."""
        share = self.steps / self.piece_steps if self.piece_steps else 0.0
        return asdict(self) | {"share": share, "is_beyond": self.is_beyond}


def copy_report(
    piece: Grid, source: Originals | CopyIndex, reference: HumanReference
) -> CopyReport:
    """Measure a piece and put people's figures beside it.

    Args:
        piece: what may copy.
        source: the training music, or its index.
        reference: measured with the same kind of source, of pieces of about this length.

    Raises:
        ValueError: the reference is exact and the source bounds, or the other way round; they are
            of different parts; or the piece has other steps a beat or lacks the part.
    """
    if reference.is_exact != source.is_exact:
        raise ValueError("exact figures and bounds are not compared: measure the reference again")
    if reference.part != source.part:
        raise ValueError(
            f"figures of part {source.part} are not compared with those of {reference.part}"
        )
    return CopyReport(*source.figures(piece), piece.steps, reference)
