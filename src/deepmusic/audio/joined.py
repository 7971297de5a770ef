"""Finds the mp3, FLAC and Ogg files that one was joined from, as by ``cat``."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from deepmusic.audio.chunks import window
from deepmusic.audio.mpeg import mp3_parts
from deepmusic.audio.sources import SteadyFile

_BLOCK_BYTES = 1 << 20
_MOST_PARTS = 1000
# Long enough to be in no coded sound by chance: a file that begins with its STREAMINFO, and a page
# that begins a stream, at time 0. https://www.rfc-editor.org/rfc/rfc9639, .../rfc3533
_BEGINNINGS = {
    "flac": re.compile(rb"fLaC[\x00\x80]\0\0\x22"),
    "ogg": re.compile(rb"OggS\0\x02\0{8}"),
}
_LONGEST_BEGINNING = 14


def parts(file: BinaryIO, container: str) -> list[BinaryIO]:
    """The files that one was joined from.

    Args:
        file: of which libsndfile left bytes unread.
        container: its name of the format.

    Returns:
        One window for each. None where there is but one, too many, or the file is of another kind.
    """
    if container == "mp3":
        return mp3_parts(file)
    beginning = _BEGINNINGS.get(container)
    if beginning is None:
        return []
    size = file.seek(0, os.SEEK_END)
    steady = SteadyFile(file)
    starts: dict[int, None] = {}
    for at in range(0, size, _BLOCK_BYTES):
        steady.seek(at)
        block = steady.read(_BLOCK_BYTES + _LONGEST_BEGINNING)
        starts |= dict.fromkeys(at + match.start() for match in beginning.finditer(block))
    if not 2 <= len(starts) <= _MOST_PARTS:
        return []
    _, *others = starts
    spans = zip([0, *others], [*others, size], strict=True)  # a tag may stand before the first
    return [window(file, *span) for span in spans]
