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

    An exception in a callback would be printed to standard error, not passed on. Even sound files
    bring it about: some make FFmpeg seek to a place before their start.

    Attributes:
        failed: whether a read failed; it then gave nothing, as at the end of the file.
        name: ``sound`` and the extension of the file, which FFmpeg weighs when the first bytes say
            nothing (junk before an mp3).
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failed = False
        name = getattr(file, "name", None)
        self.name = "sound" + (os.path.splitext(name)[1] if isinstance(name, str) else "")

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

    def tell(self) -> int:
        """The position."""
        return self._file.tell()


def name_of(source: Source) -> str:
    """The source as it is named in messages: quoted, control characters escaped."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fspath(source))
    name = getattr(source, "name", None)
    return repr(name) if isinstance(name, str) else "the file object"


def open_source(source: Source) -> tuple[BinaryIO, bool]:
    """Open a source for reading; anything but a regular file is refused before it is opened.

    Returns:
        A file of at least one byte, not buffered when the source is a path, and whether it is ours
        to close.

    Raises:
        AudioError: ``missing``, ``directory``, ``not_a_file``, ``permission``, ``unreadable``,
            ``not_seekable`` or ``empty``.
        TypeError: the source is neither a path nor a binary file object.
    """
    shown = name_of(source)
    if not isinstance(source, str | os.PathLike):
        if not (hasattr(source, "read") and isinstance(source.read(0), bytes)):
            raise TypeError(
                f"a sound is given as a path or a binary file object; got {type(source).__name__}"
            )
        if not source.seekable():
            raise AudioError(
                f"{shown} cannot seek; read it into io.BytesIO or save it to a file first.",
                code="not_seekable",
            )
        file, is_ours = source, False
    else:
        file = open_regular(source, shown=shown, noun="sound file", error=AudioError)
        is_ours = True
    if not file.seek(0, os.SEEK_END):
        if is_ours:
            file.close()
        raise AudioError(f"{shown} is empty (0 bytes); copy or download it again.", code="empty")
    return file, is_ours
