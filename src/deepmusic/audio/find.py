"""Finds the sound files that paths name: files, and folders of them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deepmusic.errors import os_reason

_EXTENSIONS = """
    .mp3 .mp2 .mp1 .mpga .flac .ogg .oga .opus .spx .wav .wave .w64 .rf64 .bwf .aif .aiff .aifc
    .au .snd .caf .m4a .m4b .m4r .aac .alac .ac3 .eac3 .dts .wma .amr .ape .wv .tta .tak .mpc
    .mka .weba .dsf .dff .ra .rm .voc .sph
    .mp4 .m4v .mov .mkv .webm .avi .wmv .asf .flv .f4v .mpg .mpeg .ts .m2ts .mts .vob .ogv .3gp .3g2
"""

AUDIO_EXTENSIONS = frozenset(_EXTENSIONS.split())
"""Extensions, in lower case, of files in a folder that are taken to have sound."""

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class NotAudio:
    """A path that cannot be a track, and one sentence why.

    ``code`` is ``missing``, ``permission``, ``directory``, ``not_a_file`` (a pipe, a device),
    ``unreadable`` or ``no_files`` (a folder without any sound file).
    """

    path: str
    error: str
    code: str


def find_audio(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str | NotAudio]:
    """Find the sound files that files and folders name.

    A named file is always returned. Of folders and the folders within, files with one of
    `AUDIO_EXTENSIONS` are; hidden folders and the ``._*`` files of macOS are skipped. Links
    are followed, and each folder is entered once.

    Yields:
        Paths in order, those in a folder sorted by name, and what cannot be a track: a missing
        path, a pipe, a broken link, a folder that may not be read, or one without any sound file.
    """
    for path in paths:
        root = os.fspath(path)
        entries = _walk(root)
        first = next(entries, None)
        if first is None:
            yield NotAudio(root, f"{root!r} holds no sound files.", "no_files")
        else:
            yield first
            yield from entries


def _walk(root: str) -> Iterator[str | NotAudio]:
    entered: set[tuple[int, int]] = set()
    stack = [root]
    while stack:
        path = stack.pop()
        is_track = path is root or _has_audio_extension(path)
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                if identity in entered and status.st_ino:
                    continue
                entered.add(identity)
                names = [name for name in os.listdir(path) if _may_be_audio(path, name)]
                stack += [os.path.join(path, name) for name in sorted(names, reverse=True)]
                if not names and path is not root and is_track:
                    yield NotAudio(path, f"{path!r} is a folder, not a sound file.", "directory")
                continue
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            if is_track or os.path.isdir(path):
                yield _unreachable(path, error)
            continue
        if is_track and stat.S_ISREG(status.st_mode):
            yield path
        elif is_track:
            reason = "is a pipe, a device or a socket, not a sound file; it is not opened"
            yield NotAudio(path, f"{path!r} {reason}.", "not_a_file")


def _has_audio_extension(path: str) -> bool:
    # a name may end in blanks: "song.mp3 "
    return os.path.splitext(path.rstrip())[1].lower() in AUDIO_EXTENSIONS


def _may_be_audio(folder: str, name: str) -> bool:
    """Whether a member of a folder may be a track or contain some, by its name."""
    if not name.startswith("."):
        return True
    is_hidden_file = _has_audio_extension(name) and not os.path.isdir(os.path.join(folder, name))
    return is_hidden_file and not name.startswith("._")


def _unreachable(path: str, error: Exception) -> NotAudio:
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number in _FORBIDDEN:
        return NotAudio(path, f"{path!r} may not be read: permission denied.", "permission")
    if number in _MISSING:
        is_link = "\0" not in path and os.path.islink(path)
        reason = "is a broken link" if is_link else "does not exist"
        return NotAudio(path, f"{path!r} {reason}.", "missing")
    reason = os_reason(error) if isinstance(error, OSError) else str(error)
    return NotAudio(path, f"{path!r} cannot be opened: {reason}.", "unreadable")
