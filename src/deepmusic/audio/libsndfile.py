"""Reads sound in blocks through libsndfile (soundfile), and says where it fell short.

libsndfile is the fast path, and it loses sound without a word: it believes a length guessed from
the first frames of an mp3, stops at damage or at a change of rate, and reads only the first link of
a chained Ogg file. So a reader tells, once it is exhausted, how many bytes it left unread.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from deepmusic.audio.sources import SteadyFile
from deepmusic.audio.stderr import quiet_c_stderr
from deepmusic.errors import AudioError

_BLOCK_SAMPLES = 1 << 21  # of all channels together: bounds a block whatever a header claims
_TAG_BYTES = 4096  # what may follow the last frame without a suspicion: ID3v1, Lyrics3, APE
_OGG_PAGE_BYTES = 1 << 16  # a page is shorter than that
_STREAMED_BYTES = 0x7FFF0000  # sizes from here on stand for "not known yet" in piped files
_CODECS = {
    "mpeg_layer_i": "mp1",
    "mpeg_layer_ii": "mp2",
    "mpeg_layer_iii": "mp3",
    "ulaw": "pcm_mulaw",
    "alaw": "pcm_alaw",
    "float": "pcm_f32",
    "double": "pcm_f64",
    "pcm_16": "pcm_s16",
    "pcm_24": "pcm_s24",
    "pcm_32": "pcm_s32",
    "pcm_s8": "pcm_s8",
}
"""Names of codings by libsndfile, in lower case, to the shorter ones of FFmpeg."""
_UNKNOWN_S = 200 * 3600  # a longer claim is a placeholder or a damaged header, not a promise


class _BlockFile(soundfile.SoundFile):  # type: ignore[misc]
    """A SoundFile that only goes forward.

    SoundFile clips reads to the claimed length and seeks after each; on a file of unknown length
    the seek fails and takes the last block with it.
    """

    def seekable(self) -> bool:
        return False


class SndfileReader:
    """Blocks of one file.

    Args:
        file: binary, seekable, at its start; a plain file on disk is read through its descriptor
            (names and extensions then play no part), others through their methods.

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
        self.channels = int(self._sound.channels)
        self.container = str(self._sound.format).lower()
        coding = str(self._sound.subtype).lower()
        is_flac = self.container == "flac" and coding.startswith("pcm")
        self.codec = "flac" if is_flac else _CODECS.get(coding, coding)
        self.failed = False
        """Whether reading ended with an error; true or false once the blocks are exhausted."""

    def blocks(self, block_s: float = 1.0) -> Iterator[NDArray[np.float32]]:
        """Blocks ``(n, channels)`` of about so many seconds, float32, up to the end or an error."""
        frames = max(1, int(min(block_s * self.sample_rate, _BLOCK_SAMPLES // self.channels)))
        while True:
            try:
                with quiet_c_stderr():
                    block = self._sound.read(frames, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, ValueError, OSError, MemoryError):
                self.failed = True
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
        # elsewhere the header knows its length, and pictures or cue sheets may follow the sound
        spare = _TAG_BYTES if self._sound.format in ("MP3", "OGG") else self._size // 20
        return self.failed or left > max(_TAG_BYTES, spare)

    def is_cut_off(self) -> bool:
        """Whether the file ends before its container says it does."""
        place = self._file.tell()
        try:
            self._file.seek(0)
            head = self._file.read(8)
            if head[:4] in (b"RIFF", b"RIFX", b"FORM"):
                order: Literal["little", "big"] = "little" if head[:4] == b"RIFF" else "big"
                claimed = int.from_bytes(head[4:], order)
                return self._size < claimed < _STREAMED_BYTES
            if head[:4] == b"OggS":
                self._file.seek(max(0, self._size - _OGG_PAGE_BYTES))
                tail = self._file.read(_OGG_PAGE_BYTES)
                last = tail.rfind(b"OggS")
                return last >= 0 and not tail[last + 5 : last + 6] >= b"\x04"  # flag: end of stream
            return False
        finally:
            self._file.seek(place)

    def close(self) -> None:
        """Let go of libsndfile's handle; the file itself stays open."""
        with quiet_c_stderr():
            self._sound.close()

    def _has_frame_count(self) -> bool:
        """Whether the first frame of an mp3 is a Xing, Info or VBRI header that counts frames."""
        place = self._file.tell()
        try:
            self._file.seek(0)
            head = self._file.read(10)
            if head[:3] == b"ID3" and len(head) == 10:
                # the size of an ID3v2 tag: four bytes of seven bits each
                size = (head[6] << 21) | (head[7] << 14) | (head[8] << 7) | head[9]
                self._file.seek(10 + size)
            else:
                self._file.seek(0)
            first = self._file.read(2048)
        finally:
            self._file.seek(place)
        return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))
