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
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path, PurePosixPath

from deepmusic.datasets.folder import (
    FolderDataset,
    OnProgress,
    Problem,
    Track,
    dataset_notes,
    map_threads,
    scan_tracks,
)
from deepmusic.datasets.splits import PARTS, Fold
from deepmusic.errors import AudioError, DataError

GTZAN_GENRES = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)  # fmt: skip

_CLIPS_PER_GENRE = 100


def _clip_name(path: str) -> str | None:
    """The clip of a file, such as ``blues.00000``; None for other files.

    The folder decides, not the genre, which a table of corrections may change.
    """
    genre, stem = PurePosixPath(path).parent.name, PurePosixPath(path).stem
    is_clip = genre in GTZAN_GENRES and re.fullmatch(rf"{genre}\.\d{{5}}", stem)
    return stem if is_clip else None


def scan_gtzan(
    root: Path,
    *,
    table: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> FolderDataset:
    """The clips of GTZAN, as wav, au or whatever format they were converted to.

    The beginning of each clip is decoded: clips that cannot be read (in the Kaggle copy
    ``jazz.00054``) are problems, and so are files that are not clips of the set, and the second
    file of a clip. The notes say what is missing. Arguments are as for `scan_folder`: `root` is the
    folder of the genre folders, and `table` may name artists, which the set does not.

    Raises:
        DataError: no clip can be read.
    """
    files, problems, notes = scan_tracks(
        root, table=table, workers=workers, on_progress=on_progress
    )
    clips: dict[str, Track] = {}
    # of several files of one clip, the wav first: it is what the lists name
    for track in sorted(files, key=lambda t: (not t.path.endswith(".wav"), t.path)):
        name = _clip_name(track.path)
        if name is None:
            message = f"{track.path!r} is not a clip of GTZAN, such as 'blues/blues.00000.wav'."
            problems.append(Problem(track.path, "not_gtzan", message))
        elif name in clips:
            message = f"{track.path!r} is the clip {name} again, beside {clips[name].path!r}."
            problems.append(Problem(track.path, "same_clip", message))
        else:
            clips[name] = track

    def decoding_error(track: Track) -> AudioError | None:
        from deepmusic.audio import open_audio

        try:
            open_audio(root / track.path, sample_rate=None).close()
        except AudioError as error:
            return error
        return None

    tracks = []
    errors = map_threads(decoding_error, list(clips.values()), workers=workers)
    for track, error in zip(clips.values(), errors, strict=True):
        if error is None:
            tracks.append(track)
        else:
            problems.append(Problem(track.path, error.code, str(error)))
    if not tracks:
        raise DataError(f"No clip of GTZAN in {root} can be read; first: {problems[0].message}")
    notes += [*dataset_notes(tracks, problems), *_missing(tracks)]
    return FolderDataset.of(root, tracks, problems, notes)


def fault_filtered_clips() -> dict[str, list[str]]:
    """The clips of each part of the fault-filtered split (Kereliuk, Sturm, Larsen 2015).

    ``"train"``, ``"validation"`` and ``"test"`` have 443, 197 and 290 names such as
    ``"blues.00029"``; no clip is in two parts, and 70 of the 1,000 are in none.
    """
    folder = files("deepmusic.datasets") / "gtzan_splits"
    published = zip(PARTS, ("train", "valid", "test"), strict=True)
    lists = {part: (folder / f"{name}_filtered.txt").read_text("ascii") for part, name in published}
    return {
        part: [PurePosixPath(line).stem for line in lines.split()] for part, lines in lists.items()
    }


def fault_filtered_split(dataset: FolderDataset) -> Fold:
    """The fault-filtered split of Kereliuk, Sturm and Larsen (2015), for the clips in a data set.

    Listed clips that are not in the data set are left out (``jazz.00054`` is in the training list,
    and unreadable in the Kaggle copy); `scan_gtzan` notes them.

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
