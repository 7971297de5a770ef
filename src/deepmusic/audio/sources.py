"""Opens what a caller names: a path to a regular file, or a file object."""

from __future__ import annotations

import os
from typing import BinaryIO

from deepmusic.errors import AudioError
from deepmusic.files import open_regular

Source = str | os.PathLike[str] | BinaryIO
"""A path, or a binary file object that can seek."""


class SteadyFile:
    """A file that C libraries read through callbacks: its methods never raise.

    An exception in a callback would be printed to standard error instead of passed on, and some
    files make FFmpeg seek to a position before their start. ``failed`` says whether a read failed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failed = False
        name = getattr(file, "name", None)
        # FFmpeg considers the extension when the first bytes are not conclusive
        self.name = "sound" + (os.path.splitext(name)[1] if isinstance(name, str) else "")
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        try:
            return self._file.read(size) or b""
        except (OSError, ValueError):
            self.failed = True
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position, or -1."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


def name_of(source: Source) -> str:
    """The source as messages name it: quoted, control characters escaped."""
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return repr(os.fspath(name)) if isinstance(name, str | os.PathLike) else "the file object"


def open_source(source: Source) -> tuple[BinaryIO, bool]:
    """Open a regular file of at least one byte; the second value says if it is ours to close.

    Raises:
        AudioError: ``missing``, ``directory``, ``not_a_file``, ``permission``, ``unreadable``,
            ``not_seekable`` or ``empty``.
        TypeError: the source is neither a path nor a binary file object.
    """
    name = name_of(source)
    is_ours = isinstance(source, str | os.PathLike)
    if isinstance(source, str | os.PathLike):
        file: BinaryIO = open_regular(source, shown=name, noun="sound file", error=AudioError)
    elif not (hasattr(source, "read") and isinstance(source.read(0), bytes)):
        raise TypeError(
            f"a sound is given as a path or a binary file object; got {type(source).__name__}"
        )
    elif not source.seekable():
        raise AudioError(
            f"{name} cannot seek; read it into io.BytesIO or save it to a file first.",
            code="not_seekable",
        )
    else:
        file = source
    if not file.seek(0, os.SEEK_END):
        if is_ours:
            file.close()
        raise AudioError(f"{name} is empty (0 bytes); copy or download it again.", code="empty")
    return file, is_ours
