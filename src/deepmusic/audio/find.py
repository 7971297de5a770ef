"""Finds the sound files that files, folders, playlists and cue sheets name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from deepmusic.audio.playlists import PLAYLIST_EXTENSIONS, Entry, read_playlist
from deepmusic.errors import DataError, os_reason

_EXTENSIONS = """
    .mp3 .mp2 .mp1 .mpga .flac .ogg .oga .opus .spx .wav .wave .w64 .rf64 .bwf .aif .aiff .aifc
    .au .snd .caf .m4a .m4b .m4r .aac .alac .ac3 .eac3 .dts .wma .amr .ape .wv .tta .tak .mpc
    .mka .weba .dsf .dff .ra .rm .voc .sph
    .mp4 .m4v .mov .mkv .webm .avi .wmv .asf .flv .f4v .mpg .mpeg .ts .m2ts .mts .vob .ogv .3gp .3g2
"""

AUDIO_EXTENSIONS = frozenset(_EXTENSIONS.split())
"""Extensions, in lower case, of files in a folder that are taken to have sound."""

SYSTEM_FOLDERS = frozenset({
    "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot", "@recently-snapshot", "$recycle.bin",
    "system volume information", "network trash folder", "temporary items", "lost+found",
    "__macosx",
})  # fmt: skip
"""Names, in lower case, of the bins, snapshots and thumbnails of file servers and systems."""

# TypeScript and device trees, besides MPEG streams and DTS sound
_MAY_BE_SOURCE_CODE = {".ts", ".mts", ".dts"}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class NotAudio:
    """A path that cannot be a track, and one sentence why.

    ``code`` is ``missing``, ``permission``, ``directory``, ``not_a_file`` (a pipe, a device),
    ``unreadable`` or ``no_files`` (a folder or playlist without any sound file).
    """

    path: str
    error: str
    code: str


def find_audio(
    paths: Iterable[str | os.PathLike[str]],
    *,
    on_note: Callable[[str], object] = lambda note: None,
) -> Iterator[str | NotAudio]:
    """Find the sound files that files, folders and playlists name.

    A named file is always returned. Of folders and the folders within, files with one of
    `AUDIO_EXTENSIONS` are; hidden folders, `SYSTEM_FOLDERS`, the ``._*`` files of macOS and source
    code that has the extension of a video (TypeScript) are skipped. Links are followed, and each
    folder is entered once. A named playlist (.m3u, .m3u8, .pls, .xspf) or cue sheet stands for what
    it lists, relative to its folder; in a folder, where its tracks are found anyway, it is skipped.

    Args:
        paths: files, folders, playlists and cue sheets.
        on_note: called with one sentence about what a playlist has besides tracks: streams of the
            network, which are skipped, files that hold several tracks of a cue sheet, and each
            missing file where none exists, since the list itself is what has failed then.

    Yields:
        Paths in order, those in a folder sorted by name, and what cannot be a track: a missing
        path, a pipe, a broken link, a folder that may not be read, a folder or playlist without
        any sound file.
    """
    for path in paths:
        root = os.fspath(path)
        yield from _listed(root, on_note) if _is_playlist(root) else _walk(root)


def _walk(root: str) -> Iterator[str | NotAudio]:
    """What a path other than that of a playlist stands for."""
    entries = _below(root)
    yield next(entries, NotAudio(root, f"{root!r} holds no sound files.", "no_files"))
    yield from entries


def _below(root: str) -> Iterator[str | NotAudio]:
    entered: set[tuple[int, int]] = set()
    stack = [root]
    while stack:
        path = stack.pop()
        is_track = path is root or _extension(path) in AUDIO_EXTENSIONS
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
            if path is root or not is_source_code(path):
                yield path
        elif is_track:
            reason = "is a pipe, a device or a socket, not a sound file; it is not opened"
            yield NotAudio(path, f"{path!r} {reason}.", "not_a_file")


def _is_playlist(path: str) -> bool:
    return _extension(path) in PLAYLIST_EXTENSIONS and os.path.isfile(path)


def _listed(root: str, on_note: Callable[[str], object]) -> Iterable[str | NotAudio]:
    """What a playlist stands for; if it has no track that exists, itself as one that fails."""
    found = list(_entries(root, on_note))
    missing = [entry for entry in found if isinstance(entry, NotAudio)]
    if len(missing) < len(found) or [entry.path for entry in missing] == [root]:
        return found
    for entry in missing:
        on_note(entry.error)
    return [NotAudio(root, f"{root!r} lists no local track that exists.", "no_files")]


def _entries(root: str, on_note: Callable[[str], object]) -> Iterator[str | NotAudio]:
    """The tracks of a playlist, and of the playlists that it lists, each of which is read once."""
    entered: set[str] = set()
    stack = [Entry(root, "")]
    while stack:
        path, where = stack.pop()
        if not _is_playlist(path):
            for found in _walk(path):
                if isinstance(found, NotAudio):
                    found = replace(found, error=f"{found.error.removesuffix('.')}; {where}.")
                yield found
        elif os.path.realpath(path) not in entered:
            entered.add(os.path.realpath(path))
            try:
                entries, notes = read_playlist(path, AUDIO_EXTENSIONS)
            except DataError as error:
                yield NotAudio(path, str(error), "unreadable")
                continue
            stack += reversed(entries)
            for note in notes:
                on_note(note)


def _extension(path: str) -> str:
    # a name may end in blanks: "song.mp3 "
    return os.path.splitext(path.rstrip())[1].lower()


def _may_be_audio(folder: str, name: str) -> bool:
    """Whether a member of a folder may be a track or contain some, by its name."""
    if not name.startswith("."):
        return name.lower() not in SYSTEM_FOLDERS
    is_hidden_file = _extension(name) in AUDIO_EXTENSIONS and not os.path.isdir(
        os.path.join(folder, name)
    )
    return is_hidden_file and not name.startswith("._")


def is_source_code(path: str) -> bool:
    """Whether a file has an extension that sound and code share, and holds text."""
    if _extension(path) not in _MAY_BE_SOURCE_CODE or not os.path.isfile(path):
        return False
    with suppress(OSError), open(path, "rb") as file:  # opening it as sound says why it fails
        start = file.read(4096)
        return b"\0" not in start or start.startswith(_UTF_16)
    return False


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
