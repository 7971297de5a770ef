"""Open regular files only, and write files atomically.

A file is written beside its final name, flushed to disk, and renamed over it in one step: whenever
the writer is killed or the disk fills, the final name holds the old content or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from deepmusic.errors import DataError, DeepMusicError, ReasonError, os_reason

# What the user can do about it.
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EFBIG: "the file would be larger than this disk or limit allows",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "this folder may not be written; choose another or change its permissions",
    errno.EPERM: "this folder may not be written; choose another or change its permissions",
    errno.ENOENT: "its folder does not exist; make it first",
}


def open_regular(
    path: str | os.PathLike[str], *, name: str, noun: str, error: type[ReasonError]
) -> FileIO:
    """Open a regular file for reading, unbuffered; pipes, devices and folders are refused.

    Args:
        path: of the file.
        name: of the file in messages.
        noun: what it should be, such as "sound file".
        error: the class of error to raise.

    Raises:
        ReasonError: an instance of ``error`` with the code ``directory``, ``not_a_file``,
            ``missing``, ``permission`` or ``unreadable``.
    """
    try:
        mode = os.stat(path).st_mode  # before opening: opening a FIFO waits for a writer
        if stat.S_ISDIR(mode):
            raise error(f"{name} is a folder, not a {noun}.", code="directory")
        if not stat.S_ISREG(mode):
            raise error(
                f"{name} is a pipe, a device or a socket, not a {noun}; it is not opened.",
                code="not_a_file",
            )
        return open(path, "rb", buffering=0)
    except (FileNotFoundError, ValueError) as cause:  # ValueError: a null character in the name
        raise error(f"{name} does not exist.", code="missing") from cause
    except PermissionError as cause:
        raise error(f"{name} may not be read: permission denied.", code="permission") from cause
    except OSError as cause:
        reason = (cause.strerror or "unknown error").lower()
        raise error(f"{name} cannot be opened: {reason}.", code="unreadable") from cause


def names_of_files(paths: Iterable[str]) -> dict[str, list[str]]:
    """Group paths that lead to one file, by hard or symbolic links or other spellings.

    Returns:
        By the first path of each file, all of its paths in order; a path that leads nowhere is a
        group by itself.
    """
    names: dict[object, list[str]] = {}
    for path in dict.fromkeys(paths):
        file: object = path
        with suppress(OSError, ValueError):
            status = os.stat(path)
            if status.st_ino:  # some file systems make numbers up, so these alone do not decide
                file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        names.setdefault(file, []).append(path)
    return {group[0]: group for group in names.values()}


@overload
def write_atomically(
    path: str | os.PathLike[str], mode: Literal["w"] = "w"
) -> AbstractContextManager[TextIO]: ...
@overload
def write_atomically(
    path: str | os.PathLike[str], mode: Literal["wb"]
) -> AbstractContextManager[BinaryIO]: ...
def write_atomically(
    path: str | os.PathLike[str], mode: Literal["w", "wb"] = "w"
) -> AbstractContextManager[Any]:
    """Open a file that appears under its final name only when it is complete.

    If the block raises, nothing changes under ``path`` and the temporary file beside it is
    removed. A new file gets the permissions that ``open`` would give it, an existing one keeps its
    own, and a symbolic link stays a link. Text is UTF-8 without newline translation, as the ``csv``
    module needs it.

    Args:
        path: the final name; its folder must exist.
        mode: ``"w"`` for text or ``"wb"`` for bytes.

    Returns:
        A context manager that yields the open file.

    Raises:
        DeepMusicError: the file cannot be written, such as on a full disk.

    Example:
        >>> with write_atomically("notes.txt") as file:
        ...     count = file.write("C4 E4 G4")
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode is 'w' or 'wb'; got {mode!r}")
    return _writing(Path(path), mode)


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the operating system says while a file of ours is read into one sentence.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read: {os_reason(error)}.") from error


def make_folder(path: str | os.PathLike[str], *, advice: str = "") -> Path:
    """Make a folder and those above it, as far as they are missing.

    Args:
        path: of the folder.
        advice: what to do where it cannot be made, for the message.

    Raises:
        DataError: it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise DataError(f"{path} could not be made: {reason}{advice and '; '}{advice}.") from error
    return path


def write_json(path: str | os.PathLike[str], values: object) -> None:
    """Write JSON types as indented text, atomically, for people to read.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    with write_atomically(path) as file:
        json.dump(values, file, indent=1, ensure_ascii=False)
        file.write("\n")


class _Raw(FileIO):
    """A file whose own failures are told from those of files that the caller reads meanwhile."""

    path: Path  # its final name

    def write(self, data: Any) -> int:
        try:
            return os.write(self.fileno(), data)
        except OSError as error:
            raise _cannot_write(self.path, error) from error


@contextmanager
def _writing(path: Path, mode: str) -> Iterator[IO[Any]]:
    final = Path(os.path.realpath(path))
    try:
        handle, temporary = _temporary(final)
    except OSError as error:
        raise _cannot_write(path, error) from error
    raw = _Raw(handle, "w")
    raw.path = path
    file: IO[Any] = BufferedWriter(raw)
    if mode == "w":
        file = TextIOWrapper(file, "utf-8", newline="\n")
    is_done = False
    try:
        yield file
        try:
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:  # Windows renames no open file
                file.close()
            with suppress(FileNotFoundError):
                os.chmod(temporary, final.stat().st_mode & 0o7777)
            os.replace(temporary, final)
            is_done = True
            sync_folder(final.parent)
        except OSError as error:
            raise _cannot_write(path, error) from error
    finally:
        again = suppress(OSError, DeepMusicError)  # a full disk refuses the flush in close() again
        if fcntl is None:  # Windows removes no open file
            with again:
                file.close()
        if not is_done:  # else the name may be another writer's by now
            with again:
                temporary.unlink()
        with again:
            file.close()


def remove_leftover(path: str | os.PathLike[str]) -> None:
    """Remove the temporary file that a killed writer of this file left beside it, if it can be."""
    _removed(_first_temporary(Path(os.path.realpath(path))))


def _first_temporary(final: Path) -> Path:
    # Short and hidden: the name fits wherever the final one does, and no *.json glob finds it.
    return final.parent / f".{hashlib.sha256(os.fsencode(final.name)).hexdigest()[:12]}.tmp"


def _temporary(final: Path) -> tuple[int, Path]:
    """A new file beside the final one, locked while it is open, in place of what a kill left."""
    path = _first_temporary(final)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        try:
            # 0o666 less the umask, as open() does; tempfile would give 0o600
            handle = os.open(path, flags, 0o666)
        except FileExistsError:
            if not _removed(path):  # somebody else writes the same file now
                path = final.parent / f".{secrets.token_hex(6)}.tmp"
            continue
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, path
        os.close(handle)  # taken for a leftover before it was locked


def _removed(path: Path) -> bool:
    """Remove a temporary file without a living writer; False if it has one, or may have."""
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(path)):  # not yet another one
                os.unlink(path)
        finally:
            os.close(handle)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return True


def keep_attributes(handle: int, path: str | os.PathLike[str]) -> None:
    """Give an open file the owner, group, mode and extended attributes of another.

    Raises:
        DeepMusicError: one of them cannot be given.
    """
    try:
        status = os.stat(path)
        if hasattr(os, "fchown"):
            now = os.fstat(handle)
            if (now.st_uid, now.st_gid) != (status.st_uid, status.st_gid):
                os.fchown(handle, status.st_uid, status.st_gid)
            os.fchmod(handle, stat.S_IMODE(status.st_mode))
        if not hasattr(os, "listxattr"):
            return
        wanted = _attributes(path)
        now_set = _attributes(handle)
        for name in now_set.keys() - wanted.keys():  # such as what the folder hands down
            os.removexattr(handle, name)
        for name, value in wanted.items():
            if now_set.get(name) != value:
                os.setxattr(handle, name, value)
    except OSError as error:
        raise DeepMusicError(
            f"its owner, mode or extended attributes cannot be kept: {os_reason(error)}"
        ) from error


def _attributes(file: int | str | os.PathLike[str]) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(file, name) for name in os.listxattr(file)}
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # a file system without any
            return {}
        raise


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, so that a rename survives a power cut."""
    if os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(path: Path, error: OSError) -> DeepMusicError:
    reason = _REMEDIES.get(error.errno or 0, os_reason(error))
    return DeepMusicError(f"{path} could not be written: {reason}.")
