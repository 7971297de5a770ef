"""GTZAN (Tzanetakis and Cook 2002) as people have it, and its fault-filtered split.

1,000 clips of 30 s, 100 each of ten genres. The set is old, much used and faulty: clips are copies
of one another, some are labelled wrongly, and few artists stand behind many clips (Sturm 2013,
arXiv 1306.1461). The split of Kereliuk, Sturm and Larsen (2015), "Deep learning and music
adversaries", leaves the known faults out and keeps artists apart; its three lists are in
``gtzan_splits`` beside this module.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path, PurePosixPath
from shlex import quote
from types import MappingProxyType

from deepmusic.datasets.folder import FolderDataset, Problem, Track, dataset_notes, scan_folder
from deepmusic.datasets.splits import Fold
from deepmusic.errors import AudioError, DataError

GTZAN_GENRES = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)  # fmt: skip

_CLIPS_A_GENRE = 100

# Below what a person may name: an unpacked archive, the Kaggle copy, a folder of data.
_PLACES = (
    "",
    "genres",
    "genres_original",
    "Data/genres_original",
    "Data",
    "gtzan/genres",
    "gtzan/genres_original",
    "gtzan",
)
_CLIP = re.compile(r"(?P<genre>[a-z]+)\.\d{5}")
_LISTS = {"train": "train", "validation": "valid", "test": "test"}
"""Our names of the parts to those in the names of the published lists."""
_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_LOOKED_AT = 200  # members of an archive: the first clip comes after a few folders


def find_gtzan(path: str | os.PathLike[str]) -> Path | None:
    """The folder that holds GTZAN's genre folders, at or below a path.

    Args:
        path: the genre folders' own folder, or one with ``genres``, ``genres_original``,
            ``Data/genres_original`` or ``gtzan/genres`` in it.

    Returns:
        The folder; None where no clip with a name such as ``blues/blues.00000.wav`` was found.
    """
    for place in _PLACES:
        folder = Path(path) / place
        if any(_has_clips(folder / genre) for genre in GTZAN_GENRES):
            return folder
    return None


def _has_clips(folder: Path) -> bool:
    try:
        with os.scandir(folder) as listing:
            return any(_clip_name(entry.name, folder.name) for entry in listing)
    except (OSError, ValueError):
        return False


def _clip_name(file: str, genre: str) -> str | None:
    """The clip that a file is, such as ``blues.00000``; None where its name is none."""
    stem = os.path.splitext(file)[0]
    match = _CLIP.fullmatch(stem)
    return stem if match and match["genre"] == genre else None


def read_gtzan(
    path: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> FolderDataset:
    """Find the clips of GTZAN, as wav, au or whatever they were converted to.

    Each clip's beginning is decoded: one that cannot be read (in the Kaggle copy ``jazz.00054``)
    is among the problems, and so is a file that is no clip of the set, or the second file of a
    clip. The notes say what is missing.

    Args:
        path: as for :func:`find_gtzan`.
        table: a CSV of artists, which the set does not name, as for :func:`scan_folder`.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the files there are.

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
    if root is None:
        raise DataError(_not_found(Path(path)))
    found = scan_folder(root, table=table, workers=workers, on_progress=on_progress)
    clips: dict[str, Track] = {}
    problems = list(found.problems)
    for track in sorted(found.tracks, key=_preferred):
        name = _clip(track)
        if name is None:
            message = f"{track.path!r} is no clip of GTZAN, such as 'blues/blues.00000.wav'."
            problems.append(Problem(track.path, "not_gtzan", message))
        elif name in clips:
            message = f"{track.path!r} is the clip {name} again, beside {clips[name].path!r}."
            problems.append(Problem(track.path, "same_clip", message))
        else:
            clips[name] = track
    unheard = list(_unreadable(root, list(clips.values()), workers))
    problems += unheard
    gone = {problem.path for problem in unheard}
    tracks = sorted((t for t in clips.values() if t.path not in gone), key=lambda t: t.path)
    if not tracks:
        raise DataError(f"No clip of GTZAN in {root} can be read; first: {problems[0].message}")
    genres = {track.genre for track in tracks}
    # what was said of all files is said anew of the clips that are left
    paths = [track.path for track in found.tracks]
    paths += [problem.path for problem in found.problems]
    replaced = set(dataset_notes(found.tracks, paths))
    others = [note for note in found.notes if note not in replaced]
    return replace(
        found,
        tracks=tuple(tracks),
        genres=tuple(sorted(genres)),
        problems=tuple(sorted(problems, key=lambda problem: (problem.path, problem.code))),
        notes=(*others, *dataset_notes(tracks, paths), *_what_is_missing(tracks)),
    )


def fault_filtered_clips() -> Mapping[str, tuple[str, ...]]:
    """The clips of each part of the fault-filtered split (Kereliuk, Sturm, Larsen 2015).

    Returns:
        ``"train"``, ``"validation"`` and ``"test"`` to 443, 197 and 290 names such as
        ``"blues.00029"``; no clip stands in two parts, and 70 of the 1,000 in none.
    """
    return _published()


@lru_cache(maxsize=1)
def _published() -> Mapping[str, tuple[str, ...]]:
    folder = files("deepmusic.datasets") / "gtzan_splits"
    parts = {}
    for part, name in _LISTS.items():
        lines = (folder / f"{name}_filtered.txt").read_text(encoding="ascii").split()
        parts[part] = tuple(PurePosixPath(line).stem for line in lines)
    return MappingProxyType(parts)


def fault_filtered_split(dataset: FolderDataset) -> Fold:
    """The fault-filtered split of Kereliuk, Sturm and Larsen (2015), for the clips that are there.

    Clips of the lists that are not in the data set are left out (``jazz.00054`` is in the training
    list, and unreadable in the Kaggle copy); :func:`read_gtzan` notes them.

    Args:
        dataset: of :func:`read_gtzan`, or another folder with clips of these names.

    Raises:
        DataError: a part would have no clips.
    """
    place = {_clip(track): index for index, track in enumerate(dataset.tracks)}
    parts = {
        part: tuple(sorted(place[clip] for clip in clips if clip in place))
        for part, clips in fault_filtered_clips().items()
    }
    for part, indices in parts.items():
        if not indices:
            raise DataError(
                f"{dataset.root} holds no clip of the {part} part of GTZAN's fault-filtered "
                "split, whose clips are called such as 'blues/blues.00029.wav'; add the clips, or "
                "make a split of your own."
            )
    return Fold(**parts)


def _clip(track: Track) -> str | None:
    # by its folder: a table of corrections may give a clip another genre
    path = PurePosixPath(track.path)
    return _clip_name(path.name, path.parent.name) if path.parent.name in GTZAN_GENRES else None


def _preferred(track: Track) -> tuple[bool, str]:
    """Of several files of one clip, the wav first: it is what the lists name."""
    return not track.path.endswith(".wav"), track.path


def _unreadable(root: Path, tracks: Sequence[Track], workers: int | None) -> Iterator[Problem]:
    """Clips whose beginning cannot be decoded."""
    from deepmusic.audio import open_audio

    def trial(track: Track) -> Problem | None:
        try:
            open_audio(root / track.path, sample_rate=None).close()
        except AudioError as error:
            return Problem(track.path, error.code, str(error))
        return None

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        yield from filter(None, pool.map(trial, tracks))


def _what_is_missing(tracks: Sequence[Track]) -> Iterator[str]:
    total = _CLIPS_A_GENRE * len(GTZAN_GENRES)
    if len(tracks) < total:
        counts = Counter(track.genre for track in tracks)
        short = [
            f"{genre} {_CLIPS_A_GENRE - counts[genre]}"
            for genre in GTZAN_GENRES
            if counts[genre] < _CLIPS_A_GENRE
        ]
        yield (
            f"GTZAN has {total:,} clips, and {len(tracks):,} of them can be used here; missing "
            f"are: {', '.join(short)}."
        )
    names = {_clip(track) for track in tracks}
    lists = fault_filtered_clips().items()
    missing = [f"{clip} ({part})" for part, clips in lists for clip in clips if clip not in names]
    if missing:
        yield (
            f"Of the {sum(len(clips) for _, clips in lists)} clips in the fault-filtered split "
            f"{len(missing)} cannot be used here, such as {missing[0]}."
        )


def _not_found(path: Path) -> str:
    if path.is_file() and path.name.lower().endswith(_ARCHIVES):
        if not _is_gtzan_archive(path):
            return f"{path} is no archive of GTZAN that can be read."
        return (
            f"{path} is the archive of GTZAN; unpack it by: deepmusic data download gtzan --to "
            f"DIR --from {quote(str(path))}"
        )
    if not path.exists():
        return f"{path} does not exist; name the folder of GTZAN."
    return (
        f"{path} holds no clips of GTZAN; looked for files such as blues/blues.00000.wav in it "
        "and in the folders genres, genres_original and Data/genres_original."
    )


def _is_gtzan_archive(path: Path) -> bool:
    try:
        with tarfile.open(path) as archive:
            names = [PurePosixPath(member.name) for member in islice(archive, _LOOKED_AT)]
    except (OSError, EOFError, tarfile.TarError):
        return False
    return any(_clip_name(name.name, name.parent.name) for name in names)
