"""GTZAN (Tzanetakis and Cook 2002) as it circulates, and its fault-filtered split.

1,000 clips of 30 s, 100 for each of ten genres. The set is old, much used and faulty: some clips
are copies of others, some are mislabelled, and many clips are by few artists (Sturm 2013, arXiv
1306.1461). The split of Kereliuk, Sturm and Larsen (2015), "Deep learning and music adversaries",
leaves the known faults out and keeps artists apart; its three lists are in ``gtzan_splits`` beside
this module.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from shlex import quote
from types import MappingProxyType

from deepmusic.datasets.folder import (
    FolderDataset,
    OnProgress,
    Problem,
    Track,
    dataset_notes,
    map_threads,
    scan_folder,
)
from deepmusic.datasets.splits import Fold
from deepmusic.errors import AudioError, DataError

GTZAN_GENRES = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)  # fmt: skip

_CLIPS_PER_GENRE = 100
# below the path that a user names: an unpacked archive, the Kaggle copy, a folder of data
_FOLDERS = (
    *("", "genres", "genres_original", "Data/genres_original", "Data"),
    *("gtzan/genres", "gtzan/genres_original", "gtzan"),
)
_LISTS = {"train": "train", "validation": "valid", "test": "test"}
"""Our names of the parts to those in the names of the published lists."""


def find_gtzan(path: str | os.PathLike[str]) -> Path | None:
    """The folder that holds GTZAN's genre folders, at or below a path.

    Args:
        path: the genre folders' own folder, or one with ``genres``, ``genres_original``,
            ``Data/genres_original`` or ``gtzan/genres`` in it.

    Returns:
        The folder; None if it has no clip with a name such as ``blues/blues.00000.wav``.
    """
    for name in _FOLDERS:
        folder = Path(path) / name
        if any(_has_clips(folder / genre) for genre in GTZAN_GENRES):
            return folder
    return None


def _has_clips(folder: Path) -> bool:
    try:
        return any(_clip_name(f"{folder.name}/{name}") for name in os.listdir(folder))
    except (OSError, ValueError):
        return False


def _clip_name(path: str) -> str | None:
    """The clip of a file, such as ``blues.00000``; None for other files.

    The folder decides, not the genre, which a table of corrections may change.
    """
    genre, stem = PurePosixPath(path).parent.name, PurePosixPath(path).stem
    is_clip = genre in GTZAN_GENRES and re.fullmatch(rf"{genre}\.\d{{5}}", stem)
    return stem if is_clip else None


def read_gtzan(
    path: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> FolderDataset:
    """Find the clips of GTZAN, as wav, au or whatever format they were converted to.

    The beginning of each clip is decoded: clips that cannot be read (in the Kaggle copy
    ``jazz.00054``) are problems, and so are files that are not clips of the set, and the second
    file of a clip. The notes say what is missing.

    Args:
        path: as for `find_gtzan`.
        table: a CSV of artists, which the set does not name, as for `scan_folder`.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the number of files.

    Returns:
        The clips; ``root`` is the folder of the genre folders.

    Raises:
        DataError: there are no such clips, none can be read, or the path is an archive.

    Example:
        >>> dataset = read_gtzan("Data/genres_original")  # doctest: +SKIP
        >>> [problem.path for problem in dataset.problems]  # doctest: +SKIP
        ['jazz/jazz.00054.wav']
    """
    root = find_gtzan(path)
    if root is not None:
        return read_gtzan_folder(root, table=table, workers=workers, on_progress=on_progress)
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; name the folder of GTZAN.")
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        raise DataError(
            f"{path} is an archive; if it is GTZAN's, unpack it by: deepmusic data download gtzan "
            f"--to DIR --from {quote(str(path))}"
        )
    raise DataError(
        f"{path} holds no clips of GTZAN; looked for files such as blues/blues.00000.wav in it "
        "and in the folders genres, genres_original and Data/genres_original."
    )


def read_gtzan_folder(
    root: Path,
    *,
    table: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> FolderDataset:
    """As `read_gtzan`, from the folder that `find_gtzan` returned."""
    scanned = scan_folder(root, table=table, workers=workers, on_progress=on_progress)
    clips: dict[str, Track] = {}
    problems = list(scanned.problems)
    # of several files of one clip, the wav first: it is what the lists name
    for track in sorted(scanned.tracks, key=lambda t: (not t.path.endswith(".wav"), t.path)):
        name = _clip_name(track.path)
        if name is None:
            message = f"{track.path!r} is not a clip of GTZAN, such as 'blues/blues.00000.wav'."
            problems.append(Problem(track.path, "not_gtzan", message))
        elif name in clips:
            message = f"{track.path!r} is the clip {name} again, beside {clips[name].path!r}."
            problems.append(Problem(track.path, "same_clip", message))
        else:
            clips[name] = track

    def decoded(track: Track) -> Track | Problem:
        from deepmusic.audio import open_audio

        try:
            open_audio(root / track.path, sample_rate=None).close()
        except AudioError as error:
            return Problem(track.path, error.code, str(error))
        return track

    tracks = []
    for result in map_threads(decoded, list(clips.values()), workers=workers):
        if isinstance(result, Track):
            tracks.append(result)
        else:
            problems.append(result)
    if not tracks:
        raise DataError(f"No clip of GTZAN in {root} can be read; first: {problems[0].message}")
    # the notes on all files are replaced by those on the clips that are left
    paths = [track.path for track in scanned.tracks]
    paths += [problem.path for problem in scanned.problems]
    replaced = set(dataset_notes(scanned.tracks, paths))
    notes = [note for note in scanned.notes if note not in replaced]
    notes += [*dataset_notes(tracks, paths), *_missing(tracks)]
    return FolderDataset.of(root, tracks, problems, notes)


@cache
def fault_filtered_clips() -> Mapping[str, tuple[str, ...]]:
    """The clips of each part of the fault-filtered split (Kereliuk, Sturm, Larsen 2015).

    Returns:
        ``"train"``, ``"validation"`` and ``"test"`` to 443, 197 and 290 names such as
        ``"blues.00029"``; no clip is in two parts, and 70 of the 1,000 are in none.
    """
    folder, parts = files("deepmusic.datasets") / "gtzan_splits", {}
    for part, name in _LISTS.items():
        lines = (folder / f"{name}_filtered.txt").read_text(encoding="ascii").split()
        parts[part] = tuple(PurePosixPath(line).stem for line in lines)
    return MappingProxyType(parts)


def fault_filtered_split(dataset: FolderDataset) -> Fold:
    """The fault-filtered split of Kereliuk, Sturm and Larsen (2015), for the clips in a data set.

    Listed clips that are not in the data set are left out (``jazz.00054`` is in the training list,
    and unreadable in the Kaggle copy); `read_gtzan` notes them.

    Args:
        dataset: of `read_gtzan`, or another folder with clips of these names.

    Raises:
        DataError: a part would have no clips.
    """
    indices = {_clip_name(track.path): index for index, track in enumerate(dataset.tracks)}
    parts = {
        part: tuple(sorted(indices[clip] for clip in clips if clip in indices))
        for part, clips in fault_filtered_clips().items()
    }
    for part, members in parts.items():
        if not members:
            raise DataError(
                f"{dataset.root} holds no clip of the {part} part of GTZAN's fault-filtered split, "
                "with names such as 'blues/blues.00029.wav'; add the clips, or make another split."
            )
    return Fold(**parts)


def _missing(tracks: Sequence[Track]) -> Iterator[str]:
    counts = Counter(track.genre for track in tracks)
    missing = {genre: _CLIPS_PER_GENRE - counts[genre] for genre in GTZAN_GENRES}
    total = _CLIPS_PER_GENRE * len(GTZAN_GENRES)
    if len(tracks) < total:
        text = ", ".join(f"{genre} {count}" for genre, count in missing.items() if count > 0)
        yield f"Of the {total:,} clips of GTZAN {len(tracks):,} can be used here; missing: {text}."
    names = {_clip_name(track.path) for track in tracks}
    listed = [(clip, part) for part, clips in fault_filtered_clips().items() for clip in clips]
    absent = [f"{clip} ({part})" for clip, part in listed if clip not in names]
    if absent:
        yield (
            f"Of the {len(listed)} clips in the fault-filtered split {len(absent)} cannot be used "
            f"here, such as {absent[0]}."
        )
