"""What a zip archive says is in it, and the bytes of one member; from any place that can be read.

Source: PKWARE, .ZIP File Format Specification (APPNOTE.TXT 6.3.10), with the zip64 fields that an
archive of more than 4 GiB or 65,535 members needs.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from deepmusic.errors import ReasonError

TAIL = (1 << 16) + 1024
"""Bytes at the end of an archive that surely hold its end records."""
_CHUNK = 1 << 18

_END = struct.Struct("<4s4H2LH")
_END64_PLACE = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
"""What stands before the name of a member, and then its bytes."""
_ALL_ONES_16, _ALL_ONES_32 = 0xFFFF, 0xFFFFFFFF


class ArchiveError(ReasonError):
    """An archive is damaged, or holds what is not unpacked.

    A code is such as ``"damaged"``, ``"crc"``, ``"traversal"``, ``"link"`` or ``"bomb"``.
    """


@dataclass(frozen=True)
class Span:
    """Where the directory of an archive is.

    Args:
        start: bytes before it.
        size: its bytes.
        count: of members.
    """

    start: int
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class Member:
    """One member, as the directory of its archive has it.

    Args:
        name: with slashes; a folder's ends in one.
        start: bytes of the archive before its local header.
        packed_size: its bytes in the archive.
        size: its bytes.
        crc: its CRC-32.
        method: 0 stored, 8 deflate, 12 bzip2, 14 LZMA.
        flags: the general purpose bits.
        mode: Unix type and permissions; 0 if the archive does not say.
        header_size: bytes of the local header, as far as the directory foretells them.
    """

    name: str
    start: int
    packed_size: int
    size: int
    crc: int
    method: int
    flags: int
    mode: int
    header_size: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/") or stat.S_ISDIR(self.mode)


def find_directory(tail: bytes, total: int) -> Span:
    """Where the directory is, by the end of an archive.

    Args:
        tail: the last :data:`TAIL` bytes, or all if there are fewer.
        total: bytes of the whole archive.

    Raises:
        ArchiveError: ``"not_archive"``: there is no end record; ``"damaged"``: it contradicts
            itself; ``"parts"``: the archive is one of several volumes.
    """
    place = len(tail) - _END.size
    while place >= 0:
        place = tail.rfind(b"PK\x05\x06", 0, place + 4)
        if place < 0:
            break
        # the record ends, after a comment of the length it says, with the file
        if place + _END.size + int.from_bytes(tail[place + 20 : place + 22], "little") == len(tail):
            break
        place -= 1
    if place < 0:
        raise ArchiveError(
            "it does not end as a zip archive does: it is something else, or not all of it is "
            "there.",
            code="not_archive",
        )
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(tail, place)
    end = total - len(tail) + place
    locator = place - _END64_PLACE.size
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        _, disk, place64, _ = _END64_PLACE.unpack_from(tail, locator)
        at = place64 - (total - len(tail))
        if not 0 <= at <= locator - _END64.size or tail[at : at + 4] != b"PK\x06\x06":
            raise _damaged("its zip64 end record is not where it says")
        _, _, _, _, disk, first_disk, here, count, size, start = _END64.unpack_from(tail, at)
        end = place64
    if disk or first_disk or here != count:
        raise ArchiveError(
            "it is one of several volumes; join them to one archive first.", code="parts"
        )
    if start + size != end or size < count * _ENTRY.size:
        raise _damaged("its directory is not where it says")
    return Span(start, size, count)


def read_members(directory: bytes, span: Span) -> list[Member]:
    """The members that a directory lists, in its order.

    Raises:
        ArchiveError: ``"damaged"``.
    """
    members, place = [], 0
    try:
        for _ in range(span.count):
            member, place = _read_member(directory, place)
            members.append(member)
    except (struct.error, UnicodeDecodeError) as error:
        raise _damaged("its directory cannot be read") from error
    if place != len(directory):
        raise _damaged("its directory has another number of members than it says")
    for member in members:
        if member.start + LOCAL_HEADER.size + member.packed_size > span.start:
            raise _damaged("members reach into its directory")
    return members


def _read_member(directory: bytes, place: int) -> tuple[Member, int]:
    (mark, _, _, flags, method, _, _, crc, packed_size, size, name_size, extra_size, comment_size,
     disk, _, attributes, start) = _ENTRY.unpack_from(directory, place)  # fmt: skip
    if mark != b"PK\x01\x02":
        raise _damaged("its directory cannot be read")
    place += _ENTRY.size
    raw = directory[place : place + name_size]
    name = raw.decode("utf-8" if flags & 0x800 else "cp437")
    place += name_size
    extra = directory[place : place + extra_size]
    place += extra_size + comment_size
    if place > len(directory):
        raise _damaged("its directory cannot be read")
    if _ALL_ONES_32 in (size, packed_size, start) or disk == _ALL_ONES_16:
        wide = _extra_field(extra, 1)
        at = 0

        def long(value: int) -> int:
            nonlocal at
            if value != _ALL_ONES_32:
                return value
            at += 8
            return int(struct.unpack_from("<Q", wide, at - 8)[0])

        size, packed_size, start = long(size), long(packed_size), long(start)
    # zip64 sizes stand in the local header too, whether or not the directory has them
    header_size = LOCAL_HEADER.size + name_size + max(extra_size, 20)
    mode = attributes >> 16
    return (
        Member(name, start, packed_size, size, crc, method, flags, mode, header_size),
        place,
    )


def _extra_field(extra: bytes, wanted: int) -> bytes:
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, place)
        if kind == wanted:
            return extra[place + 4 : place + 4 + size]
        place += 4 + size
    return b""


def packed_start(member: Member, header: bytes) -> int:
    """Bytes from the start of a member's local header to its packed bytes.

    Args:
        member: which.
        header: what stands at ``member.start``, at least :data:`LOCAL_HEADER` and the name.

    Raises:
        ArchiveError: ``"damaged"``: another member stands there.
    """
    if len(header) < LOCAL_HEADER.size:
        raise _damaged("it ends within a member")
    mark, _, _, _, _, _, _, _, _, name_size, extra_size = LOCAL_HEADER.unpack_from(header)
    raw = header[LOCAL_HEADER.size : LOCAL_HEADER.size + name_size]
    if (
        mark != b"PK\x03\x04"
        or raw.decode("utf-8" if member.flags & 0x800 else "cp437", "replace") != member.name
    ):
        raise _damaged(f"{member.name!r} does not stand where its directory says")
    return int(LOCAL_HEADER.size + name_size + extra_size)


def refuse_unreadable(member: Member) -> None:
    """Raise if the bytes of a member can not be had.

    Raises:
        ArchiveError: ``"encrypted"`` or ``"method"``.
    """
    if member.flags & 0x2041:  # encrypted, strongly encrypted, or with a masked header
        raise ArchiveError(f"{member.name!r} in it is encrypted.", code="encrypted")
    if member.method not in (0, 8, 12, 14):
        raise ArchiveError(
            f"{member.name!r} in it is packed by method {member.method}; known are 0 (stored), "
            "8 (deflate), 12 (bzip2) and 14 (LZMA).",
            code="method",
        )


def unpacked_chunks(member: Member, packed: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a member; never more than its size, whatever its packed bytes would give.

    Args:
        member: which.
        packed: its packed bytes, in pieces.

    Raises:
        ArchiveError: ``"encrypted"`` or ``"method"``; ``"damaged"``: they cannot be unpacked;
            ``"size"``: they give more or fewer bytes than the directory says; ``"crc"``: they give
            others. The last pieces are given before that is known.
    """
    refuse_unreadable(member)
    crc, done = 0, 0
    try:
        for chunk in _unpacked(member.method, packed):
            done += len(chunk)
            if done > member.size:
                break
            crc = zlib.crc32(chunk, crc)
            yield chunk
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the decompressor
        raise _damaged(f"{member.name!r} in it cannot be unpacked") from error
    if done != member.size:
        more = "more" if done > member.size else "fewer"
        raise ArchiveError(
            f"{member.name!r} in it has {more} than the {member.size:,} bytes that it should have.",
            code="size",
        )
    if crc != member.crc:
        raise ArchiveError(
            f"{member.name!r} in it is damaged: its CRC-32 is {crc:08x}, not {member.crc:08x}.",
            code="crc",
        )


class _Decompressor(Protocol):
    """As :mod:`bz2` and :mod:`lzma` have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Inflater:
    """Deflate, as if it were of :mod:`bz2`."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Lzma:
    """LZMA with the header that a zip archive gives it, as if it were of :mod:`lzma`."""

    def __init__(self) -> None:
        self._header = b""
        self._inner: lzma.LZMADecompressor | None = None

    @property
    def eof(self) -> bool:
        return self._inner is not None and self._inner.eof

    @property
    def needs_input(self) -> bool:
        return self._inner is None or self._inner.needs_input

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if self._inner is None:
            self._header += data
            if len(self._header) < 9:
                return b""
            _, properties_size, packed, dictionary = struct.unpack_from("<2HBL", self._header)
            if properties_size != 5 or packed >= 225:
                raise lzma.LZMAError("unknown properties")
            # one byte holds (pb * 5 + lp) * 9 + lc
            of = {"lc": packed % 9, "lp": packed // 9 % 5, "pb": packed // 45}
            filters = [{"id": lzma.FILTER_LZMA1, "dict_size": min(dictionary, 1 << 28), **of}]
            self._inner = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
            data = self._header[9:]
        return self._inner.decompress(data, max_length)


def _unpacked(method: int, packed: Iterable[bytes]) -> Iterator[bytes]:
    if method == 0:
        yield from packed
        return
    kinds: dict[int, Callable[[], _Decompressor]]
    kinds = {8: _Inflater, 12: bz2.BZ2Decompressor, 14: _Lzma}
    made = kinds[method]()
    for piece in packed:
        data = piece
        while not made.eof:
            if chunk := made.decompress(data, _CHUNK):
                yield chunk
            data = b""
            if made.needs_input and not chunk:
                break
        if made.eof:
            break
    # LZMA may go without an end mark: its size says where it ends
    if not made.eof and method != 14:
        raise EOFError("cut short")


def _damaged(reason: str) -> ArchiveError:
    return ArchiveError(f"{reason}; fetch it again.", code="damaged")
