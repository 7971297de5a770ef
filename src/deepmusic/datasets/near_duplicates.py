"""Near-duplicates: recordings that sound alike although their bytes differ.

Fingerprints (`fingerprint`) go into an inverted index: two codes that agree
in most of their bits are a hit for a pair of recordings at a shift. Pairs with two or more hits
at one shift are compared code by code, so the cost does not grow with the number of pairs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset
from deepmusic.datasets.groups import components

MIN_SHARED_S = 5.0
"""Two recordings are near-duplicates if they share at least this many seconds ..."""

MIN_SHARE = 0.5
"""... and this share of the shorter one."""

Fingerprint = NDArray[np.uint32]

_CODES_PER_S = 8  # of deepmusic.audio.fingerprint, which is slow to import
_KEYS = 3  # index keys, each of other bits of a code
# Bits of a key: the more codes, the more bits, so that a code meets about one unrelated code.
_KEY_BITS = (20, 26)
# A key pairs each code with this many after it, so that a key that very many recordings share costs
# no more than others; copies still form a chain.
_NEIGHBOURS = 24
_CONTEXT = (-8, -4, 4, 8)  # codes around a hit, which reject most random ones
_PADDING = 8
# Highest shares of differing bits. Unrelated sound has 0.5 with a deviation of about 0.05 over the
# context; copies stay below 0.3 over a window.
_MAX_CONTEXT, _MAX_WINDOW, _MAX_NEAR = 0.36, 0.35, 0.4
_WINDOW = 32  # codes: four seconds
_NEAR = 4  # codes on either side of one: about a second
_MIN_HITS = 2  # at one shift
_MAX_SHIFTS = 4  # compared per pair; a cut in the middle gives two


class SoundMatch(NamedTuple):
    """Two recordings that share sound, by their indices, ascending."""

    first: int
    second: int
    shift_s: float  # where the second starts after the first; negative if before
    shared_s: float
    share: float  # of the shorter recording


def sound_groups(names: Sequence[str], matches: Iterable[SoundMatch]) -> dict[str, str]:
    """Which recordings are connected by matches.

    Args:
        names: of all recordings, in the order of their indices.
        matches: by `sound_matches`.

    Returns:
        For each recording that matches another, the name of the first one of its group.
    """
    numbers = components(len(names), [(match.first, match.second) for match in matches])
    groups: dict[int, list[str]] = {}
    for name, number in zip(names, numbers, strict=True):
        groups.setdefault(number, []).append(name)
    return {name: group[0] for group in groups.values() if len(group) > 1 for name in group}


def sound_matches(fingerprints: Sequence[Fingerprint]) -> list[SoundMatch]:
    """Pairs of recordings that share at least half of the shorter one, and five seconds.

    Gain, coding, sample rate, number of channels, mild noise, and a start or an end that was cut
    off make no difference; speed and pitch do. Where very many recordings are copies of one, not
    every pair is listed, but all are connected.

    Args:
        fingerprints: by `acoustic_fingerprint`.

    Returns:
        Pairs in ascending order.
    """
    pairs = (_compare(fingerprints, *candidate) for candidate in _candidates(fingerprints))
    return [match for match in pairs if match is not None]


def _candidates(fingerprints: Sequence[Fingerprint]) -> list[tuple[int, int, list[int]]]:
    """Pairs that may share sound, and by how many codes the second may be shifted."""
    lengths = [len(codes) for codes in fingerprints]
    starts = np.cumsum([_PADDING, *lengths])
    codes = np.pad(np.concatenate([np.zeros(0, np.uint32), *fingerprints]), _PADDING)
    owner = np.pad(np.repeat(np.arange(len(lengths)), lengths), _PADDING, constant_values=-1)
    bits = min(max(len(codes).bit_length(), _KEY_BITS[0]), _KEY_BITS[1])
    pairs, shifts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number in range(_KEYS):
        mask = np.uint32(((1 << bits) - 1) << (number * (32 - bits) // (_KEYS - 1)))
        first, second = _hits(codes, owner, mask)
        shift = (first - starts[owner[first]]) - (second - starts[owner[second]])
        low, high = np.sort([owner[first], owner[second]], axis=0)
        pairs.append(low * len(fingerprints) + high)
        shifts.append(np.where(owner[first] > owner[second], -shift, shift))
    pair, shift = np.concatenate(pairs), np.concatenate(shifts)
    order = np.lexsort((shift, pair))
    pair, shift = pair[order], shift[order]
    starts = np.flatnonzero(np.diff(pair, prepend=-1))
    candidates = []
    for start, shifts_of_pair in zip(starts, np.split(shift, starts)[1:], strict=True):
        likely = _frequent_shifts(shifts_of_pair)
        if likely:
            candidates.append((*divmod(int(pair[start]), len(fingerprints)), likely))
    return candidates


def _hits(
    codes: Fingerprint, owner: NDArray[np.int64], mask: np.uint32
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of codes of two recordings that agree in the bits of a mask, and in their context.

    The codes of all recordings are one after the other, 0 meaning no information, with the
    recording of each as its owner.
    """
    indices = np.flatnonzero(codes)
    keys = codes[indices] & mask
    order = np.argsort(keys, kind="stable")  # within a key by recording
    keys, indices = keys[order], indices[order]
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in range(1, _NEIGHBOURS + 1):
        equal = np.flatnonzero(keys[step:] == keys[:-step])
        if not len(equal):
            break
        first, second = indices[equal], indices[equal + step]
        is_pair = owner[first] != owner[second]
        first, second = first[is_pair], second[is_pair]
        bits, differing = np.zeros(len(first), np.int64), np.zeros(len(first), np.int64)
        for distance in _CONTEXT:
            one, other = first + distance, second + distance
            valid = (owner[one] == owner[first]) & (owner[other] == owner[second])
            valid &= (codes[one] != 0) & (codes[other] != 0)
            bits += 32 * valid
            differing += np.bitwise_count(codes[one] ^ codes[other]) * valid
        kept = (bits >= 64) & (differing <= _MAX_CONTEXT * bits)
        firsts.append(first[kept])
        seconds.append(second[kept])
    return np.concatenate(firsts), np.concatenate(seconds)


def _frequent_shifts(shifts: NDArray[np.int64]) -> list[int]:
    """The shifts at which a pair has most hits, and enough."""
    if len(shifts) < _MIN_HITS:
        return []
    values, counts = np.unique(shifts, return_counts=True)
    # a copy that is shifted by a part of a code has hits at two neighbouring shifts
    is_next = np.diff(values, append=values[-1] + 9) == 1
    hits = counts + np.where(is_next, np.roll(counts, -1), 0)
    chosen: list[int] = []
    for index in np.argsort(-hits, kind="stable"):
        if hits[index] < _MIN_HITS or len(chosen) == _MAX_SHIFTS:
            break
        value = int(values[index])
        if all(abs(value - other) > 2 for other in chosen):
            chosen.append(value)
    return chosen


def _compare(
    fingerprints: Sequence[Fingerprint], first: int, second: int, shifts: Sequence[int]
) -> SoundMatch | None:
    """The match of two recordings by the best of several shifts; None if they share too little."""
    shorter, longer, sign = fingerprints[first], fingerprints[second], -1
    if np.count_nonzero(longer) < np.count_nonzero(shorter):
        shorter, longer, sign = longer, shorter, 1
    covered = np.zeros(len(shorter), bool)
    best, most = 0, 0
    for hit in shifts:
        # hits are at a shift that is exact to one code
        tries = [(s, *_align(shorter, longer, sign * s)) for s in (hit - 1, hit, hit + 1)]
        shift, _, matching = min(tries, key=lambda attempt: attempt[1])
        covered |= matching
        if matching.sum() > most:
            best, most = shift, int(matching.sum())
    shared = int(covered.sum())
    share = shared / max(1, int(np.count_nonzero(shorter)))
    if shared < MIN_SHARED_S * _CODES_PER_S or share < MIN_SHARE:
        return None
    return SoundMatch(first, second, best / _CODES_PER_S, shared / _CODES_PER_S, share)


def _align(
    shorter: Fingerprint, longer: Fingerprint, shift: int
) -> tuple[float, NDArray[np.bool_]]:
    """Compare code `i` of the shorter with code `i + shift` of the longer.

    Returns:
        Differing bits per code in the best window of the overlap; and which codes of the shorter
        match: one of the windows over it does, and so do the codes near it.
    """
    matching = np.zeros(len(shorter), bool)
    start, end = max(0, -shift), min(len(shorter), len(longer) - shift)
    if end - start < _WINDOW:
        return 32.0, matching
    one, other = shorter[start:end], longer[start + shift : end + shift]
    valid = (one != 0) & (other != 0)
    differing = np.bitwise_count(one ^ other).astype(np.int64) * valid
    codes, bits = _sums(valid, _WINDOW), _sums(differing, _WINDOW)
    same = (codes >= _WINDOW / 2) & (bits < _MAX_WINDOW * (32 * codes))
    in_window = _sums(np.pad(same, _WINDOW - 1), _WINDOW) > 0
    near_codes = _sums(np.pad(valid, _NEAR), 2 * _NEAR + 1)
    near = _sums(np.pad(differing, _NEAR), 2 * _NEAR + 1) < _MAX_NEAR * (32 * near_codes)
    matching[start:end] = in_window & near & valid
    return float((bits / np.maximum(1, codes)).min()), matching


def _sums(values: NDArray[Any], length: int) -> NDArray[np.int64]:
    """Moving sums over `length` values, `(n - length + 1,)`."""
    sums = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.asarray(sums[length:] - sums[:-length], np.int64)


def with_duplicates(
    dataset: FolderDataset,
    *,
    workers: int = 1,
    cache: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> FolderDataset:
    """The same data set, with near-duplicates in one `sound_group`.

    Every recording is decoded once, exact copies only once. Files that cannot be decoded are
    compared by their bytes; a note says how many.

    Args:
        dataset: its tracks.
        workers: processes on this machine; with 1 everything runs in this process.
        cache: a store of scans, so that a second run decodes only new files; None keeps nothing.
        on_progress: called in this thread with the files done and the number of files.
    """
    from deepmusic.audio.scan import scan_files

    path_of = {track.content_hash: str(dataset.file(track)) for track in reversed(dataset.tracks)}
    hashes = {path: digest for digest, path in path_of.items()}
    fingerprints: dict[str, Fingerprint] = {}
    scans = scan_files(hashes, cache=cache, workers=workers)
    for done, scan in enumerate(scans, start=1):
        if not scan.code:
            fingerprints[hashes[scan.path]] = scan.fingerprint
        if on_progress is not None:
            on_progress(done, len(hashes))
    return with_sound_groups(dataset, fingerprints)


def with_sound_groups(
    dataset: FolderDataset, fingerprints: Mapping[str, Fingerprint]
) -> FolderDataset:
    """The same data set, with near-duplicates in one `sound_group`.

    Args:
        dataset: its tracks.
        fingerprints: by content hash; tracks without one are compared by their bytes, and a note
            says how many.
    """
    digests = sorted(fingerprints)  # the order of the tracks makes no difference
    matches = sound_matches([fingerprints[digest] for digest in digests])
    group_of = sound_groups(digests, matches)
    tracks = tuple(
        replace(track, sound_group=group_of.get(track.content_hash)) for track in dataset.tracks
    )
    failed = sum(track.content_hash not in fingerprints for track in tracks)
    note = (
        f"{failed} of {len(tracks)} tracks cannot be decoded; copies of them are recognized only "
        "by their bytes."
    )
    return replace(dataset, tracks=tracks, notes=dataset.notes + ((note,) if failed else ()))
