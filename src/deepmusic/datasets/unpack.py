"""Unpack zip and tar archives from strangers, without a byte outside the folder.

An archive is unpacked into a hidden folder beside the final one, which gets its name when all of it
is there. What a killed call left is removed by the next one.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rich.filesize import decimal as format_bytes

from deepmusic.datasets.download import (
    CHUNK,
    DownloadError,
    Progress,
    disk_errors,
    refuse_full_disk,
)
from deepmusic.errors import ReasonError
from deepmusic.files import open_regular, sync_folder

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


def unpack_archive(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    archive_folder: str = "",
    *,
    on_progress: Progress | None = None,
) -> None:
    """Unpack a zip or tar archive (plain, gzip, bzip2, xz) into a new folder.

    Permissions and owners are not kept.

    Args:
        archive: path of the archive.
        folder: what it becomes; must not exist. Its parent is made.
        archive_folder: the folder inside the archive to take; all of it by default.
        on_progress: takes the bytes done and the total.

    Raises:
        ArchiveError: it holds paths or kinds of files that are refused, or is damaged.
        DownloadError: the archive cannot be read, the folder exists, or the disk is full.
    """
    archive, folder, tell = Path(archive), Path(folder), on_progress or (lambda done, total: None)
    open_regular(archive, shown=str(archive), noun="archive", error=DownloadError).close()
    with disk_errors(folder), _staging(folder) as staging, archive_errors(archive):
        # zipfile.is_zipfile looks at the end, where a tar archive may contain a zip
        with open(archive, "rb") as file:
            extract = _extract_zip if file.read(2) == b"PK" else _extract_tar
        extract(archive, staging, tell)
        inside = staging / archive_folder
        if not inside.is_dir() or not any(inside.iterdir()):
            raise ArchiveError(f"it has no folder {archive_folder!r} with files.", code="layout")
        os.rename(inside, folder)
        sync_folder(folder.parent)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden, empty folder beside the final one, removed afterwards."""
    if os.path.lexists(folder):
        message = f"{folder} already exists: move or delete it and run again."
        raise DownloadError(message, code="exists")
    staging = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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


def _extract_zip(archive: Path, staging: Path, tell: Progress) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            _refuse_unsafe(member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
        total, done = sum(member.file_size for member in members), 0
        _refuse_too_large(archive, len(members), total)
        refuse_full_disk(staging, total)
        for member in members:
            opened.extract(member, staging)
            done += member.file_size
            tell(done, total)


def _extract_tar(archive: Path, staging: Path, tell: Progress) -> None:
    total = 0
    with open(archive, "rb") as file, tarfile.open(fileobj=file) as opened:
        for number, member in enumerate(opened, start=1):
            _refuse_unsafe(member.name, member.isfile() or member.isdir())
            total += member.size
            _refuse_too_large(archive, number, total)
            opened.extract(member, staging, filter="data")
            tell(file.tell(), archive.stat().st_size)
        while opened.fileobj and opened.fileobj.read(CHUNK):
            pass  # to the end, where gzip has its checksum


def _refuse_unsafe(name: str, is_plain: bool) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or ".." in parts or re.match("[A-Za-z]:", name):
        raise ArchiveError(f"{name!r} in it leads out of the folder.", code="unsafe")
    if not is_plain:
        raise ArchiveError(f"{name!r} in it is a link or a device.", code="unsafe")


def _refuse_too_large(archive: Path, members: int, size: int) -> None:
    if members > MAX_MEMBERS:
        raise ArchiveError(f"it has more than {MAX_MEMBERS:,} members.", code="too_large")
    if size > max(ALWAYS_ALLOWED, MAX_RATIO * archive.stat().st_size):
        message = f"it would unpack to {format_bytes(size)}, too much for its size."
        raise ArchiveError(message, code="too_large")
