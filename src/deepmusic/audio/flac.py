"""Compares the sound of a FLAC file with the MD5 of its samples that the file carries.

Of files joined into one, only the first is compared.
"""

from __future__ import annotations

import hashlib
import sys
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.mpeg import tag_size


class SampleDigest:
    """MD5 of decoded blocks as FLAC takes it: interleaved integers, little-endian.

    Attributes:
        expected: the MD5 in the file, 16 bytes; empty where there is none, or where samples of
            more than 24 bits do not fit into float32.
    """

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        start = tag_size(file.read(32))  # an ID3v2 tag in front is common, against the format
        file.seek(start)
        head = file.read(42)
        is_flac = len(head) == 42 and head[:4] == b"fLaC" and head[4] & 0x7F == 0
        self._bits = ((head[20] & 1) << 4 | head[21] >> 4) + 1 if is_flac else 0
        self.expected = head[26:] if 0 < self._bits <= 24 and any(head[26:]) else b""
        count = int.from_bytes(head[21:26], "big") & 0xF_FFFF_FFFF  # 36 bits; 0: unknown
        self._left = count or sys.maxsize  # samples
        self._md5 = hashlib.md5(usedforsecurity=False)

    def add(self, block: NDArray[np.float32]) -> None:
        """Take a block ``(n, channels)`` as it was decoded."""
        block = block[: self._left]
        self._left -= len(block)
        if self.expected:
            scaled = np.rint(block * np.float32(2 ** (self._bits - 1))).astype("<i4")
            width = -(-self._bits // 8)
            self._md5.update(scaled.reshape(-1, 1).view(np.uint8)[:, :width].tobytes())

    def differs(self) -> bool:
        """Whether the file has an MD5 and the blocks another one."""
        return bool(self.expected) and self._md5.digest() != self.expected
