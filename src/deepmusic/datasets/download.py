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
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    url2pathname,
)

from deepmusic.errors import ReasonError
from deepmusic.files import open_regular, sync_folder, write_atomically
from deepmusic.version import __version__

try:
    import fcntl
except ImportError:  # Windows: there two downloads of one file at a time are not noticed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "DownloadError",
    "Progress",
    "byte_count",
    "disk_errors",
    "download",
    "local_path",
    "shown",
]

Progress = Callable[[int, int | None], None]
"""Takes how many bytes are there, and how many it will be if that is known."""

_CHUNK = 1 << 20
_LONGEST_WAIT_S = 60.0
_LONGEST_ASKED_WAIT_S = 300.0
"""A server that asks to be left alone for longer is not waited for."""
_WEB = ("http", "https")
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be another one next time."""


class DownloadError(ReasonError):
    """A file could not be fetched, or is not the one that was meant.

    A code is such as ``"missing"``, ``"checksum"``, ``"unreachable"`` or ``"disk"``.
    """


class _LostError(Exception):
    """A connection was lost, or not had; it may go better next time.

    Args:
        reason: a few words for a person.
        wait_s: how long the server asked to wait; None where it did not say.
        is_absent: whether there was nobody to talk to.
    """

    def __init__(
        self, reason: str, wait_s: float | None = None, *, is_absent: bool = False
    ) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.is_absent = is_absent


@dataclass(frozen=True)
class _Expected:
    """What a file must be: its size in bytes, and digests by the name of their algorithm."""

    size: int | None
    digests: dict[str, str]

    def hashes(self) -> dict[str, Any]:
        return {name: hashlib.new(name, usedforsecurity=False) for name in self.digests}

    def fault(self, size: int, hashes: dict[str, Any]) -> str | None:
        """What is wrong with a file of this size and these hashes."""
        if self.size is not None and size != self.size:
            return f"it has {size:,} bytes, not {self.size:,}"
        for name, wanted in self.digests.items():
            if (found := hashes[name].hexdigest()) != wanted:
                return f"its {name} is {found}, not {wanted}"
        return None


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
    given = {"sha256": sha256, "sha1": sha1, "md5": md5}
    expected = _Expected(size, {name: d.lower() for name, d in given.items() if d is not None})
    open_source, origin = _opener(source, timeout_s)
    target, tell = Path(target), on_progress or (lambda done, total: None)
    with disk_errors(target):
        if target.exists():
            _refuse_another(target, expected)
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        with _Part(target, origin, expected) as part:
            part.take_up(tell)
            _fill(part, open_source, tell, tries, wait_s)
            part.finish(target)
    return True


def local_path(source: str | os.PathLike[str]) -> Path | None:
    """The path that a source means; None if it is an address on the web.

    Raises:
        DownloadError: it is an address of another kind than http, https and file.
    """
    if not isinstance(source, str):
        return Path(source)
    scheme, colon, rest = source.partition("://")
    if not colon:
        return Path(source)
    if scheme.lower() == "file":
        host, slash, path = rest.partition("/")
        if host in ("", "localhost"):
            return Path(url2pathname(slash + path))
    elif scheme.lower() in _WEB:
        return None
    raise DownloadError(
        f"{shown(source)} is not fetched: only http and https addresses and files of this machine.",
        code="scheme",
    )


def shown(source: str | os.PathLike[str]) -> str:
    """A source as messages name it: an address without its query, which may hold a secret."""
    text = os.fspath(source)
    return text.partition("?")[0].partition("#")[0] if "://" in text else text


def byte_count(size: float) -> str:
    """A number of bytes in words, such as ``"96.1 kB"``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


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
    hashes = expected.hashes()
    with target.open("rb", buffering=0) as file:
        while hashes and (chunk := file.read(_CHUNK)):
            for known in hashes.values():
                known.update(chunk)
        fault = expected.fault(file.seek(0, os.SEEK_END), hashes)
    if fault is not None:
        raise DownloadError(
            f"{target} is there already, but {fault}: move it away or delete it, and run again.",
            code="exists",
        )


def _fill(part: _Part, open_source: _OpenSource, tell: Progress, tries: int, wait_s: float) -> None:
    """Fetch what a part lacks, over as many connections as it takes."""
    failures, furthest, is_answered = 0, part.done, False
    while not part.is_whole:
        try:
            with open_source(part) as answer:
                is_answered = True
                part.begin(answer)
                tell(part.done, part.total)
                while chunk := answer.read():
                    part.write(chunk)
                    tell(part.done, part.total)
            part.end()
        except _LostError as lost:
            # a server that starts anew each time and always breaks off brings nothing
            failures = 1 if part.done > furthest else failures + 1
            furthest = max(furthest, part.done)
            if failures >= tries or (lost.is_absent and not is_answered):
                raise _given_up(part, str(lost)) from lost
            wait = min(wait_s * 2 ** (failures - 1), _LONGEST_WAIT_S)
            time.sleep(wait if lost.wait_s is None else lost.wait_s)


def _given_up(part: _Part, reason: str) -> DownloadError:
    kept = f"; {byte_count(part.done)} are kept, run again to go on" if part.done else ""
    return DownloadError(
        f"{part.origin} could not be fetched: {reason}{kept or '; try again later'}.",
        code="unreachable",
    )


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
        self.hashes = expected.hashes()
        self.done = 0
        self.total = expected.size
        self.version: str | None = None
        self.is_whole = False
        self._path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._file = open(os.open(self._path, flags, 0o666), "r+b", buffering=0)  # noqa: SIM115

    def __enter__(self) -> _Part:
        try:
            self._lock()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        while chunk := self._file.read(_CHUNK):
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
        self.hashes = self.expected.hashes()
        self.done, self.total, self.version = 0, self.expected.size, None

    def begin(self, answer: _Answer) -> None:
        """Take the start of an answer; raise if this is not the file, or it does not fit."""
        if self.done and (answer.start == 0 or not self._continues(answer)):
            self.restart()
        if answer.start != self.done:
            raise _LostError("it sent another part of the file than it was asked for", 0.0)
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
        with write_atomically(self._note) as file:
            json.dump(note, file)

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

    def end(self) -> None:
        """Take that the source has no more to say."""
        if self.total is not None and self.done < self.total:
            raise _LostError("the connection was cut")
        self.is_whole = True

    def finish(self, target: Path) -> None:
        """Check what has come, and give it its name."""
        fault = self.expected.fault(self.done, self.hashes)
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
        for known in self.hashes.values():
            known.update(chunk)
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
        for path in (self._path, self._note):
            with suppress(OSError):
                path.unlink()


def _opener(source: str | os.PathLike[str], timeout_s: float) -> tuple[_OpenSource, str]:
    """What opens a source, and how messages name it."""
    path = local_path(source)
    if path is not None:
        local = Path(os.path.abspath(path))
        return lambda part: _open_local(local, part), str(local)
    url = _quoted(str(source))
    web = _web_opener()
    return lambda part: _open_web(web, url, part, timeout_s), shown(str(source))


@contextmanager
def _open_local(path: Path, part: _Part) -> Iterator[_Answer]:
    with open_regular(path, shown=str(path), noun="file", error=DownloadError) as file:
        state = os.fstat(file.fileno())
        version = f"{state.st_size}-{state.st_mtime_ns}"
        start = part.done if part.version in (None, version) else 0
        file.seek(start)

        def read() -> bytes:
            try:
                return file.read(_CHUNK)
            except OSError as error:
                said = (error.strerror or str(error)).lower()
                raise DownloadError(f"{path} cannot be read: {said}.", code="unreadable") from error

        yield _Answer(read, start, state.st_size, version)


class _WebRedirects(HTTPRedirectHandler):
    """Follows from the web to the web alone; the default goes to ftp as well."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Request | None:
        if urlsplit(newurl).scheme.lower() not in _WEB:
            fp.close()
            raise DownloadError(
                f"{shown(req.full_url)} redirects to {shown(newurl)}, which is not fetched: only "
                "http and https.",
                code="scheme",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _web_opener() -> OpenerDirector:
    """An opener that knows http and https, through the environment's proxies, and nothing else."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        _WebRedirects(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _quoted(url: str) -> str:
    """An address in the letters that may stand in one."""
    try:
        parts = urlsplit(url)
        is_plain = bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_plain = False
    if not is_plain:
        raise DownloadError(
            f"{shown(url.rpartition('@')[2])} names no host, or a user; give a plain address.",
            code="scheme",
        )
    path, query = (quote(text, safe="/%:=&?~+!$,;'()*[]@") for text in (parts.path, parts.query))
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


@contextmanager
def _open_web(opener: OpenerDirector, url: str, part: _Part, timeout_s: float) -> Iterator[_Answer]:
    headers = {"User-Agent": f"deepmusic/{__version__}", "Accept-Encoding": "identity"}
    if part.done:
        headers["Range"] = f"bytes={part.done}-"
        if part.version is not None:
            headers["If-Range"] = part.version
    try:
        response = opener.open(Request(url, headers=headers), timeout=timeout_s)
    except HTTPError as error:
        with error:
            raise _refusal(error, part) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise _lost(error, part.origin, timeout_s) from error

    def read() -> bytes:
        try:
            return bytes(response.read1(_CHUNK))
        except (OSError, http.client.HTTPException) as error:
            raise _lost(error, part.origin, timeout_s) from error

    with response:
        start, total = _extent(response, part)
        yield _Answer(read, start, total, _version(response.headers))


def _extent(response: http.client.HTTPResponse, part: _Part) -> tuple[int, int | None]:
    """Where an answer starts and how long the whole file is, in bytes."""
    coding = response.headers.get("Content-Encoding", "identity")
    if coding != "identity" or response.status not in (200, 206):
        raise DownloadError(
            f"{part.origin} answers with status {response.status} and coding {coding}, which is "
            "not the file itself.",
            code="answer",
        )
    if response.status == 200:
        is_chunked = response.headers.get("Transfer-Encoding") is not None
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() and not is_chunked else None
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first = span.partition("-")[0].strip()
    if not first.isdecimal():
        part.restart()
        raise _LostError("it does not say which part of the file it sends", 0.0)
    return int(first), int(total) if total.isdecimal() else None


def _version(headers: Message) -> str | None:
    """What ``If-Range`` takes: a strong entity tag, else the date of the last change."""
    tag: str | None = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _refusal(error: HTTPError, part: _Part) -> Exception:
    """What an answer means that is no success."""
    if error.code in _PASSING:
        wait_s = _asked_wait_s(error.headers.get("Retry-After"))
        if wait_s is not None and wait_s > _LONGEST_ASKED_WAIT_S:
            return _given_up(part, f"the server asks to wait for {wait_s / 60:.0f} minutes")
        return _LostError(f"the server is busy or out of order (status {error.code})", wait_s)
    if error.code == 416 and part.done:  # what we have is longer than what there is now
        part.restart()
        return _LostError("it has no such part of the file", 0.0)
    if 300 <= error.code < 400:
        return DownloadError(
            f"{part.origin} redirects in a circle, or to what is neither http nor https; it is not "
            "followed.",
            code="scheme",
        )
    if error.code in (404, 410):
        return DownloadError(
            f"{part.origin} is not there (status {error.code}): give another source.",
            code="missing",
        )
    return DownloadError(
        f"{part.origin} is refused by the server: status {error.code} {error.reason}.",
        code="refused",
    )


def _asked_wait_s(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` asks for, which is a number or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _lost(error: Exception, origin: str, timeout_s: float) -> Exception:
    """What an error of the network means."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"{origin} could not be fetched: its certificate is not trusted "
            f"({reason.verify_message}).",
            code="refused",
        )
    if isinstance(reason, http.client.InvalidURL | UnicodeError):
        return DownloadError(f"{origin} is no address that can be fetched.", code="scheme")
    if isinstance(reason, TimeoutError):
        return _LostError(f"the server said nothing for {timeout_s:g} s")
    if isinstance(reason, socket.gaierror):
        return _LostError("its host is not known, or there is no network", is_absent=True)
    if isinstance(reason, ConnectionRefusedError):
        return _LostError("the server takes no connections", is_absent=True)
    if isinstance(reason, ConnectionError | http.client.HTTPException):
        return _LostError("the connection was cut")
    said = getattr(reason, "strerror", None) or str(reason)
    return _LostError(" ".join(said.lower().split()) or type(reason).__name__)
