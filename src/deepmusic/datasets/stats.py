"""What a data set is made of, in numbers: genres, artists, albums, lengths, and a tree of genres.

Everything is counted from what :func:`~deepmusic.datasets.load.load_dataset` found, or, for FMA,
from its tables alone: no audio is needed for those.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmusic.datasets.folder import FolderDataset, Track
from deepmusic.datasets.genre_tree import GenreTree
from deepmusic.datasets.groups import artist_members
from deepmusic.datasets.splits import Fold
from deepmusic.errors import AudioError, DataError
from deepmusic.journal import Journal
from deepmusic.parallel import map_files

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DurationSummary:
    """How long tracks are, in seconds.

    Args:
        tracks: how many are known.
        total_s, mean_s, median_s, shortest_s, longest_s: of these.
    """

    tracks: int
    total_s: float
    mean_s: float
    median_s: float
    shortest_s: float
    longest_s: float


@dataclass(frozen=True)
class GenreSummary:
    """One genre.

    Args:
        genre: its name.
        tracks: how many it has.
        artists: different known artists among them.
        albums: different known albums.
        unknown_artists: tracks whose artist is not known.
        largest_artist: tracks of the artist who has most; 0 where none is known.
        durations: of its tracks; None where no length is known.
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
    """One genre of a tree, in the order of reading: a parent stands before its children.

    Args:
        id: its number.
        title: what it is called.
        parent: the genre above, None for a root.
        depth: 1 for a root.
        tracks: tracks of the data set that have it or a genre below it.
    """

    id: int
    title: str
    parent: int | None
    depth: int
    tracks: int


@dataclass(frozen=True)
class DatasetStatistics:
    """What a data set is made of.

    Args:
        name: what it is called, for titles.
        tracks: how many.
        without_genre: tracks that have none, or several and no main one.
        artists, albums: different known ones.
        unknown_artists: tracks whose artist is not known.
        genres: the largest first.
        durations_s: known lengths, in no order.
        duration_source: ``"header"``, ``"decoded"`` or ``"tables"`` (of the whole tracks that FMA's
            clips are cut from); ``""`` where none is known.
        tracks_per_artist: tracks of each known artist, the largest first.
        majority_genre: the genre with most tracks; with a split, with most training tracks.
        majority_accuracy: how often it is right, among tracks with a genre; with a split, among
            those of the test part. A model must do better than this.
        majority_part: ``"test"`` or ``"all"``: which tracks that is of.
        tree: genres of a tree; empty where there is none.
        copies: files that are exact copies of others.
    """

    name: str
    tracks: int
    without_genre: int
    artists: int
    albums: int
    unknown_artists: int
    genres: tuple[GenreSummary, ...]
    durations_s: tuple[float, ...]
    duration_source: str
    tracks_per_artist: tuple[int, ...]
    majority_genre: str
    majority_accuracy: float
    majority_part: str
    tree: tuple[TreeNode, ...] = ()
    copies: int = 0

    @property
    def durations(self) -> DurationSummary | None:
        """Of all tracks; None where no length is known."""
        return _durations(self.durations_s)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it, except single lengths."""
        found = asdict(self)
        del found["durations_s"]
        durations = self.durations
        found["durations"] = None if durations is None else asdict(durations)
        return found


@dataclass(frozen=True)
class _Item:
    """A track as it is counted."""

    genre: str | None
    artist: Hashable | None
    album: Hashable | None
    duration_s: float | None
    part: str = ""


def dataset_statistics(
    dataset: FolderDataset,
    *,
    name: str | None = None,
    durations: Mapping[str, float] | None = None,
    duration_source: str = "",
    split: Fold | None = None,
) -> DatasetStatistics:
    """Count what a data set is made of.

    Args:
        dataset: its tracks.
        name: what to call it; by default its folder.
        durations: path of each track, as in ``dataset``, to its seconds, as far as known.
        duration_source: where these come from.
        split: makes the majority's accuracy that on its test part.

    Raises:
        DataError: there is no track.
    """
    durations = {} if durations is None else durations
    part = {}
    if split is not None:
        part = {n: side for side in ("train", "test") for n in getattr(split, side)}
    items = [
        _Item(
            track.genre,
            artist_members(track.artist) or None,
            _album(track),
            durations.get(track.path),
            part.get(number, ""),
        )
        for number, track in enumerate(dataset.tracks)
    ]
    hashes = [track.content_hash for track in dataset.tracks if track.content_hash]
    return _described(
        name or dataset.root.resolve().name or str(dataset.root),
        items,
        duration_source if durations else "",
        copies=len(hashes) - len(set(hashes)),
    )


def _album(track: Track) -> Hashable | None:
    """What tells an album from others: a title alone does not ("Greatest Hits")."""
    if not track.album:
        return None
    return track.album.casefold(), artist_members(track.artist) or str(Path(track.path).parent)


def fma_statistics(
    tracks: pd.DataFrame, tree: GenreTree, *, name: str = "FMA"
) -> DatasetStatistics:
    """Count what FMA, or a part of it, is made of, from its tables alone.

    Args:
        tracks: rows of ``tracks.csv``, with its columns of two levels.
        tree: the genres of ``genres.csv``.
        name: what to call it.

    Returns:
        Genres are the main ones (``genre_top``), artists and albums go by their numbers, lengths
        are those of the whole tracks, and the majority's accuracy is that on the official test
        tracks.

    Raises:
        DataError: there is no track.
    """
    genres = tracks[("track", "genre_top")].astype(object)
    columns = zip(
        genres.where(genres.notna(), None).tolist(),
        tracks[("artist", "id")].tolist(),
        tracks[("album", "id")].tolist(),
        tracks[("track", "duration")].tolist(),
        tracks[("set", "split")].tolist(),
        strict=True,
    )
    items = [
        _Item(
            genre,
            artist if artist >= 0 else None,
            album if album >= 0 else None,
            float(seconds) if seconds > 0 else None,  # 0 is said of broken ones
            {"training": "train", "test": "test"}.get(part, ""),
        )
        for genre, artist, album, seconds, part in columns
    ]
    counts: Counter[int] = Counter()
    for listed in tracks[("track", "genres_all")].tolist():
        counts.update(set(listed))
    return _described(name, items, "tables", tree=tuple(_nodes(tree, counts)))


def _nodes(tree: GenreTree, counts: Mapping[int, int]) -> Iterator[TreeNode]:
    """Depth first, the larger genres before the smaller ones beside them."""

    def order(genre: int) -> tuple[int, str]:
        return counts.get(genre, 0), tree.title(genre)

    waiting = sorted(tree.roots, key=order)
    while waiting:
        genre = waiting.pop()
        yield TreeNode(
            genre, tree.title(genre), tree.parent(genre), tree.depth(genre), counts.get(genre, 0)
        )
        waiting += sorted(tree.children(genre), key=order)


def _described(
    name: str,
    items: Sequence[_Item],
    duration_source: str,
    *,
    tree: tuple[TreeNode, ...] = (),
    copies: int = 0,
) -> DatasetStatistics:
    if not items:
        raise DataError(f"{name} has no tracks; there is nothing to count.")
    by_genre: dict[str, list[_Item]] = {}
    for item in items:
        if item.genre is not None:
            by_genre.setdefault(item.genre, []).append(item)
    genre, accuracy, part = _majority(items)
    artists = Counter(item.artist for item in items if item.artist is not None)
    known = tuple(item.duration_s for item in items if item.duration_s is not None)
    return DatasetStatistics(
        name=name,
        tracks=len(items),
        without_genre=sum(item.genre is None for item in items),
        artists=len(artists),
        albums=len({item.album for item in items if item.album is not None}),
        unknown_artists=sum(item.artist is None for item in items),
        genres=tuple(
            _genre(found, of_genre)
            for found, of_genre in sorted(by_genre.items(), key=lambda e: (-len(e[1]), e[0]))
        ),
        durations_s=known,
        duration_source=duration_source if known else "",
        tracks_per_artist=tuple(sorted(artists.values(), reverse=True)),
        majority_genre=genre,
        majority_accuracy=accuracy,
        majority_part=part,
        tree=tree,
        copies=copies,
    )


def _genre(genre: str, items: Sequence[_Item]) -> GenreSummary:
    artists = Counter(item.artist for item in items if item.artist is not None)
    return GenreSummary(
        genre=genre,
        tracks=len(items),
        artists=len(artists),
        albums=len({item.album for item in items if item.album is not None}),
        unknown_artists=sum(item.artist is None for item in items),
        largest_artist=max(artists.values(), default=0),
        durations=_durations([item.duration_s for item in items if item.duration_s is not None]),
    )


def _majority(items: Sequence[_Item]) -> tuple[str, float, str]:
    """The most frequent genre of what is learned from, how often it is right, and on what."""
    learned = Counter(i.genre for i in items if i.genre is not None and i.part == "train")
    tested = Counter(i.genre for i in items if i.genre is not None and i.part == "test")
    part = "test"
    if not learned or not tested:
        learned = tested = Counter(i.genre for i in items if i.genre is not None)
        part = "all"
    if not learned:
        return "", 0.0, part
    genre = min(learned, key=lambda name: (-learned[name], name))
    return genre, tested[genre] / tested.total(), part


def _durations(seconds: Sequence[float]) -> DurationSummary | None:
    if not seconds:
        return None
    known = np.asarray(seconds)
    return DurationSummary(
        tracks=len(known),
        total_s=float(known.sum()),
        mean_s=float(known.mean()),
        median_s=float(np.median(known)),
        shortest_s=float(known.min()),
        longest_s=float(known.max()),
    )


@dataclass(frozen=True)
class Duration:
    """How long a file is.

    Args:
        path: of the file.
        seconds: None where that could not be found.
        code, error: why not: a short reason and a sentence.
    """

    path: str
    seconds: float | None
    code: str = ""
    error: str = ""


def measure_durations(
    dataset: FolderDataset,
    *,
    decode: bool = False,
    workers: int = 1,
    cache: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> tuple[Duration, ...]:
    """How long each track is, from the files' headers or by decoding them.

    A header is quick to read and may be wrong: of mp3 without a table of its own FFmpeg computes
    the length from the bit rate of the start. A file whose header gives no length is decoded.

    Args:
        dataset: its tracks.
        decode: whether to decode every file to its end.
        workers: processes; one does all in this process.
        cache: with ``decode``, a file that keeps lengths by content, so that a run that was
            stopped goes on, and the next one is quick.
        on_progress: takes the files done and the files there are.

    Returns:
        One entry a track, in order, with the track's path as in ``dataset``.

    Raises:
        DataError: the cache is another file, or cannot be written.
    """
    total = len(dataset.tracks)
    found: dict[str, Duration] = {}

    def note(track: Track, duration: Duration) -> None:
        found[track.path] = Duration(track.path, duration.seconds, duration.code, duration.error)
        if on_progress is not None:
            on_progress(len(found), total)

    with (
        Journal(cache, "durations", {"version": 1})
        if cache is not None and decode
        else nullcontext() as journal
    ):
        kept = {} if journal is None else dict(filter(None, map(_kept, journal.records)))
        by_file: dict[str, Track] = {}
        for track in dataset.tracks:
            if track.content_hash in kept:
                note(track, Duration(track.path, kept[track.content_hash]))
            else:
                by_file[str(dataset.file(track))] = track
        measure = _decoded if decode else _probed
        for duration in map_files(measure, by_file, _killed, workers=workers):
            track = by_file[duration.path]
            if journal is not None and duration.seconds is not None and track.content_hash:
                journal.add({"sha256": track.content_hash, "seconds": duration.seconds})
            note(track, duration)
    return tuple(found[track.path] for track in dataset.tracks)


def _kept(record: Mapping[str, Any]) -> tuple[str, float] | None:
    content, seconds = record.get("sha256"), record.get("seconds")
    if isinstance(content, str) and isinstance(seconds, float | int):
        return content, float(seconds)
    return None  # a line changed by other hands


def _probed(path: str) -> Duration:
    """The length that a file's header gives."""
    import av

    from deepmusic.audio.ffmpeg import open_container
    from deepmusic.audio.sources import open_source

    seconds = 0.0
    try:
        with open_source(path)[0] as file, open_container(file) as container:
            for stream in container.streams.audio:
                if stream.duration and stream.time_base:
                    seconds = float(stream.duration * stream.time_base)
                elif container.duration:
                    seconds = container.duration / av.time_base
                break
    except AudioError as error:
        if error.code not in ("not_audio", "no_sound_track"):
            return Duration(path, None, error.code, str(error))
    except (av.FFmpegError, OSError, ValueError):
        seconds = 0.0
    # libsndfile may read what FFmpeg does not
    return Duration(path, seconds) if seconds > 0 else _decoded(path)


def _decoded(path: str) -> Duration:
    """The length of all that can be decoded."""
    from deepmusic.audio import open_audio

    try:
        with open_audio(path, sample_rate=None) as stream:
            for _ in stream:
                pass
            return Duration(path, stream.duration_s)
    except AudioError as error:
        return Duration(path, None, error.code, str(error))


def _killed(path: str) -> Duration:
    return Duration(path, None, "worker_died", f"{path!r} ended the process that read it.")
