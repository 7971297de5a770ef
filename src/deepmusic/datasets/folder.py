"""Your own music as a data set: a folder ``DIR/GENRE/*``, or the files that a table lists.

Nothing is decoded here. Each file is hashed, and its tags are read where no table names its artist.
Files that cannot be tracks are listed with the reason; the others are used.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from deepmusic.audio.find import SYSTEM_FOLDERS, NotAudio, is_source_code
from deepmusic.datasets.groups import unknown_artists
from deepmusic.datasets.table import TABLE_NAME, Row, match_rows, read_table, table_text
from deepmusic.errors import DataError, os_reason

# Extensions of files that lie beside music; files with any other extension are tried.
_NOT_MUSIC = {
    ".bmp", ".csv", ".cue", ".db", ".doc", ".docx", ".gif", ".htm", ".html", ".ini", ".jpeg",
    ".jpg", ".json", ".jsonl", ".log", ".lrc", ".m3u", ".m3u8", ".md", ".md5", ".mf", ".nfo",
    ".npy", ".npz", ".parquet", ".pdf", ".pickle", ".pls", ".png", ".py", ".rtf", ".sfv", ".svg",
    ".tif", ".tiff", ".tsv", ".txt", ".url", ".webp", ".xlsx", ".xml", ".xspf", ".yaml", ".yml",
}  # fmt: skip
_NOT_TRACKS = {"icon\r", "checksums"} | SYSTEM_FOLDERS

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
OnProgress = Callable[[int, int], object]  # files done, number of files


@dataclass(frozen=True)
class Track:
    """One recording of a data set."""

    path: str  # below the data set's folder, with forward slashes
    genre: str
    artist: str | None  # as written, several joined by "; "; None where unknown
    album: str | None  # as written; None where unknown
    content_hash: str  # of the file, in hexadecimal: SHA-256; for FMA, SHA-1
    # near-duplicates, such as one recording as mp3 and as wav, have the same value
    sound_group: str | None = None
    source: str | None = None  # clips that are cut from one recording have the same value


@dataclass(frozen=True)
class Problem:
    """Something that was left out of a data set."""

    path: str  # of the file, folder or table row, below the data set's folder
    code: str  # a short reason that programs can test for, such as "empty"
    message: str  # one sentence for a person


@dataclass(frozen=True)
class FolderDataset:
    """The tracks of a folder."""

    root: Path
    tracks: tuple[Track, ...]  # sorted by path
    genres: tuple[str, ...]  # those that have tracks, sorted
    problems: tuple[Problem, ...] = ()  # what was left out, sorted by path
    notes: tuple[str, ...] = ()  # sentences about possible defects, such as unknown artists

    @classmethod
    def of(
        cls,
        root: Path,
        tracks: Iterable[Track],
        problems: Iterable[Problem] = (),
        notes: Iterable[str] = (),
    ) -> FolderDataset:
        """A data set of tracks and problems in any order."""
        tracks = sorted(tracks, key=lambda track: track.path)
        genres = tuple(sorted({track.genre for track in tracks}))
        problems = sorted(problems, key=lambda problem: (problem.path, problem.code))
        return cls(root, tuple(tracks), genres, tuple(problems), tuple(notes))

    @property
    def labels(self) -> tuple[int, ...]:
        """Index of each track's genre in ``genres``."""
        index = {genre: number for number, genre in enumerate(self.genres)}
        return tuple(index[track.genre] for track in self.tracks)

    def file(self, track: Track) -> Path:
        """The path of a track on this machine."""
        return self.root / track.path

    def entries(self) -> list[str | NotAudio]:
        """Its files and problems by path, as `find_audio` yields them."""
        problems = (NotAudio(str(self.root / p.path), p.message, p.code) for p in self.problems)
        files = (str(self.file(track)) for track in self.tracks)
        return sorted([*files, *problems], key=lambda e: e if isinstance(e, str) else e.path)


def scan_folder(
    root: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> FolderDataset:
    """Find the tracks in ``root/GENRE/*``, including folders within genres, or ``root/*``.

    Hidden files, the bins of file servers and files that are obviously not music (pictures, texts,
    playlists) are skipped. Links are followed, but no folder is entered twice. A table (CSV with
    the column ``path`` and optionally ``genre``, ``artist``, ``album``, ``source``) takes
    precedence over folders and tags.

    Args:
        root: the folder.
        table: the table; by default ``tracks.csv`` in ``root`` if it exists.
        workers: files read at a time; by default as many as there are cores, at most 8.
        on_progress: called in this thread with the files done and the number of files.

    Raises:
        DataError: the folder or the table is missing or cannot be read, or there are no tracks.

    Example:
        >>> dataset = scan_folder("music")  # doctest: +SKIP
        >>> dataset.genres  # doctest: +SKIP
        ('jazz', 'rock')
    """
    tracks, problems, notes = scan_tracks(
        Path(root), table=table, workers=workers, on_progress=on_progress
    )
    return FolderDataset.of(
        Path(root), tracks, problems, [*notes, *dataset_notes(tracks, problems)]
    )


def scan_tracks(
    root: Path,
    *,
    table: str | os.PathLike[str] | None,
    workers: int | None,
    on_progress: OnProgress | None,
) -> tuple[list[Track], list[Problem], list[str]]:
    """The tracks of `scan_folder`, what was left out, and notes on the table."""
    candidates, problems = _walk(root)
    rows: dict[str, Row] = {}
    notes = []
    if table is None and (root / TABLE_NAME).exists():
        table = root / TABLE_NAME
    if table is not None:
        paths = [*candidates, *(problem.path for problem in problems)]
        rows, faults = match_rows(read_table(Path(table)), paths, root)
        problems += [Problem(*fault) for fault in faults]
        missing = [path for path in candidates if path not in rows]
        if missing:
            notes.append(
                f"Files without a row in {Path(table).name}: {len(missing)}, such as "
                f"{missing[0]!r}; the folder gives the genre and the tags give the artist."
            )
    return _read_tracks(root, candidates, rows, problems, workers, on_progress), problems, notes


def scan_table(
    table: str | os.PathLike[str],
    *,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> FolderDataset:
    """Find the tracks that a table lists, wherever they are.

    The folder of the data set is the table's if all files lie below it, else the folder that all
    of them have in common. The table is as for `scan_folder`, and so are the other arguments; its
    paths are absolute, or relative to its folder.

    Raises:
        DataError: the table is missing or damaged, or none of its tracks can be used.
    """
    table = Path(table)
    listed = read_table(table)
    if not listed:
        raise DataError(f"The table {table} has no rows; its first line names the columns.")
    home = os.path.abspath(table.parent)
    files = [_resolve(home, row.path) for row in listed]
    try:
        shared = os.path.commonpath([home, *files])
        if shared != home:
            shared = os.path.commonpath([os.path.dirname(file) for file in files])
    except ValueError as error:  # two drives of Windows
        raise DataError(
            f"The files that {table} lists are on several drives; put them below one folder."
        ) from error
    paths = [os.path.relpath(file, shared).replace(os.sep, "/") for file in files]
    listed = [replace(row, path=path) for row, path in zip(listed, paths, strict=True)]
    existing = [path for path, file in zip(paths, files, strict=True) if os.path.exists(file)]
    rows, faults = match_rows(listed, list(dict.fromkeys(existing)), Path(shared))
    if not rows:
        raise DataError(
            f"None of the files that {table} lists can be used; {faults[0][2]} Paths are relative "
            "to the folder of the table, or absolute."
        )
    root = table.parent if shared == home else Path(shared)
    problems = [Problem(*fault) for fault in faults]
    tracks = _read_tracks(root, sorted(rows), rows, problems, workers, on_progress)
    return FolderDataset.of(root, tracks, problems, dataset_notes(tracks, problems))


def dataset_digest(dataset: FolderDataset) -> str:
    """A SHA-256 over paths, genres and contents of all tracks, independent of their order."""
    digest = hashlib.sha256()
    for track in sorted(dataset.tracks, key=lambda track: track.path):
        entry = (track.path, track.genre, track.content_hash)
        digest.update("\0".join(entry).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def map_threads(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[_Result]:
    """Yield a function's results, in order, from threads: enough for hashing and for FFmpeg."""
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        try:
            for done, result in enumerate(pool.map(function, items), start=1):
                if on_progress is not None:
                    on_progress(done, len(items))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def file_hash(
    file: Path, path: str, *, algorithm: str = "sha256", cached: str | None = None
) -> str | Problem:
    """The hash of a regular file, or why it cannot be used.

    Args:
        file: the file, with ``path`` below the data set's folder.
        path: for messages.
        algorithm: as in `hashlib`.
        cached: its hash if it is known; then its content is not read.
    """
    # O_NONBLOCK: opening must not wait for a writer, should a FIFO take the file's name
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        state = os.stat(file)
        if not stat.S_ISREG(state.st_mode):
            message = f"{path!r} is a folder, pipe, device or socket, not a file."
            return Problem(path, "not_a_file", message)
        if state.st_size == 0:
            return Problem(path, "empty", f"{path!r} is empty (0 bytes); copy or unpack it again.")
        if cached is not None:
            return cached
        with open(os.open(file, flags), "rb", buffering=0) as opened:
            return hashlib.file_digest(opened, algorithm).hexdigest()
    except OSError as error:
        return _unreadable(path, error)


def dataset_notes(tracks: Sequence[Track], problems: Iterable[Problem]) -> Iterator[str]:
    """Sentences about possible defects of tracks, and genre folders that only have problems."""
    if unknown := unknown_artists(tracks):
        yield (
            f"Tracks without a known artist: {unknown} of {len(tracks)}; whether a split has an "
            f"artist on two sides is unknown. Name artists in {TABLE_NAME} or in tags."
        )
    genres: dict[str, set[str]] = {}
    for track in tracks:
        genres.setdefault(track.content_hash, set()).add(track.genre)
    copies = len(tracks) - len(genres)
    if copies:
        yield f"Exact copies of other files: {copies} of {len(tracks)}; they stay together."
    ambiguous = sum(len(names) > 1 for names in genres.values())
    if ambiguous:
        yield f"Recordings with exact copies in several genres: {ambiguous}; keep one of each."
    single = [genre for genre, count in Counter(t.genre for t in tracks).items() if count < 2]
    if single:
        yield f"Genres with a single track: {', '.join(sorted(single))}."
    unused = {problem.path.split("/")[0] for problem in problems if "/" in problem.path}
    unused -= {"", *(track.path.split("/")[0] for track in tracks)}
    if unused:
        yield f"No track could be used of: {', '.join(sorted(unused))}."


def _resolve(home: str, path: str) -> str:
    """The absolute path of a row's file; backslashes separate folders on Windows only."""
    file = os.path.join(home, path)
    if "\\" in path and not os.path.exists(file):
        file = os.path.join(home, path.replace("\\", "/"))
    return os.path.normpath(file)


def _read_tracks(
    root: Path,
    candidates: Sequence[str],
    rows: dict[str, Row],
    problems: list[Problem],
    workers: int | None,
    on_progress: OnProgress | None,
) -> list[Track]:
    """The tracks among candidate paths; what cannot be used is added to the problems."""
    tracks = []
    read = partial(_read_track, root, rows)
    for result in map_threads(read, candidates, workers=workers, on_progress=on_progress):
        if isinstance(result, Track):
            tracks.append(result)
        else:
            problems.append(result)
    if not tracks:
        fault = "audio files; put them into one folder per genre."
        if problems:
            fault = f"usable track; left out: {len(problems)}, first: {problems[0].message}"
        raise DataError(f"{root} holds no {fault}")
    return tracks


def _read_track(root: Path, rows: Mapping[str, Row], path: str) -> Track | Problem:
    row = rows.get(path, Row(0, path))
    genre, artist, album = row.genre or path.rpartition("/")[0].split("/")[0], row.artist, row.album
    if not genre or artist is None:
        from deepmusic.audio.metadata import read_tags  # which loads FFmpeg

        tags = read_tags(root / path)
        genre = genre or "".join(tags.genres[:1]).split(";")[0].strip()
        if artist is None:
            artist, album = "; ".join(tags.artists) or None, album or tags.album
    if not genre:
        return Problem(path, "no_genre", f"{path!r} is not in a genre folder; move it into one.")
    digest = file_hash(root / path, path)
    if isinstance(digest, Problem):
        return digest
    return Track(path, table_text(genre), artist, album, digest, source=row.source)


def _walk(root: Path) -> tuple[list[str], list[Problem]]:
    """Paths below ``root`` that may be tracks, sorted, and folders that are not entered."""
    if not root.is_dir():
        fault = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root} {fault}; name the folder that holds the genre folders.")
    candidates: list[str] = []
    problems: list[Problem] = []
    entered = set()

    def fail(error: OSError) -> None:
        if Path(error.filename) == root:
            raise DataError(f"{root} cannot be read: {os_reason(error)}.") from error
        problems.append(_unreadable(Path(error.filename).relative_to(root).as_posix(), error))

    starts = [str(root)]
    for start in starts:
        for folder, names, files in os.walk(start, onerror=fail):
            inside, state = Path(folder).relative_to(root), os.stat(folder)
            if (state.st_dev, state.st_ino) in entered:
                message = f"{str(inside)!r} leads to a folder that is read under another name."
                problems.append(Problem(inside.as_posix(), "seen_before", message))
                names.clear()
                continue
            entered.add((state.st_dev, state.st_ino))
            names[:] = [name for name in sorted(names) if _may_be_music(name)]
            # links last, so that a folder goes by its own name where it has one inside the root
            links = (os.path.join(folder, name) for name in names)
            starts += filter(os.path.islink, links)
            candidates += [
                (inside / name).as_posix()
                for name in files
                if _may_be_music(name)
                and os.path.splitext(name)[1].lower() not in _NOT_MUSIC
                and not is_source_code(os.path.join(folder, name))
            ]
    return sorted(candidates), problems


def _may_be_music(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _NOT_TRACKS


def _unreadable(path: str, error: OSError) -> Problem:
    if isinstance(error, FileNotFoundError):
        return Problem(path, "missing", f"{path!r} does not exist, or is a broken link.")
    code = "permission" if isinstance(error, PermissionError) else "unreadable"
    return Problem(path, code, f"{path!r} cannot be read: {os_reason(error)}.")
