"""Single members of a zip archive that stays where it is, on the web or on this machine.

Of an archive on the web only its directory is fetched, once, by HTTP ranges, and then the bytes of
the members that are asked for, one request each. The directory is kept on disk; an archive that
changed meanwhile is noticed, and its directory fetched anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from io import FileIO
from itertools import chain
from pathlib import Path
from urllib.error import HTTPError

from deepmusic.datasets.download import Progress, disk_errors
from deepmusic.datasets.web import (
    CHUNK,
    DownloadError,
    LostError,
    Patience,
    Site,
    content_range,
    local_path,
)
from deepmusic.datasets.zip_directory import (
    LOCAL_HEADER,
    TAIL,
    ArchiveError,
    Member,
    Span,
    find_directory,
    packed_start,
    read_members,
    unpacked_chunks,
)
from deepmusic.files import open_regular, write_atomically

_FORMAT = "deepmusic zip index 1"


class _ChangedError(Exception):
    """The archive is another one than its directory was taken from."""


@dataclass(frozen=True)
class _Version:
    """What tells one state of an archive from another.

    Args:
        size: its bytes.
        etag: its strong entity tag, where there is one.
        modified: the date of its last change, where there is one.
    """

    size: int
    etag: str | None
    modified: str | None

    def conditions(self) -> dict[str, str]:
        """Headers by which a server gives nothing of another version."""
        if self.etag is not None:
            return {"If-Match": self.etag}
        return {} if self.modified is None else {"If-Unmodified-Since": self.modified}

    def may_be(self, other: _Version) -> bool:
        """Whether another state may be the same; what a server does not say is no difference."""
        if self.size != other.size:
            return False
        if self.etag is not None and other.etag is not None:
            return self.etag == other.etag
        return None in (self.modified, other.modified) or self.modified == other.modified


class RemoteZip:
    """A zip archive, of which members are read one by one.

    Args:
        source: an address (http, https or file) or a path.
        cache: a folder to keep the directory of an archive on the web in; None keeps it in memory.
        timeout_s: how many seconds a server may say nothing.
        tries: how many requests in a row may bring nothing.
        wait_s: seconds before the second try, then twice as long each time.
        on_progress: takes the bytes of the directory that are there and how many it will be, where
            it is fetched.

    Raises:
        DownloadError: the archive cannot be had, such as ``"no_ranges"`` where its server sends
            only the whole of it.
        ArchiveError: it is no zip archive, or a damaged one.

    Example:
        >>> import zipfile
        >>> with zipfile.ZipFile("set.zip", "w") as archive:
        ...     archive.writestr("set/000/000002.mp3", b"sound")
        >>> RemoteZip("set.zip").read("set/000/000002.mp3")
        b'sound'
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        cache: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        tries: int = 5,
        wait_s: float = 1.0,
        on_progress: Progress | None = None,
    ) -> None:
        self._tell = on_progress or (lambda done, total: None)
        path = local_path(source)
        self._place: _OnDisk | _OnWeb
        if path is not None:
            self._place = _OnDisk(Path(os.path.abspath(path)))
        else:
            site = Site(str(source), timeout_s)
            self._place = _OnWeb(site, tries, wait_s)
        self._cache = None
        if cache is not None and path is None:
            key = hashlib.sha256(str(source).encode()).hexdigest()[:16]
            self._cache = Path(cache) / f".{key}.zip-index"
        self._members: dict[str, Member] = {}
        self._open_index()

    @property
    def origin(self) -> str:
        """The archive as messages name it."""
        return self._place.origin

    @property
    def members(self) -> Mapping[str, Member]:
        """What is in it, by name, in the order of its directory."""
        return self._members

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a member, in pieces; the last are given before all are known to be right.

        Args:
            name: of the member.

        Raises:
            DownloadError: ``"missing"``: there is no such member; ``"changed"``: the archive
                changes while it is read; or it cannot be had.
            ArchiveError: the member is damaged, encrypted, or packed by an unknown method.
        """
        is_new, begun = False, False
        while True:
            member = self._member(name)
            try:
                with self._faults():
                    for chunk in unpacked_chunks(member, self._packed(member)):
                        begun = True
                        yield chunk
                return
            except _ChangedError:
                if is_new or begun:
                    raise DownloadError(
                        f"{self.origin} changes while it is read; try again later.", code="changed"
                    ) from None
                self._read_index()
                is_new = True

    def read(self, name: str, *, sha1: str | None = None) -> bytes:
        """The bytes of a member, checked.

        Args:
            name: of the member.
            sha1: its checksum in hexadecimal, if known; its CRC-32 is always checked.

        Raises:
            DownloadError, ArchiveError: as in :meth:`chunks`; ``"checksum"`` for another SHA-1.
        """
        return b"".join(self._checked(name, sha1))

    def save(
        self,
        name: str,
        target: str | os.PathLike[str],
        *,
        sha1: str | None = None,
        on_progress: Progress | None = None,
    ) -> bool:
        """Write a member to a file, which appears when all of it is there and right.

        Args:
            name: of the member.
            target: the file; its folder is made. One that is there already is checked, and not
                written over.
            sha1: as in :meth:`read`.
            on_progress: takes the bytes that are there and how many it will be.

        Returns:
            Whether it was fetched; False where it was there.

        Raises:
            DownloadError, ArchiveError: as in :meth:`read`; ``"exists"`` if another file has the
                name, ``"disk"`` if it cannot be written.
        """
        target, member = Path(target), self._member(name)
        tell = on_progress or (lambda done, total: None)
        with disk_errors(target):
            if target.exists():
                if not _is_member(target, member):
                    raise DownloadError(
                        f"{target} is there already, but is not {name!r} of {self.origin}: move it "
                        "away or delete it, and run again.",
                        code="exists",
                    )
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(target, "wb") as file:
                done = 0
                for chunk in self._checked(name, sha1):
                    file.write(chunk)
                    done += len(chunk)
                    tell(done, member.size)
        return True

    def _checked(self, name: str, sha1: str | None) -> Iterator[bytes]:
        known = hashlib.sha1(usedforsecurity=False)
        for chunk in self.chunks(name):
            if sha1 is not None:
                known.update(chunk)
            yield chunk
        if sha1 is not None and known.hexdigest() != sha1.lower():
            raise ArchiveError(
                f"{name!r} of {self.origin} is not what it should be: its sha1 is "
                f"{known.hexdigest()}, not {sha1.lower()}.",
                code="checksum",
            )

    def _member(self, name: str) -> Member:
        try:
            return self._members[name]
        except KeyError:
            raise DownloadError(f"{self.origin} holds no {name!r}.", code="missing") from None

    def _packed(self, member: Member) -> Iterator[bytes]:
        """The packed bytes of a member, by one request where its header is as foretold."""
        size = min(member.header_size + member.packed_size, self._place.version.size - member.start)
        pieces = self._place.chunks(member.start, size)
        header = b""
        for piece in pieces:
            header += piece
            if len(header) >= member.header_size or len(header) == size:
                break
        if len(header) < LOCAL_HEADER.size and len(header) < size:
            raise ArchiveError("it ends within a member; fetch it again.", code="damaged")
        begin = packed_start(member, header)
        left = member.packed_size
        # the local header may be longer than the directory foretold
        more = begin + left - size
        if more > 0:
            pieces = chain(pieces, self._place.chunks(member.start + size, more))
        for piece in chain((header,), pieces):
            data = piece
            if begin:
                data, begin = data[begin:], max(0, begin - len(data))
            data = data[:left]
            left -= len(data)
            if data:
                yield data
            if not left:
                return

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Say of which archive a fault is."""
        try:
            yield
        except ArchiveError as error:
            raise ArchiveError(f"{self.origin} cannot be read: {error}", code=error.code) from error

    def _open_index(self) -> None:
        if self._cache is None or not self._load_index(self._cache):
            self._read_index()

    def _read_index(self) -> None:
        """Fetch the directory."""
        for is_last in (False, True):
            try:
                with self._faults():
                    tail = self._place.tail()
                    span = find_directory(tail, self._place.version.size)
                    before = self._place.version.size - len(tail)
                    if span.start >= before:
                        directory = tail[span.start - before :][: span.size]
                    else:
                        missing = min(before, span.start + span.size) - span.start
                        pieces = []
                        for piece in self._place.chunks(span.start, missing):
                            pieces.append(piece)
                            self._tell(sum(map(len, pieces)), span.size)
                        directory = b"".join(pieces) + tail[: span.size - missing]
                    self._take(directory, span)
                break
            except _ChangedError:
                if is_last:
                    raise DownloadError(
                        f"{self.origin} changes while it is read; try again later.", code="changed"
                    ) from None
        if self._cache is not None:
            self._save_index(self._cache, directory, span)

    def _take(self, directory: bytes, span: Span) -> None:
        members = read_members(directory, span)
        self._members = {member.name: member for member in members}
        if len(self._members) != len(members):
            raise ArchiveError("two of its members have one name.", code="duplicate")

    def _save_index(self, path: Path, directory: bytes, span: Span) -> None:
        note = {
            "format": _FORMAT,
            "archive": self.origin,
            "version": vars(self._place.version),
            "span": vars(span),
            "crc": zlib.crc32(directory),
        }
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(path, "wb") as file:
                file.write(json.dumps(note).encode() + b"\n")
                file.write(zlib.compress(directory))

    def _load_index(self, path: Path) -> bool:
        """Take the directory that an earlier call kept; whether that went well."""
        # whatever is wrong with it, it is fetched anew
        with suppress(OSError, ValueError, KeyError, TypeError, zlib.error, ArchiveError):
            line, _, packed = path.read_bytes().partition(b"\n")
            note = json.loads(line)
            version, span = _Version(**note["version"]), Span(**note["span"])
            directory = zlib.decompressobj().decompress(packed, span.size + 1)
            if note["format"] == _FORMAT and zlib.crc32(directory) == note["crc"]:
                version.conditions()
                self._take(directory, span)
                self._place.version = version
                return True
        return False


class _OnDisk:
    """An archive on this machine."""

    def __init__(self, path: Path) -> None:
        self.origin = str(path)
        self._path = path
        with self._open() as file:
            self.version = _Version(os.fstat(file.fileno()).st_size, None, None)

    def tail(self) -> bytes:
        """The last bytes."""
        size = min(TAIL, self.version.size)
        return b"".join(self.chunks(self.version.size - size, size))

    def chunks(self, start: int, size: int) -> Iterator[bytes]:
        """Some bytes from a place on."""
        with self._open() as file:
            file.seek(start)
            while size > 0:
                try:
                    chunk = file.read(min(CHUNK, size))
                except OSError as error:
                    said = (error.strerror or str(error)).lower()
                    raise DownloadError(
                        f"{self.origin} cannot be read: {said}.", code="unreadable"
                    ) from error
                if not chunk:
                    return
                size -= len(chunk)
                yield chunk

    def _open(self) -> FileIO:
        return open_regular(self._path, shown=self.origin, noun="zip archive", error=DownloadError)


class _OnWeb:
    """An archive on the web, by requests for parts of one version of it."""

    def __init__(self, site: Site, tries: int, wait_s: float) -> None:
        self.origin = site.origin
        self.version = _Version(0, None, None)
        self._site = site
        self._tries = tries
        self._wait_s = wait_s

    def tail(self) -> bytes:
        """The last bytes of the version that is there now."""
        patience = self._patience()
        while True:
            try:
                return self._tail(patience)
            except LostError as lost:
                patience.after(lost, 0)

    def _tail(self, patience: Patience) -> bytes:
        try:
            with self._site.ask({"Range": f"bytes=-{TAIL}"}) as response:
                patience.is_answered = True
                headers = response.headers
                length = headers.get("Content-Length", "")
                if response.status == 200:  # all of it, which may be what was asked for
                    total = int(length) if length.isdecimal() else None
                    if total is None or total > TAIL:
                        raise self._no_ranges()
                    start = 0
                else:
                    start, total = self._extent(response)
                if total is None:
                    raise self._no_ranges()
                size = min(TAIL, total)
                if start != total - size:
                    raise LostError("it sent another part of the file than it was asked for", 0.0)
                tail = b"".join(self._read(response, size))
        except HTTPError as error:
            raise ArchiveError("it is empty, or no part of it is given.", code="not_archive") from (
                error
            )
        if len(tail) < size:
            raise LostError("the connection was cut")
        tag = headers.get("ETag")
        is_strong = tag is not None and not tag.startswith("W/")
        self.version = _Version(total, tag if is_strong else None, headers.get("Last-Modified"))
        return tail

    def chunks(self, start: int, size: int) -> Iterator[bytes]:
        """Some bytes from a place on, over as many connections as it takes."""
        patience, done = self._patience(), 0
        while done < size:
            try:
                for chunk in self._part(patience, start + done, size - done):
                    done += len(chunk)
                    yield chunk
                if done < size:
                    raise LostError("the connection was cut")
            except LostError as lost:
                patience.after(lost, done)

    def _part(self, patience: Patience, start: int, size: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-{start + size - 1}", **self.version.conditions()}
        try:
            with self._site.ask(headers) as response:
                patience.is_answered = True
                if response.status == 200:
                    raise self._no_ranges()
                first, total = self._extent(response)
                now = _Version(
                    self.version.size if total is None else total,
                    response.headers.get("ETag"),
                    response.headers.get("Last-Modified"),
                )
                if not self.version.may_be(now):
                    raise _ChangedError
                if first != start:
                    raise LostError("it sent another part of the file than it was asked for", 0.0)
                yield from self._read(response, size)
        except HTTPError as error:  # 412 by our condition, or 416 since it is shorter now
            raise _ChangedError from error

    def _read(self, response: HTTPResponse, size: int) -> Iterator[bytes]:
        while size > 0 and (chunk := self._site.read(response, min(CHUNK, size))):
            size -= len(chunk)
            yield chunk

    def _extent(self, response: HTTPResponse) -> tuple[int, int | None]:
        extent = content_range(response.headers)
        if extent is None:
            raise LostError("it does not say which part of the file it sends", 0.0)
        return extent

    def _no_ranges(self) -> DownloadError:
        return DownloadError(
            f"{self.origin} is sent only as a whole, which is not fetched for a part of it: give "
            "another source, or download the whole archive.",
            code="no_ranges",
        )

    def _patience(self) -> Patience:
        def give_up(reason: str) -> DownloadError:
            return DownloadError(
                f"{self.origin} could not be read: {reason}; try again later.", code="unreachable"
            )

        return Patience(give_up, tries=self._tries, wait_s=self._wait_s)


def _is_member(path: Path, member: Member) -> bool:
    """Whether a file has the size and the CRC-32 of a member."""
    if not path.is_file() or path.stat().st_size != member.size:
        return False
    crc = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc == member.crc
