"""Where the sound ends in files of chunks (WAV, RF64, BW64, W64, AIFF, CAF) and in AU.

Their headers count the bytes of sound, and writers get it wrong: 32 bits wrap beyond 4 GiB, a
program that writes to a pipe leaves 0 or -1, one that was killed leaves less than there is. So the
size is believed only where the file ends after the sound, or goes on with chunks or tags.
"""

from __future__ import annotations

import io
import os
import re
import struct
from typing import Any, BinaryIO, NamedTuple, cast

from deepmusic.audio.sources import SteadyFile

_MOST_CHUNKS = 500
_TAIL_BYTES = 1 << 26  # of the end: so far back are chunks after sound of unknown size looked for
_BLOCK_BYTES = 1 << 20
_MOST_HEAD = 1 << 26  # bytes before the sound, such as pictures
_UNKNOWN = 0x7FFF0000  # sizes from here on stand for "not known yet" in 32 bits
_TAGS = (b"ID3", b"TAG", b"APETAGEX")  # what players append without a chunk
_FOLLOWING = re.compile(
    rb"LIST|id3 |ID3 |bext|iXML|_PMX|cue |smpl|inst|fact|PEAK|JUNK|junk|PAD |FLLR|acid|DISP|axml"
    rb"|chna|cart|strc|umid|afsp|levl|plst|COMT|NAME|AUTH|ANNO|\(c\) |MARK|INST|APPL|MIDI|AESD"
    rb"|info|list|mark|free|uuid|pakt|midi|strg"
)  # names of chunks known to follow the sound


class _Layout(NamedTuple):
    """How chunks of a kind of file are laid out."""

    first: int  # offset of the first chunk
    name: int  # bytes of a chunk's name
    size: str  # how its size is stored
    align: int
    sound: bytes  # name of the chunk with the sound
    before: int = 0  # bytes of that chunk before the sound
    counted: int = 0  # bytes of name and size, where a size counts them


_RIFF = _Layout(12, 4, "<I", 2, b"data")
_LAYOUTS = {
    b"RIFF": _RIFF, b"RF64": _RIFF, b"BW64": _RIFF, b"RIFX": _RIFF._replace(size=">I"),
    b"FORM": _Layout(12, 4, ">I", 2, b"SSND", before=8),
    b"caff": _Layout(8, 4, ">q", 1, b"data", before=4),
    b"riff": _Layout(40, 16, "<q", 8, bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"), 0, 24),
}  # fmt: skip
_MOST_PARTS = 1000
# how a file of one of these kinds begins
_BEGINNING = re.compile(
    rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE|FORM.{4}AIF[FC]|caff\x00\x01|\.snd|dns\.|riff\x2e\x91\xcf\x11",
    re.DOTALL,
)
_AU_ORDERS = {b".snd": ">", b"dns.": "<"}


class Window(io.RawIOBase):
    """The bytes ``start`` to ``end`` of a file as a file, after those of ``head``.

    Closing it leaves the file open.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, head: bytes = b"") -> None:
        self._file, self._start, self._head = file, start - len(head), head
        self._size = end - self._start
        self._position = 0
        self.name = getattr(file, "name", None)  # FFmpeg considers the extension

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Read into ``buffer`` and return how many bytes."""
        view = memoryview(buffer).cast("B")
        if self._position < len(self._head):
            data = self._head[self._position : self._position + len(view)]
        elif self._position < self._size:
            self._file.seek(self._start + self._position)
            data = self._file.read(min(len(view), self._size - self._position)) or b""
        else:
            return 0
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def window(file: BinaryIO, start: int, end: int, head: bytes = b"") -> BinaryIO:
    """A `Window` as the type that readers take."""
    return cast("BinaryIO", Window(file, start, end, head))


class _Sound(NamedTuple):
    """The chunk of the sound."""

    layout: _Layout | None  # none in AU
    start: int  # offset of the sound itself
    end: int  # where the header says it ends
    size_at: int  # offset of the size in the header
    size: str
    before: int  # bytes that the size counts besides the sound

    def is_unknown(self) -> bool:
        """Whether the size means that the writer did not know it."""
        claim, bits = self.end - self.start, 8 * struct.calcsize(self.size)
        return claim <= 0 or claim >= (_UNKNOWN if bits == 32 else 1 << 62)


def mended(file: BinaryIO) -> tuple[BinaryIO, float | None]:
    """The file with a size of the sound that is true, and the share that its header promises.

    Args:
        file: any seekable file.

    Returns:
        The file itself where there is nothing to mend or the sound is cut off; a `Window` on it
        otherwise. The share is what the header promises by what is read: 1 where it is right, None
        where it tells nothing.
    """
    size = file.seek(0, os.SEEK_END)
    steady = SteadyFile(file)
    magic = _read(steady, 0, 4)
    sound = _find(steady, magic)
    if sound is None or sound.start >= min(size, _MOST_HEAD):
        return file, 1.0
    is_unknown = sound.is_unknown()
    if sound.start <= sound.end <= size and _is_followed(steady, sound, size):
        # libsndfile reads a W64 to the end of the file, whatever its header says
        has_more = magic == b"riff" and sound.end < size
        return (window(file, 0, sound.end) if has_more else file), 1.0
    end = _following(steady, sound, size)
    if end == size < sound.end and not is_unknown:
        return file, 1.0  # cut off
    claimed, true = sound.end - sound.start, end - sound.start
    largest = (1 << 8 * struct.calcsize(sound.size) - sound.size[-1].islower()) - 1
    if true > largest and magic == b"RIFF":
        return window(file, sound.start, end, _rf64_head(steady, true)), None
    head = bytearray(_read(steady, 0, sound.start))
    values = {sound.size_at: true + sound.before}
    if magic in (b"RIFF", b"RIFX", b"FORM"):
        values[4] = end - 8
    for at, value in values.items():
        head[at : at + struct.calcsize(sound.size)] = struct.pack(sound.size, min(value, largest))
    share = None if is_unknown else claimed / true
    if true > largest:  # libsndfile reads all of an AU, and this much of the others
        share = None if sound.layout is None else true / largest
    return window(file, len(head), end, bytes(head)), share


def joined(file: BinaryIO) -> list[BinaryIO]:
    """The files that one was joined from, as by ``cat``, by what their headers say.

    Returns:
        One window for each; none where it is one file, or of another kind.
    """
    size = file.seek(0, os.SEEK_END)
    starts = [0]
    while len(starts) <= _MOST_PARTS:
        part = SteadyFile(window(file, starts[-1], size))
        sound = _find(part, _read(part, 0, 4))
        length = 0 if sound is None or sound.is_unknown() else _next_file(part, sound)
        if not length:
            break
        starts.append(starts[-1] + length)
    ends = [*starts[1:], size]
    return [window(file, *span) for span in zip(starts, ends, strict=True)] if starts[1:] else []


def _next_file(file: SteadyFile, sound: _Sound) -> int:
    """Where another file begins after the sound and the chunks that follow it; 0 if none does."""
    align = sound.layout.align if sound.layout else 1
    for at in {sound.end, -(-sound.end // align) * align}:
        for _ in range(_MOST_CHUNKS):
            if _BEGINNING.match(_read(file, at, 12)):
                return at
            name, claim = _chunk(file, at, sound.layout) if sound.layout else (b"", 0)
            if not name or sound.layout is None or claim < sound.layout.counted:
                break
            at = _after(at, claim, sound.layout)
    return 0


def _rf64_head(file: SteadyFile, size: int) -> bytes:
    """The head of a WAV file of more than 4 GiB, in 64 bits, for ``size`` bytes of sound."""
    at, form = _RIFF.first, b""
    while not form:
        name, claim = _chunk(file, at, _RIFF)
        form = _read(file, at, 8 + min(claim, 4096)) if name == b"fmt " else b""
        at = _after(at, claim, _RIFF)
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, size + 100, size, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + form + b"data\xff\xff\xff\xff"


def _find(file: SteadyFile, magic: bytes) -> _Sound | None:
    """The chunk of the sound, or None where the file is of another kind or has none."""
    if magic in _AU_ORDERS:
        order = _AU_ORDERS[magic]
        head = _read(file, 4, 8)
        if len(head) < 8:
            return None
        start, claim = struct.unpack(f"{order}II", head)
        return _Sound(None, start, start + claim, 8, f"{order}I", 0)
    layout = _LAYOUTS.get(magic)
    if layout is None:
        return None
    at, large = layout.first, None
    for _ in range(_MOST_CHUNKS):
        name, claim = _chunk(file, at, layout)
        content = at + layout.name + struct.calcsize(layout.size)
        if name == layout.sound:
            size_at, form = at + layout.name, layout.size
            if large is not None and claim == 0xFFFFFFFF:
                size_at, form = large, "<Q"
                claim = int.from_bytes(_read(file, large, 8), "little")
            before = layout.counted + layout.before
            end = content + claim - layout.counted
            return _Sound(layout, content + layout.before, end, size_at, form, before)
        if name == b"ds64" and claim >= 16:
            large = content + 8  # the first number is the size of the file
        if not name or claim < layout.counted:
            return None
        at = _after(at, claim, layout)
    return None


def _is_followed(file: SteadyFile, sound: _Sound, size: int) -> bool:
    """Whether the file ends where its header says the sound ends, or goes on with no sound."""
    align = sound.layout.align if sound.layout else 1
    return any(
        _is_tail(file, sound.layout, at, size, (sound.end - sound.start) // 100)
        for at in {sound.end, -(-sound.end // align) * align}
    )


def _is_tail(file: SteadyFile, layout: _Layout | None, at: int, size: int, junk: int = 0) -> bool:
    """Whether chunks or tags go from ``at`` to the end of the file, with a little junk at most."""
    for _ in range(_MOST_CHUNKS):
        left = size - at
        if left <= max(16, min(junk, 4096)) or _read(file, at, 8).startswith(_TAGS):
            return True
        if layout is None:
            return False
        name, claim = _chunk(file, at, layout)
        after = _after(at, claim, layout)
        if not name or claim < layout.counted or after > size + layout.align:
            return bool(_FOLLOWING.fullmatch(name[:4]))  # a chunk known to be no sound, cut off
        at = after
    return False


def _following(file: SteadyFile, sound: _Sound, size: int) -> int:
    """Where chunks start that go to the end of the file; its end where there are none."""
    at, tries = max(sound.start, size - _TAIL_BYTES), 0
    while at < size and sound.layout is not None:
        block = _read(file, at, _BLOCK_BYTES)
        for match in _FOLLOWING.finditer(block):
            tries += 1  # these names hardly occur in sound
            if tries > _MOST_CHUNKS:
                return size
            if _ends_exactly(file, sound.layout, at + match.start(), size):
                return at + match.start()
        if len(block) < _BLOCK_BYTES:
            break
        at += len(block) - 3  # a name may begin in this block
    return size


def _ends_exactly(file: SteadyFile, layout: _Layout, at: int, size: int) -> bool:
    """Whether a chain of chunks from ``at`` ends where the file does."""
    for _ in range(_MOST_CHUNKS):
        name, claim = _chunk(file, at, layout)
        if not name or claim < layout.counted:
            return False
        at = _after(at, claim, layout)
        if size <= at < size + layout.align:
            return True
    return False


def _chunk(file: SteadyFile, at: int, layout: _Layout) -> tuple[bytes, int]:
    """Name and size of a chunk; an empty name where there can be none."""
    head = _read(file, at, layout.name + struct.calcsize(layout.size))
    name = head[: layout.name]
    if len(head) < layout.name + struct.calcsize(layout.size):
        return b"", 0
    if not all(32 <= byte < 127 for byte in name[:4]):
        return b"", 0
    return name, struct.unpack(layout.size, head[layout.name :])[0]


def _after(at: int, claim: int, layout: _Layout) -> int:
    """Where the next chunk begins."""
    end = at + claim - layout.counted + layout.name + struct.calcsize(layout.size)
    return -(-end // layout.align) * layout.align


def _read(file: SteadyFile, at: int, size: int) -> bytes:
    return file.read(size) if file.seek(at) == at else b""
