"""The tags of WMA."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

from deepmusic.audio.tag_formats.fields import Field, Splice, Tag, damaged, read_at, unpack

_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_DESCRIPTORS = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
_LIBRARY = bytes.fromhex("941c23449894d149a1411d134e457054")


class AsfTag(Tag):
    """The extended content description, and the metadata library where there is one.

    Taggers put the second and later values of a field into the library. Source: ASF specification,
    3.11 and 4.8.
    """

    genre_keys = ("WM/GENRE", "LIBRARY:WM/GENRE")
    _has_library = False

    def with_genres(self, genres: Sequence[str]) -> list[Field]:
        """The same, the fields of the library last."""
        return sorted(super().with_genres(genres), key=lambda f: f.key.startswith("LIBRARY:"))

    def _parse(self, data: bytes) -> list[Field]:
        # the length of the first list, both lists
        middle = 4 + unpack("<I", data, 0)
        fields, at = [], 6
        for _ in range(unpack("<H", data, 4) if middle > 4 else 0):
            value_at = at + 2 + unpack("<H", data, at) + 4
            end = value_at + unpack("<H", data, value_at - 2)
            fields.append(Field(_name(data[at + 2 : value_at - 4]), data[at:end]))
            at = end
        if middle not in (4, at):
            raise damaged(self.name)
        self._has_library, at = len(data) > middle, middle + 2
        for _ in range(unpack("<H", data, middle) if self._has_library else 0):
            value_at = at + 12 + unpack("<H", data, at + 4)
            end = value_at + unpack("<I", data, at + 8)
            fields.append(Field("LIBRARY:" + _name(data[at + 12 : value_at]), data[at:end]))
            at = end
        if self._has_library and at != len(data):
            raise damaged(self.name)
        return fields

    def _render(self, fields: list[Field]) -> bytes:
        library = [field.raw for field in fields if field.key.startswith("LIBRARY:")]
        others = [field.raw for field in fields if not field.key.startswith("LIBRARY:")]
        first = struct.pack("<H", len(others)) + b"".join(others)
        second = struct.pack("<H", len(library)) + b"".join(library) if self._has_library else b""
        return struct.pack("<I", len(first)) + first + second

    def _texts(self, field: Field) -> list[str]:
        if field.key.startswith("LIBRARY:"):
            kind, at = unpack("<H", field.raw, 6), 12 + unpack("<H", field.raw, 4)
        else:
            at = 6 + unpack("<H", field.raw, 0)
            kind = unpack("<H", field.raw, at - 4)
        return [field.raw[at:].decode("utf-16-le", "replace").rstrip("\0")] if kind == 0 else []

    def _genre_fields(self, genres: Sequence[str]) -> list[Field]:
        name = "WM/Genre\0".encode("utf-16-le")
        values = [(genre + "\0").encode("utf-16-le") for genre in genres]
        start = struct.pack("<H", len(name)) + name
        return [Field("WM/GENRE", start + struct.pack("<2H", 0, len(v)) + v) for v in values]


def _name(data: bytes) -> str:
    return data.decode("utf-16-le").rstrip("\0").upper()


def asf_tag(file: BinaryIO) -> Tag:
    """The fields of a file."""
    size, count = struct.unpack("<QI", read_at(file, 16, 12))
    header = read_at(file, 0, size)
    if not header.startswith(_HEADER) or len(header) < size:
        raise damaged("ASF header")
    objects = _objects(header, 30, size)
    if _FILE not in objects:
        raise damaged("ASF header")
    start, end = objects.get(_DESCRIPTORS, (size, size))
    outer_start, outer_end = objects.get(_EXTENSION, (0, 0))
    inner = _objects(header, outer_start + 46, outer_end) if outer_end else {}
    library_start, library_end = inner.get(_LIBRARY, (0, 0))

    def replace(new: bytes | None) -> list[Splice]:
        middle = 4 + unpack("<I", new or bytes(4), 0)
        first, second = (new or b"")[4:middle], (new or b"")[middle:]
        content = _DESCRIPTORS + struct.pack("<Q", 24 + len(first)) + first if first else b""
        grown = len(second) - max(0, library_end - library_start - 24)
        delta = len(content) - (end - start) + grown
        whole_at = objects[_FILE][0] + 40
        whole = unpack("<Q", header, whole_at)
        number = count + (1 if start == end else 0) - (0 if content else 1)
        splices = [
            Splice(16, 28, struct.pack("<QI", size + delta, number)),
            Splice(whole_at, whole_at + 8, struct.pack("<Q", whole + delta if whole else 0)),
            Splice(start, end, content),
        ]
        if library_end:
            sizes = outer_end - outer_start + grown, outer_end - outer_start - 46 + grown
            for at, form, value in (
                (outer_start + 16, "<Q", sizes[0]),
                (outer_start + 42, "<I", sizes[1]),
                (library_start + 16, "<Q", 24 + len(second)),
            ):
                data = struct.pack(form, value)
                splices.append(Splice(at, at + len(data), data))
            splices.append(Splice(library_start + 24, library_end, second))
        return splices

    first, second = header[start + 24 : end], header[library_start + 24 : library_end]
    data = struct.pack("<I", len(first)) + first + second if first or second else None
    return AsfTag("ASF tag", data, replace)


def _objects(data: bytes, at: int, end: int) -> dict[bytes, tuple[int, int]]:
    """Start and end of the objects between two positions."""
    objects: dict[bytes, tuple[int, int]] = {}
    while at < end:
        guid, length = struct.unpack_from("<16sQ", data, at)
        if length < 24 or at + length > end:
            raise damaged("ASF header")
        objects.setdefault(guid, (at, at + length))
        at += length
    return objects
