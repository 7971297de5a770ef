"""Statistics of a data set: genres, artists, albums, durations, and a tree of genres.

They are computed from what :func:`~deepmusic.datasets.load.load_dataset` returns, or, for FMA, from
its tables alone, without any audio.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from deepmusic.audio.scan import scan_file, scan_files
from deepmusic.datasets.folder import FolderDataset, Track
from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.datasets.groups import artist_members
from deepmusic.datasets.splits import Fold
from deepmusic.datasets.table import table_text
from deepmusic.errors import AudioError, DataError
from deepmusic.parallel import map_files


@dataclass(frozen=True)
class DurationSummary:
    """Durations in seconds.

    Args:
        tracks: how many have a known duration.
        total_s, mean_s, median_s, shortest_s, longest_s: of these.
    """

    tracks: int
    total_s: float
    mean_s: float
    median_s: float
    shortest_s: float
    longest_s: float

    @classmethod
    def of(cls, durations_s: pd.Series[float]) -> DurationSummary | None:
        """The summary of durations, some of which may be NaN; None if there are none."""
        if not durations_s.count():
            return None
        values = durations_s.agg(["sum", "mean", "median", "min", "max"])
        return cls(int(durations_s.count()), *map(float, values))


@dataclass(frozen=True)
class GenreStatistics:
    """One genre.

    Args:
        genre: its name.
        tracks: number of tracks.
        artists: number of known artists.
        albums: number of known albums.
        unknown_artists: tracks without a known artist.
        largest_artist: tracks of the artist with most; 0 if none is known.
        durations: of its tracks; None if none is known.
    """

    genre: str
    tracks: int
    artists: int
    albums: int
    unknown_artists: int
    largest_artist: int
    durations: DurationSummary | None


@dataclass(frozen=True)
class TreeNode:
    """One genre of a tree; parents come before their children.

    Args:
        id: its number.
        title: its name.
        parent: the genre above; None for a root.
        depth: 1 for a root.
        tracks: tracks that have it or a genre below it.
    """

    id: int
    title: str
    parent: int | None
    depth: int
    tracks: int


@dataclass(frozen=True)
class DatasetStatistics:
    """The statistics of a data set.

    Args:
        name: for titles.
        tracks: number of tracks.
        without_genre: tracks with no genre, or several and no main one.
        artists, albums: number of known ones.
        unknown_artists: tracks without a known artist.
        genres: the largest first.
        durations: of all tracks; None if none is known.
        durations_s: the known durations.
        duration_source: ``"header"``, ``"decoded"`` or ``"tables"`` (of the whole tracks that FMA's
            clips are cut from); ``""`` if none is known.
        tracks_per_artist: tracks of each known artist, the largest first.
        majority_genre: the genre with most tracks; with a split, with most training tracks.
        majority_accuracy: how often it is right, among tracks with a genre; with a split, among
            its test tracks. The baseline that a model must beat.
        majority_part: ``"test"`` or ``"all"``: the tracks of that accuracy.
        tree: genres of a tree; empty if there is none.
        copies: files that are exact copies of others.
    """

    name: str
    tracks: int
    without_genre: int
    artists: int
    albums: int
    unknown_artists: int
    genres: tuple[GenreStatistics, ...]
    durations: DurationSummary | None
    durations_s: tuple[float, ...]
    duration_source: str
    tracks_per_artist: tuple[int, ...]
    majority_genre: str
    majority_accuracy: float
    majority_part: str
    tree: tuple[TreeNode, ...] = ()
    copies: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it, except single durations."""
        fields = asdict(self)
        del fields["durations_s"]
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
        durations: seconds by the path of each track in ``dataset``, where known.
        duration_source: where these come from.
        split: makes the majority's accuracy that on its test part.

    Raises:
        DataError: there are no tracks.
    """
    rows = [
        (table_text(t.genre), _artist(t), _album(t), (durations or {}).get(t.path))
        for t in dataset.tracks
    ]
    tracks = pd.DataFrame(rows, columns=["genre", "artist", "album", "duration_s"])
    tracks["part"] = ""
    for part in ("train", "test") if split is not None else ():
        tracks.loc[list(getattr(split, part)), "part"] = part
    hashes = [track.content_hash for track in dataset.tracks if track.content_hash]
    return _statistics(
        name or dataset.root.resolve().name or str(dataset.root),
        tracks,
        duration_source,
        copies=len(hashes) - len(set(hashes)),
    )


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

    Args:
        tracks: rows of ``tracks.csv``, with its columns of two levels.
        tree: the genres of ``genres.csv``.
        name: what to call it.

    Returns:
        Genres are the main ones (``genre_top``), artists and albums are identified by number,
        durations are those of the whole tracks, and the majority's accuracy is that on the official
        test tracks.

    Raises:
        DataError: there are no tracks.
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
    return _statistics(name, pd.DataFrame(columns), "tables", tree=tuple(_nodes(tree, counts)))


def _nodes(tree: GenreTree, counts: Mapping[int, int]) -> Iterator[TreeNode]:
    """Depth first, siblings with more tracks first."""

    def order(genre: int) -> tuple[int, str]:
        return counts.get(genre, 0), tree.title(genre)

    stack = sorted(tree.roots, key=order)
    while stack:
        genre = stack.pop()
        yield TreeNode(
            genre, tree.title(genre), tree.parent(genre), tree.depth(genre), counts.get(genre, 0)
        )
        stack += sorted(tree.children(genre), key=order)


def _statistics(
    name: str,
    tracks: pd.DataFrame,
    duration_source: str,
    *,
    tree: tuple[TreeNode, ...] = (),
    copies: int = 0,
) -> DatasetStatistics:
    """The statistics of a frame with the columns genre, artist, album, duration_s and part."""
    if not len(tracks):
        raise DataError(f"{name} has no tracks.")
    tracks["duration_s"] = tracks["duration_s"].astype(float)
    labelled = tracks[tracks["genre"].notna()]
    genres = [_genre(str(genre), rows) for genre, rows in labelled.groupby("genre", observed=True)]
    genres.sort(key=lambda genre: (-genre.tracks, genre.genre))
    train, test = (labelled.loc[labelled["part"] == part, "genre"] for part in ("train", "test"))
    has_split = bool(len(train) and len(test))
    if not has_split:
        train = test = labelled["genre"]
    counts = train.value_counts()
    majority = min(counts[counts == counts.max()].index, default="")
    known = tracks["duration_s"].dropna()
    return DatasetStatistics(
        name=name,
        tracks=len(tracks),
        without_genre=len(tracks) - len(labelled),
        artists=int(tracks["artist"].nunique()),
        albums=int(tracks["album"].nunique()),
        unknown_artists=int(tracks["artist"].isna().sum()),
        genres=tuple(genres),
        durations=DurationSummary.of(known),
        durations_s=tuple(known),
        duration_source=duration_source if len(known) else "",
        tracks_per_artist=tuple(map(int, tracks["artist"].value_counts())),
        majority_genre=majority,
        majority_accuracy=float((test == majority).mean()) if majority else 0.0,
        majority_part="test" if has_split else "all",
        tree=tree,
        copies=copies,
    )


def _genre(genre: str, tracks: pd.DataFrame) -> GenreStatistics:
    per_artist = tracks["artist"].value_counts()
    return GenreStatistics(
        genre=genre,
        tracks=len(tracks),
        artists=len(per_artist),
        albums=int(tracks["album"].nunique()),
        unknown_artists=int(tracks["artist"].isna().sum()),
        largest_artist=int(per_artist.max()) if len(per_artist) else 0,
        durations=DurationSummary.of(tracks["duration_s"]),
    )


@dataclass(frozen=True)
class Duration:
    """The duration of a file.

    Args:
        path: of the file.
        seconds: None if unknown.
        error: one sentence on why.
    """

    path: str
    seconds: float | None
    error: str = ""


def measure_durations(
    dataset: FolderDataset,
    *,
    decode: bool = False,
    workers: int = 1,
    cache: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Duration, ...]:
    """The duration of each track, from the headers of files or by decoding them.

    Headers are quick to read and may be wrong: for an mp3 without a Xing header FFmpeg estimates
    the duration from its first bit rate. A file whose header has no duration is decoded.

    Args:
        dataset: its tracks.
        decode: whether to decode every file to its end.
        workers: processes; with 1 everything runs in this process.
        cache: with ``decode``, a store of scans, as of ``data check``; None keeps nothing.
        on_progress: called in this thread with the files done and the number of files.

    Returns:
        One entry per track, in order, with the track's path in ``dataset``.

    Raises:
        DataError: the cache is another file, or cannot be written.
    """
    path_of = {str(dataset.file(track)): track.path for track in dataset.tracks}
    results: Iterator[Duration]
    if decode:
        scans = scan_files(path_of, cache=cache, workers=workers)
        results = (
            Duration(scan.path, None if scan.code else scan.duration_s, scan.error)
            for scan in scans
        )
    else:
        results = map_files(_header_duration, path_of, _crashed, workers=workers)
    durations = {}
    for done, result in enumerate(results, start=1):
        path = path_of[result.path]
        durations[path] = Duration(path, result.seconds, result.error)
        on_progress(done, len(path_of))
    return tuple(durations[track.path] for track in dataset.tracks)


def _header_duration(path: str) -> Duration:
    import av

    from deepmusic.audio.ffmpeg import open_container
    from deepmusic.audio.sources import open_source

    try:
        with open_source(path)[0] as file, open_container(file) as container:
            audio = next(iter(container.streams.audio), None)
            if audio is not None and audio.duration and audio.time_base:
                return Duration(path, float(audio.duration * audio.time_base))
            if audio is not None and container.duration:
                return Duration(path, container.duration / av.time_base)
    except (av.FFmpegError, AudioError, OSError, ValueError):
        pass  # libsndfile may read it; otherwise decoding says why not
    scan = scan_file(path)
    return Duration(path, None if scan.code else scan.duration_s, scan.error)


def _crashed(path: str) -> Duration:
    return Duration(path, None, f"{path!r} crashed its worker process twice.")
