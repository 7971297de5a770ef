"""The tags of WMA."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

from deepmusic.audio.tag_formats.fields import Field, Splice, Tag, damaged, read_at, unpack

_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_DESCRIPTORS = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")


class AsfDescriptors(Tag):
    """The extended content description of WMA. Source: ASF specification, 3.11."""

    genre_keys = ("WM/GENRE",)

    def _parse(self, data: bytes) -> list[Field]:
        fields, at = [], 2
        for _ in range(unpack("<H", data, 0)):
            value_at = at + 2 + unpack("<H", data, at) + 4
            end = value_at + unpack("<H", data, value_at - 2)
            key = data[at + 2 : value_at - 4].decode("utf-16-le").rstrip("\0").upper()
            fields.append(Field(key, data[at:end]))
            at = end
        if at != len(data):
            raise damaged(self.name)
        return fields

    def _render(self, fields: list[Field]) -> bytes:
        return struct.pack("<H", len(fields)) + b"".join(field.raw for field in fields)

    def _texts(self, field: Field) -> list[str]:
        at = 2 + unpack("<H", field.raw, 0)
        kind, data = unpack("<H", field.raw, at), field.raw[at + 4 :]
        return [data.decode("utf-16-le", errors="replace").rstrip("\0")] if kind == 0 else []

    def _genre_fields(self, genres: Sequence[str]) -> list[Field]:
        name = "WM/Genre\0".encode("utf-16-le")
        values = [(genre + "\0").encode("utf-16-le") for genre in genres]
        start = struct.pack("<H", len(name)) + name
        return [Field("WM/GENRE", start + struct.pack("<2H", 0, len(v)) + v) for v in values]


def asf_tag(file: BinaryIO) -> Tag:
    """The extended content description of a file."""
    size, count = struct.unpack("<QI", read_at(file, 16, 12))
    data = read_at(file, 0, size)
    if not data.startswith(_HEADER) or len(data) < size:
        raise damaged("ASF header")
    objects, at = dict[bytes, tuple[int, int]](), 30
    for _ in range(count):
        guid, length = struct.unpack_from("<16sQ", data, at)
        objects.setdefault(guid, (at, at + length))
        at += length
    if at != size or _FILE not in objects:
        raise damaged("ASF header")
    start, end = objects.get(_DESCRIPTORS, (size, size))

    def replace(new: bytes | None) -> list[Splice]:
        content = b"" if new is None else _DESCRIPTORS
        content += b"" if new is None else struct.pack("<Q", 24 + len(new)) + new
        delta = len(content) - (end - start)
        number = count + (start == end) - (new is None)
        whole_at = objects[_FILE][0] + 40
        (whole,) = struct.unpack_from("<Q", data, whole_at)
        return [
            Splice(16, 28, struct.pack("<QI", size + delta, number)),
            Splice(whole_at, whole_at + 8, struct.pack("<Q", whole + delta if whole else 0)),
            Splice(start, end, content),
        ]

    return AsfDescriptors("ASF tag", data[start + 24 : end] if start < end else None, replace)
