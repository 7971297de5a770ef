"""The chunks of WAV and AIFF."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import BinaryIO

from deepmusic.audio.tag_formats.fields import Field, Splice, Tag, damaged, read_at, text_of
from deepmusic.audio.tag_formats.id3 import id3_size, id3_tag
from deepmusic.errors import DeepMusicError

_WRONG_SIZES = "the sizes in its header are wrong, as in a recording from a pipe"


class RiffInfo(Tag):
    """The INFO list of WAV, whose text has no declared encoding; FFmpeg and others use UTF-8."""

    genre_keys = ("IGNR",)

    def _parse(self, data: bytes) -> list[Field]:
        fields, at = [], 0
        while at + 8 <= len(data):
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            end = at + 8 + size + size % 2
            if end > len(data) + 1:
                raise damaged(self.name)
            raw = data[at:end] + b"\0" * max(0, end - len(data))
            fields.append(Field(text_of(data[at : at + 4]).upper(), raw))
            at = end
        return fields

    def _render(self, fields: list[Field]) -> bytes:
        return b"".join(field.raw for field in fields)

    def _texts(self, field: Field) -> list[str]:
        size = int.from_bytes(field.raw[4:8], "little")
        return text_of(field.raw[8 : 8 + size].split(b"\0")[0]).split("; ")

    def _genre_fields(self, genres: Sequence[str]) -> list[Field]:
        text = "; ".join(genres).encode() + b"\0"
        raw = b"IGNR" + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
        return [Field("IGNR", raw)]


def chunk_tags(file: BinaryIO, size: int) -> list[Tag]:
    """The tags in the chunks of a file of this size: ID3, and INFO in WAV."""
    header = read_at(file, 0, 12)
    if header[:4] not in (b"RIFF", b"FORM"):
        raise DeepMusicError("tags of this kind of WAV cannot be written")
    number = "<I" if header[:4] == b"RIFF" else ">I"
    form_size = struct.unpack(number, header[4:8])[0]
    end = 8 + form_size
    rest = read_at(file, end, 129) if end <= size else b""
    if end > size or (rest[:3] != b"TAG" and rest.strip(b"\0")):
        raise DeepMusicError(_WRONG_SIZES)

    grown: dict[int, int] = {}

    def chunk_at(
        start: int, stop: int, name: bytes, rest: bytes = b""
    ) -> Callable[[bytes | None], list[Splice]]:
        """A chunk with its padding, and what stands before and after the tag in it."""

        def replace(data: bytes | None) -> list[Splice]:
            chunk = b""
            if data is not None:
                content = name[4:] + data + rest
                chunk = name[:4] + struct.pack(number, len(content)) + content
                chunk = b"\0" * (start % 2) + chunk + b"\0" * (len(content) % 2)
            grown[start] = len(chunk) - (stop - start)
            new_size = form_size + sum(grown.values())
            if new_size >= 1 << 32:
                raise DeepMusicError("it would be larger than this format allows")
            return [Splice(4, 8, struct.pack(number, new_size)), Splice(start, stop, chunk)]

        return replace

    id3, info, at = list[Tag](), list[Tag](), 12
    while at + 8 <= end:
        header = read_at(file, at, 12)
        length = struct.unpack(number, header[4:8])[0]
        stop = min(at + 8 + length + length % 2, end)
        is_chunk = re.fullmatch(rb"[ -~]{4}", header[:4]) and len(info) < 1000
        if at + 8 + length > end or not is_chunk:
            raise DeepMusicError(_WRONG_SIZES)
        if header[:4].upper() == b"ID3 ":
            data = read_at(file, at + 8, length)
            tag, rest = data[: id3_size(data)], data[id3_size(data) :]
            id3.append(id3_tag(tag, chunk_at(at, stop, header[:4], rest)))
        elif header[:4] == b"LIST" and header[8:12] == b"INFO":
            data = read_at(file, at + 12, length - 4)
            info.append(RiffInfo("INFO", data, chunk_at(at, stop, b"LISTINFO")))
        at = stop
    if not id3 and not info:
        id3.append(id3_tag(None, chunk_at(end, end, b"id3 " if number == "<I" else b"ID3 ")))
    return [*id3, *info]
