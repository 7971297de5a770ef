"""FMA, the data set of the Free Music Archive (Defferrard et al., ISMIR 2017, arXiv:1612.01840).

106,574 tracks of 161 genres, with tables about them (``fma_metadata``), and their audio in four
sizes: clips of 30 s of 8,000 tracks (``fma_small``), of 25,000 (``fma_medium``), of all
(``fma_large``), and all tracks in full length (``fma_full``). The official split has no artist in
two parts.

Clips are cut from the middle of a track by the length that the archive's site gave; where that was
wrong, the cut began near the end of the music or after it. The lists of such clips are those of
FMA's authors (wiki of github.com/mdeff/fma) and their users.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np

from deepmusic.datasets.checksums import ChecksumTable
from deepmusic.datasets.fma_tables import SPLITS, SUBSETS, FmaTables
from deepmusic.datasets.folder import (
    FolderDataset,
    OnProgress,
    Problem,
    Track,
    dataset_notes,
    file_hash,
    map_threads,
)
from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.datasets.groups import artist_members
from deepmusic.datasets.splits import Fold
from deepmusic.datasets.table import find_fma
from deepmusic.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BadClip:
    """A clip that is known to hold less sound than it should; full-length tracks do not."""

    track: int  # its number
    code: str  # "no_sound", "short", or "near_silent": the music is, the file has no fault
    message: str  # one sentence

    @property
    def is_left_out(self) -> bool:
        """Whether data sets leave it out by default; near-silent clips stay."""
        return self.code != "near_silent"


_FAULTS: list[tuple[str, str, tuple[int, ...]]] = [
    ("no_sound", "holds no sound", (
        1486, 5574, 65753, 80391, 98558, 98559, 98560, 98571, 99134, 105247, 108925, 126981, 127336,
        133297, 143992,
    )),
    ("near_silent", "is almost silent", (107535, 110736, 119979, 130169)),
]  # fmt: skip
_SHORT_S = {98565: 1.6, 98566: 6.2, 98567: 0.5, 98568: 6.6, 98569: 1.5, 108924: 27.4}
_FAULTS += [
    ("short", f"holds {seconds} s instead of 30", (track,)) for track, seconds in _SHORT_S.items()
]
BAD_CLIPS = {
    track: BadClip(track, code, f"The clip of track {track} {fault}.")
    for code, fault, tracks in _FAULTS
    for track in tracks
}
"""The clips with known faults, by number of the track."""


def track_path(track: int) -> str:
    """The path of a track's mp3 in the folder of any subset.

    Example:
        >>> track_path(2)
        '000/000002.mp3'
    """
    if not 0 <= track <= 999_999:
        raise DataError(f"Track numbers range from 0 to 999,999; got {track}.")
    return f"{track // 1000:03d}/{track:06d}.mp3"


def read_fma(
    root: str | os.PathLike[str],
    *,
    audio: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Fma:
    """FMA from its tables, each of which is read on first use, and cached as Parquet.

    Args:
        root: the folder that holds ``fma_metadata`` or ``fma_metadata.zip``, or either of them.
            The archive need not be unpacked.
        audio: folder of the audio (``000/000002.mp3``), or one that holds ``fma_small`` and the
            like; by default the folder that holds ``fma_metadata``.
        cache: folder for the Parquet files; by default ``.deepmusic`` beside the tables.

    Raises:
        DataError: there are no tables.

    Example:
        >>> fma = read_fma("data")  # doctest: +SKIP
        >>> len(fma.tracks[fma.tracks["set", "subset"] <= "medium"])  # doctest: +SKIP
        25000
    """
    tables = find_fma(root)
    if tables is None:
        fault = "holds no tables of FMA" if os.path.exists(root) else "does not exist"
        raise DataError(
            f"{root} {fault}; name the folder that holds fma_metadata or fma_metadata.zip."
        )
    return Fma(tables, audio=audio, cache=cache)


class Fma(FmaTables):
    """The tables of FMA, its subsets, split and genres; made by `read_fma`.

    The clips of the subset small are among those of medium, and those among those of large; large
    and full have the same tracks.
    """

    def __init__(
        self,
        root: Path,
        *,
        audio: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(root, None if cache is None else Path(cache))
        self.audio = None if audio is None else Path(audio)

    @cached_property
    def tree(self) -> GenreTree:
        """The genres as a tree."""
        return GenreTree.from_frame(self.genres)

    def subset(self, subset: str = "full", *, bad_clips: bool = True) -> pd.DataFrame:
        """The rows of ``tracks`` that are in a subset.

        Args:
            subset: ``"small"``, ``"medium"``, ``"large"`` or ``"full"``.
            bad_clips: whether to include clips that are known to hold little or no sound.
        """
        if subset not in (*SUBSETS, "full"):
            raise DataError(f"The subsets of FMA are {', '.join(SUBSETS)}, full; got {subset!r}.")
        rows = self.tracks
        if subset in ("small", "medium"):
            rows = rows[rows["set", "subset"] <= subset]
        if bad_clips or subset == "full":
            return rows
        return rows[~rows.index.isin([c.track for c in BAD_CLIPS.values() if c.is_left_out])]

    def dataset(
        self,
        subset: str = "small",
        *,
        level: int = 1,
        workers: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> FolderDataset:
        """The tracks of a subset that have one genre and whose files are on this disk.

        Different artists never have the same name: ``"Tim [artist 6]"`` if two are called Tim. The
        content hash is the SHA-1 from the file ``checksums`` in the folder; without it, each file
        is read. A subset may be read from the folder of a larger one.

        Args:
            subset: which; other files in the folder are ignored.
            level: of the genre tree: 1 for the top genres, 2 for their children, to 5. A track
                counts if it has one genre of this level, be it as an ancestor of those given to it.
            workers: files read at a time; by default as many as there are cores, at most 8.
            on_progress: called in this thread with the files done and the number of files.

        Raises:
            DataError: there is no such folder or level, or it holds no track of the subset.
        """
        folder, notes = self._audio_folder(subset), list[str]()
        listed: Mapping[str, str] = {}
        if (folder / "checksums").is_file():
            listed = ChecksumTable.read(folder / "checksums").digests
        else:
            notes.append("The folder has no 'checksums'; the files were read for their hashes.")

        def hashed(track: Track) -> Track | Problem:
            file = folder / track.path
            cached = listed.get(os.path.abspath(file))
            digest = file_hash(file, track.path, algorithm="sha1", cached=cached)
            return digest if isinstance(digest, Problem) else replace(track, content_hash=digest)

        candidates, problems = self._candidates(subset, level)
        results = [*map_threads(hashed, candidates, workers=workers, on_progress=on_progress)]
        tracks = [result for result in results if isinstance(result, Track)]
        problems += [result for result in results if isinstance(result, Problem)]
        if not tracks:
            raise DataError(
                f"{folder} holds no usable track of FMA's {subset} subset; first: "
                f"{problems[-1].message}"
            )
        if missing := sum(problem.code == "missing" for problem in problems):
            total = len(self.subset(subset))
            notes.append(f"Not in the folder: {missing:,} of {total:,} tracks of {subset}.")
        quiet = {track_path(c.track) for c in BAD_CLIPS.values() if c.code == "near_silent"}
        if subset != "full" and (quiet := quiet & {track.path for track in tracks}):
            notes.append(f"Almost silent, but not left out: {', '.join(sorted(quiet))}.")
        return FolderDataset.of(folder, tracks, problems, [*notes, *dataset_notes(tracks, ())])

    def _candidates(self, subset: str, level: int) -> tuple[list[Track], list[Problem]]:
        """The tracks of a subset that can be used if their files can, and those that cannot."""
        rows = self.subset(subset).sort_index()
        bad = {} if subset == "full" else BAD_CLIPS
        candidates, problems = [], []
        columns = (self._genres(rows, level), rows["artist", "id"], rows["album", "title"])
        for number, genre, artist, album in zip(rows.index, *columns, strict=True):
            path = track_path(number)
            if not isinstance(genre, str):
                kind = "top genre" if level == 1 else f"genre of level {level}"
                message = f"Track {number} has no {kind}, or several."
                problems.append(Problem(path, "no_genre", message))
            elif number in bad and bad[number].is_left_out:
                problems.append(Problem(path, bad[number].code, bad[number].message))
            else:
                title = album if isinstance(album, str) else None
                candidates.append(Track(path, genre, self._artist_names[artist], title, ""))
        return candidates, problems

    def _genres(self, rows: pd.DataFrame, level: int) -> list[str | None]:
        """The title of the one genre of a level of each track; None for no or several."""
        if level == 1:
            return [top if isinstance(top, str) else None for top in rows["track", "genre_top"]]
        titles = {g.id: g.title for g in self.tree if len(self.tree.path(g.id)) == level}
        if not titles:
            raise DataError(f"The genre tree has no level {level}; the top genres are level 1.")
        found = ([titles[g] for g in all_ if g in titles] for all_ in rows["track", "genres_all"])
        return [genres[0] if len(genres) == 1 else None for genres in found]

    def fold(self, dataset: FolderDataset) -> Fold:
        """The official split, as indices of the tracks of a data set.

        Args:
            dataset: of `dataset`, or any whose files are named like FMA's.

        Raises:
            DataError: a track is not one of FMA's.
        """
        sides = self.tracks["set", "split"].to_dict()
        parts: dict[str, list[int]] = {name: [] for name in SPLITS}
        for index, track in enumerate(dataset.tracks):
            stem = PurePosixPath(track.path).stem
            side = sides.get(int(stem)) if stem.isascii() and stem.isdecimal() else None
            if side is None:
                raise DataError(
                    f"{track.path!r} is not a track of FMA, whose files are named by their "
                    "numbers, such as 000002.mp3."
                )
            parts[side].append(index)
        return Fold(*(tuple(parts[name]) for name in SPLITS))

    def _audio_folder(self, subset: str) -> Path:
        folder = self.audio or self.root.parent
        if (folder / f"fma_{subset}").is_dir():
            return folder / f"fma_{subset}"
        if self.audio is None:
            raise DataError(
                f"The audio of FMA's {subset} subset is not beside {self.root}; say where it is: "
                f"audio='FOLDER/fma_{subset}'."
            )
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder; name the one that holds the mp3s of fma_{subset}."
            )
        return folder

    @cached_property
    def _artist_names(self) -> Mapping[int, str]:
        """A name for each artist number, with the number if the name alone is ambiguous.

        Names are compared as in `group_tracks`, where tracks of "Various Artists" would be
        ungrouped.
        """
        artists = self.tracks["artist"][["id", "name"]].drop_duplicates("id").set_index("id")
        names = artists["name"].astype(object).fillna("").to_dict()
        members = {number: artist_members(name) for number, name in names.items()}
        owners = Counter(members.values())
        return {
            number: name
            if members[number] and owners[members[number]] == 1
            else f"{name} [artist {number}]".lstrip()
            for number, name in names.items()
        }


def genre_matrix(
    rows: pd.DataFrame, column: Literal["genres", "genres_all"] = "genres_all"
) -> pd.DataFrame:
    """All genres of each track that has any.

    Args:
        rows: of `Fma.subset`.
        column: ``"genres"`` are those that the artist gave, ``"genres_all"`` also their ancestors.

    Returns:
        ``(tracks, genres)`` bool: numbers of tracks and of the genres that occur, ascending.

    Raises:
        DataError: no track has a genre.
    """
    import pandas as pd

    pairs = rows["track", column].sort_index().explode().dropna()  # one row per track and genre
    if pairs.empty:
        raise DataError("None of the tracks has a genre.")
    tracks, genres = pairs.index.unique(), pd.Index(sorted(pairs.unique()))
    matrix = np.zeros((len(tracks), len(genres)), np.bool_)
    matrix[tracks.get_indexer(pairs.index), genres.get_indexer(pairs)] = True
    return pd.DataFrame(matrix, tracks, genres)
