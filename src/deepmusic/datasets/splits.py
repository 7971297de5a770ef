"""Splits and folds in which no artist, album or copy stands on two sides, and two other kinds.

Tracks are grouped (:func:`~deepmusic.datasets.groups.group_tracks`), and whole groups are dealt
out so that every part has about its share of every genre, by scikit-learn's StratifiedGroupKFold.

The other kinds are the splits that the makers of a data set published, and random ones, which leak:
they are made only to compare with figures that were got so, and their files say what they are.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset, dataset_digest
from deepmusic.datasets.groups import group_tracks
from deepmusic.errors import DataError
from deepmusic.files import write_atomically

Protocol = Literal["grouped", "official", "random"]
"""How tracks were divided: by whole groups, as the makers of the data did, or blindly."""

_FORMAT = "deepmusic splits"
_VERSION = 1
# Draws to choose the best of; on large data one draw is slow, and the first is balanced anyway.
_ATTEMPTS = 20
_ATTEMPTED_GROUPS = 2000
# A part is well balanced when its share of each genre is within this of what was asked.
_BALANCED = 0.05

_Labels = NDArray[np.int64]  # (tracks,): genre or group of each
_Mask = NDArray[np.bool_]  # (tracks,): the members of a part
_Parts = tuple[_Mask, _Mask, _Mask]  # train, validation, test
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """One way to divide a data set: places in ``dataset.tracks``, ascending.

    Published splits leave tracks out; others have each track in one part.

    Args:
        train: what a model learns from.
        validation: what decides when to stop and where thresholds lie.
        test: what it is judged on.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Folds:
    """Several ways to divide one data set; each track is in the test part of exactly one.

    A single split is kept as one fold.

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
    dataset: FolderDataset, *, folds: int = 5, validation: float = 0.2, seed: int = 0
) -> Folds:
    """Divide a data set for cross-validation, stratified by genre and grouped by artist.

    The same tracks and seed give the same folds, whatever the order of the tracks.

    Args:
        dataset: at least two genres, each with enough groups.
        folds: how many, at least 2.
        validation: share of each fold's remaining tracks to validate on, in (0, 0.5].
        seed: another seed gives other folds.

    Raises:
        DataError: there are too few genres or artists.

    Example:
        >>> folds = make_folds(scan_folder("music"))  # doctest: +SKIP
        >>> folds[0].train  # doctest: +SKIP
        (0, 1, 4, ...)
    """
    if folds < 2:
        raise DataError(f"Cross-validation needs at least 2 folds; got {folds}.")
    _check_share("validation", validation, above_zero=True)
    order, labels, groups = _prepared(dataset)
    # Of two folds, one may hold all but half of the groups: then 4 leave 2 to train and validate.
    _check_enough(dataset, labels, groups, needed=max(folds, 3) if folds > 2 else 4, folds=folds)

    def draw(number: int) -> list[_Parts]:
        return [
            _with_validation(labels, groups, test, validation, number)
            for test in _deal(labels, groups, folds, number)
        ]

    shares = ((1 - 1 / folds) * validation, 1 / folds)
    best = _best(draw, labels, groups, shares, seed)
    return Folds(tuple(_fold(order, parts) for parts in best), seed)


def make_split(
    dataset: FolderDataset, *, test: float = 0.2, validation: float = 0.2, seed: int = 0
) -> Fold:
    """Divide a data set once, stratified by genre and grouped by artist.

    The same tracks and seed give the same split, whatever the order of the tracks.

    Args:
        dataset: at least two genres, each with at least three groups (two without a test part).
        test: share of all tracks to judge on, in [0, 0.5]; 0 leaves the part empty.
        validation: share of all tracks to validate on, in (0, 0.5].
        seed: another seed gives another split.

    Raises:
        DataError: there are too few genres or artists.
    """
    _check_shares(test, validation)
    order, labels, groups = _prepared(dataset)
    _check_enough(dataset, labels, groups, needed=3 if test else 2, folds=None)

    def draw(number: int) -> list[_Parts]:
        everything = np.ones(len(labels), bool)
        tested = _cut(labels, groups, everything, test, number) if test else ~everything
        return [_with_validation(labels, groups, tested, validation / (1 - test), number)]

    best = _best(draw, labels, groups, (validation, test), seed)
    return _fold(order, best[0])


def random_folds(
    dataset: FolderDataset, *, folds: int = 5, validation: float = 0.2, seed: int = 0
) -> Folds:
    """Divide a data set for cross-validation by genre alone, as many published figures were got.

    Artists, albums and copies stand on several sides: what is measured so is too good. The result
    says ``protocol="random"``, and so does its file. The same tracks and seed give the same folds,
    whatever the order of the tracks.

    Args:
        dataset: at least two genres, each with at least ``folds`` tracks (for 2 folds 4).
        folds: how many, at least 2.
        validation: share of each fold's remaining tracks to validate on, in (0, 0.5].
        seed: another seed gives other folds.

    Raises:
        DataError: there are too few genres or tracks.
    """
    if folds < 2:
        raise DataError(f"Cross-validation needs at least 2 folds; got {folds}.")
    _check_share("validation", validation, above_zero=True)
    order, labels, rng = _shuffled(dataset, seed, needed=max(folds, 3) if folds > 2 else 4)
    # genre after genre in one round: no fold gets more than one track above its share
    by_genre = np.concatenate([order[labels[order] == label] for label in np.unique(labels)])
    places = np.arange(len(by_genre)) % folds
    made = []
    for number in range(folds):
        rest = rng.permutation(by_genre[places != number])
        validated = _some_of_each(rest, labels, validation)
        made.append(
            _plain_fold(np.setdiff1d(rest, validated), validated, by_genre[places == number])
        )
    return Folds(tuple(made), seed, "random")


def random_split(
    dataset: FolderDataset, *, test: float = 0.2, validation: float = 0.2, seed: int = 0
) -> Folds:
    """Divide a data set once by genre alone: like :func:`random_folds`, and as leaky.

    Args:
        dataset: at least two genres, each with at least three tracks (two without a test part).
        test: share of all tracks to judge on, in [0, 0.5]; 0 leaves the part empty.
        validation: share of all tracks to validate on, in (0, 0.5].
        seed: another seed gives another split.

    Returns:
        One fold with the label ``protocol="random"``.

    Raises:
        DataError: there are too few genres or tracks.
    """
    _check_shares(test, validation)
    order, labels, _ = _shuffled(dataset, seed, needed=3 if test else 2)
    tested = _some_of_each(order, labels, test, leave=2) if test else order[:0]
    rest = order[~np.isin(order, tested)]
    validated = _some_of_each(rest, labels, validation / (1 - test))
    made = _plain_fold(np.setdiff1d(rest, validated), validated, tested)
    return Folds((made,), seed, "random")


def leaking_groups(fold: Fold, groups: Sequence[int]) -> list[int]:
    """The groups that stand in more than one part of a fold: its leaks, as far as is known.

    Args:
        fold: a division.
        groups: of each track, by :func:`~deepmusic.datasets.groups.group_tracks`.

    Returns:
        Numbers of groups, ascending; none for a fold that is sound.
    """
    sides: dict[int, set[str]] = {}
    for name in _PARTS:
        for index in getattr(fold, name):
            sides.setdefault(groups[index], set()).add(name)
    return sorted(group for group, names in sides.items() if len(names) > 1)


def write_splits(path: str | os.PathLike[str], folds: Folds, dataset: FolderDataset) -> None:
    """Write folds as JSON: per track its path, genre, group, and its part in each fold.

    A track that a fold leaves out has the part ``""``. ``leaks`` is true for random folds, and for
    others in which tracks that belong together stand on two sides.

    Args:
        path: the file, such as ``splits.json``.
        folds: of this data set; a single split is given as ``Folds((split,), seed)``.
        dataset: what was divided.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    parts = [["" for _ in folds] for _ in dataset.tracks]
    for number, fold in enumerate(folds):
        for name in _PARTS:
            for index in getattr(fold, name):
                parts[index][number] = name
    groups = group_tracks(dataset.tracks)
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "protocol": folds.protocol,
        "leaks": folds.protocol == "random" or any(leaking_groups(fold, groups) for fold in folds),
        "seed": folds.seed,
        "folds": len(folds),
        "fingerprint": dataset_digest(dataset),
        "genres": list(dataset.genres),
        "group_sizes": [size for _, size in sorted(Counter(groups).items())],
    }
    entries = [
        {"path": track.path, "genre": track.genre, "group": group, "parts": part}
        for track, group, part in zip(dataset.tracks, groups, parts, strict=True)
    ]
    with write_atomically(path) as file:  # one line a track, so that a person can read it
        file.write(json.dumps(about)[:-1] + ', "tracks": [\n')
        file.write(",\n".join(map(json.dumps, entries)))
        file.write("\n]}\n")


def read_splits(path: str | os.PathLike[str], dataset: FolderDataset) -> Folds:
    """Read folds that :func:`write_splits` wrote, for the same data wherever they lie now.

    Older files name no protocol: theirs is ``"grouped"``.

    Raises:
        DataError: the file is missing or damaged, the data set is another than the one that was
            divided, or, in grouped folds, artists or copies that have become known since would
            stand on two sides.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != _FORMAT or found["version"] != _VERSION:
            raise DataError(f"{path} is of another program or version; make the splits anew.")
        stored = {entry["path"]: entry["parts"] for entry in found["tracks"]}
        count, seed, known = int(found["folds"]), int(found["seed"]), found["fingerprint"]
        if any(len(parts) != count for parts in stored.values()):
            raise ValueError("parts and folds differ in number")
        if not {part for parts in stored.values() for part in parts} <= {*_PARTS, ""}:
            raise ValueError("unknown part")
        protocol = found.get("protocol", "grouped")
        if protocol not in get_args(Protocol):
            raise ValueError("unknown protocol")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"The splits {path} cannot be read: {reason}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"The splits {path} are damaged; make them anew.") from error
    if known != dataset_digest(dataset):
        paths = {track.path for track in dataset.tracks}
        raise DataError(
            f"The data in {dataset.root} are not those that {path} divides: "
            f"{len(stored.keys() - paths)} tracks are gone, {len(paths - stored.keys())} are new, "
            "the rest may have other contents or genres; put the data back or make new splits."
        )
    if stored.keys() != {track.path for track in dataset.tracks}:
        raise DataError(f"The splits {path} are damaged; make them anew.")
    parts = [stored[track.path] for track in dataset.tracks]
    folds = [
        Fold(*(tuple(i for i, part in enumerate(parts) if part[n] == name) for name in _PARTS))
        for n in range(count)
    ]
    groups = group_tracks(dataset.tracks)
    for fold in folds if protocol == "grouped" else ():
        for torn in leaking_groups(fold, groups):
            raise DataError(
                f"In the splits {path} an artist, album or copy stands on two sides "
                f"({dataset.tracks[groups.index(torn)].path!r} is one of the tracks), by what is "
                "known of them now; make new splits."
            )
    return Folds(tuple(folds), seed, protocol)


def _check_shares(test: float, validation: float) -> None:
    _check_share("test", test, above_zero=False)
    _check_share("validation", validation, above_zero=True)
    if test + validation > 0.8:
        raise DataError(
            f"A test share of {test:g} and a validation share of {validation:g} leave less than "
            "0.2 to train on; ask for less."
        )


def _check_share(name: str, share: float, *, above_zero: bool) -> None:
    if not 0 <= share <= 0.5 or (above_zero and share == 0):
        lower = "above 0" if above_zero else "from 0"
        raise DataError(f"The {name} share goes {lower} to 0.5; got {share:g}.")


def _check_genres(dataset: FolderDataset) -> None:
    if len(dataset.genres) < 2:
        raise DataError(
            f"{dataset.root} has one genre only ({', '.join(dataset.genres)}); put a second one "
            "into a folder beside it, there is nothing to tell apart."
        )


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise DataError(f"A seed is 0 or more; got {seed}.")


def _shuffled(
    dataset: FolderDataset, seed: int, *, needed: int
) -> tuple[_Labels, _Labels, np.random.Generator]:
    """Places of the tracks in random order, genre of each track, and what drew the order."""
    _check_genres(dataset)
    _check_seed(seed)
    labels = np.asarray(dataset.labels)
    counts = np.bincount(labels, minlength=len(dataset.genres))
    if counts.min() < needed:
        genre, tracks = dataset.genres[int(counts.argmin())], int(counts.min())
        raise DataError(
            f"The genre {genre!r} has {tracks} {'track' if tracks == 1 else 'tracks'}, and at "
            f"least {needed} are needed of each: add tracks, ask for fewer folds, or leave the "
            "genre out."
        )
    rng = np.random.default_rng(seed)
    order = sorted(range(len(dataset.tracks)), key=lambda index: dataset.tracks[index].path)
    return rng.permutation(np.asarray(order)), labels, rng


def _some_of_each(places: _Labels, labels: _Labels, share: float, *, leave: int = 1) -> _Labels:
    """The first of the places that make up a share of each genre: at least one, and some left."""
    chosen = []
    for label in np.unique(labels[places]):
        of_genre = places[labels[places] == label]
        chosen.append(of_genre[: min(max(round(share * len(of_genre)), 1), len(of_genre) - leave)])
    return np.concatenate(chosen)


def _plain_fold(*parts: _Labels) -> Fold:
    return Fold(*(tuple(sorted(part.tolist())) for part in parts))


def _prepared(dataset: FolderDataset) -> tuple[_Labels, _Labels, _Labels]:
    """Places of the tracks sorted by path, and genre and group of each in that order."""
    _check_genres(dataset)
    order = sorted(range(len(dataset.tracks)), key=lambda index: dataset.tracks[index].path)
    labels = np.asarray(dataset.labels)[order]
    groups = group_tracks([dataset.tracks[index] for index in order])
    return np.asarray(order), labels, np.asarray(groups)


def _check_enough(
    dataset: FolderDataset, labels: _Labels, groups: _Labels, *, needed: int, folds: int | None
) -> None:
    counts = [len(np.unique(groups[labels == label])) for label in range(len(dataset.genres))]
    genre = int(np.argmin(counts))
    fewest = counts[genre]
    if fewest >= needed:
        return
    tracks = int((labels == genre).sum())
    remedy = "add tracks by other artists, or leave the genre out"
    if fewest >= 3 and folds is not None and folds > 3:
        remedy = f"ask for {fewest} folds at most, {remedy}"
    raise DataError(
        f"The genre {dataset.genres[genre]!r} has {tracks} {'track' if tracks == 1 else 'tracks'} "
        f"by {fewest} {'artist' if fewest == 1 else 'artists'}; to keep each artist on one side, "
        f"{'a split needs' if folds is None else f'{folds} folds need'} at least {needed} artists "
        f"in each genre: {remedy}."
    )


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
        done = lowest[1] <= _BALANCED or attempt * len(np.unique(groups)) >= _ATTEMPTED_GROUPS
        if lowest[0] == 0 and done:
            break
    if lowest[0] > 0:
        largest = int(np.bincount(groups).max())
        raise DataError(
            "No division was found that has every genre in every part and no artist on two "
            f"sides; the largest group of tracks that belong together has {largest} of "
            f"{len(groups)} tracks: ask for fewer folds or add tracks by other artists."
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
    places = np.flatnonzero(among)
    labels, groups = labels[places], groups[places]
    fewest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    # A share of 0.2 is one of five equal parts, 0.4 two of five; few groups make fewer parts.
    of = max(2, min(10, fewest))
    ratio = Fraction(share).limit_denominator(of)
    ratio = min(max(ratio, Fraction(1, of)), Fraction(of - 1, of))
    chosen = np.zeros(len(among), bool)
    try:
        dealt = _deal(labels, groups, ratio.denominator, number)
    except ValueError:  # one group is left: this draw came out too uneven to go on
        return chosen
    cuts = []
    for start in range(len(dealt)):
        cut = np.any([dealt[start - step] for step in range(ratio.numerator)], axis=0)
        cuts.append((_unevenness((~cut, cut, cut), labels, (share, 0)), start, cut))
    chosen[places] = min(cuts)[2]
    return chosen


def _deal(labels: _Labels, groups: _Labels, parts: int, number: int) -> list[_Mask]:
    """Deal all groups into equal parts, each with about its share of every genre."""
    from sklearn.model_selection import StratifiedGroupKFold

    dealer = StratifiedGroupKFold(parts, shuffle=True, random_state=number)
    with warnings.catch_warnings():  # too few tracks of a genre: we count them ourselves
        warnings.simplefilter("ignore", UserWarning)
        places = [places for _, places in dealer.split(labels, labels, groups)]
    return [np.isin(np.arange(len(labels)), place) for place in places]


def _fold(order: _Labels, parts: _Parts) -> Fold:
    return _plain_fold(*(order[part] for part in parts))
