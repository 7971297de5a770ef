"""Where the tags of a sound file stand."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from deepmusic.audio.tag_formats.ape import ape_tag
from deepmusic.audio.tag_formats.asf import asf_tag
from deepmusic.audio.tag_formats.fields import Splice, Tag, damaged, read_at, room
from deepmusic.audio.tag_formats.id3 import Id3v1, id3_size, id3_tag
from deepmusic.audio.tag_formats.mp4 import mp4_tag
from deepmusic.audio.tag_formats.riff import chunk_tags
from deepmusic.audio.tag_formats.vorbis import flac_tag, ogg_tag
from deepmusic.errors import DeepMusicError

_MOST_TAGS = 1000


def load_tags(file: BinaryIO, container: str) -> list[Tag]:
    """The tags of an open sound file, the one that is meant to name its genre first.

    Where that is missing, it stands there with ``exists`` false, and is made by its `Tag.splices`.

    Args:
        file: of any size; only the tags and headers are read.
        container: FFmpeg's name of its format.

    Raises:
        DeepMusicError: tags of this format cannot be written, or those in the file are damaged.
    """
    size = file.seek(0, os.SEEK_END)
    kind = container.split(",")[0]
    try:
        if kind in ("wav", "aiff"):
            return _named(chunk_tags(file, size))
        if kind == "mov":
            return [mp4_tag(file, size)]
        if kind == "asf":
            return [asf_tag(file)]
        if kind == "ogg":
            return [ogg_tag(file)]
        if kind == "dsf":
            return [_dsf_tag(file, size)]
        if kind in ("mp3", "flac", "ape", "wv", "mpc", "mpc8", "tak", "tta"):
            return _named(_outer_tags(file, size, kind))
    except (struct.error, IndexError) as error:
        raise damaged(f"{kind} header") from error
    raise DeepMusicError("tags of this format cannot be written")


def _named(tags: list[Tag]) -> list[Tag]:
    """Tags of one kind get numbers."""
    for index, tag in enumerate(tags):
        count = sum(type(other) is type(tag) for other in tags[:index])
        tag.name += f" {count + 1}" if count else ""
    return tags


def _outer_tags(file: BinaryIO, size: int, kind: str) -> list[Tag]:
    start, leading = 0, list[Tag]()
    while length := id3_size(read_at(file, start, 10)):
        leading.append(id3_tag(read_at(file, start, length), room(start, start + length)))
        start += length
        if len(leading) > _MOST_TAGS:
            raise damaged("ID3 tag")
    end, trailing = size, list[Tag]()
    v1 = None
    data = read_at(file, max(start, end - 131), 131)
    if data[3:6] == b"TAG" and data[:8] != b"APETAGEX":  # which may stand there by chance
        v1 = Id3v1("ID3v1", data[3:], room(end - 128, end))
        end -= 128
    if (data := read_at(file, max(start, end - 15), 15))[6:] == b"LYRICS200":
        end -= int(data[:6]) + 15 if data[:6].isdigit() else 0
    ape = ape_tag(file, start, end)
    trailing = [ape] if ape.exists else []
    if kind == "flac":
        first: list[Tag] = [flac_tag(file, start)]
    elif kind == "mp3":
        first = [] if leading or trailing else [_new_id3(v1, start)]
    else:  # FFmpeg passes over ID3 where there is APE
        first = [] if leading or trailing else [ape]
        leading, trailing = [], [*trailing, *leading]
    return [*first, *leading, *trailing, *([v1] if v1 else [])]


def _new_id3(v1: Id3v1 | None, at: int) -> Tag:
    """Most readers stop at the first tag: so it holds what ID3v1 says, too."""
    tag = id3_tag(None, room(at, at))
    tag.fields = v1.frames(tag) if v1 else []
    return tag


def _dsf_tag(file: BinaryIO, size: int) -> Tag:
    start = struct.unpack("<Q", read_at(file, 20, 8))[0]
    data = read_at(file, start, size - start) if 0 < start < size else None
    start = start if data else size

    def replace(new: bytes | None) -> list[Splice]:
        length = start + len(new or b"")
        sizes = struct.pack("<2Q", length, 0 if new is None else start)
        return [Splice(12, 28, sizes), Splice(start, size, new or b"")]

    return id3_tag(data, replace)
