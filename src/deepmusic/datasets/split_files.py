"""Files of splits: JSON with one line per track, which is checked against the data when read."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import get_args

from deepmusic.datasets.folder import FolderDataset, dataset_digest
from deepmusic.datasets.groups import group_tracks
from deepmusic.datasets.splits import PARTS, Fold, Folds, Protocol, leaking_groups
from deepmusic.errors import DataError, os_reason
from deepmusic.files import write_atomically

_FORMAT = "deepmusic splits"
_VERSION = 1


def write_splits(path: str | os.PathLike[str], folds: Folds, dataset: FolderDataset) -> None:
    """Write folds as JSON: for each track its path, genre, group, and its part in each fold.

    A track that a fold leaves out has the part ``""``. ``leaks`` is true for random folds, and for
    others with a group on two sides; tracks by ``unknown_artists`` may leak unnoticed.

    Args:
        path: the file, such as ``splits.json``.
        folds: of this data set; a single split is given as ``Folds((split,), seed)``.
        dataset: what was divided.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    parts = [["" for _ in folds] for _ in dataset.tracks]
    for number, fold in enumerate(folds):
        for name in PARTS:
            for index in getattr(fold, name):
                parts[index][number] = name
    groups = group_tracks(dataset.tracks)
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "protocol": folds.protocol,
        "leaks": folds.protocol == "random" or any(leaking_groups(fold, groups) for fold in folds),
        "unknown_artists": sum(track.artist is None for track in dataset.tracks),
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
    path = Path(path)
    damaged = f"The splits {path} are damaged; make new ones."
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != _FORMAT or stored["version"] != _VERSION:
            raise DataError(f"{path} is of another program or version; make new splits.")
        parts = {entry["path"]: entry["parts"] for entry in stored["tracks"]}
        count, seed, digest = int(stored["folds"]), int(stored["seed"]), stored["fingerprint"]
        protocol = stored["protocol"]
        if (
            any(len(part) != count for part in parts.values())
            or not {name for part in parts.values() for name in part} <= {*PARTS, ""}
            or protocol not in get_args(Protocol)
        ):
            raise DataError(damaged)
    except OSError as error:
        raise DataError(f"The splits {path} cannot be read: {os_reason(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(damaged) from error
    paths = {track.path for track in dataset.tracks}
    if digest != dataset_digest(dataset):
        raise DataError(
            f"The data in {dataset.root} are not those that {path} divides: "
            f"{len(parts.keys() - paths)} tracks are gone, {len(paths - parts.keys())} are new, "
            "the others may have other contents or genres; restore the data or make new splits."
        )
    if parts.keys() != paths:
        raise DataError(damaged)
    of_tracks = [parts[track.path] for track in dataset.tracks]
    folds = [
        Fold(*(tuple(i for i, part in enumerate(of_tracks) if part[n] == name) for name in PARTS))
        for n in range(count)
    ]
    groups = group_tracks(dataset.tracks)
    for fold in folds if protocol == "grouped" else ():
        for group in leaking_groups(fold, groups):
            raise DataError(
                f"In the splits {path} an artist, album or copy is on two sides, as known now "
                f"({dataset.tracks[groups.index(group)].path!r} is one of the tracks); make new "
                "splits."
            )
    return Folds(tuple(folds), seed, protocol)
