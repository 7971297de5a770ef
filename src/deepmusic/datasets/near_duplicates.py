"""Recordings that sound alike although their bytes differ: other codings, levels, cuts.

Fingerprints (:mod:`deepmusic.audio.fingerprint`) are brought into an inverted index: two codes that
agree in most of their bits name a pair of recordings and a shift between them. What two or more
codes name is compared code by code. Nobody compares every recording with every other one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.scan import scan_files
from deepmusic.datasets.folder import FolderDataset

LEAST_SHARED_S = 5.0
"""Two recordings are near duplicates when they share so many seconds ..."""

LEAST_SHARE = 0.5
"""... and this share of the shorter one."""

Fingerprint = NDArray[np.uint32]

_CODES_PER_S = 8  # of deepmusic.audio.fingerprint, which is not loaded without need
_KEY_BITS = (20, 26)
"""Codes meet in the index if so many of their bits agree: the more the more codes there are, so
that a code meets about one stranger, however many recordings there are."""
_KEYS = 3  # so many sets of bits are tried
_NEIGHBOURS = 24
"""A place of the index pairs each code with so many of those after it. A code that many
recordings have then costs no more than others, and copies still form a chain."""
_AROUND = (-8, -4, 4, 8)
"""Codes near two that met; most chance meetings end there."""
_UNLIKE = 0.36  # share of bits that differ: unrelated sound has 0.5, with a spread of about 0.05
_DIFFERENT = 0.35  # the same over a window, where true copies stay below 0.3
_WINDOW = 32  # codes: four seconds
_NEAR = 4  # codes on each side of one: a second in all
_DIFFERENT_NEAR = 0.4
_LEAST_HITS = 2  # meetings in the index at one shift
_SHIFTS = 4  # shifts that are tried for a pair: a cut in the middle makes two


class SoundMatch(NamedTuple):
    """Two recordings that share sound.

    Args:
        first, second: their places in what was given, ascending.
        shift_s: where the second begins, in seconds after the first; negative if before.
        shared_s: how many seconds are alike.
        share: the same as a share of the shorter one's codes.
    """

    first: int
    second: int
    shift_s: float
    shared_s: float
    share: float


def near_duplicates(fingerprints: Sequence[Fingerprint]) -> list[list[int]]:
    """Groups of recordings that share most of their sound.

    Another gain, coding, sample rate or number of channels, mild noise, and a start or an end that
    was cut off make no difference; another speed or pitch does. Joining goes on through third
    recordings.

    Args:
        fingerprints: by :func:`deepmusic.audio.fingerprint.acoustic_fingerprint`.

    Returns:
        Places in ``fingerprints``, ascending, a list a group of two or more; groups by their first
        member.
    """
    return grouped(sound_matches(fingerprints))


def grouped(matches: Iterable[SoundMatch]) -> list[list[int]]:
    """Groups of recordings that hang together by matches, as :func:`near_duplicates` gives them."""
    leader: dict[int, int] = {}

    def find(place: int) -> int:
        while leader.setdefault(place, place) != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    for match in matches:
        first, second = sorted((find(match.first), find(match.second)))
        leader[second] = first
    groups: dict[int, list[int]] = {}
    for place in sorted(leader):
        groups.setdefault(find(place), []).append(place)
    return [groups[first] for first in sorted(groups)]


def sound_matches(fingerprints: Sequence[Fingerprint]) -> list[SoundMatch]:
    """Pairs of recordings that share at least half of the shorter one and five seconds.

    Where very many recordings are copies of one, not every pair of them is listed, but all hang
    together.

    Args:
        fingerprints: by :func:`deepmusic.audio.fingerprint.acoustic_fingerprint`.

    Returns:
        Pairs in ascending order.
    """
    matches = []
    for first, second, shifts in _candidates(fingerprints):
        match = _compare(fingerprints[first], fingerprints[second], shifts)
        if match is not None:
            shift, shared, share = match
            matches.append(
                SoundMatch(first, second, shift / _CODES_PER_S, shared / _CODES_PER_S, share)
            )
    return matches


class _Codes:
    """The codes of all recordings in one row."""

    def __init__(self, fingerprints: Sequence[Fingerprint]) -> None:
        lengths = np.array([len(codes) for codes in fingerprints], np.int64)
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths
        self.codes = np.concatenate([np.zeros(0, np.uint32), *fingerprints])
        self.owner = np.repeat(np.arange(len(fingerprints), dtype=np.int32), lengths)

    def meetings(self, mask: np.uint32) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of codes of two recordings that agree in the bits of a mask."""
        told = np.flatnonzero(self.codes)
        keys = self.codes[told] & mask
        order = np.argsort(keys, kind="stable")  # within a key by recording
        keys, told = keys[order], told[order]
        firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for step in range(1, _NEIGHBOURS + 1):
            here = np.flatnonzero(keys[step:] == keys[:-step])
            if not len(here):
                break
            first, second = told[here], told[here + step]
            other = self.owner[first] != self.owner[second]
            first, second = self._alike(first[other], second[other])
            firsts.append(first)
            seconds.append(second)
        return np.concatenate(firsts), np.concatenate(seconds)

    def _alike(
        self, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Those of the meetings around which the recordings are alike as well."""
        bits = np.zeros(len(first), np.int64)
        differing = np.zeros(len(first), np.int64)
        for distance in _AROUND:
            one, other = first + distance, second + distance
            inside = (one >= self.starts[self.owner[first]]) & (one < self.ends[self.owner[first]])
            inside &= other >= self.starts[self.owner[second]]
            inside &= other < self.ends[self.owner[second]]
            here, there = self.codes[one * inside], self.codes[other * inside]
            inside &= (here != 0) & (there != 0)
            bits += 32 * inside
            differing += _differing(here, there) * inside
        kept = (bits >= 64) & (differing <= _UNLIKE * bits)
        return first[kept], second[kept]


def _candidates(fingerprints: Sequence[Fingerprint]) -> list[tuple[int, int, list[int]]]:
    """Pairs that may share sound, and by how many codes the second may be shifted."""
    index = _Codes(fingerprints)
    events = [np.zeros(0, np.int64)]
    pairs = [np.zeros(0, np.int64)]
    bits = min(max(len(index.codes).bit_length(), _KEY_BITS[0]), _KEY_BITS[1])
    for number in range(_KEYS):
        mask = np.uint32(((1 << bits) - 1) << (number * (32 - bits) // (_KEYS - 1)))
        first, second = index.meetings(mask)
        one, other = index.owner[first], index.owner[second]
        shift = (first - index.starts[one]) - (second - index.starts[other])
        swapped = one > other
        one, other = np.where(swapped, other, one), np.where(swapped, one, other)
        pairs.append(one.astype(np.int64) * len(fingerprints) + other)
        events.append(np.where(swapped, -shift, shift))
    pair, shift = np.concatenate(pairs), np.concatenate(events)
    order = np.lexsort((shift, pair))
    pair, shift = pair[order], shift[order]
    edges = np.flatnonzero(np.diff(pair)) + 1
    found = []
    for start, end in zip([0, *edges], [*edges, len(pair)], strict=True):
        shifts = _likely(shift[start:end])
        if shifts:
            first_, second_ = divmod(int(pair[start]), len(fingerprints))
            found.append((first_, second_, shifts))
    return found


def _likely(shifts: NDArray[np.int64]) -> list[int]:
    """The shifts at which a pair met most often, and often enough."""
    if len(shifts) < _LEAST_HITS:
        return []
    values, counts = np.unique(shifts, return_counts=True)
    chosen: list[int] = []
    # a copy that is shifted by a part of a code meets at two neighbouring shifts
    both = counts + np.where(np.diff(values, append=values[-1] + 9) == 1, np.roll(counts, -1), 0)
    for place in np.argsort(-both, kind="stable"):
        if both[place] < _LEAST_HITS or len(chosen) == _SHIFTS:
            break
        value = int(values[place])
        if all(abs(value - other) > 2 for other in chosen):
            chosen.append(value)
    return chosen


def _compare(
    first: Fingerprint, second: Fingerprint, shifts: Sequence[int]
) -> tuple[int, int, float] | None:
    """Best shift, codes alike and their share of the shorter; None where they are too few."""
    is_swapped = np.count_nonzero(second) < np.count_nonzero(first)
    shorter, longer = (second, first) if is_swapped else (first, second)
    covered = np.zeros(len(shorter), bool)
    best, most = 0, 0
    for shift in shifts:
        # the index knows a shift by a code or so; of those nearby the likest counts
        near = [
            (around, around if is_swapped else -around) for around in range(shift - 1, shift + 2)
        ]
        around, move = min(near, key=lambda pair: _unlike(shorter, longer, pair[1]))
        alike = _alike(shorter, longer, move)
        count = int(np.count_nonzero(alike))
        covered |= alike
        if count > most:
            best, most = around, count
    shared = int(np.count_nonzero(covered))
    share = shared / max(1, int(np.count_nonzero(shorter)))
    if shared < LEAST_SHARED_S * _CODES_PER_S or share < LEAST_SHARE:
        return None
    return best, shared, share


def _overlap(
    shorter: Fingerprint, longer: Fingerprint, shift: int
) -> tuple[int, NDArray[np.int64], NDArray[np.bool_]]:
    """Where the overlap begins in the shorter, in how many bits it differs, where both tell.

    The longer one is taken from ``shift`` codes on.
    """
    start, end = max(0, -shift), min(len(shorter), len(longer) - shift)
    one, other = shorter[start : max(start, end)], longer[start + shift : max(start, end) + shift]
    told = (one != 0) & (other != 0)
    return start, _differing(one, other) * told, told


def _unlike(shorter: Fingerprint, longer: Fingerprint, shift: int) -> float:
    """Differing bits a code of the likest stretch of the overlap."""
    _, differing, told = _overlap(shorter, longer, shift)
    if len(told) < _WINDOW:
        return 32.0
    return float((_sums(differing, _WINDOW) / np.maximum(1, _sums(told, _WINDOW))).min())


def _alike(shorter: Fingerprint, longer: Fingerprint, shift: int) -> NDArray[np.bool_]:
    """Which codes of the shorter are as those of the longer ``shift`` codes on."""
    alike = np.zeros(len(shorter), bool)
    start, differing, told = _overlap(shorter, longer, shift)
    if len(told) < _WINDOW:
        return alike
    bits = 32 * _sums(told, _WINDOW)
    same = (bits >= 16 * _WINDOW) & (_sums(differing, _WINDOW) < _DIFFERENT * bits)
    # a code is alike if one of the long windows over it is, and its own surroundings are as well
    over = _sums(np.pad(same, _WINDOW - 1), _WINDOW) > 0
    near_bits = 32 * _sums(np.pad(told, _NEAR), 2 * _NEAR + 1)
    near = _sums(np.pad(differing, _NEAR), 2 * _NEAR + 1) < _DIFFERENT_NEAR * near_bits
    alike[start : start + len(told)] = over & near & told
    return alike


def _sums(values: NDArray[Any], length: int) -> NDArray[np.int64]:
    """Sums over each ``length`` neighbours, ``(n - length + 1,)``."""
    sums = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.asarray(sums[length:] - sums[:-length], np.int64)


_ONES = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


def _differing(one: Fingerprint, other: Fingerprint) -> NDArray[np.int64]:
    """In how many bits codes differ."""
    bits = one ^ other
    low, high = bits & np.uint32(0xFFFF), bits >> np.uint32(16)
    ones: NDArray[np.int64] = _ONES[low].astype(np.int64) + _ONES[high]
    return ones


def with_duplicates(
    dataset: FolderDataset,
    *,
    workers: int = 1,
    cache: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> FolderDataset:
    """The same data set, with tracks that sound alike in one ``sound_group``.

    Every recording is heard, copies of the same bytes once. What cannot be decoded is compared by
    its bytes alone; a note says how many tracks that are.

    Args:
        dataset: its tracks.
        workers: processes on this machine; one does all in this process.
        cache: a store of scans, so that a second run scans only what is new;
            made if it does not exist. None keeps nothing.
        on_progress: called in this thread with the recordings heard and those there are.

    Returns:
        The data set; each track that sounds like another one of other bytes has the same
        ``sound_group`` as that one, all others have None.

    Raises:
        DataError: the cache is something else, or cannot be written.
    """
    of_hash = {track.content_hash: str(dataset.file(track)) for track in reversed(dataset.tracks)}
    hashes = {path: content for content, path in of_hash.items()}
    heard: dict[str, Fingerprint] = {}
    for done, found in enumerate(scan_files(hashes, cache=cache, workers=workers), start=1):
        if not found.code:
            heard[hashes[found.path]] = found.fingerprint
        if on_progress is not None:
            on_progress(done, len(hashes))
    contents = sorted(heard)
    group_of: dict[str, str] = {}
    for group in near_duplicates([heard[content] for content in contents]):
        # named by its first member, so that the order of the tracks makes no difference
        group_of.update((contents[place], contents[group[0]]) for place in group)
    tracks = tuple(
        replace(track, sound_group=group_of.get(track.content_hash)) for track in dataset.tracks
    )
    notes = dataset.notes
    unheard = sum(track.content_hash not in heard for track in tracks)
    if unheard:
        notes += (
            f"{unheard} of {len(tracks)} tracks cannot be decoded; copies of them are known by "
            "their bytes alone.",
        )
    return replace(dataset, tracks=tracks, notes=notes)
