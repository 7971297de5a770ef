"""Fetching one file over HTTP(S), or from this machine, so that what arrives is what was meant.

What has come stands in ``TARGET.part``, and beside it in ``TARGET.part.json`` from where it is and
of which version. A download that was cut off, killed or stopped goes on there; only when all of it
is there, and has the checksum that was asked for, does it get its name.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError

from deepmusic.datasets.web import (
    CHUNK,
    DownloadError,
    LostError,
    Patience,
    Site,
    byte_count,
    content_range,
    local_path,
    strong_version,
)
from deepmusic.files import open_regular, sync_folder

try:
    import fcntl
except ImportError:  # Windows: there two downloads of one file at a time are not noticed
    fcntl = None  # type: ignore[assignment]

Progress = Callable[[int, int | None], None]
"""Takes how many bytes are there, and how many it will be if that is known."""


_PUSHED = 32 << 20
"""After so many bytes the system is told to write them."""


@dataclass(frozen=True)
class _Expected:
    """What a file must be: its size in bytes, and digests by the name of their algorithm."""

    size: int | None
    digests: dict[str, str]

    def fault(self, size: int, digests: _Digests) -> str | None:
        """What is wrong with a file of this size and these digests."""
        if self.size is not None and size != self.size:
            return f"it has {size:,} bytes, not {self.size:,}"
        for name, found in digests.hexdigests().items():
            if found != self.digests[name]:
                return f"its {name} is {found}, not {self.digests[name]}"
        return None


class _Digests:
    """Checksums that grow with a file, in a thread beside the reading and the writing.

    Args:
        algorithms: their names.
    """

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
        self._thread = ThreadPoolExecutor(1) if self._hashes else None
        self._waiting: deque[Future[None]] = deque()

    def add(self, chunk: bytes) -> None:
        """Take the next bytes; at most two pieces are not yet hashed afterwards."""
        if self._thread is not None:
            self._waiting.append(self._thread.submit(self._update, chunk))
            if len(self._waiting) > 2:
                self._waiting.popleft().result()

    def hexdigests(self) -> dict[str, str]:
        """Each digest of all that was taken, by its name."""
        self._finish()
        return {name: known.hexdigest() for name, known in self._hashes.items()}

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()

    def _update(self, chunk: bytes) -> None:
        for known in self._hashes.values():
            known.update(chunk)

    def _finish(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()


def download(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    sha1: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    on_progress: Progress | None = None,
    timeout_s: float = 30.0,
    tries: int = 5,
    wait_s: float = 1.0,
) -> bool:
    """Fetch a file, going on where an earlier call was cut off.

    A lost connection and a busy server are tried again, each time after twice the wait, unless the
    server says how long; where nobody is to be found at the first try, that is said at once. A long
    download survives any number of cuts as long as the tries between them bring something. Proxies
    are those of the environment.

    Args:
        source: an address (http, https or file) or a path.
        target: where to put it; its folder is made. A file that is there already is checked, and
            neither fetched again nor written over.
        sha256: checksum in hexadecimal; those that are given must be right.
        sha1: the same.
        md5: the same.
        size: in bytes, if known.
        on_progress: takes the bytes that are there and, if known, how many it will be.
        timeout_s: how many seconds a server may say nothing.
        tries: how many in a row may bring nothing.
        wait_s: seconds before the second try.

    Returns:
        Whether it was fetched; False where it was there.

    Raises:
        DownloadError: it could not be fetched or is not what it should be. What came is kept for
            the next call, unless it is whole and wrong.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> size = (folder / "a.mid").write_bytes(b"MThd")
        >>> download(folder / "a.mid", folder / "copy.mid", size=4)
        True
        >>> download(folder / "a.mid", folder / "copy.mid", size=4)
        False
    """
    expected = _expected(size, sha256=sha256, sha1=sha1, md5=md5)
    open_source, origin = _opener(source, timeout_s)
    target, tell = Path(target), on_progress or (lambda done, total: None)
    with disk_errors(target):
        if target.exists():
            _refuse_another(target, expected)
            if not _part_path(target).exists():
                _note_path(target).unlink(missing_ok=True)  # of a call that was killed at its end
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        with _Part(target, origin, expected) as part:
            part.take_up(tell)
            _fill(part, open_source, tell, tries, wait_s)
            part.finish(target)
    return True


def check_file(
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    sha1: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Raise if a file of this machine is not what it should be.

    Args:
        path: of the file.
        sha256: checksum in hexadecimal; those that are given must be right.
        sha1: the same.
        md5: the same.
        size: in bytes, if known.
        on_progress: takes the bytes that were read and how many it will be.

    Raises:
        DownloadError: ``"checksum"``, or it cannot be read.
    """
    shown_path, tell = str(path), on_progress or (lambda done, total: None)
    with open_regular(path, shown=shown_path, noun="file", error=DownloadError) as file:
        try:
            fault = _file_fault(file, _expected(size, sha256=sha256, sha1=sha1, md5=md5), tell)
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            raise DownloadError(f"{path} cannot be read: {said}.", code="unreadable") from error
    if fault is not None:
        raise DownloadError(f"{path} is not the file that was meant: {fault}.", code="checksum")


def _expected(size: int | None, **digests: str | None) -> _Expected:
    return _Expected(size, {name: d.lower() for name, d in digests.items() if d is not None})


def part_size(target: Path) -> int:
    """Bytes of a file that are there while it is not all there."""
    with suppress(OSError):
        return _part_path(target).stat().st_size
    return 0


def _push(file: int, start: int, size: int) -> None:
    """Let the system begin to write, so that there is less to wait for at the end."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # it is no more than advice
            os.posix_fadvise(file, start, size, os.POSIX_FADV_DONTNEED)


def _note_path(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


def _part_path(target: Path) -> Path:
    return target.with_name(target.name + ".part")


@contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn errors of the disk to one sentence; those of the network are caught where they arise."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DownloadError(
            f"{target} could not be written: {reason}; make room or choose another folder, and run "
            "again.",
            code="disk",
        ) from error


def _refuse_another(target: Path, expected: _Expected) -> None:
    """Raise if what has the name already is not what it should be."""
    if not target.is_file():
        raise DownloadError(f"{target} is there already, and no file.", code="exists")
    with target.open("rb", buffering=0) as file:
        fault = _file_fault(file, expected, lambda done, total: None)
    if fault is not None:
        raise DownloadError(
            f"{target} is there already, but {fault}: move it away or delete it, and run again.",
            code="exists",
        )


def _file_fault(file: FileIO, expected: _Expected, tell: Progress) -> str | None:
    """What is wrong with an open file."""
    size = os.fstat(file.fileno()).st_size
    if not expected.digests or expected.size not in (None, size):
        return expected.fault(size, _Digests(()))
    digests, done = _Digests(expected.digests), 0
    try:
        while chunk := file.read(CHUNK):
            digests.add(chunk)
            done += len(chunk)
            tell(done, size)
        return expected.fault(done, digests)
    finally:
        digests.close()


def _fill(part: _Part, open_source: _OpenSource, tell: Progress, tries: int, wait_s: float) -> None:
    """Fetch what a part lacks, over as many connections as it takes."""

    def give_up(reason: str) -> DownloadError:
        kept = f"; {byte_count(part.done)} are kept, run again to go on" if part.done else ""
        return DownloadError(
            f"{part.origin} could not be fetched: {reason}{kept or '; try again later'}.",
            code="unreachable",
        )

    patience = Patience(give_up, tries=tries, wait_s=wait_s)
    while not part.is_whole:
        try:
            with open_source(part) as answer:
                patience.is_answered = True
                part.begin(answer)
                tell(part.done, part.total)
                while chunk := answer.read():
                    part.write(chunk)
                    tell(part.done, part.total)
            part.end()
        except LostError as lost:
            patience.after(lost, part.done)


@dataclass(frozen=True)
class _Answer:
    """What a source gives.

    Args:
        read: gives the next bytes, none at the end.
        start: of how many bytes the first given one comes after.
        total: bytes of the whole file; None if the source does not say.
        version: what changes when the file does; None if the source does not say.
    """

    read: Callable[[], bytes]
    start: int
    total: int | None
    version: str | None


_OpenSource = Callable[["_Part"], Any]
"""Takes how far a part is; gives a context manager of an :class:`_Answer`."""


class _Part:
    """The file beside the target that grows until it is whole; locked while it is open."""

    def __init__(self, target: Path, origin: str, expected: _Expected) -> None:
        self.origin = origin
        self.expected = expected
        self.digests = _Digests(expected.digests)
        self.done = self._pushed = 0
        self.total = expected.size
        self.version: str | None = None
        self.is_whole = False
        self._path = _part_path(target)
        self._note = _note_path(target)
        self._next_note = target.with_name(target.name + ".part.json.new")
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._file = open(os.open(self._path, flags, 0o666), "r+b", buffering=0)  # noqa: SIM115

    def __enter__(self) -> _Part:
        try:
            self._lock()
        except BaseException:
            self.digests.close()
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.digests.close()
        if self._file.closed:
            return
        is_empty = os.fstat(self._file.fileno()).st_size == 0
        self._file.close()
        if is_empty:
            self._remove()

    def _lock(self) -> None:
        """Two that write one part would spoil it unseen: each knows only its own bytes."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the other may have given it its name between our opening and our locking
            is_ours = os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        except OSError:  # a file system without locks
            return
        if not is_ours:
            raise DownloadError(
                f"{self._path} is being written by another download; wait for it to end.",
                code="busy",
            )

    def take_up(self, tell: Progress) -> None:
        """Go on with what an earlier call left, if it may be part of the same file."""
        note = self._read_note()
        if note.get("source") == self.origin:
            self.version = note.get("version")
        # without a version only a checksum tells whether the rest fits
        if self.version is None and not self.expected.digests:
            self.restart()
            return
        self.total = note.get("total") if self.expected.size is None else self.expected.size
        while chunk := self._file.read(CHUNK):
            self._count(chunk)
            tell(self.done, self.total)
        if self.total is not None:
            self.is_whole = self.done == self.total
            if self.done > self.total:
                self.restart()

    def restart(self) -> None:
        """Forget all that has come."""
        self._file.seek(0)
        self._file.truncate()
        self.digests.close()
        self.digests = _Digests(self.expected.digests)
        self.done, self.total, self.version = 0, self.expected.size, None
        self._pushed = 0

    def begin(self, answer: _Answer) -> None:
        """Take the start of an answer; raise if this is not the file, or it does not fit."""
        if self.done and (answer.start == 0 or not self._continues(answer)):
            self.restart()
        if answer.start != self.done:
            raise LostError("it sent another part of the file than it was asked for", 0.0)
        if answer.total is not None:
            if self.expected.size not in (None, answer.total):
                raise DownloadError(
                    f"{self.origin} has {answer.total:,} bytes, not {self.expected.size:,}: "
                    "it is not the file that was meant.",
                    code="size",
                )
            self.total = answer.total
        self.version = answer.version
        self._refuse_full_disk()
        note = {"source": self.origin, "version": self.version, "total": self.total}
        # under one name, so that a kill leaves no more than one; a lost note does no harm
        self._next_note.write_text(json.dumps(note), encoding="utf-8")
        os.replace(self._next_note, self._note)

    def _continues(self, answer: _Answer) -> bool:
        same_version = None in (self.version, answer.version) or self.version == answer.version
        same_total = None in (self.total, answer.total) or self.total == answer.total
        return answer.start == self.done and same_version and same_total

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        total = self.total
        if total is not None and self.done + len(chunk) > total:
            self.restart()
            raise DownloadError(
                f"{self.origin} sends more than the {total:,} bytes of the file that was meant.",
                code="size",
            )
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._count(chunk)
        if self.done - self._pushed >= _PUSHED:
            _push(self._file.fileno(), self._pushed, self.done - self._pushed)
            self._pushed = self.done

    def end(self) -> None:
        """Take that the source has no more to say."""
        if self.total is not None and self.done < self.total:
            raise LostError("the connection was cut")
        self.is_whole = True

    def finish(self, target: Path) -> None:
        """Check what has come, and give it its name."""
        fault = self.expected.fault(self.done, self.digests)
        if fault is not None:
            self._file.close()
            self._remove()
            raise DownloadError(
                f"{self.origin} is not the file that was meant: {fault}; it was removed.",
                code="checksum",
            )
        os.fsync(self._file.fileno())
        self._file.close()  # Windows renames no open file
        os.replace(self._path, target)
        sync_folder(target.parent)
        self._remove()

    def _count(self, chunk: bytes) -> None:
        self.digests.add(chunk)
        self.done += len(chunk)

    def _read_note(self) -> dict[str, Any]:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            version = note.get("version")
        except (OSError, ValueError, AttributeError):
            return {}
        # a version goes into a header
        is_version = version is None or (isinstance(version, str) and version.isprintable())
        return note if is_version and isinstance(note.get("total"), int | None) else {}

    def _refuse_full_disk(self) -> None:
        if self.total is None:
            return
        free = shutil.disk_usage(self._path.parent).free
        if free < self.total - self.done:
            raise DownloadError(
                f"{self._path.parent} has {byte_count(free)} free, but "
                f"{byte_count(self.total - self.done)} are to come: free some space and run again.",
                code="disk",
            )

    def _remove(self) -> None:
        for path in (self._path, self._note, self._next_note):
            with suppress(OSError):
                path.unlink()


def _opener(source: str | os.PathLike[str], timeout_s: float) -> tuple[_OpenSource, str]:
    """What opens a source, and how messages name it."""
    path = local_path(source)
    if path is not None:
        local = Path(os.path.abspath(path))
        return lambda part: _open_local(local, part), str(local)
    site = Site(str(source), timeout_s)
    return lambda part: _open_web(site, part), site.origin


@contextmanager
def _open_local(path: Path, part: _Part) -> Iterator[_Answer]:
    with open_regular(path, shown=str(path), noun="file", error=DownloadError) as file:
        state = os.fstat(file.fileno())
        version = f"{state.st_size}-{state.st_mtime_ns}"
        start = part.done if part.version in (None, version) else 0
        file.seek(start)

        def read() -> bytes:
            try:
                return file.read(CHUNK)
            except OSError as error:
                said = (error.strerror or str(error)).lower()
                raise DownloadError(f"{path} cannot be read: {said}.", code="unreadable") from error

        yield _Answer(read, start, state.st_size, version)


@contextmanager
def _open_web(site: Site, part: _Part) -> Iterator[_Answer]:
    headers = {}
    if part.done:
        headers["Range"] = f"bytes={part.done}-"
        if part.version is not None:
            headers["If-Range"] = part.version
    try:
        with site.ask(headers) as response:
            start, total = _extent(response, part)
            version = strong_version(response.headers)
            yield _Answer(lambda: site.read(response), start, total, version)
    except HTTPError as error:
        if error.code == 416 and part.done:  # what we have is longer than what there is now
            part.restart()
            raise LostError("it has no such part of the file", 0.0) from error
        raise DownloadError(
            f"{part.origin} is refused by the server: status {error.code} {error.reason}.",
            code="refused",
        ) from error


def _extent(response: http.client.HTTPResponse, part: _Part) -> tuple[int, int | None]:
    """Where an answer starts and how long the whole file is, in bytes."""
    if response.status == 200:
        is_chunked = response.headers.get("Transfer-Encoding") is not None
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() and not is_chunked else None
    extent = content_range(response.headers)
    if extent is None:
        part.restart()
        raise LostError("it does not say which part of the file it sends", 0.0)
    return extent
