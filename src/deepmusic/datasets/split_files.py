"""Files of splits: which part each track is in, and whether the parts leak."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from deepmusic.datasets.folder import FolderDataset, dataset_digest
from deepmusic.datasets.groups import artist_members, group_tracks, unknown_artists
from deepmusic.datasets.splits import PARTS, Fold, Folds, Protocol
from deepmusic.errors import DataError, counted, os_reason
from deepmusic.files import write_atomically

Leaks = bool | Literal["unknown"]
"""Whether an artist, album or copy is on two sides of a fold, as far as artists are known."""


def leaking_groups(fold: Fold, groups: Sequence[int]) -> list[int]:
    """The groups, of each track by `group_tracks`, that are in two parts of a fold; ascending."""
    sides = [{groups[index] for index in getattr(fold, name)} for name in PARTS]
    counts = Counter(group for side in sides for group in side)
    return sorted(group for group, count in counts.items() if count > 1)


def leaks(folds: Folds, dataset: FolderDataset) -> Leaks:
    """Whether folds have an artist, album or copy on two sides; random ones count as leaking.

    ``"unknown"`` where no leak is known, but the artists of some tracks are not known.
    """
    groups = group_tracks(dataset.tracks)
    if folds.protocol == "random" or any(leaking_groups(fold, groups) for fold in folds):
        return True
    return "unknown" if unknown_artists(dataset.tracks) else False


def data_card(folds: Folds, dataset: FolderDataset) -> dict[str, Any]:
    """What a model says about the data of its training: their hash, counts, and `leaks`."""
    known = [track for track in dataset.tracks if artist_members(track.artist)]
    return {
        "data": dataset_digest(dataset),
        "tracks": len(dataset.tracks),
        "artists": len(set(group_tracks(known))),  # those who work together count as one
        "unknown_artists": len(dataset.tracks) - len(known),
        "leaks": leaks(folds, dataset),
    }


def write_splits(path: str | os.PathLike[str], folds: Folds, dataset: FolderDataset) -> None:
    """Write folds as JSON: for each track its path, genre, group, and its part in each fold.

    A track that a fold leaves out has the part ``""``. ``leaks`` is as `leaks` gives it: true,
    false, or ``"unknown"`` where there are tracks of ``unknown_artists``.

    Args:
        path: the file, such as ``splits.json``.
        folds: of this data set; a single split is given as ``Folds((split,), seed)``.
        dataset: what was divided.
    """
    parts = [[""] * len(folds) for _ in dataset.tracks]
    for number, fold in enumerate(folds):
        for name in PARTS:
            for index in getattr(fold, name):
                parts[index][number] = name
    groups = group_tracks(dataset.tracks)
    about = {
        "format": "deepmusic splits",
        "version": 1,
        "protocol": folds.protocol,
        "leaks": leaks(folds, dataset),
        "unknown_artists": unknown_artists(dataset.tracks),
        "seed": folds.seed,
        "folds": len(folds),
        "fingerprint": dataset_digest(dataset),
        "genres": list(dataset.genres),
        "group_sizes": np.bincount(groups).tolist(),
    }
    entries = [
        {"path": track.path, "genre": track.genre, "group": group, "parts": part}
        for track, group, part in zip(dataset.tracks, groups, parts, strict=True)
    ]
    with write_atomically(path) as file:  # one line per track, for people to read
        file.write(json.dumps(about)[:-1] + ', "tracks": [\n')
        file.write(",\n".join(map(json.dumps, entries)))
        file.write("\n]}\n")


def read_splits(path: str | os.PathLike[str], dataset: FolderDataset) -> Folds:
    """Read folds that `write_splits` wrote, for the same data wherever they are now.

    Raises:
        DataError: the file is missing or damaged, or of another data set; or grouped folds would
            have a group on two sides, as artists or copies are known now.
    """
    stored = read_split_file(path)
    parts = stored["tracks"]
    paths = {track.path for track in dataset.tracks}
    if stored["fingerprint"] != dataset_digest(dataset) or parts.keys() != paths:
        raise DataError(
            f"The data in {dataset.root} are not those that {path} divides: "
            f"{counted(len(parts.keys() - paths), 'track')} gone, {len(paths - parts.keys())} new, "
            "the others may have other contents or genres; restore the data or make new splits."
        )
    of_tracks = [parts[track.path] for track in dataset.tracks]
    folds = [
        Fold(*(tuple(i for i, part in enumerate(of_tracks) if part[n] == name) for name in PARTS))
        for n in range(stored["folds"])
    ]
    groups = group_tracks(dataset.tracks)
    for fold in folds if stored["protocol"] == "grouped" else ():
        for group in leaking_groups(fold, groups):
            raise DataError(
                f"In the splits {path} an artist, album or copy is on two sides, as known now "
                f"({dataset.tracks[groups.index(group)].path!r} is one of the tracks); make new "
                "splits."
            )
    return Folds(tuple(folds), stored["seed"], stored["protocol"])


def read_split_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `write_splits` wrote of any data; ``tracks`` has the parts of each track by its path."""
    try:
        stored: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        if stored["format"] != "deepmusic splits" or stored["version"] != 1:
            raise DataError(f"{path} is of another program or version; make new splits.")
        stored["tracks"] = {entry["path"]: tuple(entry["parts"]) for entry in stored["tracks"]}
        if (
            set().union(*stored["tracks"].values()) - {*PARTS, ""}
            or {len(parts) for parts in stored["tracks"].values()} - {stored["folds"]}
            or stored["protocol"] not in get_args(Protocol)
            or not {"seed", "fingerprint"} <= stored.keys()
        ):
            raise ValueError
    except OSError as error:
        raise DataError(f"The splits {path} cannot be read: {os_reason(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"The splits {path} are damaged; make new ones.") from error
    return stored
