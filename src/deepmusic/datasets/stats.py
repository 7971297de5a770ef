"""Statistics of a data set: genres, artists, albums, durations, and a tree of genres."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from deepmusic.audio.scan import AudioScan, crashed, scan_file, scan_files
from deepmusic.datasets.coding import CodingReport, scan_beginning
from deepmusic.datasets.folder import FolderDataset, Track
from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.datasets.groups import artist_members
from deepmusic.datasets.splits import Fold
from deepmusic.datasets.table import table_text
from deepmusic.errors import DataError
from deepmusic.parallel import map_files


@dataclass(frozen=True)
class DurationSummary:
    """The durations of tracks, in seconds."""

    tracks: int  # with a known duration
    total_s: float
    mean_s: float
    median_s: float
    shortest_s: float
    longest_s: float

    @classmethod
    def of(cls, durations_s: pd.Series[float]) -> DurationSummary | None:
        """The summary of durations, NaN where unknown; None if all are."""
        values = durations_s.dropna()
        if values.empty:
            return None
        summary = values.agg(["sum", "mean", "median", "min", "max"])
        return cls(len(values), *map(float, summary))


@dataclass(frozen=True)
class GenreStatistics:
    """One genre; unknown artists and albums are not counted."""

    genre: str
    tracks: int
    artists: int
    albums: int
    unknown_artists: int  # tracks without a known artist
    largest_artist: int  # tracks of the artist with most
    durations: DurationSummary | None

    @classmethod
    def of(cls, genre: str, tracks: pd.DataFrame) -> GenreStatistics:
        """The statistics of tracks with the columns artist, album and duration_s."""
        per_artist = tracks["artist"].value_counts()
        return cls(
            genre=genre,
            tracks=len(tracks),
            artists=len(per_artist),
            albums=int(tracks["album"].nunique()),
            unknown_artists=int(tracks["artist"].isna().sum()),
            largest_artist=int(per_artist.max()) if len(per_artist) else 0,
            durations=DurationSummary.of(tracks["duration_s"]),
        )


@dataclass(frozen=True)
class TreeNode:
    """One genre of a tree."""

    id: int
    title: str
    parent: int | None  # None for a root
    depth: int  # 1 for a root
    tracks: int  # that have it or a genre below it


@dataclass(frozen=True)
class DatasetStatistics:
    """The statistics of a data set.

    A model must beat `majority_accuracy`: how often the genre with most training tracks is right on
    the test tracks, or, without a split, how often the largest genre is.
    """

    name: str
    tracks: int
    without_genre: int  # tracks with no genre, or several and no main one
    artists: int
    albums: int
    unknown_artists: int  # tracks without a known artist
    genres: tuple[GenreStatistics, ...]  # the largest first
    durations: DurationSummary | None
    durations_s: tuple[float, ...]  # the known ones
    duration_source: str  # "header", "decoded", "tables" (of FMA's whole tracks), or ""
    tracks_per_artist: tuple[int, ...]  # of known artists, the largest first
    majority_genre: str
    majority_accuracy: float
    majority_part: str  # "test" or "all"
    tree: tuple[TreeNode, ...] = ()  # parents come before their children
    copies: int = 0  # files that are exact copies of others
    coding: CodingReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it, except single durations."""
        fields = asdict(self)
        del fields["durations_s"]
        fields["coding"] = self.coding and self.coding.to_dict()
        return fields


def dataset_statistics(
    dataset: FolderDataset,
    *,
    name: str | None = None,
    durations: Mapping[str, float] | None = None,
    duration_source: str = "",
    split: Fold | None = None,
) -> DatasetStatistics:
    """The statistics of a data set.

    Args:
        dataset: its tracks.
        name: what to call it; by default its folder.
        durations: seconds by the path of each track in `dataset`, where known.
        duration_source: where these come from.
        split: makes the majority's accuracy that on its test part.
    """
    rows = [
        (table_text(t.genre), _artist(t), _album(t), (durations or {}).get(t.path), "")
        for t in dataset.tracks
    ]
    tracks = pd.DataFrame(rows, columns=["genre", "artist", "album", "duration_s", "part"])
    for part in ("train", "test") if split is not None else ():
        tracks.loc[list(getattr(split, part)), "part"] = part
    hashes = [track.content_hash for track in dataset.tracks if track.content_hash]
    statistics = _statistics(name or dataset.root.resolve().name, tracks, duration_source)
    return replace(statistics, copies=len(hashes) - len(set(hashes)))


def _artist(track: Track) -> str | None:
    return table_text("; ".join(sorted(artist_members(track.artist)))) or None


def _album(track: Track) -> str | None:
    """A key of an album: a title alone is not one ("Greatest Hits")."""
    if not track.album:
        return None
    return table_text(f"{track.album.casefold()}\n{_artist(track) or Path(track.path).parent}")


def fma_statistics(
    tracks: pd.DataFrame, tree: GenreTree, *, name: str = "FMA"
) -> DatasetStatistics:
    """The statistics of FMA, or of a part of it, from its tables alone.

    Genres are the main ones (`genre_top`), artists and albums are identified by number, durations
    are those of the whole tracks, and the test tracks are the official ones. ``tracks`` has rows
    and columns of `tracks.csv`, as of `Fma.subset`.
    """
    columns = {
        "genre": tracks["track", "genre_top"].astype(object),
        "artist": tracks["artist", "id"].where(tracks["artist", "id"] >= 0),
        "album": tracks["album", "id"].where(tracks["album", "id"] >= 0),
        # broken tracks have 0
        "duration_s": tracks["track", "duration"].where(tracks["track", "duration"] > 0),
        "part": tracks["set", "split"].astype(str).replace("training", "train"),
    }
    counts = Counter(genre for genres in tracks["track", "genres_all"] for genre in set(genres))

    def nodes(genres: tuple[int, ...]) -> Iterator[TreeNode]:
        """Depth first, siblings with most tracks first."""
        for number in sorted(genres, key=lambda g: (counts[g], tree[g].title), reverse=True):
            genre, depth = tree[number], len(tree.path(number))
            yield TreeNode(number, genre.title, genre.parent, depth, counts[number])
            yield from nodes(tree.children(number))

    statistics = _statistics(name, pd.DataFrame(columns), "tables")
    return replace(statistics, tree=tuple(nodes(tree.roots)))


def _statistics(name: str, tracks: pd.DataFrame, duration_source: str) -> DatasetStatistics:
    """The statistics of a frame with the columns genre, artist, album, duration_s and part."""
    if not len(tracks):
        raise DataError(f"{name} has no tracks.")
    tracks["duration_s"] = tracks["duration_s"].astype(float)
    labelled = tracks[tracks["genre"].notna()]
    genres = [
        GenreStatistics.of(str(genre), rows)
        for genre, rows in labelled.groupby("genre", observed=True)
    ]
    train, test = (labelled.loc[labelled["part"] == part, "genre"] for part in ("train", "test"))
    has_split = bool(len(train) and len(test))
    if not has_split:
        train = test = labelled["genre"]
    counts = train.value_counts()
    majority = min(counts[counts == counts.max()].index, default="")
    all_tracks = GenreStatistics.of("", tracks)
    return DatasetStatistics(
        name=name,
        tracks=len(tracks),
        without_genre=len(tracks) - len(labelled),
        artists=all_tracks.artists,
        albums=all_tracks.albums,
        unknown_artists=all_tracks.unknown_artists,
        genres=tuple(sorted(genres, key=lambda genre: (-genre.tracks, genre.genre))),
        durations=all_tracks.durations,
        durations_s=tuple(tracks["duration_s"].dropna()),
        duration_source=duration_source if all_tracks.durations else "",
        tracks_per_artist=tuple(map(int, tracks["artist"].value_counts())),
        majority_genre=majority,
        majority_accuracy=float((test == majority).mean()) if majority else 0.0,
        majority_part="test" if has_split else "all",
    )


def measure_durations(
    dataset: FolderDataset,
    *,
    decode: bool = False,
    workers: int = 1,
    cache: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[AudioScan]:
    """The duration of each track, from the headers of files or by decoding them.

    Headers are quick to read and may be wrong: for an mp3 without a Xing header FFmpeg estimates
    the duration from its first bit rate. A file whose header has no duration is decoded.

    Args:
        dataset: its tracks.
        decode: whether to decode every file to its end.
        workers: processes; with 1 everything runs in this process.
        cache: with `decode`, a store of scans, as of `data check`; None keeps nothing.
        on_progress: called in this thread with the files done and the number of files.

    Returns:
        One scan per track, in order, with its path in `dataset` and `duration_s`, or with the
        `code` and `error` of a file that cannot be decoded.
    """
    path_of = {str(dataset.file(track)): track.path for track in dataset.tracks}
    if decode:
        results = scan_files(path_of, cache=cache, workers=workers)
    else:
        results = map_files(_scan_header, path_of, crashed, workers=workers)
    scans = {}
    for done, scan in enumerate(results, start=1):
        scans[path_of[scan.path]] = replace(scan, path=path_of[scan.path])
        on_progress(done, len(path_of))
    return [scans[track.path] for track in dataset.tracks]


def _scan_header(path: str) -> AudioScan:
    scan = scan_beginning(path)
    return scan if scan.duration_s and not scan.code else scan_file(path)
