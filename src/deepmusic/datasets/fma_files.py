"""The files of FMA on the disk: where a track lies, and which bytes it should have."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepmusic.datasets.folder import Problem
from deepmusic.errors import DataError

CHECKSUMS = "checksums"
"""The list of SHA-1 that each archive of FMA holds."""

_LINE = re.compile(r"([0-9a-f]{40})  (\S.*)", re.IGNORECASE)


def track_path(track: int) -> str:
    """Where the mp3 of a track lies in the folder of any subset.

    Example:
        >>> track_path(2)
        '000/000002.mp3'
    """
    if not 0 <= track <= 999_999:
        raise DataError(f"The numbers of tracks go from 0 to 999,999; got {track}.")
    name = f"{track:06d}"
    return f"{name[:3]}/{name}.mp3"


def read_checksums(path: Path) -> dict[str, str]:
    """SHA-1 of each file, by its path, from the list that the archives hold."""
    try:
        if not path.is_file():
            return {}
        with open(path, encoding="utf-8", errors="replace") as file:
            matches = [_LINE.fullmatch(line.rstrip("\r\n")) for line in file]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path} cannot be read: {reason}.") from error
    return {match[2].removeprefix("./"): match[1].lower() for match in matches if match}


def file_checksum(path: Path, name: str) -> str | None:
    """What a list of checksums says of one file, if the list is there and does."""
    return read_checksums(path).get(name)


def hash_files(
    files: Sequence[tuple[Path, str, str | None]],
    verify: bool,
    workers: int | None,
    on_progress: Callable[[int, int], object] | None,
) -> Iterator[str | Problem]:
    """The SHA-1 of each file, or what is wrong with it; ``files`` have path, name, known SHA-1."""
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        try:
            found = pool.map(lambda file: _hash(*file, verify=verify), files)
            for done, result in enumerate(found, start=1):
                if on_progress is not None:
                    on_progress(done, len(files))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _hash(file: Path, path: str, known: str | None, *, verify: bool) -> str | Problem:
    try:
        state = os.stat(file)
        if not stat.S_ISREG(state.st_mode):
            return Problem(path, "not_a_file", f"{path!r} is not a file; unpack the archive again.")
        if state.st_size == 0:
            message = f"{path!r} is empty (0 bytes); unpack the archive again."
            return Problem(path, "empty", message)
        if known is not None and not verify:
            return known
        with open(file, "rb", buffering=0) as opened:
            found = hashlib.file_digest(opened, "sha1").hexdigest()
    except FileNotFoundError:
        return Problem(path, "missing", f"{path!r} is not in the folder.")
    except OSError as error:
        code = "permission" if isinstance(error, PermissionError) else "unreadable"
        reason = (error.strerror or str(error)).lower()
        return Problem(path, code, f"{path!r} cannot be read: {reason}.")
    if known is not None and found != known:
        message = f"{path!r} is not what it was when {CHECKSUMS!r} was written; unpack it again."
        return Problem(path, "changed", message)
    return found
