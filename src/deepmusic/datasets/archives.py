"""Untrusted zip and tar archives: unpacked whole, or single members of a zip on the web.

Only names and bytes are taken from an archive, no permissions, owners or links. It is unpacked into
a hidden folder beside the final one, which gets its name when it is complete; what a killed call
left is removed by the next one.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from remotezip import RangeNotSupported, RemoteZip, RemoteZipError
from rich.filesize import decimal as format_bytes
from urllib3.exceptions import HTTPError

from deepmusic.datasets.download import (
    CHUNK,
    TIMEOUT_S,
    DownloadError,
    Progress,
    disk_errors,
    display_source,
    is_url,
    network_reason,
    open_session,
    refuse_status,
)
from deepmusic.errors import ReasonError, os_reason
from deepmusic.files import open_regular, sync_folder, write_atomically

MAX_MEMBERS = 1_000_000
MAX_RATIO = 200  # of the unpacked size to that of the archive,
ALWAYS_ALLOWED = 16 << 20  # if it unpacks to more than these bytes
BAD_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError,
               RuntimeError, ValueError)  # fmt: skip
"""What the standard library raises for damaged archives, encryption and unknown compression."""


class ArchiveError(ReasonError):
    """An archive cannot be unpacked, or must not be.

    Codes: ``"unsafe"`` (a path that leads out of the folder, a link, a device), ``"too_large"``
    (a zip bomb), ``"damaged"`` (not a complete zip or tar archive), ``"layout"`` (without the
    expected folder).
    """


class Member(NamedTuple):
    """An entry of an archive."""

    name: str
    size: int  # bytes, unpacked
    position: int  # bytes of the archive before it
    is_folder: bool
    open: Callable[[], Any] | None  # gives a binary file; None for folders, links and devices


def read_members(archive: Path) -> Iterator[Member]:
    """The members of a zip or tar archive (plain, gzip, bzip2, xz); read each before the next."""
    with open(archive, "rb") as file:
        # zipfile.is_zipfile looks at the end, where a tar archive may contain a zip
        if file.read(2) == b"PK":
            with zipfile.ZipFile(file) as packed:
                for info in packed.infolist():
                    kind = stat.S_IFMT(info.external_attr >> 16)
                    is_folder = info.is_dir() and kind in (0, stat.S_IFDIR)
                    is_file = not info.is_dir() and kind in (0, stat.S_IFREG)
                    read = partial(packed.open, info) if is_file else None
                    yield Member(info.filename, info.file_size, info.header_offset, is_folder, read)
            return
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            for entry in tar:
                extract = partial(tar.extractfile, entry) if entry.isfile() else None
                yield Member(entry.name, entry.size, file.tell(), entry.isdir(), extract)
            while tar.fileobj and tar.fileobj.read(CHUNK):
                pass  # to the end, where gzip has its checksum


def unpack_archive(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    archive_folder: str = "",
    *,
    on_progress: Progress | None = None,
) -> None:
    """Unpack a zip or tar archive (plain, gzip, bzip2, xz) into a new folder.

    Args:
        archive: path of the archive.
        folder: what it becomes; must not exist. Its parent is made.
        archive_folder: the folder inside the archive to take; all of it by default.
        on_progress: takes the bytes of the archive that are done, and all of them.

    Raises:
        ArchiveError: it holds paths or kinds of files that are refused, or is damaged.
        DownloadError: the archive cannot be read, the folder exists, or the disk is full.
    """
    archive, folder, tell = Path(archive), Path(folder), on_progress or (lambda done, total: None)
    open_regular(archive, name=str(archive), noun="archive", error=DownloadError).close()
    staging = remove_staging(folder)
    if os.path.lexists(folder):
        message = f"{folder} already exists: move or delete it and run again."
        raise DownloadError(message, code="exists")
    try:
        with disk_errors(folder), archive_errors(archive):
            staging.mkdir(parents=True)
            size, unpacked_size = archive.stat().st_size, 0
            for number, member in enumerate(read_members(archive), start=1):
                unpacked_size += member.size
                _refuse(member, number, unpacked_size, size)
                tell(member.position, size)
                target = staging / member.name
                folder_of = target if member.is_folder else target.parent
                folder_of.mkdir(parents=True, exist_ok=True)
                if member.open:
                    with member.open() as content, open(target, "wb") as file:
                        shutil.copyfileobj(content, file)
            tell(size, size)
            inside = staging / archive_folder
            if not inside.is_dir() or not any(inside.iterdir()):
                message = f"it has no folder {archive_folder!r} with files."
                raise ArchiveError(message, code="layout")
            os.rename(inside, folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_staging(folder: Path) -> Path:
    """Where an archive is unpacked until it is complete; what a kill left there is removed."""
    staging = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    return staging


def _refuse(member: Member, number: int, unpacked_size: int, archive_size: int) -> None:
    """Raise if a member must not be unpacked; number and unpacked size include those before it."""
    name = member.name
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or ".." in parts or re.match("[A-Za-z]:", name):
        raise ArchiveError(f"{name!r} in it leads out of the folder.", code="unsafe")
    if not (member.is_folder or member.open):
        raise ArchiveError(f"{name!r} in it is a link or a device.", code="unsafe")
    if number > MAX_MEMBERS:
        raise ArchiveError(f"it has more than {MAX_MEMBERS:,} members.", code="too_large")
    if unpacked_size > max(ALWAYS_ALLOWED, MAX_RATIO * archive_size):
        message = f"it would unpack to {format_bytes(unpacked_size)}, too much for its size."
        raise ArchiveError(message, code="too_large")


@contextmanager
def archive_errors(archive: str | os.PathLike[str]) -> Iterator[None]:
    """Raise what is wrong with an archive as one ArchiveError that names it."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{archive} is not unpacked: {error}", code=error.code) from error
    except (*BAD_ARCHIVE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the archive
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(
            f"{archive} is damaged, or not a zip or tar archive that can be read ({reason}); "
            "download it again.",
            code="damaged",
        ) from error


class ZipReader:
    """A zip archive on the web or on this machine, of which members are saved one by one.

    Of an archive on the web only the directory is read, by HTTP ranges, and the members asked for.

    Args:
        source: an http(s) address or a local path.

    Raises:
        DownloadError: the archive is not available, or its server only sends whole files.
        ArchiveError: it is damaged or not a zip archive.

    Example:
        >>> with ZipReader("https://example.org/clips.zip") as archive:  # doctest: +SKIP
        ...     archive.save("clips/000/000002.mp3", "000002.mp3")
        True
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        self._origin = display_source(source)
        with self._errors(), ExitStack() as stack:
            if is_url(source):
                session = stack.enter_context(open_session())
                archive = RemoteZip(os.fspath(source), session=session, timeout=TIMEOUT_S)
            else:
                file = open_regular(source, name=self._origin, noun="archive", error=DownloadError)
                archive = zipfile.ZipFile(stack.enter_context(file))
            self._archive: zipfile.ZipFile = stack.enter_context(archive)
            self._stack = stack.pop_all()

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def save(self, name: str, target: str | os.PathLike[str]) -> bool:
        """Write a member to a file that appears when it is complete and its CRC-32 right.

        Its folder is made. An existing file is checked and not overwritten.

        Returns:
            Whether it was written; False where it already existed.

        Raises:
            DownloadError: there is no such member, it is not available, another file has the
                name, or its folder cannot be made.
            ArchiveError: the member is damaged or encrypted.
            DeepMusicError: the file cannot be written, such as on a full disk.
        """
        target, origin = Path(target), f"{name!r} of {self._origin}"
        member = self._archive.NameToInfo.get(name)
        if member is None:
            raise DownloadError(f"{origin} does not exist.", code="missing")
        with disk_errors(target):
            if target.exists():
                content = target.read_bytes()
                if (len(content), zlib.crc32(content)) == (member.file_size, member.CRC):
                    return False
                message = f"{target} already exists, but is not {origin}: move or delete it."
                raise DownloadError(message, code="exists")
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                self._errors(),
                self._archive.open(member) as inside,  # compares the CRC-32 at the end
                write_atomically(target, "wb") as file,
            ):
                shutil.copyfileobj(inside, file)
        return True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise errors of the network and of the archive as ours."""
        try:
            with archive_errors(self._origin):
                yield
        except RangeNotSupported as error:
            message = f"The server of {self._origin} only sends whole files: download the archive."
            raise DownloadError(message, code="refused") from error
        except (RemoteZipError, HTTPError) as error:
            cause = error.__context__ or error
            response = getattr(cause, "response", None)
            if response is not None:
                refuse_status(response, self._origin)
            message = f"{self._origin} could not be read: {network_reason(cause)}; try again later."
            raise DownloadError(message, code="unreachable") from error
        except OSError as error:
            message = f"{self._origin} could not be read: {os_reason(error)}; run again."
            raise DownloadError(message, code="disk") from error
