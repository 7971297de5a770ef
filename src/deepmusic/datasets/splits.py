"""Splits and folds with no artist, album or copy on two sides; and two other kinds.

Tracks are grouped by `group_tracks`, and scikit-learn's StratifiedGroupKFold distributes whole
groups so that every part has about its share of every genre. The other kinds are the official
splits of published data sets, and random ones, which leak: they are only for comparison with
published figures that were obtained so, and their files say it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset
from deepmusic.datasets.groups import group_tracks
from deepmusic.errors import DataError, counted

Protocol = Literal["grouped", "official", "random"]
"""How tracks were divided: by whole groups, as published with the data, or at random."""

PARTS = ("train", "validation", "test")

# Draws to choose the best of; on large data one draw is slow, and the first is balanced anyway.
_ATTEMPTS = 20
_ATTEMPTED_GROUPS = 2000
_TOLERANCE = 0.05  # a part with its share of each genre within this is well balanced

_Indices = NDArray[np.int64]  # of tracks, sorted by path
_Parts = tuple[_Indices, _Indices]  # validation, test; training has the others


@dataclass(frozen=True)
class Fold:
    """One way to divide a data set: indices of ``dataset.tracks``, ascending.

    Official splits may leave tracks out; others have each track in one part.
    """

    train: tuple[int, ...]  # what a model is fitted on
    validation: tuple[int, ...]  # for early stopping and thresholds
    test: tuple[int, ...]  # what it is evaluated on


@dataclass(frozen=True)
class Folds:
    """Several ways to divide one data set, each track being tested in one; or one split alone."""

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
    _check_options(0, validation, seed)
    # of two folds, one may hold all but half of the groups: then 4 leave 2 to train and validate
    tracks = _Tracks.of(dataset, protocol, needed=4 if folds == 2 else folds, folds=folds)

    def draw(number: int) -> list[_Parts]:
        return [
            (_cut(tracks, tracks.without(test), validation, number), test)
            for test in _deal(tracks, folds, number)
        ]

    if protocol == "random":
        parts = list(_random_folds(tracks, folds, validation, seed))
    else:
        parts = _best(draw, tracks, ((1 - 1 / folds) * validation, 1 / folds), seed)
    return Folds(tuple(tracks.fold(*both) for both in parts), seed, protocol)


def make_split(
    dataset: FolderDataset,
    *,
    test: float = 0.2,
    validation: float = 0.2,
    seed: int = 0,
    protocol: Protocol = "grouped",
) -> Fold:
    """Divide a data set once; otherwise as `make_folds`.

    Args:
        dataset: at least two genres, each with at least three groups (two without a test part).
        test: share of all tracks to test on, in [0, 0.5]; 0 leaves the part empty.
        validation: share of all tracks to validate on, in (0, 0.5].
        seed: another seed gives another split.
        protocol: ``"grouped"`` or ``"random"``.
    """
    _check_options(test, validation, seed)
    tracks = _Tracks.of(dataset, protocol, needed=3 if test else 2)
    everything, remaining_share = np.arange(len(tracks.order)), validation / (1 - test)

    def draw(number: int) -> list[_Parts]:
        tested = _cut(tracks, everything, test, number) if test else everything[:0]
        return [(_cut(tracks, tracks.without(tested), remaining_share, number), tested)]

    if protocol == "random":
        order = np.random.default_rng(seed).permutation(everything)
        tested = _first_of_each(order, tracks.labels, test, leave=2) if test else order[:0]
        rest = order[~np.isin(order, tested)]
        return tracks.fold(_first_of_each(rest, tracks.labels, remaining_share), tested)
    (parts,) = _best(draw, tracks, (validation, test) if test else (validation,), seed)
    return tracks.fold(*parts)


class _Tracks(NamedTuple):
    """The tracks of a data set, sorted by path."""

    order: _Indices  # of each in the data set
    labels: _Indices  # its genre
    groups: _Indices  # its group; alone in it if tracks are divided at random

    @classmethod
    def of(
        cls, dataset: FolderDataset, protocol: Protocol, *, needed: int, folds: int | None = None
    ) -> _Tracks:
        """The tracks of a data set with enough groups in each genre."""
        if len(dataset.genres) < 2:
            genres = ", ".join(dataset.genres)
            raise DataError(f"{dataset.root} has a single genre ({genres}); add another one.")
        order = sorted(range(len(dataset.tracks)), key=lambda i: dataset.tracks[i].path)
        labels = np.asarray(dataset.labels)[order]
        groups = np.arange(len(order))
        if protocol != "random":
            groups = np.asarray(group_tracks([dataset.tracks[index] for index in order]))
        counts = [len(np.unique(groups[labels == label])) for label in range(len(dataset.genres))]
        genre, fewest = int(np.argmin(counts)), min(counts)
        if fewest < needed:
            available = counted(int((labels == genre).sum()), "track")
            if protocol != "random":
                available += f" in {counted(fewest, 'group')} (artists, albums, copies)"
            fewer = f"ask for {fewest} folds at most, " if folds and folds > fewest >= 3 else ""
            raise DataError(
                f"The genre {dataset.genres[genre]!r} has {available}, and "
                f"{f'{folds} folds need' if folds else 'a split needs'} at least {needed} in each "
                f"genre: {fewer}add tracks by other artists, or leave the genre out."
            )
        return cls(np.asarray(order), labels, groups)

    def without(self, part: _Indices) -> _Indices:
        """The other tracks."""
        return np.setdiff1d(np.arange(len(self.order)), part)

    def fold(self, validation: _Indices, test: _Indices) -> Fold:
        """The division of the data set that has these parts."""
        train = self.without(np.concatenate([validation, test]))
        parts = (sorted(self.order[part].tolist()) for part in (train, validation, test))
        return Fold(*map(tuple, parts))


def _check_options(test: float, validation: float, seed: int) -> None:
    if not 0 <= test <= 0.5:
        raise DataError(f"The test share ranges from 0 to 0.5; got {test:g}.")
    if not 0 < validation <= 0.5:
        raise DataError(f"The validation share is above 0 and at most 0.5; got {validation:g}.")
    if test + validation > 0.8:
        raise DataError(
            f"A test share of {test:g} and a validation share of {validation:g} leave less than "
            "0.2 to train on; ask for less."
        )
    if seed < 0:
        raise DataError(f"A seed is 0 or more; got {seed}.")


def _random_folds(tracks: _Tracks, folds: int, validation: float, seed: int) -> Iterator[_Parts]:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(tracks.labels))
    # genre after genre in one round: no fold gets more than one track above its share
    by_genre = order[np.argsort(tracks.labels[order], kind="stable")]
    turns = np.arange(len(by_genre)) % folds
    for number in range(folds):
        rest = rng.permutation(by_genre[turns != number])
        yield _first_of_each(rest, tracks.labels, validation), by_genre[turns == number]


def _first_of_each(order: _Indices, labels: _Indices, share: float, *, leave: int = 1) -> _Indices:
    """The first tracks of each genre that make up a share of it: at least one, and some left."""
    chosen = []
    for label in np.unique(labels[order]):
        of_genre = order[labels[order] == label]
        chosen.append(of_genre[: min(max(round(share * len(of_genre)), 1), len(of_genre) - leave)])
    return np.concatenate(chosen)


def _best(
    draw: Callable[[int], list[_Parts]], tracks: _Tracks, shares: Sequence[float], seed: int
) -> list[_Parts]:
    """The most even of several draws: the parts of each fold, of which those with a share count."""
    chosen, lowest = list[_Parts](), (len(tracks.labels) ** 2, 1.0)
    numbers = np.random.default_rng(seed).integers(2**31, size=_ATTEMPTS)
    for attempt, number in enumerate(numbers, start=1):
        folds = draw(int(number))
        scores = [_unevenness(tracks.labels, parts[: len(shares)], shares) for parts in folds]
        score = (sum(missing for missing, _ in scores), max(uneven for _, uneven in scores))
        if score < lowest:
            chosen, lowest = folds, score
        is_large = attempt * len(np.unique(tracks.groups)) >= _ATTEMPTED_GROUPS
        if lowest[0] == 0 and (lowest[1] <= _TOLERANCE or is_large):
            break
    if lowest[0] > 0:
        raise DataError(
            "No division was found that has every genre in every part and no group on two sides; "
            f"the largest group has {np.bincount(tracks.groups).max()} of {len(tracks.groups)} "
            "tracks: ask for fewer folds or add tracks by other artists."
        )
    return chosen


def _unevenness(
    labels: _Indices, parts: Sequence[_Indices], shares: Sequence[float]
) -> tuple[int, float]:
    """How many genres are missing from parts, and the largest error in a part's share of one.

    The training part has what the others leave.
    """
    totals = np.bincount(labels)
    counts = np.stack([np.bincount(labels[part], minlength=len(totals)) for part in parts])
    missing = (counts == 0).sum() + (counts.sum(axis=0) == totals).sum()
    errors = counts / np.maximum(totals, 1) - np.array(shares)[:, None]
    return int(missing), float(np.abs(errors).max())


def _cut(tracks: _Tracks, among: _Indices, share: float, number: int) -> _Indices:
    """Whole groups ``among`` the tracks that make up about a share of each genre."""
    subset = _Tracks(*(column[among] for column in tracks))
    labels, groups = subset.labels, subset.groups
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    # A share of 0.2 is one of five equal parts, 0.4 two of five; few groups make fewer parts.
    most_parts = max(2, min(10, fewest))
    ratio = Fraction(share).limit_denominator(most_parts)
    ratio = min(max(ratio, Fraction(1, most_parts)), Fraction(most_parts - 1, most_parts))
    try:
        dealt = _deal(subset, ratio.denominator, number)
    except ValueError:  # one group is left: this draw came out too uneven to go on
        return among[:0]
    cuts = [
        np.concatenate([dealt[start - step] for step in range(ratio.numerator)])
        for start in range(len(dealt))
    ]
    chosen: _Indices = among[min(cuts, key=lambda cut: _unevenness(labels, [cut], [share]))]
    return chosen


def _deal(tracks: _Tracks, parts: int, number: int) -> list[_Indices]:
    """Distribute all groups over equal parts, each with about its share of every genre."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=number)
    with warnings.catch_warnings():  # too few tracks of a genre: checked before
        warnings.simplefilter("ignore", UserWarning)
        folds = splitter.split(tracks.labels, tracks.labels, tracks.groups)
        return [test for _, test in folds]
