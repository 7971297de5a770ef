"""Splits and folds with no artist, album or copy on two sides; and two other kinds.

Tracks are grouped by `group_tracks`, and whole groups are
distributed so that every part has about its share of every genre, by scikit-learn's
StratifiedGroupKFold.

The other kinds are the official splits of published data sets, and random ones, which leak: they
are only for comparison with published figures that were obtained so, and their files say it.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset
from deepmusic.datasets.groups import group_tracks
from deepmusic.errors import DataError

Protocol = Literal["grouped", "official", "random"]
"""How tracks were divided: by whole groups, as published with the data, or at random."""

# Draws to choose the best of; on large data one draw is slow, and the first is balanced anyway.
_ATTEMPTS = 20
_ATTEMPTED_GROUPS = 2000
# A part is well balanced if its share of each genre is within this of what was requested.
_TOLERANCE = 0.05

_Labels = NDArray[np.int64]  # (tracks,): genre or group of each
_Mask = NDArray[np.bool_]  # (tracks,): the members of a part
_Parts = tuple[_Mask, _Mask, _Mask]  # train, validation, test


PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """One way to divide a data set: indices of ``dataset.tracks``, ascending.

    Official splits may leave tracks out; others have each track in one part.

    Args:
        train: what a model is fitted on.
        validation: for early stopping and thresholds.
        test: what it is evaluated on.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Folds:
    """Several ways to divide one data set; each track is in the test part of exactly one.

    A single split is stored as one fold.

    Args:
        folds: the divisions.
        seed: what they were drawn with.
        protocol: ``"grouped"``, ``"official"`` (published with the data) or ``"random"``, which
            leaks artists and copies.
    """

    folds: tuple[Fold, ...]
    seed: int = 0
    protocol: Protocol = "grouped"

    def __len__(self) -> int:
        return len(self.folds)

    def __iter__(self) -> Iterator[Fold]:
        return iter(self.folds)

    def __getitem__(self, index: int) -> Fold:
        return self.folds[index]


def make_folds(
    dataset: FolderDataset,
    *,
    folds: int = 5,
    validation: float = 0.2,
    seed: int = 0,
    protocol: Protocol = "grouped",
) -> Folds:
    """Divide a data set for cross-validation, stratified by genre and grouped by artist.

    The same tracks and seed give the same folds, whatever the order of the tracks.

    Args:
        dataset: at least two genres, each with at least ``folds`` groups (for 2 folds 4).
        folds: how many, at least 2.
        validation: share of each fold's remaining tracks to validate on, in (0, 0.5].
        seed: another seed gives other folds.
        protocol: ``"random"`` divides by genre alone, as for many published scores; these are too
            high, since artists, albums and copies are on several sides.

    Raises:
        DataError: there are too few genres, artists or tracks.

    Example:
        >>> folds = make_folds(scan_folder("music"))  # doctest: +SKIP
        >>> folds[0].train  # doctest: +SKIP
        (0, 1, 4, ...)
    """
    if folds < 2:
        raise DataError(f"Cross-validation needs at least 2 folds; got {folds}.")
    _check_shares(0, validation)
    if protocol == "random":
        return Folds(tuple(_random_folds(dataset, folds, validation, seed)), seed, "random")
    order, labels, groups = _prepare(dataset)
    _check_groups(dataset, labels, groups, needed=_needed(folds), folds=folds)

    def draw(number: int) -> list[_Parts]:
        return [
            _with_validation(labels, groups, test, validation, number)
            for test in _deal(labels, groups, folds, number)
        ]

    shares = ((1 - 1 / folds) * validation, 1 / folds)
    best = _best(draw, labels, groups, shares, seed)
    return Folds(tuple(_fold(*(order[part] for part in parts)) for parts in best), seed)


def make_split(
    dataset: FolderDataset,
    *,
    test: float = 0.2,
    validation: float = 0.2,
    seed: int = 0,
    protocol: Protocol = "grouped",
) -> Fold:
    """Divide a data set once, stratified by genre and grouped by artist.

    The same tracks and seed give the same split, whatever the order of the tracks.

    Args:
        dataset: at least two genres, each with at least three groups (two without a test part).
        test: share of all tracks to test on, in [0, 0.5]; 0 leaves the part empty.
        validation: share of all tracks to validate on, in (0, 0.5].
        seed: another seed gives another split.
        protocol: as for `make_folds`.

    Raises:
        DataError: there are too few genres, artists or tracks.
    """
    _check_shares(test, validation)
    if protocol == "random":
        return _random_split(dataset, test, validation, seed)
    order, labels, groups = _prepare(dataset)
    _check_groups(dataset, labels, groups, needed=3 if test else 2, folds=None)

    def draw(number: int) -> list[_Parts]:
        everything = np.ones(len(labels), bool)
        tested = _cut(labels, groups, everything, test, number) if test else ~everything
        return [_with_validation(labels, groups, tested, validation / (1 - test), number)]

    (best,) = _best(draw, labels, groups, (validation, test), seed)
    return _fold(*(order[part] for part in best))


def leaking_groups(fold: Fold, groups: Sequence[int]) -> list[int]:
    """The groups that are in more than one part of a fold.

    Args:
        fold: a division.
        groups: of each track, by `group_tracks`.

    Returns:
        Numbers of groups, ascending; empty for a fold without leaks.
    """
    sides = [{groups[index] for index in getattr(fold, name)} for name in PARTS]
    counts = Counter(group for side in sides for group in side)
    return sorted(group for group, count in counts.items() if count > 1)


def _random_folds(
    dataset: FolderDataset, folds: int, validation: float, seed: int
) -> Iterator[Fold]:
    order, labels, rng = _shuffle(dataset, seed, needed=_needed(folds))
    # genre after genre in one round: no fold gets more than one track above its share
    by_genre = np.concatenate([order[labels[order] == label] for label in np.unique(labels)])
    turns = np.arange(len(by_genre)) % folds
    for number in range(folds):
        rest = rng.permutation(by_genre[turns != number])
        validated = _some_of_each(rest, labels, validation)
        yield _fold(np.setdiff1d(rest, validated), validated, by_genre[turns == number])


def _random_split(dataset: FolderDataset, test: float, validation: float, seed: int) -> Fold:
    order, labels, _ = _shuffle(dataset, seed, needed=3 if test else 2)
    tested = _some_of_each(order, labels, test, leave=2) if test else order[:0]
    rest = order[~np.isin(order, tested)]
    validated = _some_of_each(rest, labels, validation / (1 - test))
    return _fold(np.setdiff1d(rest, validated), validated, tested)


def _needed(folds: int) -> int:
    """How many groups each genre needs."""
    # of two folds, one may hold all but half of the groups: then 4 leave 2 to train and validate
    return 4 if folds == 2 else folds


def _check_shares(test: float, validation: float) -> None:
    if not 0 <= test <= 0.5:
        raise DataError(f"The test share ranges from 0 to 0.5; got {test:g}.")
    if not 0 < validation <= 0.5:
        raise DataError(f"The validation share is above 0 and at most 0.5; got {validation:g}.")
    if test + validation > 0.8:
        raise DataError(
            f"A test share of {test:g} and a validation share of {validation:g} leave less than "
            "0.2 to train on; ask for less."
        )


def _check_genres(dataset: FolderDataset) -> None:
    if len(dataset.genres) < 2:
        raise DataError(
            f"{dataset.root} has a single genre ({', '.join(dataset.genres)}); add another one."
        )


def _check_groups(
    dataset: FolderDataset, labels: _Labels, groups: _Labels, *, needed: int, folds: int | None
) -> None:
    counts = [len(np.unique(groups[labels == label])) for label in range(len(dataset.genres))]
    genre = int(np.argmin(counts))
    fewest = counts[genre]
    if fewest >= needed:
        return
    remedy = "add tracks by other artists, or leave the genre out"
    if fewest >= 3 and folds is not None and folds > 3:
        remedy = f"ask for {fewest} folds at most, {remedy}"
    raise DataError(
        f"The genre {dataset.genres[genre]!r} has {int((labels == genre).sum())} tracks in "
        f"{fewest} groups (artists, albums, copies), and {'a split' if folds is None else folds} "
        f"{'needs' if folds is None else 'folds need'} at least {needed} in each genre: {remedy}."
    )


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise DataError(f"A seed is 0 or more; got {seed}.")


def _sorted_by_path(dataset: FolderDataset) -> _Labels:
    """Indices of the tracks, sorted by path."""
    return np.asarray(sorted(range(len(dataset.tracks)), key=lambda i: dataset.tracks[i].path))


def _shuffle(
    dataset: FolderDataset, seed: int, *, needed: int
) -> tuple[_Labels, _Labels, np.random.Generator]:
    """Indices of the tracks in random order, genre of each track, and the generator."""
    _check_genres(dataset)
    _check_seed(seed)
    labels = np.asarray(dataset.labels)
    counts = np.bincount(labels, minlength=len(dataset.genres))
    if counts.min() < needed:
        raise DataError(
            f"The genre {dataset.genres[int(counts.argmin())]!r} has {counts.min()} tracks, and at "
            f"least {needed} are needed: add tracks, ask for fewer folds, or leave the genre out."
        )
    rng = np.random.default_rng(seed)
    return rng.permutation(_sorted_by_path(dataset)), labels, rng


def _some_of_each(order: _Labels, labels: _Labels, share: float, *, leave: int = 1) -> _Labels:
    """The first tracks of each genre that make up a share of it: at least one, and some left."""
    chosen = []
    for label in np.unique(labels[order]):
        of_genre = order[labels[order] == label]
        chosen.append(of_genre[: min(max(round(share * len(of_genre)), 1), len(of_genre) - leave)])
    return np.concatenate(chosen)


def _fold(*parts: _Labels) -> Fold:
    return Fold(*(tuple(sorted(part.tolist())) for part in parts))


def _prepare(dataset: FolderDataset) -> tuple[_Labels, _Labels, _Labels]:
    """Indices of the tracks sorted by path, and genre and group of each in that order."""
    _check_genres(dataset)
    order = _sorted_by_path(dataset)
    groups = group_tracks([dataset.tracks[index] for index in order])
    return order, np.asarray(dataset.labels)[order], np.asarray(groups)


def _best(
    draw: Callable[[int], list[_Parts]],
    labels: _Labels,
    groups: _Labels,
    shares: tuple[float, float],
    seed: int,
) -> list[_Parts]:
    """The most even of several draws, as the parts of each fold."""
    _check_seed(seed)
    chosen, lowest = list[_Parts](), (len(labels) ** 2, 1.0)
    numbers = np.random.default_rng(seed).integers(2**31, size=_ATTEMPTS)
    for attempt, number in enumerate(numbers, start=1):
        folds = draw(int(number))
        scores = [_unevenness(parts, labels, shares) for parts in folds]
        score = (sum(missing for missing, _ in scores), max(uneven for _, uneven in scores))
        if score < lowest:
            chosen, lowest = folds, score
        done = lowest[1] <= _TOLERANCE or attempt * len(np.unique(groups)) >= _ATTEMPTED_GROUPS
        if lowest[0] == 0 and done:
            break
    if lowest[0] > 0:
        largest = int(np.bincount(groups).max())
        raise DataError(
            "No division was found that has every genre in every part and no group on two sides; "
            f"the largest group has {largest} of {len(groups)} tracks: ask for fewer folds or add "
            "tracks by other artists."
        )
    return chosen


def _unevenness(parts: _Parts, labels: _Labels, shares: tuple[float, float]) -> tuple[int, float]:
    """How many genres are missing from parts, and the largest error in a part's share of one."""
    totals = np.bincount(labels)
    missing, uneven = 0, 0.0
    for part, share in zip(parts, (None, *shares), strict=True):
        if share == 0:
            continue
        counts = np.bincount(labels[part], minlength=len(totals))
        missing += int((counts == 0).sum())
        if share is not None:  # the training part has what the others leave
            uneven = max(uneven, float(np.abs(counts / totals - share).max()))
    return missing, uneven


def _with_validation(
    labels: _Labels, groups: _Labels, test: _Mask, share: float, number: int
) -> _Parts:
    validation = _cut(labels, groups, ~test, share, number)
    return ~test & ~validation, validation, test


def _cut(labels: _Labels, groups: _Labels, among: _Mask, share: float, number: int) -> _Mask:
    """Whole groups ``among`` the tracks that make up about a share of each genre."""
    indices = np.flatnonzero(among)
    labels, groups = labels[indices], groups[indices]
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    # A share of 0.2 is one of five equal parts, 0.4 two of five; few groups make fewer parts.
    most_parts = max(2, min(10, fewest))
    ratio = Fraction(share).limit_denominator(most_parts)
    ratio = min(max(ratio, Fraction(1, most_parts)), Fraction(most_parts - 1, most_parts))
    chosen = np.zeros(len(among), bool)
    try:
        dealt = _deal(labels, groups, ratio.denominator, number)
    except ValueError:  # one group is left: this draw came out too uneven to go on
        return chosen
    cuts = []
    for start in range(len(dealt)):
        cut = np.any([dealt[start - step] for step in range(ratio.numerator)], axis=0)
        cuts.append((_unevenness((~cut, cut, cut), labels, (share, 0)), start, cut))
    chosen[indices] = min(cuts)[2]
    return chosen


def _deal(labels: _Labels, groups: _Labels, parts: int, number: int) -> list[_Mask]:
    """Distribute all groups over equal parts, each with about its share of every genre."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=number)
    with warnings.catch_warnings():  # too few tracks of a genre: checked before
        warnings.simplefilter("ignore", UserWarning)
        tests = [test for _, test in splitter.split(labels, labels, groups)]
    return [np.isin(np.arange(len(labels)), test) for test in tests]
