"""A folder of one's own music, ``DIR/GENRE/*``, with or without a table of artists.

Nothing is decoded here. Each file is looked at, hashed, and, where no table names its artist, asked
for its tags. What cannot be a track is listed with its reason; the rest goes on.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deepmusic.datasets.table import TABLE_NAME, Row, match_rows, read_table
from deepmusic.errors import DataError

# What lies beside music without being any. Whatever is not listed is tried.
_NO_MUSIC = {
    ".bmp", ".csv", ".cue", ".db", ".doc", ".docx", ".gif", ".htm", ".html", ".ini", ".jpeg",
    ".jpg", ".json", ".jsonl", ".log", ".lrc", ".m3u", ".m3u8", ".md", ".md5", ".nfo", ".npy",
    ".npz", ".parquet", ".pdf", ".pickle", ".pls", ".png", ".py", ".rtf", ".sfv", ".svg", ".tif",
    ".tiff", ".tsv", ".txt", ".url", ".webp", ".xlsx", ".xml", ".yaml", ".yml",
}  # fmt: skip
# Names of files that archives of music have beside it.
_NO_TRACKS = {"Icon\r", "__MACOSX", "checksums"}

_LARGEST_BYTES = 16 << 30  # three hours of 8 channels, 24 bits, 48 kHz are 12 GiB


@dataclass(frozen=True)
class Track:
    """One recording of a data set.

    Args:
        path: where it lies below the data set's folder, with forward slashes.
        genre: its genre.
        artist: its artist as written, None when not known.
        album: its album as written, None when not known.
        content_hash: SHA-256 of the file, in hexadecimal.
        sound_group: tracks with the same value are near copies, such as one recording as mp3 and
            as wav; None when that was not looked for.
        source: clips with the same value are cut from one recording; None when not known.
    """

    path: str
    genre: str
    artist: str | None
    album: str | None
    content_hash: str
    sound_group: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Problem:
    """Something that was left out of a data set.

    Args:
        path: the file, folder or table row, below the data set's folder.
        code: a short reason that programs can test for, such as ``"empty"``.
        message: one sentence for a person.
    """

    path: str
    code: str
    message: str


@dataclass(frozen=True)
class FolderDataset:
    """The tracks of a folder.

    Args:
        root: the folder.
        tracks: sorted by path.
        genres: the genres that have tracks, sorted.
        problems: what was left out, sorted by path.
        notes: sentences on what was used and may not be as it should, such as missing artists.
    """

    root: Path
    tracks: tuple[Track, ...]
    genres: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """Place of each track's genre in ``genres``."""
        place = {genre: index for index, genre in enumerate(self.genres)}
        return tuple(place[track.genre] for track in self.tracks)

    def file(self, track: Track) -> Path:
        """Where a track lies on this machine."""
        return self.root / track.path


def scan_folder(
    root: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> FolderDataset:
    """Find the tracks in ``root/GENRE/*``, folders within genres included.

    Hidden files and what is obviously no music (pictures, texts, playlists) are passed over.
    Links are followed, but no folder is entered twice. A table (CSV with the columns ``path``
    and, as far as known, ``genre``, ``artist``, ``album``, ``source``) is believed before folders
    and tags.

    Args:
        root: the folder.
        table: the table; by default ``tracks.csv`` in ``root`` where there is one.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the files there are.

    Raises:
        DataError: the folder or the table is missing or cannot be read, or there is no track.

    Example:
        >>> dataset = scan_folder("music")  # doctest: +SKIP
        >>> dataset.genres  # doctest: +SKIP
        ('jazz', 'rock')
    """
    root = Path(root)
    problems: list[Problem] = []
    candidates = _walk(root, problems)
    rows: dict[str, Row] = {}
    notes: list[str] = []
    if table is None and stat_or_none(root / TABLE_NAME) is not None:
        table = root / TABLE_NAME
    if table is not None:
        known = [*candidates, *(problem.path for problem in problems)]
        rows, faults = match_rows(read_table(Path(table)), known, root)
        problems += [Problem(path, code, message) for path, code, message in faults]
        missing = [path for path in candidates if path not in rows]
        if missing:
            notes.append(
                f"{_count(missing, 'file has', 'files have')} no row in {Path(table).name}, "
                f"such as {missing[0]!r}; the folder gives the genre and the tags give the artist."
            )
    return _collected(root, candidates, rows, problems, notes, workers, on_progress)


def scan_table(
    table: str | os.PathLike[str],
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> FolderDataset:
    """Find the tracks that a table names, wherever they lie.

    The table is a CSV as for :func:`scan_folder`. Its paths are relative to its own folder, or
    absolute; only files that have a row are looked at. The folder of the data set is the table's
    where all files lie below it, else the folder that all of them have in common.

    Args:
        table: the file.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the files there are.

    Raises:
        DataError: the table is missing or damaged, or no track that it names can be used.
    """
    table = Path(table)
    listed = read_table(table)
    if not listed:
        raise DataError(f"The table {table} has no rows; its first line names the columns.")
    home = os.path.abspath(table.parent)
    places = [_place(home, row.path) for row in listed]
    try:
        shared = os.path.commonpath([home, *places])
        if shared != home:
            shared = os.path.commonpath([os.path.dirname(place) for place in places])
    except ValueError as error:  # two drives of Windows
        raise DataError(
            f"The files that {table} names lie on several drives; put them below one folder."
        ) from error
    root = table.parent if shared == home else Path(shared)
    rows: dict[str, Row] = {}
    problems = []
    for row, place in zip(listed, places, strict=True):
        path = os.path.relpath(place, shared).replace(os.sep, "/")
        where = f"Line {row.line} of the table names {row.path!r}"
        if stat_or_none(Path(place)) is None:
            problems.append(Problem(path, "row_without_file", f"{where}, which is not there."))
        elif path in rows:
            message = f"{where} a second time; the first counts."
            problems.append(Problem(path, "row_repeated", message))
        elif row.genre is None and "/" not in path:
            message = f"{where} without a genre, and it lies in no genre folder."
            problems.append(Problem(path, "no_genre", message))
        else:
            rows[path] = row
    if not rows:
        raise DataError(
            f"None of the files that {table} names can be used; {problems[0].message} Paths are "
            "relative to the folder of the table, or absolute."
        )
    return _collected(root, sorted(rows), rows, problems, [], workers, on_progress)


def _place(home: str, path: str) -> str:
    """Where a row's file is, as an absolute path; backslashes part folders on Windows only."""
    place = os.path.normpath(os.path.join(home, path))
    if "\\" in path and stat_or_none(Path(place)) is None:
        place = os.path.normpath(os.path.join(home, path.replace("\\", "/")))
    return place


def _collected(
    root: Path,
    candidates: Sequence[str],
    rows: dict[str, Row],
    problems: list[Problem],
    notes: list[str],
    workers: int | None,
    on_progress: Callable[[int, int], object] | None,
) -> FolderDataset:
    """Read all candidates, and put together what they gave."""
    tracks = []
    for found in _read_all(root, candidates, rows, workers, on_progress):
        if isinstance(found, Track):
            tracks.append(found)
        else:
            problems.append(found)
    if not tracks:
        raise DataError(_nothing(root, problems))
    notes += dataset_notes(tracks, candidates)
    return FolderDataset(
        root=root,
        tracks=tuple(sorted(tracks, key=lambda track: track.path)),
        genres=tuple(sorted({track.genre for track in tracks})),
        problems=tuple(sorted(problems, key=lambda problem: (problem.path, problem.code))),
        notes=tuple(notes),
    )


def dataset_digest(dataset: FolderDataset) -> str:
    """A SHA-256 over paths, genres and contents of all tracks, independent of their order."""
    digest = hashlib.sha256()
    for track in sorted(dataset.tracks, key=lambda track: track.path):
        entry = (track.path, track.genre, track.content_hash)
        digest.update("\0".join(entry).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def stat_or_none(path: Path) -> os.stat_result | None:
    """The state of what a path leads to, or None where it leads nowhere."""
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _walk(root: Path, problems: list[Problem]) -> list[str]:
    """Paths below ``root`` that may be tracks, sorted; what may not goes into ``problems``."""
    state = stat_or_none(root)
    if state is None:
        raise DataError(f"{root} does not exist or may not be looked at; name a folder of genres.")
    if not stat.S_ISDIR(state.st_mode):
        raise DataError(f"{root} is not a folder; name the folder that holds the genre folders.")
    candidates = []
    entered = {(state.st_dev, state.st_ino)}
    folders, links = [""], list[str]()
    while folders or links:
        # Links last, so that a folder goes by its own name where it has one inside the root.
        folder = folders.pop() if folders else links.pop(0)
        try:
            if folder:
                state = os.stat(root / folder)
                if (state.st_dev, state.st_ino) in entered:
                    message = f"{folder!r} leads to a folder that is read under another name."
                    problems.append(Problem(folder, "seen_before", message))
                    continue
                entered.add((state.st_dev, state.st_ino))
            with os.scandir(root / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise DataError(f"{root} cannot be read: {_why(error)}.") from error
            message = f"{folder!r} cannot be read: {_why(error)}."
            problems.append(Problem(folder, _code(error), message))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name in _NO_TRACKS:
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(path)
            elif os.path.splitext(entry.name)[1].lower() not in _NO_MUSIC:
                candidates.append(path)
    return sorted(candidates)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links; reading it as a file says so
        return False


def _read_all(
    root: Path,
    candidates: Sequence[str],
    rows: dict[str, Row],
    workers: int | None,
    on_progress: Callable[[int, int], object] | None,
) -> Iterator[Track | Problem]:
    workers = workers or min(8, os.cpu_count() or 1)
    # Threads are enough: hashing and FFmpeg let go of the interpreter.
    with ThreadPoolExecutor(workers) as pool:
        try:
            results = pool.map(lambda path: _read(root, path, rows.get(path)), candidates)
            for done, result in enumerate(results, start=1):
                if on_progress is not None:
                    on_progress(done, len(candidates))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read(root: Path, path: str, row: Row | None) -> Track | Problem:
    genre = (row and row.genre) or PurePosixPath(path).parts[0]
    if "/" not in path and not (row and row.genre):
        return Problem(path, "no_genre", f"{path!r} lies in no genre folder; move it into one.")
    hashed = _hash(root / path, path)
    if isinstance(hashed, Problem):
        return hashed
    artist, album = (row.artist, row.album) if row else (None, None)
    if artist is None:
        from deepmusic.audio.tags import read_tags  # which loads FFmpeg

        tags = read_tags(root / path)
        artist, album = tags.artist, album or tags.album
    return Track(path, genre, artist, album, hashed, source=row.source if row else None)


def _hash(file: Path, shown: str) -> str | Problem:
    """The content hash of a file, or why it has none."""
    # O_NONBLOCK: opening a FIFO must not wait for a writer, should one take the file's place.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        state = os.stat(file)
        if not stat.S_ISREG(state.st_mode):
            message = f"{shown!r} is a folder, pipe, device or socket, not a file."
            return Problem(shown, "not_a_file", message)
        if state.st_size == 0:
            message = f"{shown!r} is empty (0 bytes); copy or download it again."
            return Problem(shown, "empty", message)
        if state.st_size > _LARGEST_BYTES:
            message = f"{shown!r} has {state.st_size / 2**30:.0f} GiB, too much for one track."
            return Problem(shown, "too_large", message)
        with open(os.open(file, flags), "rb", buffering=0) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return Problem(shown, _code(error), f"{shown!r} cannot be read: {_why(error)}.")


def _code(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    return "permission" if isinstance(error, PermissionError) else "unreadable"


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is gone, or a link that leads nowhere"
    return (error.strerror or str(error)).lower()


def _nothing(root: Path, problems: Sequence[Problem]) -> str:
    if problems:
        return (
            f"{root} holds no track that can be used; "
            f"{_count(problems, 'thing was', 'things were')} left out, first: {problems[0].message}"
        )
    example = root / "rock"
    return f"{root} holds no sound files; put them into one folder a genre, such as {example}."


def dataset_notes(tracks: Sequence[Track], candidates: Sequence[str]) -> Iterator[str]:
    """Sentences on what may not be as it should in tracks that were found among candidates."""
    unknown = [track for track in tracks if track.artist is None]
    if unknown:
        yield (
            f"{_count(unknown, 'track has', 'tracks have')} no known artist and may stand beside "
            f"the same artist in another part of a split; name artists in {TABLE_NAME} or in tags."
        )
    copies = len(tracks) - len({track.content_hash for track in tracks})
    if copies:
        yield f"{copies} of {len(tracks)} files are exact copies of others; they stay together."
    heard: dict[str, set[str]] = {}
    for track in tracks:
        heard.setdefault(track.content_hash, set()).add(track.genre)
    torn = sum(len(genres) > 1 for genres in heard.values())
    if torn:
        yield f"{torn} recordings lie in more than one genre as exact copies; keep one of each."
    small = [genre for genre, count in Counter(t.genre for t in tracks).items() if count < 2]
    if small:
        yield f"Only one track each is there of: {', '.join(sorted(small))}."
    empty = {path.split("/")[0] for path in candidates if "/" in path}
    empty -= {track.path.split("/")[0] for track in tracks}
    if empty:
        yield f"No track could be used of: {', '.join(sorted(empty))}."


def _count(things: Sequence[object], one: str, many: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else many}"
