"""Reads the tags of sound files: all values of a field that has several, in every format.

FFmpeg reads tags of all formats, but gives only the first or the last of several values, or all of
them joined. tinytag gives them all, of ID3, MP4, ASF and Vorbis comments; `tag_formats` those of
APEv2.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from deepmusic.audio.ffmpeg import open_container
from deepmusic.audio.mpeg import tag_size
from deepmusic.audio.sources import open_source
from deepmusic.audio.tag_formats.ape import ape_tag
from deepmusic.audio.tag_formats.fields import genres_in
from deepmusic.audio.tag_formats.files import load_tags
from deepmusic.errors import DeepMusicError

Metadata = dict[str, tuple[str, ...]]
"""Values, without blank ones, by the name of the field in lower case."""

# FFmpeg's names of fields by those of others
_NAMES = {
    "artists": "artist",
    "author": "artist",
    "albumartist": "album_artist",
    "album artist": "album_artist",
    "year": "date",
}
_FIELDS = ("artist", "albumartist", "album", "title", "genre")  # of tinytag
_ID3_NAMES = {"TPE1": "artist", "TPE2": "album_artist", "TALB": "album", "TIT2": "title"}
_LONGEST_READ = 2**24  # in bytes: no tag but a picture is longer, whatever its header claims
_MOST_READS = 20_000
_ID3V1_BYTES = 128


@dataclass(frozen=True)
class Tags:
    """Tags of a file; None or no value where there is none."""

    artists: tuple[str, ...] = ()  # as credited: one value may name several
    album: str | None = None
    title: str | None = None
    genres: tuple[str, ...] = ()


def read_tags(path: str | os.PathLike[str]) -> Tags:
    """Read the tags of a sound file, as `read_metadata` does.

    The artists of the album replace missing artists.
    """
    tags = read_metadata(path)
    album, title = ("; ".join(tags.get(name, ())) or None for name in ("album", "title"))
    artists = tags.get("artist") or tags.get("album_artist", ())
    return Tags(artists, album, title, genres_in(tags.get("genre", ())))


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """All tags of a sound file; none where it cannot be read.

    Of several kinds of tags in one file, ID3v2 is taken first, then APEv2, then ID3v1; the artists
    are those of all. Pipes, devices and folders are not opened.
    """
    try:
        with open_source(path)[0] as file:
            return metadata_of(file)
    except Exception:  # FFmpeg may raise anything, and missing tags are no failure
        return {}


def metadata_of(file: BinaryIO, suffix: str | None = None) -> Metadata:
    """`read_metadata` of an open file; ``suffix`` is its extension where it has no name.

    Raises:
        AudioError: FFmpeg refuses the file.
    """
    file.seek(0)
    has_id3 = file.read(3) == b"ID3"
    tags = _ffmpeg_tags(file, suffix) | _all_values(file)
    ape = _ape_tags(file)
    artists = (*tags.get("artist", ()), *ape.get("artist", ())) if has_id3 else ()
    tags = ape | tags if has_id3 else tags | ape
    return tags | ({"artist": tuple(dict.fromkeys(artists))} if artists else {})


def _ffmpeg_tags(file: BinaryIO, suffix: str | None) -> Metadata:
    with open_container(file, suffix) as container:
        # Ogg keeps its tags with the stream, all others with the container
        merged: dict[str, str] = {}
        for stream in container.streams.audio:
            merged |= stream.metadata
        merged |= container.metadata
    return _cleaned((name, [value]) for name, value in merged.items())


class _Bounded:
    """A file that is read no more than tags need, whatever a damaged header claims."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._reads = file, 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._reads += 1
        if self._reads > _MOST_READS:  # the values of a field take tinytag the square of the time
            raise ValueError("too many fields")
        return self._file.read(min(size, _LONGEST_READ) if size >= 0 else _LONGEST_READ)


def _all_values(file: BinaryIO) -> Metadata:
    """What tinytag reads: all values of the common fields."""
    from tinytag import TinyTag

    file.seek(0)
    head = file.read(10)
    source: object = _Bounded(file)
    if head[:4] == b"DSD ":
        return _id3_values(file, "dsf")
    if head[:3] == b"ID3" and head[5:6] > b"\x7f":  # "unsynchronised", which tinytag leaves so
        if head[3] > 3:
            return _id3_values(file, "mp3")
        body = file.read(min(tag_size(head) - 10, _LONGEST_READ)).replace(b"\xff\0", b"\xff")
        source = io.BytesIO(head[:5] + b"\0" + head[6:] + body)
    file.seek(0)
    try:
        tags = TinyTag.get(file_obj=cast(BinaryIO, source), duration=False).as_dict()
    except Exception:  # its errors on damaged files are of many kinds; FFmpeg has read what it can
        return {}
    return _cleaned((name, cast(list[str], tags[name])) for name in _FIELDS if name in tags)


def _id3_values(file: BinaryIO, container: str) -> Metadata:
    """All values of the common fields of the first ID3v2 tag."""
    with suppress(DeepMusicError):  # it is damaged
        tag = load_tags(file, container)[0]
        named = ((_ID3_NAMES[field.key], field) for field in tag.fields if field.key in _ID3_NAMES)
        values = [(name, tag.texts(field)) for name, field in named]
        return _cleaned([*values, ("genre", list(tag.genres))])
    return {}


def _ape_tags(file: BinaryIO) -> Metadata:
    """The texts of an APEv2 tag at the end of a file, or before the ID3v1 tag there."""
    end = file.seek(0, os.SEEK_END)
    for after in (0, _ID3V1_BYTES):
        with suppress(DeepMusicError):  # it is damaged
            tag = ape_tag(file, 0, end - after)
            if tag.exists:
                return _cleaned((field.key, tag.texts(field)) for field in tag.fields)
    return {}


def _cleaned(tags: Iterable[tuple[str, list[str]]]) -> Metadata:
    """The values that are not blank, each once, by FFmpeg's name of the field."""
    cleaned: dict[str, dict[str, None]] = {}
    for name, values in tags:
        field = cleaned.setdefault(_NAMES.get(name.lower(), name.lower()), {})
        parts = (part.strip() for value in values for part in value.split("\0"))
        field |= dict.fromkeys(filter(None, parts))
    return {name: tuple(values) for name, values in cleaned.items() if values}
