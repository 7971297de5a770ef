"""Finds the mp3 files that were joined into one, by their frames and the tags between them."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from deepmusic.audio.chunks import window
from deepmusic.audio.sources import SteadyFile

# kbit/s of layer III by index: MPEG-1, then MPEG-2 and 2.5 (ISO 11172-3 and 13818-3)
_BIT_RATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_RATES_HZ = (44_100, 48_000, 32_000)
_BLOCK_BYTES = 1 << 20
_MOST_PARTS = 1000
_JUNK_BYTES = 4096  # after the last frame: less is taken for a tag or a frame that was cut


class _Frame(NamedTuple):
    size: int  # bytes
    kind: tuple[int, bool]  # sample rate, and whether it is mono
    count_at: int  # where it has the name of a header that counts frames, if it is one


@lru_cache(maxsize=1024)
def _frame(head: bytes) -> _Frame | None:
    """What the four bytes of a frame's head mean; None if they are none of layer III."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, bit_rate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bit_rate in (0, 15) or rate == 3:
        return None
    is_first, is_mono = version == 3, head[3] >> 6 == 3
    hz = _RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    kbits = _BIT_RATES[0 if is_first else 1][bit_rate]
    size = (144_000 if is_first else 72_000) * kbits // hz + (head[2] >> 1 & 1)
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return _Frame(size, (hz, is_mono), 4 + side + 2 * (not head[1] & 1))


def mp3_parts(file: BinaryIO) -> list[BinaryIO]:
    """The mp3 files that one was joined from, without the tags between them.

    Returns:
        One window for each. None where there is but one, too many, or something else than frames
        and tags among them: then the file may be damaged.
    """
    size = file.seek(0, os.SEEK_END)
    steady = SteadyFile(file)
    starts: list[int] = []
    ends: list[int] = []
    at, block_at, block, kind, has_tag = 0, 0, b"", None, False
    while at < size and len(starts) <= _MOST_PARTS:
        if at + 64 > block_at + len(block):
            steady.seek(at)
            block_at, block = at, steady.read(_BLOCK_BYTES)
        here = at - block_at
        frame = _frame(block[here : here + 4])
        if frame is None or at + frame.size > size:
            length = tag_size(block[here : here + 32])
            if not length:
                break
            at, has_tag = at + length, True
            continue
        name = block[here + frame.count_at : here + frame.count_at + 4]
        is_header = name in (b"Xing", b"Info") or block[here + 36 : here + 40] == b"VBRI"
        if has_tag or is_header or frame.kind != kind:
            starts.append(at)
            ends.append(at)
        at += frame.size
        ends[-1], kind, has_tag = at, frame.kind, False
    if not 2 <= len(starts) <= _MOST_PARTS or size - at > _JUNK_BYTES:
        return []
    return [window(file, *span) for span in zip(starts, ends, strict=True)]


def tag_size(head: bytes) -> int:
    """Bytes of the ID3v2, ID3v1 or APEv2 tag that begins with these 32; 0 if none does."""
    if head[:3] == b"ID3" and len(head) >= 10:
        size = sum((byte & 0x7F) << 21 - 7 * index for index, byte in enumerate(head[6:10]))
        return size + (20 if head[3] == 4 and head[5] & 0x10 else 10)  # a footer is like the header
    if head[:8] == b"APETAGEX":
        return 32 + int.from_bytes(head[12:16], "little")
    return 128 if head[:3] == b"TAG" else 0
