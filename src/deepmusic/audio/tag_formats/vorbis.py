"""Vorbis comments, in FLAC and in Ogg."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from deepmusic.audio.tag_formats.fields import Field, Splice, Tag, damaged, read_at, text_of, unpack
from deepmusic.errors import DeepMusicError

_PREFIXES = {b"\1vorbis": 7, b"OpusHead": 8, b"Speex   ": 0, b"\x7fFLAC": 4}
"""First bytes of a stream in Ogg, and how many bytes there are before its comments."""
_MOST_PARTS = 4000  # blocks, or pages of comments
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class VorbisComment(Tag):
    """The comments of FLAC, Vorbis, Opus and Speex. Source: xiph.org/vorbis/doc/v-comment.html."""

    genre_keys = ("GENRE",)
    _vendor, _rest = struct.pack("<I", 9) + b"deepmusic", b""

    def _parse(self, data: bytes) -> list[Field]:
        at = 4 + unpack("<I", data, 0)
        self._vendor, count, fields = data[:at], unpack("<I", data, at), []
        at += 4
        for _ in range(count):
            end = at + 4 + unpack("<I", data, at)
            key = text_of(data[at + 4 : end].partition(b"=")[0])
            fields.append(Field(key.upper(), data[at:end]))
            at = end
        if at > len(data):
            raise damaged(self.name)
        self._rest = data[at:]  # the framing bit of Vorbis, what encoders of Opus add
        return fields

    def _render(self, fields: list[Field]) -> bytes:
        count = struct.pack("<I", len(fields))
        return self._vendor + count + b"".join(field.raw for field in fields) + self._rest

    def _texts(self, field: Field) -> list[str]:
        return [text_of(field.raw[4:].partition(b"=")[2])]

    def _genre_fields(self, genres: Sequence[str]) -> list[Field]:
        comments = [b"GENRE=" + name.encode() for name in genres]
        return [Field("GENRE", struct.pack("<I", len(text)) + text) for text in comments]


def flac_tag(file: BinaryIO, at: int) -> Tag:
    """The comments of a FLAC file that begins at a position."""
    if read_at(file, at, 4) != b"fLaC":
        raise damaged("FLAC header")
    at += 4
    blocks: list[tuple[int, int, int]] = []  # type, start, end
    is_last = False
    while not is_last:
        header = read_at(file, at, 4)
        is_last, end = bool(header[0] & 0x80), at + 4 + int.from_bytes(header[1:4], "big")
        blocks.append((header[0] & 0x7F, at, end))
        at = end
        if len(blocks) > _MOST_PARTS:
            raise damaged("FLAC header")
    found = [index for index, (kind, _, _) in enumerate(blocks) if kind == 4]
    index = found[0] if found else 1
    before = blocks[index - 1]
    start, end = blocks[index][1:] if found else (before[2], before[2])
    was_last = index >= len(blocks) - (1 if found else 0)

    def replace(data: bytes | None) -> list[Splice]:
        if data is not None and len(data) >= 1 << 24:
            raise DeepMusicError("its FLAC comments would be too large")
        block = b""
        if data is not None:
            block = bytes([4 | (0x80 if was_last else 0)]) + len(data).to_bytes(3, "big") + data
        ends_before = was_last and data is None
        flags = Splice(before[1], before[1] + 1, bytes([before[0] | (0x80 if ends_before else 0)]))
        return [flags, Splice(start, end, block)]

    data = read_at(file, start + 4, end - start - 4) if found else None
    return VorbisComment("Vorbis comment", data, replace)


class _Page(NamedTuple):
    start: int
    data: bytes
    lacing: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    @property
    def serial(self) -> bytes:
        return self.data[14:18]

    @property
    def number(self) -> int:
        return int.from_bytes(self.data[18:22], "little")


def _pages(file: BinaryIO, at: int) -> Iterator[_Page]:
    while len(header := read_at(file, at, 27)) == 27 and header[:4] == b"OggS":
        lacing = read_at(file, at + 27, header[26])
        page = _Page(at, read_at(file, at, 27 + len(lacing) + sum(lacing)), lacing)
        yield page
        at = page.end


def ogg_tag(file: BinaryIO) -> Tag:
    """The comments of the first sound track in Ogg."""
    serial, skipped, pages = b"", 0, list[_Page]()
    for page in _pages(file, 0):
        content = page.data[27 + len(page.lacing) :]
        found = [count for prefix, count in _PREFIXES.items() if content.startswith(prefix)]
        if not serial and page.data[5] & 2 and found:
            serial, skipped = page.serial, found[0]
        elif serial == page.serial:
            pages.append(page)
            if len(pages) > _MOST_PARTS:
                raise damaged("Ogg header")
            if page.lacing and page.lacing[-1] < 255:  # a packet ends with the page
                break
    lacing = b"".join(page.lacing for page in pages)
    content = b"".join(page.data[27 + len(page.lacing) :] for page in pages)
    if not lacing or lacing[-1] == 255:
        raise damaged("Ogg header")
    first = next(index for index, value in enumerate(lacing) if value < 255) + 1
    length = sum(lacing[:first])

    def replace(data: bytes | None) -> list[Splice]:
        data = data or b""
        prefix = content[:skipped]
        if skipped == 4:  # the header of a block of FLAC
            prefix = content[:1] + len(data).to_bytes(3, "big")
        packet = prefix + data
        new_lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255]) + lacing[first:]
        new = _paged(pages, first, new_lacing, packet + content[length:])
        splices = [Splice(page.start, page.end, b"") for page in pages[1:]]
        splices.append(Splice(pages[0].start, pages[0].end, b"".join(new)))
        if added := len(new) - len(pages):
            for page in _pages(file, pages[-1].end):
                if page.serial == serial:
                    if page.data[5] & 2:
                        break
                    number = (page.number + added).to_bytes(4, "little")
                    changed = _summed(page.data[:18] + number + page.data[22:])
                    splices.append(Splice(page.start + 18, page.start + 26, changed[18:26]))
        return splices

    return VorbisComment("Vorbis comment", content[skipped:length], replace)


def _paged(old: list[_Page], first: int, lacing: bytes, content: bytes) -> list[bytes]:
    """Pages in place of old ones, of which a packet that ended with segment ``first`` grew.

    The page on which it ended grows, so that a packet that shrinks again leaves the old pages.
    """
    counts, end = [len(page.lacing) for page in old], 0
    for index, count in enumerate(counts):
        end += count
        if end >= first:
            counts[index] += len(lacing) - sum(counts)
            break
    is_same = all(0 < count <= 255 for count in counts)
    if not is_same:
        counts = [len(lacing[start : start + 255]) for start in range(0, len(lacing), 255)]
    pages, at, start = [], 0, 0
    for number, count in enumerate(counts):
        part = lacing[start : start + count]
        if is_same:
            header = old[number].data[:26]
        else:
            flags = 1 if start and lacing[start - 1] == 255 else 0
            position = b"\0" * 8 if min(part) < 255 else b"\xff" * 8  # whether a packet ends there
            header = old[0].data[:5] + bytes([flags]) + position + old[0].serial
            header += (old[0].number + number).to_bytes(4, "little") + b"\0" * 4
        body = content[at : at + sum(part)]
        pages.append(_summed(header + bytes([count]) + part + body))
        at, start = at + len(body), start + count
    return pages


def _summed(page: bytes) -> bytes:
    """A page with its checksum, which is that of zlib with the bits the other way round."""
    page = page[:22] + b"\0" * 4 + page[26:]
    # zlib starts from ones and ends with their complement, Ogg from zeros
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return page[:22] + value.to_bytes(4, "big").translate(_REVERSED) + page[26:]
