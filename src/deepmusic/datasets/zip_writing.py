"""Zip archives that depend on nothing but what is in them.

An ordinary zip holds the times, permissions and order of the disk that it was made on, and its
compressed bytes depend on the version of zlib. Here all of that is fixed, and nothing is
compressed: what has few bytes to give away is sound that is coded already.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from deepmusic.errors import DataError
from deepmusic.files import write_atomically

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that the format can say
_FILE = (stat.S_IFREG | 0o444) << 16
_FOLDER = ((stat.S_IFDIR | 0o555) << 16) | 0x10  # 0x10: a folder to MS-DOS, too
_UNIX = 3
_FIRST = ("README.txt", "checksums")
_BLOCK_BYTES = 1 << 20


def write_zip(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    names: Iterable[str],
    *,
    top: str,
) -> None:
    """Pack files so that the same files give the same bytes, anywhere and at any time.

    README.txt and checksums come first where they are among the names, then all others by name,
    each folder before what is in it. Files are stored as they are, read-only, of 1980-01-01. The
    archive appears under its name when all of it is written; memory is bounded.

    Args:
        path: of the archive.
        folder: where the files lie.
        names: of the files below the folder, with forward slashes.
        top: the folder that the archive unpacks into.

    Raises:
        DataError: a file is missing, unreadable, or leads out of the folder.
        DeepMusicError: the archive cannot be written, such as on a full disk.
    """
    folder = Path(folder)
    files = set(names)
    for name in sorted([*files, top]):
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\\" in name or ":" in parts[0]:
            raise DataError(f"{name!r} is no name for a file in an archive.")
    first = [name for name in _FIRST if name in files]
    folders = {f"{parent}/" for name in files for parent in PurePosixPath(name).parents}
    rest = sorted((files - set(first)) | (folders - {"./"}))
    with (
        write_atomically(path, "wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name in (*first, "", *rest):
            entry = zipfile.ZipInfo(f"{top}/{name}", _TIME)
            entry.create_system = _UNIX
            if not name or name.endswith("/"):
                entry.external_attr = _FOLDER
                archive.writestr(entry, b"")
            else:
                entry.external_attr = _FILE
                _add(archive, entry, folder / name)


def _add(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    try:
        source = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path} cannot be read for the archive: {reason}.") from error
    with source:
        entry.file_size = os.fstat(source.fileno()).st_size  # decides on 32 or 64 bits
        with archive.open(entry, "w") as out:
            shutil.copyfileobj(source, out, _BLOCK_BYTES)
