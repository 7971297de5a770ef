"""Reads sound in blocks through libsndfile (soundfile), and reports where it fell short.

libsndfile is the fast path, and it loses sound silently: it believes a length guessed from the
first frames of an mp3, stops at damage or at a change of rate, and reads only the first link of a
chained Ogg file. So a reader reports, once it is exhausted, whether it left bytes unread.
"""

from __future__ import annotations

import ctypes
import io
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import BinaryIO, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from deepmusic.audio.mpeg import tag_size
from deepmusic.audio.sources import SteadyFile
from deepmusic.errors import AudioError

_BLOCK_SAMPLES = 1 << 21  # of all channels together: bounds a block whatever a header claims
_TAG_BYTES = 4096  # unread bytes after the last frame that are expected: ID3v1, Lyrics3, APE
_OGG_PAGE_BYTES = 1 << 16  # a page is shorter than that
_STREAMED_BYTES = 0x7FFF0000  # sizes from here on stand for "not known yet" in piped files
_UNKNOWN_S = 200 * 3600  # a longer claim is a placeholder or a damaged header, not a promise
# libsndfile's names of codings, in lower case, to FFmpeg's shorter ones
_CODECS = {
    "mpeg_layer_i": "mp1", "mpeg_layer_ii": "mp2", "mpeg_layer_iii": "mp3",
    "ulaw": "pcm_mulaw", "alaw": "pcm_alaw", "float": "pcm_f32", "double": "pcm_f64",
    "pcm_16": "pcm_s16", "pcm_24": "pcm_s24", "pcm_32": "pcm_s32", "pcm_s8": "pcm_s8",
}  # fmt: skip


# libmpg123, inside libsndfile, prints notes about damaged mp3 files to C's stderr. Redirecting file
# descriptor 2 would also swallow what other threads write in the meantime, so the C library's
# variable ``stderr`` is set instead, as the GNU manual allows, and only during our calls. Where
# there is no such variable (musl, Windows) the notes stay visible.
_stderr: ctypes.c_void_p | None = None
if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
    _stderr = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
elif sys.platform == "darwin":
    _stderr = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "__stderrp")

_lock = threading.Lock()
_depth = 0  # calls under way in all threads; the first one redirects, the last one restores
_original: int | None = None


@lru_cache(maxsize=1)
def _null_stream() -> int | None:
    """A FILE* on the null device, opened once and never closed."""
    opener = ctypes.CDLL(None).fopen
    opener.restype = ctypes.c_void_p
    opener.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    stream: int | None = opener(os.devnull.encode(), b"we")  # e: not inherited by children
    return stream


@contextmanager
def quiet_c_stderr() -> Iterator[None]:
    """Drop what C code prints to ``stderr`` inside the block; safe in several threads at once."""
    global _depth, _original
    if _stderr is None:
        yield
        return
    with _lock:
        if _depth == 0:
            _original, _stderr.value = _stderr.value, _null_stream() or _stderr.value
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _stderr.value = _original


class _BlockFile(soundfile.SoundFile):  # type: ignore[misc]
    """A SoundFile that only goes forward.

    SoundFile clips reads to the claimed length and seeks after each; on a file of unknown length
    the seek fails and takes the last block with it.
    """

    def seekable(self) -> bool:
        return False


class SndfileReader:
    """Blocks of a seekable file, which stays open.

    A plain file on disk is read through its descriptor (its extension then does not matter),
    others through their methods.

    Raises:
        AudioError: ``not_audio``, libsndfile refuses the file.
    """

    name = "libsndfile"

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)
        target = file.fileno() if isinstance(file, io.FileIO) else SteadyFile(file)
        try:
            with quiet_c_stderr():
                self._sound = _BlockFile(target, closefd=False)
        except (soundfile.SoundFileError, ValueError, TypeError, OSError) as error:
            raise AudioError(f"libsndfile does not read it: {error}", code="not_audio") from error
        self.sample_rate = int(self._sound.samplerate)
        self.container = str(self._sound.format).lower()
        coding = str(self._sound.subtype).lower()
        is_flac = self.container == "flac" and coding.startswith("pcm")
        self.codec = "flac" if is_flac else _CODECS.get(coding, coding)
        self.is_exact = self.container == "flac"  # whether the header counts every sample
        self._failed = False  # whether reading ended with an error

    def blocks(self, block_s: float = 1.0) -> Iterator[NDArray[np.float32]]:
        """Blocks ``(n, channels)`` of at most ``block_s`` seconds, up to the end or an error."""
        channels = int(self._sound.channels)
        frames = max(1, int(min(block_s * self.sample_rate, _BLOCK_SAMPLES // channels)))
        while True:
            try:
                with quiet_c_stderr():
                    block = self._sound.read(frames, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, ValueError, OSError, MemoryError):
                self._failed = True
                return
            if len(block):
                yield block
            if len(block) < frames:
                return

    def header_s(self) -> float | None:
        """Seconds that the header promises; None where the number is only a guess."""
        if self._sound.format == "MP3" and not self._has_frame_count():
            return None
        seconds = float(self._sound.frames) / self.sample_rate
        return seconds if seconds < _UNKNOWN_S else None

    def came_short(self) -> bool:
        """Whether reading failed or left more bytes than tags take; ask at the end."""
        left = self._size - self._file.tell()
        if self._sound.format in ("MP3", "OGG", "FLAC"):
            # in a small file, so many bytes would be seconds of sound
            return self._failed or left > max(256, min(_TAG_BYTES, self._size // 20))
        # elsewhere the header knows its length, and pictures or cue sheets may follow the sound
        return self._failed or left > max(_TAG_BYTES, self._size // 20)

    def is_cut_off(self) -> bool:
        """Whether the file ends before its container says it does."""
        head = self._peek(0, 8)
        if head[:4] in (b"RIFF", b"RIFX", b"FORM"):
            order: Literal["little", "big"] = "little" if head[:4] == b"RIFF" else "big"
            return self._size < int.from_bytes(head[4:], order) < _STREAMED_BYTES
        if head[:4] == b"OggS":
            tail = self._peek(max(0, self._size - _OGG_PAGE_BYTES), _OGG_PAGE_BYTES)
            page = tail.rfind(b"OggS")
            return page >= 0 and not tail[page + 5 : page + 6] >= b"\x04"  # flag: end of stream
        return False

    def close(self) -> None:
        """Release libsndfile's handle; the file itself stays open."""
        with quiet_c_stderr():
            self._sound.close()

    def _has_frame_count(self) -> bool:
        """Whether the first frame of an mp3 is a Xing, Info or VBRI header that counts frames."""
        first = self._peek(tag_size(self._peek(0, 32)), 2048)
        return any(name in first for name in (b"Xing", b"Info", b"VBRI"))

    def _peek(self, start: int, size: int) -> bytes:
        """Read bytes, and return to the current position."""
        position = self._file.tell()
        try:
            self._file.seek(start)
            return self._file.read(size)
        finally:
            self._file.seek(position)
