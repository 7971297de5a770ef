"""Playlists (M3U, PLS, XSPF) and cue sheets, as lists of local files."""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePath, PureWindowsPath
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from deepmusic.errors import DataError, os_reason

PLAYLIST_EXTENSIONS = frozenset({".m3u", ".m3u8", ".pls", ".xspf", ".cue"})

_MOST_BYTES = 16 << 20
_PLS_ENTRY = re.compile(rb"\s*file\d+\s*=(.*)", re.IGNORECASE)
_CUE_FILE = re.compile(rb'\s*file\s+(?:"(.*)"|(.*?))(?:\s+\w+)?\s*', re.IGNORECASE)
_CUE_TRACK = re.compile(rb"\s*track\s+\d+\s", re.IGNORECASE)
_ADDRESS = re.compile(rb"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # not a drive such as c:
_FILE_ADDRESS = re.compile(
    rb"^file:(?://(?:localhost)?(?=/|[a-z]:))?(?:/(?=[a-z]:))?", re.IGNORECASE
)


_NamesIn = Callable[[str], dict[str, list[str]]]  # names in a folder by their casefold


class Entry(NamedTuple):
    """A file that a list names."""

    path: str
    where: str  # words for a message: which line of which list


def read_playlist(path: str, extensions: Collection[str]) -> tuple[list[Entry], list[str]]:
    """Read the local files that a playlist or a cue sheet lists.

    Names are relative to the folder of the list. Whichever reading of a name leads to a file is
    taken: as UTF-8 or cp1252, composed or decomposed, with percent escapes, with backslashes, in
    upper and lower case where one file alone is meant. Of an absolute path of Windows, its end is
    looked for beside the list and in the folders above, with at least the name of one folder. Cue
    sheets often keep the extension of before a conversion.

    Args:
        path: of the list; its extension, one of `PLAYLIST_EXTENSIONS`, says what it is.
        extensions: of sound files, one of which a file of a cue sheet may have instead of its own.

    Returns:
        The entries, whether they exist or not; and sentences on streams of the network, which are
        left out, and on files that hold several tracks of a cue sheet.

    Raises:
        DataError: the list cannot be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path!r} cannot be read: {os_reason(error)}.") from error
    if len(content) > _MOST_BYTES:
        raise DataError(f"{path!r} is no playlist: it has more than 16 MiB.")
    kind = os.path.splitext(path.rstrip())[1].lower()
    names_in = cache(_names_in)  # no folder is listed twice
    entries: list[Entry] = []
    notes: list[str] = []
    streams = 0
    for line, name, tracks in _xspf(path, content) if kind == ".xspf" else _names(kind, content):
        if _ADDRESS.match(name):
            streams += 1
            continue
        file_name = _resolved(
            os.path.dirname(path), name, extensions if kind == ".cue" else (), names_in
        )
        entries.append(Entry(file_name, f"{line} of {path!r} names it"))
        if tracks > 1:
            notes.append(f"{path!r}: {file_name!r} holds {tracks} tracks and is taken as one.")
    if streams:
        notes.append(f"{path!r}: {streams} of its entries are not local and are skipped.")
    return entries, notes


def _names(kind: str, content: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Line, file and number of tracks of each entry of a list of lines."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode()
    sheet: list[tuple[str, bytes, int]] = []
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        name: bytes | None = line.strip()
        if kind == ".pls":
            match = _PLS_ENTRY.fullmatch(line)
            name = match and match[1].strip()
        elif kind == ".cue":
            match = _CUE_FILE.fullmatch(line)
            name = match and (match[1] or match[2])
            if sheet and _CUE_TRACK.match(line):
                sheet[-1] = (*sheet[-1][:2], sheet[-1][2] + 1)
        elif line.lstrip().startswith(b"#"):
            continue
        if name:
            sheet.append((f"line {number}", name, 0))
    yield from sheet


def _xspf(path: str, content: bytes) -> Iterator[tuple[str, bytes, int]]:
    from xml.etree import ElementTree  # few lists need it

    try:
        locations = ElementTree.fromstring(content).iterfind(".//{*}track/{*}location")
        for number, location in enumerate(locations, start=1):
            if name := (location.text or "").strip():
                yield f"track {number}", name.encode(), 0
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path!r} is no playlist in XSPF: {error}.") from error


def _resolved(folder: str, name: bytes, extensions: Collection[str], names_in: _NamesIn) -> str:
    """The reading of a name that exists; if none does, the plain one."""
    local = _FILE_ADDRESS.sub(b"", name, count=1)
    readings = [local, unquote_to_bytes(local)]
    if local != name:  # in an address the escapes are certain
        readings.reverse()
    texts = [os.fsdecode(reading) for reading in readings]
    texts += [reading.decode("cp1252", "replace") for reading in readings]
    texts += [unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in texts]
    candidates = [
        candidate for text in dict.fromkeys(texts) for candidate in _candidates(folder, text)
    ]
    candidates += [
        os.path.splitext(candidate)[0] + extension
        for candidate in candidates
        for extension in sorted(extensions)
    ]
    found = next(filter(os.path.exists, candidates), None)
    others = (_in_any_case(candidate, names_in) for candidate in candidates)
    return found or next(filter(None, others), candidates[0])


def _in_any_case(path: str, names_in: _NamesIn) -> str | None:
    """The only file whose path differs in upper and lower case at most."""
    pure = PurePath(path)
    found = pure.anchor or os.curdir
    for part in pure.relative_to(pure.anchor).parts:
        if not os.path.lexists(os.path.join(found, part)):
            names = names_in(found).get(part.casefold(), [])
            if len(names) != 1:
                return None
            part = names[0]
        found = os.path.join(found, part)
    return found if os.path.exists(found) else None


def _names_in(folder: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    with suppress(OSError, ValueError):
        for name in os.listdir(folder):
            names.setdefault(name.casefold(), []).append(name)
    return names


def _candidates(folder: str, text: str) -> Iterator[str]:
    """Paths that a name may mean; on Windows it is a path as it is."""
    yield os.path.join(folder, text)
    windows = PureWindowsPath(text)
    if os.sep == "/" and (windows.drive or "\\" in text):
        if not windows.anchor:
            yield os.path.join(folder, *windows.parts)
            return
        parts = windows.parts[1:]
        above = Path(os.path.abspath(folder))
        for start in range(len(parts) - 1)[-12:]:  # thousands of folders would take hours
            for root in (above, *above.parents):
                yield os.path.join(root, *parts[start:])
