"""ID3v2 and ID3v1."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from deepmusic.audio.mpeg import tag_size
from deepmusic.audio.tag_formats.fields import Field, Replace, Tag, damaged
from deepmusic.errors import DeepMusicError

GENRES = tuple(
    """\
Blues|Classic Rock|Country|Dance|Disco|Funk|Grunge|Hip-Hop|Jazz|Metal|New Age|Oldies|Other|Pop
R&B|Rap|Reggae|Rock|Techno|Industrial|Alternative|Ska|Death Metal|Pranks|Soundtrack|Euro-Techno
Ambient|Trip-Hop|Vocal|Jazz+Funk|Fusion|Trance|Classical|Instrumental|Acid|House|Game|Sound Clip
Gospel|Noise|Alt. Rock|Bass|Soul|Punk|Space|Meditative|Instrumental Pop|Instrumental Rock|Ethnic
Gothic|Darkwave|Techno-Industrial|Electronic|Pop-Folk|Eurodance|Dream|Southern Rock|Comedy|Cult
Gangsta Rap|Top 40|Christian Rap|Pop/Funk|Jungle|Native American|Cabaret|New Wave|Psychedelic
Rave|Showtunes|Trailer|Lo-Fi|Tribal|Acid Punk|Acid Jazz|Polka|Retro|Musical|Rock & Roll
Hard Rock|Folk|Folk-Rock|National Folk|Swing|Fast-Fusion|Bebop|Latin|Revival|Celtic|Bluegrass
Avantgarde|Gothic Rock|Progressive Rock|Psychedelic Rock|Symphonic Rock|Slow Rock|Big Band
Chorus|Easy Listening|Acoustic|Humour|Speech|Chanson|Opera|Chamber Music|Sonata|Symphony
Booty Bass|Primus|Porn Groove|Satire|Slow Jam|Club|Tango|Samba|Folklore|Ballad|Power Ballad
Rhythmic Soul|Freestyle|Duet|Punk Rock|Drum Solo|A Cappella|Euro-House|Dance Hall|Goa
Drum & Bass|Club-House|Hardcore|Terror|Indie|BritPop|Afro-Punk|Polsk Punk|Beat
Christian Gangsta Rap|Heavy Metal|Black Metal|Crossover|Contemporary Christian|Christian Rock
Merengue|Salsa|Thrash Metal|Anime|JPop|Synthpop|Abstract|Art Rock|Baroque|Bhangra|Big Beat
Breakbeat|Chillout|Downtempo|Dub|EBM|Eclectic|Electro|Electroclash|Emo|Experimental|Garage
Global|IDM|Illbient|Industro-Goth|Jam Band|Krautrock|Leftfield|Lounge|Math Rock|New Romantic
Nu-Breakz|Post-Punk|Post-Rock|Psytrance|Shoegaze|Space Rock|Trop Rock|World Music|Neoclassical
Audiobook|Audio Theatre|Neue Deutsche Welle|Podcast|Indie Rock|G-Funk|Dubstep|Garage Rock
Psybient""".replace("\n", "|").split("|")
)
"""What the numbers in ID3v1, ID3v2 and MP4 mean: those of ID3v1, and Winamp's since."""
_NUMBER = re.compile(r"\((\d+|RX|CR)\)")


def genre_name(number: int) -> list[str]:
    """The genre of a number, in a list; empty for a number that has none."""
    return [GENRES[number]] if 0 <= number < len(GENRES) else []


def id3_size(header: bytes) -> int:
    """The bytes of an ID3v2 tag with its header of 10 bytes and its footer; 0 for another header.

    Raises:
        DeepMusicError: the size is malformed.
    """
    if header[:3] == b"ID3" and any(byte > 0x7F for byte in header[6:10]):
        raise damaged("ID3 tag")
    return tag_size(header) if header[:3] == b"ID3" else 0


class Id3(Tag):
    """ID3v2.2, 2.3 or 2.4; each stays what it is.

    Source: https://id3.org/id3v2.4.0-structure, https://id3.org/id3v2.3.0, https://id3.org/id3v2-00
    """

    genre_keys = ("TCON", "TCO")
    _start, _extended, _padding, _footer = b"ID3\4\0\0", b"", b"", b""
    _sizes_are_syncsafe = True

    @property
    def version(self) -> int:
        """The 3 of ID3v2.3."""
        return self._start[3]

    def _parse(self, data: bytes) -> list[Field]:
        self._start, size, flags = data[:6], _syncsafe(data[6:10]), data[5]
        body, self._footer = data[10 : 10 + size], data[10 + size :]
        if len(body) < size or self.version not in (2, 3, 4):
            raise damaged(self.name)
        if self.version < 4 and flags & 0x80:
            coded, body = body, body.replace(b"\xff\0", b"\xff")
            if _unsynchronised(body) != coded:
                raise damaged(self.name)
        if self.version == 2 and flags & 0x40:
            raise DeepMusicError("its ID3 tag is compressed, so it cannot be changed")
        start = 0
        if self.version > 2 and flags & 0x40:
            size_of = _syncsafe if self.version == 4 else lambda data: 4 + _plain(data)
            start = size_of(body[:4])
            index, bit = (5, 0x20) if self.version == 4 else (4, 0x80)
            if start < 6 or body[index] & bit:
                raise DeepMusicError("its ID3 tag has a checksum, so it cannot be changed")
        self._extended = body[:start]
        # iTunes wrote plain sizes into ID3v2.4, others the other kind into ID3v2.3
        for is_syncsafe in (True, False) if self.version == 4 else (False, True):
            try:
                fields, end = self._walk(body, start, is_syncsafe)
            except ValueError:
                continue
            if not body[end:].strip(b"\0"):
                self._padding, self._sizes_are_syncsafe = body[end:], is_syncsafe
                return fields
        raise damaged(self.name)

    def _walk(self, body: bytes, at: int, is_syncsafe: bool) -> tuple[list[Field], int]:
        fields = []
        width = 3 if self.version == 2 else 4
        header = 6 if self.version == 2 else 10
        while at + header <= len(body) and body[at]:
            key, size = body[at : at + width], body[at + width : at + 2 * width]
            end = at + header + (_syncsafe if is_syncsafe else _plain)(size)
            if not re.fullmatch(rb"[A-Z0-9]{3}[A-Z0-9 \0]?", key) or end > len(body):
                raise ValueError("not a frame")
            fields.append(Field(key.decode(), body[at:end]))
            at = end
        return fields, at

    def _render(self, fields: list[Field]) -> bytes:
        body = self._extended + b"".join(field.raw for field in fields) + self._padding
        if self.version < 4 and self._start[5] & 0x80:
            body = _unsynchronised(body)
        size = _to_syncsafe(len(body))
        footer = b"3DI" + self._start[3:] + size if self._footer else b""
        return self._start + size + body + footer

    def _texts(self, field: Field) -> list[str]:
        data = field.raw[6 if self.version == 2 else 10 :]
        flags = field.raw[9] if self.version > 2 else 0
        if self.version == 4:
            grouped, compressed, encrypted, sized = flags & 64, flags & 8, flags & 4, flags & 1
            if flags & 2 or self._start[5] & 0x80:
                data = data.replace(b"\xff\0", b"\xff")
        else:
            grouped, compressed, encrypted, sized = flags & 32, flags & 128, flags & 64, flags & 128
        if encrypted:
            raise DeepMusicError(f"the frame {field.key} of its ID3 tag is encrypted")
        data = data[(4 if sized else 0) + (1 if grouped else 0) :]
        if compressed:
            try:
                data = zlib.decompressobj().decompress(data, 1 << 20)
            except zlib.error as error:
                raise damaged(self.name) from error
        codec = {0: "latin-1", 1: "utf-16", 2: "utf-16-be"}.get(data[0] if data else 0, "utf-8")
        text = data[1:].decode(codec, errors="replace")
        return [value.removeprefix("\ufeff") for value in text.rstrip("\0").split("\0")]

    def _genres_of(self, field: Field) -> list[str]:
        names = []
        for value in self._texts(field):
            at = 0
            while number := _NUMBER.match(value, at):  # as in "(4)(17)Pub rock"
                names += _numbered(number[1])
                at = number.end()
            value = value[at + value.startswith("((", at) :]
            names += _numbered(value) or [value]
        return names

    def _genre_fields(self, genres: Sequence[str]) -> list[Field]:
        if self.version == 4:
            data = b"\3" + "\0".join(genres).encode()
        else:
            # Before 2.4 a frame has one text, and readers ignore what follows a null character; of
            # the separators in use, a semicolon is in no name of a genre ("Pop/Rock"). A bracket
            # begins a number, unless it is doubled.
            text = "; ".join("(" + name if name.startswith("(") else name for name in genres)
            try:
                data = b"\0" + text.encode("latin-1")
            except UnicodeEncodeError:
                data = b"\1" + ("\ufeff" + text).encode("utf-16-le")
        return [self.frame("TCON", data)]

    def frame(self, key: str, data: bytes) -> Field:
        """A frame with the size and flags that this version gives it."""
        if self.version == 2:
            return Field(key[:3], key[:3].encode() + len(data).to_bytes(3, "big") + data)
        is_safe = self._sizes_are_syncsafe
        size = _to_syncsafe(len(data)) if is_safe else len(data).to_bytes(4, "big")
        return Field(key, key.encode() + size + b"\0\0" + data)


class Id3v1(Tag):
    """The last 128 bytes, of which one is the number of the genre."""

    genre_keys = ("GENRE",)

    def _parse(self, data: bytes) -> list[Field]:
        self.data = data
        return [Field("GENRE", data[127:])]

    def _render(self, fields: list[Field]) -> bytes:
        return self.data[:127] + (fields[0].raw if fields else b"\xff")

    def _texts(self, field: Field) -> list[str]:
        return genre_name(field.raw[0])

    def _genre_fields(self, genres: Sequence[str]) -> list[Field]:
        numbers = [n for n, name in enumerate(GENRES) if name.casefold() == genres[0].casefold()]
        return [Field("GENRE", bytes([*numbers, 255][:1]))]

    def frames(self, tag: Id3) -> list[Field]:
        """What it says, but for the genre, as frames of an ID3v2.4 tag that comes before it."""
        values = [("TIT2", 3, 33), ("TPE1", 33, 63), ("TALB", 63, 93), ("TDRC", 93, 97)]
        has_track = not self.data[125] and self.data[126]
        values.append(("COMM", 97, 125 if has_track else 127))
        fields = []
        for key, start, end in values:
            if text := self.data[start:end].split(b"\0")[0].rstrip():
                language = b"XXX\0" if key == "COMM" else b""
                fields.append(tag.frame(key, b"\0" + language + text))
        if has_track:
            fields.append(tag.frame("TRCK", b"\0%d" % self.data[126]))
        return fields


def _syncsafe(data: bytes) -> int:
    if max(data, default=0) > 0x7F:
        raise ValueError("not a number of 7 bits per byte")
    return sum(byte << 7 * index for index, byte in enumerate(reversed(data)))


def _to_syncsafe(size: int) -> bytes:
    if size >= 1 << 28:
        raise DeepMusicError("its ID3 tag would be too large")
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _plain(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _unsynchronised(data: bytes) -> bytes:
    """No byte 255 before one that could make a decoder take both for sound."""
    return re.sub(rb"\xff(?=[\xe0-\xff\0]|\Z)", b"\xff\0", data)


def _numbered(value: str) -> list[str]:
    special = {"RX": "Remix", "CR": "Cover"}
    if value in special:
        return [special[value]]
    return genre_name(int(value)) if re.fullmatch(r"[0-9]{1,3}", value) else []


def id3_tag(data: bytes | None, replace: Replace) -> Id3:
    """A tag of ID3v2, or a new one of ID3v2.4."""
    return Id3(f"ID3v2.{data[3]}" if data else "ID3v2.4", data, replace)
