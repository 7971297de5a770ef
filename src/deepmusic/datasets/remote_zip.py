"""Single members of a zip archive that stays where it is, on the web or on this machine.

Of an archive on the web only the directory is read, by HTTP ranges, and the members asked for.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from zlib import crc32

from remotezip import RangeNotSupported, RemoteZip, RemoteZipError
from urllib3.exceptions import HTTPError

from deepmusic.datasets.download import (
    TIMEOUT_S,
    DownloadError,
    disk_errors,
    display_source,
    finish_part,
    is_url,
    network_reason,
    open_session,
    part_path,
    refuse_status,
)
from deepmusic.datasets.unpack import archive_errors
from deepmusic.files import open_regular


class ZipReader:
    """A zip archive on the web or on this machine, of which members are saved one by one.

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
                file = open_regular(source, shown=self._origin, noun="archive", error=DownloadError)
                archive = zipfile.ZipFile(stack.enter_context(file))
            self._archive: zipfile.ZipFile = stack.enter_context(archive)
            self._stack = stack.pop_all()

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        """Names of the members."""
        return self._archive.namelist()

    def save(
        self, name: str, target: str | os.PathLike[str], *, checksum: str | None = None
    ) -> bool:
        """Write a member to a file that appears when it is complete and its CRC-32 right.

        Args:
            name: of the member.
            target: the file; its folder is made. An existing one is checked and not overwritten.
            checksum: ``"ALGORITHM:HEX"`` of the file, if known.

        Returns:
            Whether it was written; False where it already existed.

        Raises:
            DownloadError: there is no such member, it is not available, another file has the
                name, or the disk is full.
            ArchiveError: the member is damaged or encrypted.
        """
        target, origin = Path(target), f"{name!r} of {self._origin}"
        member = self._archive.NameToInfo.get(name)
        if member is None:
            raise DownloadError(f"{origin} does not exist.", code="missing")
        with disk_errors(target):
            if target.exists():
                content = target.read_bytes()
                if (len(content), crc32(content)) == (member.file_size, member.CRC):
                    return False
                message = f"{target} already exists, but is not {origin}: move or delete it."
                raise DownloadError(message, code="exists")
            target.parent.mkdir(parents=True, exist_ok=True)
            part = part_path(target)
            try:
                with self._errors(), self._archive.open(member) as inside, open(part, "wb") as file:
                    shutil.copyfileobj(inside, file)
                finish_part(part, target, origin, checksum, member.file_size)
            finally:
                part.unlink(missing_ok=True)
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
