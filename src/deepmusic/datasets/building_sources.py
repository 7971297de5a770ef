"""The tracks that a data set is made from: where they lie, and what is known of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from deepmusic.datasets.building_names import source_name
from deepmusic.datasets.folder import Problem
from deepmusic.datasets.table import TABLE_NAME, Row, match_rows, read_table
from deepmusic.errors import DataError

# What a tag is called differs by format; the first that is there counts.
_DATE = ("date", "year", "originaldate", "tdor")
_LICENCE = ("license", "licence", "wcop", "copyright")
_ADDRESS = ("url", "website", "woaf", "woar", "contact")


@dataclass(frozen=True)
class SourceTrack:
    """One full-length track.

    Args:
        path: where it lies below the folder, with forward slashes.
        genre: by the table, else by its folder, else by its tag.
        artist, album: by the table, else by its tags; empty when not known.
        title, date, licence, url: by its tags, as they are written there; empty when not known.
    """

    path: str
    genre: str
    artist: str = ""
    album: str = ""
    title: str = ""
    date: str = ""
    licence: str = ""
    url: str = ""


@dataclass(frozen=True)
class Sources:
    """The tracks of a folder.

    Args:
        root: the folder.
        tracks: sorted by path.
        problems: what cannot be a track, and rows of the table without one, sorted by path.
    """

    root: Path
    tracks: tuple[SourceTrack, ...]
    problems: tuple[Problem, ...] = ()


def find_sources(
    root: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Sources:
    """Find full-length tracks in ``root/GENRE/*`` or ``root/*``, and read their tags.

    A table (CSV with the columns ``path`` and, as far as known, ``genre``, ``artist``, ``album``)
    is believed before folders, and folders before tags. Genres that differ in case alone are one,
    spelt as most tracks have it.

    Args:
        root: the folder.
        table: the table; by default ``tracks.csv`` in ``root`` where there is one.
        on_progress: called in this thread with the files done and the files there are.

    Raises:
        DataError: the folder or the table is missing or cannot be read, or there is no sound file.
    """
    from deepmusic.audio import NotAudio, find_audio

    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} does not exist or is not a folder; name a folder of tracks.")
    paths: list[str] = []
    problems: list[Problem] = []
    for found in find_audio([root]):
        if isinstance(found, NotAudio):
            if found.code == "no_files":
                raise DataError(f"{root} holds no sound files.")
            path = _below(root, found.path)
            problems.append(
                Problem(path, found.code, found.error.replace(repr(found.path), repr(path)))
            )
        else:
            paths.append(_below(root, found))
    rows: Mapping[str, Row] = {}
    if table is None and (root / TABLE_NAME).is_file():
        table = root / TABLE_NAME
    if table is not None:
        known = [*paths, *(problem.path for problem in problems)]
        rows, faults = match_rows(read_table(Path(table)), known, root)
        problems += [Problem(path, code, message) for path, code, message in faults]
    tracks = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            looked_at = pool.map(lambda path: _look(root, path, rows.get(path)), paths)
            for done, track in enumerate(looked_at, start=1):
                if isinstance(track, Problem):
                    problems.append(track)
                else:
                    tracks.append(track)
                if on_progress is not None:
                    on_progress(done, len(paths))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return Sources(
        root,
        tuple(sorted(_one_spelling(tracks), key=lambda track: source_name(track.path))),
        tuple(sorted(problems, key=lambda problem: (source_name(problem.path), problem.code))),
    )


def _below(root: Path, path: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def _look(root: Path, path: str, row: Row | None) -> SourceTrack | Problem:
    from deepmusic.audio.clips import read_metadata

    tags = read_metadata(root / path)
    # several genres in one tag: the first is the main one
    tagged = tags.get("genre", "").split(";")[0]
    folder = path.split("/")[0] if "/" in path else ""
    genre = _cell((row and row.genre) or _readable(folder) or tagged)
    if not genre:
        return Problem(
            path,
            "no_genre",
            f"{path!r} lies in no genre folder, has no genre in a table and none in its tags.",
        )
    return SourceTrack(
        path,
        genre,
        _cell((row and row.artist) or tags.get("artist") or tags.get("album_artist")),
        _cell((row and row.album) or tags.get("album")),
        _cell(tags.get("title")),
        *(
            _cell(next((tags[name] for name in names if name in tags), None))
            for names in (_DATE, _LICENCE, _ADDRESS)
        ),
    )


def _readable(name: str) -> str:
    """The name of a folder as a genre: bytes that are no UTF-8 show as a replacement sign."""
    if os.name == "nt":
        return name
    return os.fsencode(name).decode("utf-8", "replace")


def _cell(text: str | None) -> str:
    """Text as one cell of a table: one line, no control characters."""
    clean = (text or "").encode("utf-8", "replace").decode()
    return " ".join("".join(c if c.isprintable() else " " for c in clean).split())


def _one_spelling(tracks: list[SourceTrack]) -> list[SourceTrack]:
    counts = Counter(track.genre for track in tracks)
    best: dict[str, str] = {}
    for genre in sorted(counts, key=lambda genre: (-counts[genre], genre)):
        best.setdefault(genre.casefold(), genre)
    return [replace(track, genre=best[track.genre.casefold()]) for track in tracks]
