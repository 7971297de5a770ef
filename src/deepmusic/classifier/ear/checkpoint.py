"""Reads the arrays of a TensorFlow 1 checkpoint without TensorFlow, every checksum verified.

The index of a checkpoint is a table in the format of LevelDB: blocks of entries with shared
prefixes of keys, each block followed by its type and a CRC-32C, and a footer that points to the
block of blocks. A value is a protocol buffer with type, shape and place of an array in the data
file, and the CRC-32C of its bytes (tensorflow/core/util/tensor_bundle and
tensorflow/core/lib/io/table_format.txt).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import CheckpointError

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_FLOAT32 = 1  # DataType.DT_FLOAT
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


class _Entry(NamedTuple):
    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int
    dtype: int


def read_checkpoint(
    index: bytes, data: bytes, *, prefix: str = ""
) -> dict[str, NDArray[np.float32]]:
    """The float32 arrays of a checkpoint in one shard.

    Args:
        index: content of the file ``.index``.
        data: content of the file ``.data-00000-of-00001``.
        prefix: only variables whose name starts so.

    Raises:
        CheckpointError: the checkpoint is cut, damaged, or of another kind.
    """
    try:
        return {
            name: _array(name, entry, data)
            for name, entry in _entries(index)
            if name.startswith(prefix) and entry.dtype == _FLOAT32
        }
    except (IndexError, ValueError, OverflowError) as error:
        raise _damaged(f"its index cannot be read: {error}") from error


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720), computed on whole columns of 256 bytes at a time.

    The checksum is linear: that of a long message follows from those of its pieces, which are
    advanced over the zeros that follow them. Pure Python would take a second per megabyte.
    """
    block = 256
    head = len(data) % block
    register = 0xFFFFFFFF
    table = _table()
    for byte in data[:head]:
        register = int(table[(register ^ byte) & 0xFF]) ^ register >> 8
    rows = np.frombuffer(data, np.uint8, offset=head).reshape(-1, block)
    if len(rows):
        pieces = np.zeros(len(rows), np.uint32)
        for column in rows.T:
            pieces = table[(pieces ^ column) & 0xFF] ^ pieces >> 8
        advance = _advance(block)
        for piece in pieces.tolist():
            for byte in range(4):
                piece ^= int(advance[byte, register >> 8 * byte & 0xFF])
            register = piece
    return register ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


@lru_cache(maxsize=1)
def _advance(zeros: int) -> NDArray[np.uint32]:
    """What each byte ``(4, 256)`` of the register becomes after so many zero bytes."""
    registers = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32))[:, None]
    for _ in range(zeros):
        registers = _table()[registers & 0xFF] ^ registers >> 8
    return registers


def _check(content: bytes, expected: int, what: str) -> None:
    crc = crc32c(content)
    if ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != expected:  # checksums are masked
        raise _damaged(f"the checksum of {what} is wrong")


def _array(name: str, entry: _Entry, data: bytes) -> NDArray[np.float32]:
    content = data[entry.offset : entry.offset + entry.size]
    if len(content) != entry.size or entry.size != 4 * int(np.prod(entry.shape)):
        raise _damaged(f"{name} is cut off")
    _check(content, entry.checksum, name)
    return np.frombuffer(content, "<f4").reshape(entry.shape).astype(np.float32)


def _entries(index: bytes) -> Iterator[tuple[str, _Entry]]:
    """Names and places of the arrays."""
    footer = index[-_FOOTER_BYTES:]
    if len(index) < _FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise _damaged("it does not end like an index")
    position = 0
    _, position = _varint(footer, position)  # of the block of statistics, which is not needed
    _, position = _varint(footer, position)
    offset, position = _varint(footer, position)
    size, position = _varint(footer, position)
    for _, handle in _block(index, offset, size):
        start, position = _varint(handle, 0)
        length, _ = _varint(handle, position)
        for key, value in _block(index, start, length):
            if key:  # the empty key holds the header
                yield key.decode(), _entry(value)


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block."""
    content = index[offset : offset + size + 1]
    if len(content) != size + 1 or content[-1] != 0:
        raise _damaged("a block of its index is cut off or compressed")
    checksum = int.from_bytes(index[offset + size + 1 : offset + size + 5], "little")
    _check(content, checksum, "its index")
    restarts = int.from_bytes(content[size - 4 : size], "little")
    end = size - 4 * (restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = _varint(content, position)
        unshared, position = _varint(content, position)
        length, position = _varint(content, position)
        key = key[:shared] + content[position : position + unshared]
        position += unshared
        yield key, content[position : position + length]
        position += length


def _entry(value: bytes) -> _Entry:
    """A BundleEntryProto."""
    fields = dict(_fields(value))
    shape = tuple(
        int(dict(_fields(bytes(size))).get(1, 0))
        for number, size in _fields(fields.get(2, b""))  # type: ignore[arg-type]
        if number == 2
    )
    return _Entry(shape, *(int(fields.get(number, 0)) for number in (4, 5, 6, 1)))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of the fields of a protocol buffer."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            value: int | bytes
            value, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            end = position + (4 if kind == _FIXED32 else 8)
            value, position = int.from_bytes(message[position:end], "little"), end
        elif kind == _BYTES:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        else:
            raise ValueError(f"wire type {kind}")
        yield tag >> 3, value


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of variable length, and the position after it."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise ValueError("a number is too long")


def _damaged(reason: str) -> CheckpointError:
    return CheckpointError(f"The checkpoint is damaged or of another kind: {reason}.")
