"""The divisions of one training: a held-out test part, and folds for validation and calibration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from deepmusic.datasets import (
    Fold,
    FolderDataset,
    Folds,
    make_folds,
    make_split,
    read_splits,
    write_splits,
)
from deepmusic.errors import CheckpointError, DataError
from deepmusic.parallel import is_main_process

_FOLDS = 5


def calibration_folds(
    dataset: FolderDataset, tracks: Sequence[int], *, networks: int, seed: int
) -> Folds:
    """Divide tracks by artist into folds without a test part, each validated on other tracks.

    Args:
        dataset: all tracks.
        tracks: indices of those to divide; other tracks are in no part.
        networks: at least as many folds, and at least five, are made; fewer if a genre has too few
            artists.
        seed: of the division.

    Raises:
        DataError: the tracks cannot be divided by artist.
    """
    subset = replace(dataset, tracks=tuple(dataset.tracks[i] for i in tracks))

    def indices(part: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(tracks[i] for i in part))

    for count in range(max(networks, _FOLDS), 1, -1):
        with suppress(DataError):
            folds = make_folds(subset, folds=count, seed=seed)
            parts = [Fold(indices((*f.train, *f.validation)), indices(f.test), ()) for f in folds]
            return Folds(tuple(parts), seed)
    split = make_split(subset, test=0, validation=1 / _FOLDS, seed=seed)
    return Folds((Fold(indices(split.train), indices(split.validation), ()),), seed)


def hold_out(
    test: float | tuple[str | os.PathLike[str], int], dataset: FolderDataset, seed: int
) -> Callable[[FolderDataset], Folds]:
    """A function that divides the data set, from which tracks may be missing then, in one fold."""
    if not isinstance(test, tuple):
        share = test
        return lambda remaining: Folds((make_split(remaining, test=share, seed=seed),), seed)
    path, number = test
    folds = read_splits(path, dataset)
    if not 0 <= number < len(folds):
        raise DataError(f"{path} has folds 0 to {len(folds) - 1}; got {number}.")
    names = ("train", "validation", "test")
    part_of = {dataset.tracks[i].path: part for part in names for i in getattr(folds[number], part)}

    def divide(remaining: FolderDataset) -> Folds:
        parts = [part_of.get(track.path) for track in remaining.tracks]
        sides = (tuple(i for i, part in enumerate(parts) if part == name) for name in names)
        return Folds((Fold(*sides),), folds.seed, folds.protocol)

    return divide


def write_run_splits(run: Path, splits: Folds, dataset: FolderDataset, *, resume: bool) -> None:
    """Write ``splits.json``; of a run that is resumed it must be the same."""
    path = run / "splits.json"
    if resume and path.exists() and read_splits(path, dataset).folds != splits.folds:
        raise CheckpointError(
            f"{run} was divided with another seed, share for the test, number of networks or file "
            "of splits; resume with the same, or start a new run."
        )
    if is_main_process():
        write_splits(path, splits, dataset)
