"""File names that every system takes, told apart whatever case or form of Unicode it minds."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

OWN_FILES = ("README.txt", "build.json", "checksums", "problems.csv", "tracks.csv")
"""What a build writes beside its clips."""

_LONGEST_BYTES = 200  # of 255, for a number, a mark and an extension
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_PASSED_OVER = {"__macosx", *(name.casefold() for name in OWN_FILES)}


def source_name(path: str) -> str:
    r"""A path as a table holds it: UTF-8 whatever the locale, other bytes written as ``\xff``."""
    if os.name != "nt":
        path = os.fsencode(path).decode("utf-8", "surrogateescape")
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def plain_name(name: str) -> str:
    """One part of a path that Windows, macOS and Linux take as it is.

    Signs with a meaning for some system, control characters and bytes that are no UTF-8 become
    ``_``; the form is NFC, no longer than 200 bytes.
    """
    if os.name != "nt":
        name = os.fsencode(name).decode("utf-8", "surrogateescape")
    name = "".join(" " if sign.isspace() else sign for sign in unicodedata.normalize("NFC", name))
    name = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in name)
    name = name.encode()[:_LONGEST_BYTES].decode(errors="ignore").strip(" ").rstrip(". ")
    if name.startswith("."):  # hidden files are passed over by whoever reads the data set
        name = "_" + name[1:]
    if _RESERVED.fullmatch(name):
        name = "_" + name
    return name or "_"


def clip_names(
    tracks: Sequence[tuple[str, str]], extension: str, clips: int
) -> list[tuple[str, ...]]:
    """Names for the clips of tracks: ``GENRE/track.ext``, or ``GENRE/track-1.ext`` and so on.

    Folders between the genre and the track stay. Names that differ in nothing but case, form of
    Unicode or the old extension get a mark made from the track's whole path, all of them.

    Args:
        tracks: path below the folder of tracks and genre of each.
        extension: with its dot.
        clips: how many there may be of a track.

    Returns:
        As many names a track; the order of tracks makes no difference to them.
    """
    stems = [_stem(path, genre) for path, genre in tracks]
    marks = [""] * len(tracks)
    digits = len(str(clips))
    while True:
        names = [
            tuple(
                f"{stem}{mark}{f'-{number:0{digits}d}' if clips > 1 else ''}{extension}"
                for number in range(1, clips + 1)
            )
            for stem, mark in zip(stems, marks, strict=True)
        ]
        keys = [{_key(name) for name in named} for named in names]
        used = Counter(key for found in keys for key in found)
        folders = {key[:place] for key in used for place, sign in enumerate(key) if sign == "/"}
        clashing = [
            place
            for place, found in enumerate(keys)
            if any(used[key] > 1 or key in folders for key in found)
        ]
        if not clashing:
            return names
        for place in clashing:
            digest = hashlib.sha256(os.fsencode(tracks[place][0])).hexdigest()
            marks[place] = "~" + digest[: max(8, 2 * len(marks[place]))]


def _stem(path: str, genre: str) -> str:
    """The name of a track's clips without number and extension."""
    *folders, name = path.split("/")
    top = plain_name(genre)
    if folders and plain_name(folders[0]).casefold() == top.casefold():
        folders = folders[1:]
    if top.casefold() in _PASSED_OVER:
        top = f"_{top.lstrip('_')}"
    stem = os.path.splitext(name)[0]
    return "/".join([top, *map(plain_name, folders), plain_name(stem)])


def _key(name: str) -> str:
    """What two names have in common that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
