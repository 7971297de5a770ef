"""APEv2, at the end of a file."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

from deepmusic.audio.tag_formats.fields import Field, Tag, damaged, read_at, room, text_of, unpack


class Ape(Tag):
    """APEv2, and APEv1, which has no header. Source: https://wiki.hydrogenaudio.org, "APEv2"."""

    genre_keys = ("GENRE",)
    _footer = struct.pack("<8s4I8x", b"APETAGEX", 2000, 32, 0, 1 << 31)
    _has_header, _count = True, 0

    def _parse(self, data: bytes) -> list[Field]:
        self._footer, self._has_header = data[-32:], data.startswith(b"APETAGEX")
        self._count = unpack("<I", data, len(data) - 16)
        fields, at, end = [], 32 if self._has_header else 0, len(data) - 32
        while at < end:
            key_end = data.index(b"\0", at + 8, end)
            next_at = key_end + 1 + unpack("<I", data, at)
            fields.append(Field(text_of(data[at + 8 : key_end]).upper(), data[at:next_at]))
            at = next_at
        if at != end:
            raise damaged(self.name)
        self._count -= len(fields)  # some count wrongly; they may go on
        return fields

    def _render(self, fields: list[Field]) -> bytes:
        items = b"".join(field.raw for field in fields)
        size = struct.pack("<2I", len(items) + 32, max(0, self._count + len(fields)))
        footer = self._footer[:12] + size + self._footer[20:]
        flags = unpack("<I", footer, 20) | 1 << 29
        header = footer[:20] + struct.pack("<I", flags) + footer[24:]
        return (header if self._has_header else b"") + items + footer

    def _texts(self, field: Field) -> list[str]:
        if unpack("<I", field.raw, 4) & 6:  # binary, or a link
            return []
        return text_of(field.raw[field.raw.index(b"\0", 8) + 1 :]).split("\0")

    def _genre_fields(self, genres: Sequence[str]) -> list[Field]:
        value = "\0".join(genres).encode()
        return [Field("GENRE", struct.pack("<2I", len(value), 0) + b"Genre\0" + value)]


def ape_tag(file: BinaryIO, start: int, end: int) -> Ape:
    """The tag that ends at ``end``, and begins after ``start``."""
    footer = read_at(file, max(start, end - 32), 32) if end - start >= 32 else b""
    if footer[:8] != b"APETAGEX":
        return Ape("APEv2", None, room(end, end))
    (size, _, flags) = struct.unpack("<3I", footer[12:24])
    first = end - size - (32 if flags & 1 << 31 else 0)
    if first < start:
        raise damaged("APE tag")
    return Ape("APEv2", read_at(file, first, end - first), room(first, end))
