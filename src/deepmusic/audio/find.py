"""Finding the sound files that paths name: files, and folders of them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_EXTENSIONS = """
    .mp3 .mp2 .mp1 .mpga .flac .ogg .oga .opus .spx .wav .wave .w64 .rf64 .bwf .aif .aiff .aifc
    .au .snd .caf .m4a .m4b .m4r .aac .alac .ac3 .eac3 .dts .wma .amr .ape .wv .tta .tak .mpc
    .mka .weba .dsf .dff .ra .rm .voc .sph
    .mp4 .m4v .mov .mkv .webm .avi .wmv .asf .flv .f4v .mpg .mpeg .ts .m2ts .mts .vob .ogv .3gp .3g2
"""

AUDIO_EXTENSIONS = frozenset(_EXTENSIONS.split())
"""Extensions, in lower case, by which a file in a folder is taken for one with sound."""


@dataclass(frozen=True)
class NotAudio:
    """What can be no track, and why.

    Args:
        path: as it was named or found.
        error: one sentence.
        code: ``missing``, ``permission``, ``directory``, ``not_a_file`` (a pipe, a device),
            ``unreadable`` or ``no_files`` (a folder without any sound file).
    """

    path: str
    error: str
    code: str


def find_audio(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str | NotAudio]:
    """Find the sound files that paths name.

    A file that is named is always given. In a folder, and in the folders within it, files with one
    of :data:`AUDIO_EXTENSIONS` are; hidden folders and the ``._*`` files of macOS are passed over.
    Links are followed, and each folder is entered once.

    Args:
        paths: files and folders.

    Returns:
        Paths in order, those in a folder sorted by name, and what can be no track: a missing path,
        a pipe, a link that leads nowhere, a folder that may not be read, or one without any sound
        file.
    """
    for path in paths:
        yield from _walk(os.fspath(path))


def _walk(root: str) -> Iterator[str | NotAudio]:
    """All tracks under one path, and what is wrong."""
    entered: set[tuple[int, int]] = set()
    stack = [root]
    found = False
    while stack:
        path = stack.pop()
        is_named = path is root
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            if is_named or _looks_like_audio(path):
                found = True
                yield _unreachable(path, error)
            continue
        if stat.S_ISDIR(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            if identity in entered and status.st_ino:
                continue
            entered.add(identity)
            try:
                inside = sorted(
                    (name for name in os.listdir(path) if _is_worth_a_look(path, name)),
                    reverse=True,
                )
            except OSError as error:
                found = True
                yield _unreachable(path, error)
                continue
            stack.extend(os.path.join(path, name) for name in inside)
            if not inside and not is_named and _looks_like_audio(path):
                found = True
                yield NotAudio(path, f"{path!r} is a folder, not a sound file.", "directory")
        elif is_named or _looks_like_audio(path):
            found = True
            if stat.S_ISREG(status.st_mode):
                yield path
            else:
                yield NotAudio(
                    path,
                    f"{path!r} is a pipe, a device or a socket, not a sound file; it is not "
                    "opened.",
                    "not_a_file",
                )
    if not found:
        yield NotAudio(path=root, error=f"{root!r} holds no sound files.", code="no_files")


def _looks_like_audio(path: str) -> bool:
    # a name may end in blanks: "song.mp3 "
    return os.path.splitext(path.rstrip())[1].lower() in AUDIO_EXTENSIONS


def _is_worth_a_look(folder: str, name: str) -> bool:
    """Whether a member of a folder may be a track or hold some, by its name."""
    if not name.startswith("."):
        return True
    return (
        _looks_like_audio(name)
        and not name.startswith("._")
        and not os.path.isdir(os.path.join(folder, name))
    )


def _unreachable(path: str, error: Exception) -> NotAudio:
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number == errno.ELOOP:
        return NotAudio(path, f"{path!r} is a link that leads back to itself.", "missing")
    if number in (errno.EACCES, errno.EPERM):
        return NotAudio(path, f"{path!r} may not be read: permission denied.", "permission")
    if number == errno.ENOENT and "\0" not in path and os.path.islink(path):
        return NotAudio(path, f"{path!r} is a link to nothing.", "missing")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return NotAudio(path, f"{path!r} does not exist.", "missing")
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return NotAudio(path, f"{path!r} cannot be opened: {reason.lower()}.", "unreadable")
