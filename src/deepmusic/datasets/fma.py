"""FMA, the data set of the Free Music Archive (Defferrard et al., ISMIR 2017, arXiv:1612.01840).

106,574 tracks of 161 genres, with tables about them (``fma_metadata``), and their sound in four
sizes: clips of 30 s of 8,000 tracks (``fma_small``), of 25,000 (``fma_medium``), of all
(``fma_large``), and all tracks whole (``fma_full``). The makers' split holds no artist twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.fma_clips import BAD_CLIPS, BadClip
from deepmusic.datasets.fma_files import CHECKSUMS, hash_files, read_checksums, track_path
from deepmusic.datasets.fma_schema import SPLITS
from deepmusic.datasets.fma_tables import Tables, find_tables
from deepmusic.datasets.folder import FolderDataset, Problem, Track
from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.datasets.groups import artist_members
from deepmusic.datasets.splits import Fold
from deepmusic.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SUBSETS = ("small", "medium", "large", "full")
"""The sizes that the sound comes in; ``large`` and ``full`` are the same tracks."""


@dataclass(frozen=True)
class GenreLabels:
    """Which genres each of some tracks has.

    Args:
        tracks: ``(n,)`` int64, numbers of tracks, ascending.
        genres: numbers of the ``g`` genres that the columns stand for, ascending unless they were
            asked for in another order.
        matrix: ``(n, g)`` bool, whether a track has a genre.
    """

    tracks: NDArray[np.int64]
    genres: tuple[int, ...]
    matrix: NDArray[np.bool_]


def read_fma(
    root: str | os.PathLike[str],
    *,
    audio: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Fma:
    """FMA, out of its tables; they are read when they are asked for.

    The first reading of a table makes a copy of it as Parquet, which is faster by far.

    Args:
        root: the folder that holds ``fma_metadata`` or ``fma_metadata.zip``, or either of them.
            The archive need not be unpacked.
        audio: folder of the sound, such as ``fma_small``, or one that holds such folders.
        cache: folder for the Parquet copies; by default ``.deepmusic`` beside the tables. Where
            that cannot be written, tables are read from CSV each time, and ``notes`` says so.

    Raises:
        DataError: there are no tables.

    Example:
        >>> fma = read_fma("data")  # doctest: +SKIP
        >>> medium = fma.tracks[fma.tracks["set", "subset"] <= "medium"]  # doctest: +SKIP
        >>> len(medium)  # doctest: +SKIP
        25000
    """
    tables = find_tables(Path(root), None if cache is None else Path(cache))
    return Fma(tables, None if audio is None else Path(audio))


class Fma:
    """The tables of FMA, its subsets, split and genres; made by :func:`read_fma`.

    The frames are kept: who changes one in place changes what later calls work with. Reading one
    raises :class:`~deepmusic.errors.DataError` where its file is missing, damaged or another.

    Wherever a subset is asked for, it is ``"small"``, ``"medium"``, ``"large"`` or ``"full"``.
    The clips of small are among those of medium, and those among those of large.
    """

    def __init__(self, tables: Tables, audio: Path | None = None) -> None:
        self._tables = tables
        self.audio = audio

    @property
    def root(self) -> Path:
        """The folder or the archive that the tables are in."""
        return self._tables.place

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what is not as it should be but stops nothing."""
        return tuple(self._tables.notes)

    @cached_property
    def tracks(self) -> pd.DataFrame:
        """``(106574, 52)``: columns (group, name), index ``track_id``.

        Lists of tags (text) and of genres (numbers) are Python lists; -1 stands for a missing
        whole number; ``set/subset`` is ordered, so that ``<= "medium"`` gives all of medium.
        """
        return self._tables.read("tracks")

    @cached_property
    def genres(self) -> pd.DataFrame:
        """``(163, 4)``: ``#tracks``, ``parent`` (0 for a root), ``title``, ``top_level``."""
        return self._tables.read("genres")

    @cached_property
    def features(self) -> pd.DataFrame:
        """``(106574, 518)`` float64: columns (feature, statistics, number), of the whole tracks."""
        return self._tables.read("features")

    @cached_property
    def echonest(self) -> pd.DataFrame:
        """``(13129, 249)``: what Echonest said of some tracks; three levels of columns."""
        return self._tables.read("echonest")

    @cached_property
    def raw_tracks(self) -> pd.DataFrame:
        """``(109727, 38)``: all tracks as the site gave them, also those that were left out."""
        return self._tables.read("raw_tracks")

    @cached_property
    def raw_albums(self) -> pd.DataFrame:
        """Albums as the site gave them, 15,234."""
        return self._tables.read("raw_albums")

    @cached_property
    def raw_artists(self) -> pd.DataFrame:
        """Artists as the site gave them, 16,916."""
        return self._tables.read("raw_artists")

    @cached_property
    def raw_genres(self) -> pd.DataFrame:
        """Genres as the site gave them, 164, before the tree was mended."""
        return self._tables.read("raw_genres")

    @cached_property
    def raw_echonest(self) -> pd.DataFrame:
        """``(14511, 249)``: as ``echonest``, also of tracks that were left out."""
        return self._tables.read("raw_echonest")

    @cached_property
    def tree(self) -> GenreTree:
        """The genres as a tree."""
        return GenreTree.from_frame(self.genres)

    def subset(self, subset: str = "full") -> pd.DataFrame:
        """The rows of ``tracks`` that are in a subset."""
        _check_subset(subset)
        if subset in ("large", "full"):
            return self.tracks
        return self.tracks[self.tracks["set", "subset"] <= subset]

    def split(self, subset: str = "full") -> dict[str, NDArray[np.int64]]:
        """The makers' split of a subset: numbers of tracks.

        The parts are called ``training``, ``validation`` and ``test``. No artist is in two of
        them. Tracks without any genre are all in training.
        """
        sides = self.subset(subset)["set", "split"]
        return {name: _numbers(sides.index[(sides == name).to_numpy()]) for name in SPLITS}

    def split_counts(self, subset: str = "full") -> pd.DataFrame:
        """How many tracks of each top genre each part of the makers' split has.

        Genres are sorted; tracks without a top genre, where there are any, make the last row,
        which is called ``""``.
        """
        import pandas as pd

        rows = self.subset(subset)
        tops = rows["track", "genre_top"].astype(object).fillna("")
        counts = pd.crosstab(tops.to_numpy(), rows["set", "split"].to_numpy())
        counts = counts.reindex(columns=list(SPLITS), fill_value=0)
        order = sorted(counts.index, key=lambda genre: (genre == "", genre))
        return counts.loc[order].rename_axis(index="genre", columns="split")

    def bad_clips(self, subset: str = "full") -> tuple[BadClip, ...]:
        """The clips of a subset with known faults; none of ``full``, which has whole tracks."""
        _check_subset(subset)
        if subset == "full":
            return ()
        here = self.subset(subset).index
        return tuple(clip for track, clip in BAD_CLIPS.items() if track in here)

    def without_genre(self, subset: str = "full") -> NDArray[np.int64]:
        """Tracks of a subset that have no genre at all."""
        lists = self.subset(subset)["track", "genres"]
        return _numbers(lists.index[[not genres for genres in lists]])

    def without_top_genre(self, subset: str = "full") -> NDArray[np.int64]:
        """Tracks of a subset that have genres under several roots, or none."""
        tops = self.subset(subset)["track", "genre_top"]
        return _numbers(tops.index[tops.isna().to_numpy()])

    def missing(
        self, subset: str = "small", *, audio: str | os.PathLike[str] | None = None
    ) -> NDArray[np.int64]:
        """Tracks of a subset that have no file on this disk; see :meth:`dataset` for ``audio``."""
        folder = self._audio_folder(subset, audio)
        numbers = self.subset(subset).index.tolist()
        return np.array(
            [number for number in numbers if not (folder / track_path(number)).exists()], np.int64
        )

    def single_label(self, subset: str = "medium", *, bad_clips: bool = False) -> pd.Series:
        """The top genre of each track of a subset that has one.

        Args:
            subset: which.
            bad_clips: whether clips that are known to hold no or little sound stay.

        Returns:
            Titles by number of track, as a category of the genres that occur.
        """
        rows = self.subset(subset)
        tops = rows["track", "genre_top"]
        chosen = tops[tops.notna() & self._is_usable(rows, subset, bad_clips)]
        return chosen.cat.remove_unused_categories().rename("genre")

    def multi_label(
        self,
        subset: str = "medium",
        *,
        column: Literal["genres", "genres_all"] = "genres",
        ancestors: bool = False,
        genres: Sequence[int] | None = None,
        genres_of: str | None = None,
        bad_clips: bool = False,
    ) -> GenreLabels:
        """All genres of each track of a subset.

        Args:
            subset: which.
            column: ``"genres"`` are those that the artist gave, ``"genres_all"`` those and the
                genres above them.
            ancestors: whether the genres above are added by the tree; of ``"genres_all"`` they
                are there.
            genres: the genres to have columns, in this order; others do not count.
            genres_of: the same for the genres that occur in another subset, such as ``"medium"``,
                ascending. By default, those that occur in ``subset`` itself.
            bad_clips: whether clips that are known to hold no or little sound stay.

        Returns:
            The tracks that have at least one of these genres.

        Raises:
            DataError: a genre is not in the tree, or stands twice, or no track is left.
        """
        if column not in ("genres", "genres_all"):
            raise DataError(f"column is 'genres' or 'genres_all'; got {column!r}.")
        if genres is not None and genres_of is not None:
            raise DataError("Give genres or genres_of, not both.")
        rows = self.subset(subset)
        tracks, found = self._pairs(rows[self._is_usable(rows, subset, bad_clips)], column)
        if genres is not None:
            order = [self.tree[genre].id for genre in genres]
        elif genres_of is not None:
            other = self.subset(genres_of)
            other = other[self._is_usable(other, genres_of, bad_clips)]
            order = self._occurring(self._pairs(other, column)[1], ancestors)
        else:
            order = self._occurring(found, ancestors)
        if len(set(order)) < len(order):
            raise DataError("A genre can have one column only; the genres name one twice.")
        places: dict[int, list[int]] = {}  # of a genre, the columns that it and those above have
        column_of = {genre: place for place, genre in enumerate(order)}
        for genre in np.unique(found).tolist():
            with_above = self.tree.path(genre) if ancestors else (self.tree[genre].id,)
            places[genre] = [column_of[link] for link in with_above if link in column_of]
        numbers, row_of = np.unique(tracks, return_inverse=True)
        matrix = np.zeros((len(numbers), len(order)), np.bool_)
        for genre, columns in places.items():
            rows_with_it = row_of[found == genre]
            for place in columns:
                matrix[rows_with_it, place] = True
        labelled = matrix.any(axis=1)
        if not labelled.any():
            raise DataError(f"No track of {subset} has one of the {len(order)} genres asked for.")
        return GenreLabels(numbers[labelled], tuple(order), matrix[labelled])

    def dataset(
        self,
        subset: str = "small",
        *,
        audio: str | os.PathLike[str] | None = None,
        verify: bool = False,
        workers: int | None = None,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> FolderDataset:
        """The tracks of a subset that have one top genre and whose files are on this disk.

        The artist is named so that tracks of different artists (by their numbers in FMA) do not
        have the same name: ``"Tim [artist 6]"`` where two are called Tim. The content hash is the
        SHA-1 that the file ``checksums`` in the folder gives, so nothing is read; without it,
        each file is.

        Args:
            subset: which; other files in the folder are passed over.
            audio: the folder of its mp3s (``000/000002.mp3``), or one that holds ``fma_small`` and
                the like; by default, what :func:`read_fma` was given, or else the folder that
                holds ``fma_metadata``. A subset may be taken out of the folder of a larger one.
            verify: whether each file is read and compared with ``checksums``.
            workers: files read at a time; by default as many as there are cores, at most 8.
            on_progress: called in this thread with the files looked at and the files there are.

        Returns:
            What was left out is in ``problems``: no top genre (code ``no_genre``), clips that are
            known to be bad (``no_sound``, ``short``), files that are not there (``missing``), are
            ``empty``, cannot be read (``permission``, ``unreadable``, ``not_a_file``), or are not
            what they should be (``changed``).

        Raises:
            DataError: there is no such folder, or no track of the subset in it.
        """
        folder = self._audio_folder(subset, audio)
        rows = self.subset(subset).sort_index()
        sums = read_checksums(folder / CHECKSUMS)
        names = self._artist_names
        problems: list[Problem] = []
        entries: list[tuple[str, str, str, str | None]] = []  # path, genre, artist, album
        bad = {clip.track: clip for clip in self.bad_clips(subset)}
        columns = (rows["track", "genre_top"], rows["artist", "id"], rows["album", "title"])
        for track, top, artist, album in zip(
            rows.index.tolist(), *(column.tolist() for column in columns), strict=True
        ):
            path = track_path(track)
            if not isinstance(top, str):
                message = f"Track {track} has genres of several roots, or none, so no top genre."
                problems.append(Problem(path, "no_genre", message))
            elif track in bad and bad[track].is_left_out:
                problems.append(Problem(path, bad[track].code, bad[track].message))
            else:
                entries.append(
                    (path, top, names[artist], album if isinstance(album, str) else None)
                )

        tracks: list[Track] = []
        files = [(folder / path, path, sums.get(path)) for path, *_ in entries]
        hashes = hash_files(files, verify, workers, on_progress)
        for (path, top, name, title), found in zip(entries, hashes, strict=True):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                tracks.append(Track(path, top, name, title, found))
        if not tracks:
            raise DataError(
                f"{folder} holds no track of FMA's {subset} subset that can be used; the first "
                f"would be {folder / entries[0][0]}."
                if entries
                else f"No track of FMA's {subset} subset has one top genre."
            )
        return FolderDataset(
            root=folder,
            tracks=tuple(sorted(tracks, key=lambda track: track.path)),
            genres=tuple(sorted({track.genre for track in tracks})),
            problems=tuple(sorted(problems, key=lambda problem: (problem.path, problem.code))),
            notes=tuple(self._doubts(tracks, problems, bad, sums, subset)),
        )

    def fold(self, dataset: FolderDataset) -> Fold:
        """The makers' split, as places in the tracks of a data set.

        Args:
            dataset: of :meth:`dataset`, or any whose files are called as FMA's are.

        Raises:
            DataError: a track is none of FMA's.
        """
        sides = self.tracks["set", "split"].to_dict()
        places: dict[str, list[int]] = {name: [] for name in SPLITS}
        for place, track in enumerate(dataset.tracks):
            name = PurePosixPath(track.path).stem
            side = sides.get(int(name)) if name.isascii() and name.isdecimal() else None
            if side is None:
                raise DataError(
                    f"{track.path!r} is no track of FMA: its files are called by their numbers, "
                    "such as 000002.mp3."
                )
            places[side].append(place)
        return Fold(*(tuple(places[name]) for name in SPLITS))

    def _audio_folder(self, subset: str, audio: str | os.PathLike[str] | None) -> Path:
        _check_subset(subset)
        given = self.audio if audio is None else Path(audio)
        folder = self.root.parent if given is None else given
        try:
            if (folder / f"fma_{subset}").is_dir():
                return folder / f"fma_{subset}"
            if given is not None and folder.is_dir():
                return folder
        except OSError as error:
            raise DataError(
                f"{folder} cannot be read: {(error.strerror or '').lower()}."
            ) from error
        if given is None:
            raise DataError(
                f"The sound of FMA's {subset} subset is not beside {self.root}; say where it is: "
                f"audio='FOLDER/fma_{subset}'."
            )
        raise DataError(
            f"{folder} is not a folder; name the one that holds the mp3s of fma_{subset}."
        )

    def _is_usable(self, rows: pd.DataFrame, subset: str, bad_clips: bool) -> Any:
        out = [] if bad_clips else [c.track for c in self.bad_clips(subset) if c.is_left_out]
        return ~rows.index.isin(out)

    def _pairs(
        self, rows: pd.DataFrame, column: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A track and a genre that it has, for all tracks and genres."""
        lists = rows["track", column].tolist()
        lengths = [len(genres) for genres in lists]
        found = np.fromiter((g for genres in lists for g in genres), np.int64, sum(lengths))
        return np.repeat(rows.index.to_numpy(np.int64), lengths), found

    def _occurring(self, found: NDArray[np.int64], ancestors: bool) -> list[int]:
        genres = np.unique(found).tolist()
        if not ancestors:
            return [self.tree[genre].id for genre in genres]
        return sorted({link for genre in genres for link in self.tree.path(genre)})

    @cached_property
    def _artist_names(self) -> Mapping[int, str]:
        """A name for each number of an artist, with the number where it alone would not do.

        Names are compared as those who group tracks by artists do. A name that says nobody
        ("Various Artists") would leave tracks of one number apart.
        """
        pairs = self.tracks["artist"][["id", "name"]].drop_duplicates("id")
        names = dict(zip(pairs["id"].tolist(), pairs["name"].tolist(), strict=True))
        owners: dict[frozenset[str], int] = {}
        for name in names.values():
            members = artist_members(name) if isinstance(name, str) else frozenset()
            owners[members] = owners.get(members, 0) + 1
        found = {}
        for artist, name in names.items():
            if not isinstance(name, str):
                found[artist] = f"[artist {artist}]"
                continue
            members = artist_members(name)
            is_clear = members and owners[members] == 1
            found[artist] = name if is_clear else f"{name} [artist {artist}]"
        return found

    def _doubts(
        self,
        tracks: Sequence[Track],
        problems: Sequence[Problem],
        bad: Mapping[int, BadClip],
        sums: Mapping[str, str],
        subset: str,
    ) -> Iterator[str]:
        paths = {track.path for track in tracks}
        gone = sum(problem.code == "missing" for problem in problems)
        if gone:
            everything = len(self.subset(subset))
            yield f"Not in the folder: {gone:,} of {everything:,} tracks of the {subset} subset."
        if not sums:
            yield f"The folder has no file {CHECKSUMS!r}, so the files were read for their hashes."
        silent = [t for t, clip in bad.items() if not clip.is_left_out and track_path(t) in paths]
        if silent:
            yield f"All but silent, and not left out: {', '.join(map(track_path, silent))}."
        copies = len(tracks) - len({track.content_hash for track in tracks})
        if copies:
            yield (
                f"{copies:,} of {len(tracks):,} files are exact copies of others; the makers' "
                "split does not keep copies together."
            )


def _check_subset(subset: str) -> None:
    if subset not in SUBSETS:
        raise DataError(f"The subsets of FMA are {', '.join(SUBSETS)}; got {subset!r}.")


def _numbers(index: Any) -> NDArray[np.int64]:
    return np.sort(index.to_numpy(np.int64))
