"""FMA, the data set of the Free Music Archive (Defferrard et al., ISMIR 2017, arXiv:1612.01840).

106,574 tracks of 161 genres, with tables about them (``fma_metadata``), and their audio in four
sizes: clips of 30 s of 8,000 tracks (``fma_small``), of 25,000 (``fma_medium``), of all
(``fma_large``), and all tracks in full length (``fma_full``). The official split has no artist on
two sides.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.fma_clips import BAD_CLIPS, BadClip
from deepmusic.datasets.fma_files import CHECKSUMS, hash_tracks, read_checksums, track_path
from deepmusic.datasets.fma_schema import SPLITS
from deepmusic.datasets.fma_tables import FmaTables
from deepmusic.datasets.folder import FolderDataset, OnProgress, Problem, Track, dataset_notes
from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.datasets.groups import artist_members
from deepmusic.datasets.splits import Fold
from deepmusic.datasets.table import find_fma
from deepmusic.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SUBSETS = ("small", "medium", "large", "full")
"""The sizes of the audio; ``large`` and ``full`` are the same tracks."""


def read_fma(
    root: str | os.PathLike[str],
    *,
    audio: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Fma:
    """FMA from its tables, each of which is read on first use.

    The first reading of a table caches it as Parquet, which is much faster to read.

    Args:
        root: the folder that holds ``fma_metadata`` or ``fma_metadata.zip``, or either of them.
            The archive need not be unpacked.
        audio: folder of the audio, such as ``fma_small``, or one that holds such folders.
        cache: folder for the Parquet files; by default ``.deepmusic`` beside the tables. If it
            cannot be written, tables are read from CSV each time, and ``notes`` says so.

    Raises:
        DataError: there are no tables.

    Example:
        >>> fma = read_fma("data")  # doctest: +SKIP
        >>> medium = fma.tracks[fma.tracks["set", "subset"] <= "medium"]  # doctest: +SKIP
        >>> len(medium)  # doctest: +SKIP
        25000
    """
    tables = find_fma(root)
    if tables is None:
        raise DataError(
            f"{root} {'holds no tables of FMA' if os.path.exists(root) else 'does not exist'}; "
            "name the folder that holds fma_metadata or fma_metadata.zip."
        )
    return Fma(tables, audio=audio, cache=cache)


class Fma(FmaTables):
    """The tables of FMA, its subsets, split and genres; made by `read_fma`.

    A subset is ``"small"``, ``"medium"``, ``"large"`` or ``"full"``. The clips of small are among
    those of medium, and those among those of large.
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

    def subset(self, subset: str = "full") -> pd.DataFrame:
        """The rows of ``tracks`` that are in a subset."""
        if subset not in SUBSETS:
            raise DataError(f"The subsets of FMA are {', '.join(SUBSETS)}; got {subset!r}.")
        if subset in ("large", "full"):
            return self.tracks
        return self.tracks[self.tracks["set", "subset"] <= subset]

    def split(self, subset: str = "full") -> dict[str, NDArray[np.int64]]:
        """The official split of a subset: track numbers, ascending.

        The parts are ``training``, ``validation`` and ``test``; no artist is in two of them. All
        tracks without any genre are in training.
        """
        sides = self.subset(subset)["set", "split"].sort_index()
        return {name: sides.index[sides == name].to_numpy(np.int64) for name in SPLITS}

    def bad_clips(self, subset: str = "full") -> tuple[BadClip, ...]:
        """The clips of a subset with known faults; none of ``full``, which has full tracks."""
        tracks = () if subset == "full" else self.subset(subset).index
        return tuple(clip for track, clip in BAD_CLIPS.items() if track in tracks)

    def single_label(self, subset: str = "medium", *, bad_clips: bool = False) -> pd.Series:
        """The top genre of each track of a subset that has one.

        Args:
            subset: which.
            bad_clips: whether to include clips that are known to hold little or no sound.

        Returns:
            Titles by track number, as a category of the genres that occur.
        """
        tops = self._usable(subset, bad_clips)["track", "genre_top"].dropna()
        return tops.cat.remove_unused_categories().rename("genre")

    def multi_label(
        self,
        subset: str = "medium",
        *,
        column: Literal["genres", "genres_all"] = "genres",
        ancestors: bool = False,
        genres: Sequence[int] | None = None,
        bad_clips: bool = False,
    ) -> pd.DataFrame:
        """All genres of each track of a subset.

        Args:
            subset: which.
            column: ``"genres"`` are those that the artist gave, ``"genres_all"`` also includes
                their ancestors.
            ancestors: whether to add the ancestors by the tree.
            genres: the genres to have columns, in this order; others are ignored. By default those
                that occur in the subset, ascending.
            bad_clips: whether to include clips that are known to hold little or no sound.

        Returns:
            ``(tracks, genres)`` bool, of the tracks with at least one of these genres, ascending.

        Raises:
            DataError: a genre is not in the tree, or occurs twice, or no track is left.
        """
        if column not in ("genres", "genres_all"):
            raise DataError(f"column is 'genres' or 'genres_all'; got {column!r}.")
        lists = self._usable(subset, bad_clips)["track", column].sort_index()
        pairs = lists.explode().dropna()  # genre by track, one row per pair
        if ancestors:
            pairs = pairs.map({genre: self.tree.path(genre) for genre in pairs.unique()}).explode()
        if genres is None:
            genres = sorted(pairs.unique())
        columns = [self.tree[genre].id for genre in genres]
        if len(set(columns)) < len(columns):
            raise DataError("Each genre can have only one column; one of them is given twice.")
        pairs = pairs[pairs.isin(columns)]
        if pairs.empty:
            raise DataError(f"No track of {subset} has one of the {len(columns)} genres.")
        import pandas as pd

        tracks = pairs.index.unique()
        matrix = np.zeros((len(tracks), len(columns)), np.bool_)
        matrix[tracks.get_indexer(pairs.index), pd.Index(columns).get_indexer(pairs)] = True
        return pd.DataFrame(matrix, tracks, columns)

    def dataset(
        self,
        subset: str = "small",
        *,
        audio: str | os.PathLike[str] | None = None,
        verify: bool = False,
        workers: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> FolderDataset:
        """The tracks of a subset that have one top genre and whose files are on this disk.

        Different artists never have the same name: ``"Tim [artist 6]"`` if two are called Tim. The
        content hash is the SHA-1 from the file ``checksums`` in the folder; without it, each file
        is read.

        Args:
            subset: which; other files in the folder are ignored.
            audio: the folder of its mp3s (``000/000002.mp3``), or one that holds ``fma_small`` and
                the like; by default that of `read_fma`, or else the folder that holds
                ``fma_metadata``. A subset may be read from the folder of a larger one.
            verify: whether each file is read and compared with ``checksums``.
            workers: files read at a time; by default as many as there are cores, at most 8.
            on_progress: called in this thread with the files done and the number of files.

        Returns:
            The data set. ``problems`` has tracks without a top genre (``no_genre``), bad clips
            (``no_sound``, ``short``), and files that are ``missing``, ``empty``, ``changed`` or
            unreadable (``permission``, ``unreadable``, ``not_a_file``).

        Raises:
            DataError: there is no such folder, or it holds no track of the subset.
        """
        folder = self._audio_folder(subset, audio)
        checksums = read_checksums(folder)
        candidates, problems = self._candidates(subset)
        tracks = []
        for result in hash_tracks(
            folder, candidates, checksums, verify=verify, workers=workers, on_progress=on_progress
        ):
            if isinstance(result, Track):
                tracks.append(result)
            else:
                problems.append(result)
        if not tracks:
            raise DataError(
                f"{folder} holds no usable track of FMA's {subset} subset; first: "
                f"{problems[-1].message}"
            )
        notes = []
        missing = sum(problem.code == "missing" for problem in problems)
        if missing:
            total = len(self.subset(subset))
            notes.append(f"Not in the folder: {missing:,} of {total:,} tracks of {subset}.")
        if not checksums:
            notes.append(f"The folder has no {CHECKSUMS!r}; the files were read for their hashes.")
        silent = {track_path(c.track) for c in self.bad_clips(subset) if not c.is_left_out}
        if silent := silent & {track.path for track in tracks}:
            notes.append(f"Almost silent, but not left out: {', '.join(sorted(silent))}.")
        notes += dataset_notes(tracks, ())
        return FolderDataset.of(folder, tracks, problems, notes)

    def _candidates(self, subset: str) -> tuple[list[Track], list[Problem]]:
        """The tracks of a subset that can be used if their files can, and those that cannot."""
        rows = self.subset(subset).sort_index()
        bad = {clip.track: clip for clip in self.bad_clips(subset) if clip.is_left_out}
        candidates, problems = [], []
        columns = (rows["track", "genre_top"], rows["artist", "id"], rows["album", "title"])
        for number, top, artist, album in zip(rows.index, *columns, strict=True):
            path = track_path(number)
            if not isinstance(top, str):
                message = f"Track {number} has genres of several roots, or none, so no top genre."
                problems.append(Problem(path, "no_genre", message))
            elif number in bad:
                problems.append(Problem(path, bad[number].code, bad[number].message))
            else:
                title = album if isinstance(album, str) else None
                candidates.append(Track(path, top, self._artist_names[artist], title, ""))
        return candidates, problems

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

    def _audio_folder(self, subset: str, audio: str | os.PathLike[str] | None) -> Path:
        given = self.audio if audio is None else Path(audio)
        folder = self.root.parent if given is None else given
        if os.path.isdir(folder / f"fma_{subset}"):
            return folder / f"fma_{subset}"
        if given is None:
            raise DataError(
                f"The audio of FMA's {subset} subset is not beside {self.root}; say where it is: "
                f"audio='FOLDER/fma_{subset}'."
            )
        if not os.path.isdir(folder):
            raise DataError(
                f"{folder} is not a folder; name the one that holds the mp3s of fma_{subset}."
            )
        return folder

    def _usable(self, subset: str, bad_clips: bool) -> pd.DataFrame:
        """The rows of a subset, by default without bad clips."""
        rows = self.subset(subset)
        out = [] if bad_clips else [c.track for c in self.bad_clips(subset) if c.is_left_out]
        return rows[~rows.index.isin(out)]

    @cached_property
    def _artist_names(self) -> Mapping[int, str]:
        """A name for each artist number, with the number if the name alone is ambiguous.

        Names are compared as in `group_tracks`, where tracks of
        "Various Artists" would be ungrouped.
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
