"""The tags of MP4, M4A and M4B."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from deepmusic.audio.tag_formats.fields import Field, Splice, Tag, damaged, read_at, text_of, unpack
from deepmusic.audio.tag_formats.id3 import genre_name
from deepmusic.errors import DeepMusicError

_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mfra"}
# a handler that says that the tags are those of iTunes
_HANDLER = b"\0\0\0\x21hdlr" + b"\0" * 8 + b"mdirappl" + b"\0" * 9


class Mp4Items(Tag):
    """The atoms of ``ilst`` in MP4, M4A and M4B. Source: QuickTime File Format, "Metadata"."""

    genre_keys = ("©GEN", "GNRE")

    def _parse(self, data: bytes) -> list[Field]:
        fields, at = [], 0
        while at < len(data):
            size = unpack(">I", data, at)
            if size < 8 or at + size > len(data):
                raise damaged(self.name)
            key = data[at + 4 : at + 8].decode("latin-1").upper()
            fields.append(Field(key, data[at : at + size]))
            at += size
        return fields

    def _render(self, fields: list[Field]) -> bytes:
        return b"".join(field.raw for field in fields)

    def _values(self, field: Field) -> list[tuple[int, bytes]]:
        """The type and bytes of each value."""
        values, at = [], 8
        while at + 16 <= len(field.raw):
            size = max(unpack(">I", field.raw, at), 8)
            if field.raw[at + 4 : at + 8] == b"data":
                kind = unpack(">I", field.raw, at + 8) & 0xFFFFFF
                values.append((kind, field.raw[at + 16 : at + size]))
            at += size
        return values

    def _texts(self, field: Field) -> list[str]:
        return [
            data.decode("utf-16-be", errors="replace") if kind == 2 else text_of(data)
            for kind, data in self._values(field)
        ]

    def _genres_of(self, field: Field) -> list[str]:
        if field.key != "GNRE":
            return self._texts(field)
        numbers = [int.from_bytes(data, "big") - 1 for _, data in self._values(field)]
        return [name for number in numbers for name in genre_name(number)]

    def _genre_fields(self, genres: Sequence[str]) -> list[Field]:
        values = [name.encode() for name in genres]
        data = b"".join(struct.pack(">I4s2I", 16 + len(v), b"data", 1, 0) + v for v in values)
        return [Field("©GEN", struct.pack(">I4s", 8 + len(data), b"\xa9gen") + data)]


class _Atom(NamedTuple):
    name: bytes
    start: int
    content: int  # where it begins
    end: int


def mp4_tag(file: BinaryIO, size: int) -> Tag:
    """The list of iTunes in a file of this size."""
    headers, at = list[tuple[int, bytes]](), 0  # those with offsets in them
    while at + 8 <= size:
        header = read_at(file, at, 16)
        length, name = struct.unpack_from(">I4s", header)
        length = struct.unpack_from(">Q", header, 8)[0] if length == 1 else length or size - at
        if length < 8 or at + length > size:
            raise damaged("MP4 header")
        if name in (b"moov", b"moof", b"mfra"):
            headers.append((at, read_at(file, at, length)))
        at += length
    moov_at, moov = next(((at, data) for at, data in headers if data[4:8] == b"moov"), (0, b""))
    path = list(_atoms(moov, 0, len(moov)))
    if len(path) != 1 or b"saio" in moov:  # of encryption: more offsets
        raise damaged("MP4 header")
    for name in (b"udta", b"meta", b"ilst"):
        inner = _inner(moov, path[-1])
        if path[-1].name == b"meta" and moov[inner[0].content + 8 :][:4] != b"mdir":
            raise DeepMusicError("its tags are of a kind that cannot be written")
        path += [atom for atom in inner if atom.name == name][:1]
        if path[-1].name != name:
            break

    def replace(data: bytes | None) -> list[Splice]:
        *parents, last = path
        new = b"" if data is None else _atom(b"ilst", data)
        if last.name == b"ilst":
            while data is None and len(parents) > 1 and _is_bare(moov, parents[-1]):
                last = parents.pop()
            start, end = last.start, last.end
        else:
            parents = path
            if last.name != b"meta":
                new = _atom(b"meta", b"\0" * 4 + _HANDLER + new)
            if last.name == b"moov":
                new = _atom(b"udta", new)
            start = end = max([last.content, *(atom.end for atom in _inner(moov, last))])
        delta = len(new) - (end - start)
        splices = [Splice(moov_at + start, moov_at + end, new)]
        for atom in parents:
            at, form = (8, ">Q") if atom.content - atom.start == 16 else (0, ">I")
            size = struct.pack(form, atom.end - atom.start + delta)
            at += moov_at + atom.start
            splices.append(Splice(at, at + len(size), size))
        return splices + _shifted(headers, moov_at + end, delta)

    data = moov[path[-1].content : path[-1].end] if path[-1].name == b"ilst" else None
    return Mp4Items("MP4 tag", data, replace)


def _atom(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _inner(data: bytes, atom: _Atom) -> list[_Atom]:
    # QuickTime leaves out the version and flags of meta
    skipped = 4 if atom.name == b"meta" and data[atom.content + 4 :][:4] != b"hdlr" else 0
    return list(_atoms(data, atom.content + skipped, atom.end))


def _is_bare(data: bytes, atom: _Atom) -> bool:
    """Whether nothing but tags would be lost with it."""
    return all(inner.name in (b"hdlr", b"ilst", b"meta") for inner in _inner(data, atom))


def _atoms(data: bytes, start: int, end: int) -> Iterator[_Atom]:
    """The atoms between two positions; QuickTime may end a list with zeros."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            size, content = struct.unpack_from(">Q", data, start + 8)[0], start + 16
        if size < content - start or start + size > end:
            raise damaged("MP4 header")
        yield _Atom(name, start, content, start + size)
        start += size


def _shifted(headers: list[tuple[int, bytes]], start: int, delta: int) -> list[Splice]:
    """The offsets in MP4 headers that point to ``start`` or after, moved."""
    splices = []
    for header_at, header in headers:
        for at, form in _offsets(header, 0, len(header)):
            old = struct.unpack_from(form, header, at)
            try:
                new = struct.pack(form, *(v + delta if v >= start else v for v in old))
            except struct.error as error:
                raise DeepMusicError("it would be larger than this format allows") from error
            splices.append(Splice(header_at + at, header_at + at + len(new), new))
    return [splice for splice in splices if splice.data] if delta else []


def _offsets(data: bytes, start: int, end: int) -> Iterator[tuple[int, str]]:
    """Where an MP4 header holds positions in the file, and how many of how many bits."""
    for name, _, at, stop in _atoms(data, start, end):
        if name in _PARENTS:
            yield from _offsets(data, at, stop)
        elif name in (b"stco", b"co64"):
            yield at + 8, f">{struct.unpack_from('>I', data, at + 4)[0]}{'IQ'[name == b'co64']}"
        elif name == b"tfhd" and data[at + 3] & 1:
            yield at + 8, ">Q"
        elif name == b"tfra":
            form, width = (">Q", 16) if data[at] else (">I", 8)
            sizes = sum((data[at + 11] >> shift & 3) + 1 for shift in (0, 2, 4))
            for entry in range(struct.unpack_from(">I", data, at + 12)[0]):
                yield at + 16 + entry * (width + sizes) + width // 2, form
