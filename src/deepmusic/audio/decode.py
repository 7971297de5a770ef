"""Decodes any sound file to mono float32 blocks at one sample rate, in bounded memory.

libsndfile reads first, files joined into one by one. Where it refuses a file, fails in mid-stream
or leaves bytes unread, FFmpeg decodes the file from its start and continues where libsndfile
stopped: no sound is delivered twice, and intact files cost nothing extra. The length that a header
claims is never allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from deepmusic.audio.chunks import joined, mended
from deepmusic.audio.downmix import Downmix
from deepmusic.audio.joined import parts
from deepmusic.audio.libsndfile import SndfileReader
from deepmusic.audio.sources import LARGEST_SAMPLE, RATES_HZ, Source, name_of, open_source
from deepmusic.errors import AudioError

if TYPE_CHECKING:
    from deepmusic.audio.ffmpeg import FfmpegReader

SHORTEST_S = 0.02
"""A file with less sound than this is refused."""

_GARBAGE_SHARE = 0.001  # so many samples beyond the largest are no damage: nothing is right
_PADDING_S = 0.25  # a header that promises this much more is encoder padding
_EMPTY = np.empty(0, np.float32)
_INVALID = "NaN, infinite or absurdly large"

OnBlock = Callable[[NDArray[np.float32], int, str], object]
"""Takes a block as it was decoded, ``(n, channels)``, its rate in Hz and its codec."""


class AudioStream(Iterator[NDArray[np.float32]], AbstractContextManager["AudioStream"]):
    """Mono blocks of about a second; made by `open_audio`.

    Iterate once, inside a ``with`` block or to the end: both close the file. Different streams may
    run in different threads.

    Attributes:
        sample_rate: of the blocks in Hz; the file's own, at its start, where none was requested.
        source_rate, channels: of the file, at its start.
        decoder: ``"libsndfile"`` or ``"ffmpeg"``: which one decoded the latest block.
        container, codec: short names such as ``"wav"`` and ``"pcm_s16"``, by that decoder.
        duration_s: seconds of sound decoded so far.
        header_s: seconds that the header promises; None where it is only a guess.
        faults: codes of sound that was lost: ``header_length``, ``cut_off``, ``damaged``,
            ``not_finite_samples`` and ``too_long`` (more than ``max_seconds``); set at the end.
        damage: one sentence on these faults; None without any.
        notes: one sentence by code on sound that is complete but was altered:
            ``channels_cancel``; any block may add one.
    """

    def __init__(
        self,
        source: Source,
        sample_rate: int | None,
        max_seconds: float,
        block_s: float,
        on_block: OnBlock | None,
    ) -> None:
        self.sample_rate = sample_rate or 0  # until the first block is decoded
        self.source_rate = self.channels = 0
        self.decoder = self.container = self.codec = ""
        self.duration_s = 0.0
        self.faults: tuple[str, ...] = ()
        self.damage: str | None = None
        self.notes: dict[str, str] = {}
        self.header_s: float | None = None
        self._max_seconds = max_seconds
        self._name = name_of(source)
        self._block_s = block_s
        self._on_block = on_block
        self._lost: dict[str, str] = {}  # fault -> why less was decoded than there seems to be
        self._samples = 0
        self._invalid = 0  # samples that are NaN, infinite or absurdly large
        self._too_large = 0  # samples that are infinite or absurdly large
        self._is_exact = False  # whether the header counts every sample
        self._share: float | None = 1.0  # that the header promises of what can be read
        self._downmix = Downmix()
        self._file, self._is_ours = open_source(source)
        self._blocks: Iterator[NDArray[np.float32]] = filter(len, self._resampled())
        try:
            # Decode the first block now, so that a file without sound is refused on opening.
            self._blocks = chain([next(self._blocks)], self._blocks)
        except BaseException:
            self.close()
            raise

    @property
    def warning(self) -> str | None:
        """The sentences on damage and of the notes, or None."""
        return " ".join(filter(None, [self.damage, *self.notes.values()])) or None

    @property
    def mono_share(self) -> float:
        """Energy of the mean of the channels by their mean energy: 1 if equal, 0 if they cancel."""
        return self._downmix.mono_share

    def __next__(self) -> NDArray[np.float32]:
        return next(self._blocks)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding and close the file, unless the caller opened it."""
        self._blocks = iter(())
        if self._is_ours:
            self._file.close()

    def _resampled(self) -> Iterator[NDArray[np.float32]]:
        """Mono blocks at the requested rate; checks at the end."""
        resampler: soxr.ResampleStream | None = None
        current = 0
        for mono, rate in chain(self._mono(), [(_EMPTY, 0)]):  # the last pair flushes
            if rate != current:
                if resampler is not None:
                    yield resampler.resample_chunk(_EMPTY, last=True)
                current = rate
                self.sample_rate = self.sample_rate or rate
                resampler = None
                if rate not in (0, self.sample_rate):
                    resampler = soxr.ResampleStream(
                        rate, self.sample_rate, 1, "float32", quality="HQ"
                    )
            yield mono if resampler is None else resampler.resample_chunk(mono)
        self._conclude()
        self.close()

    def _mono(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Finite mono blocks and their rate, up to ``max_seconds``."""
        for block, rate in self._decoded():
            room = round((self._max_seconds - self.duration_s) * rate)
            if room <= 0:
                self._lost["too_long"] = "longer files are decoded only up to here"
                return
            block = block[:room]
            if self._on_block is not None:
                self._on_block(block, rate, self.codec)
            if not self.source_rate:
                self.source_rate, self.channels = rate, block.shape[1]
            mono = self._downmix.mix(block, rate)
            if self._downmix.cancelled_s:
                remedy = "left out" if self._downmix.left_out else "inverted"
                self.notes["channels_cancel"] = (
                    f"Its channels cancel for {_in_words(self._downmix.cancelled_s)}: mixed to "
                    f"mono, one of them is {remedy} there."
                )
            # also if there is a NaN
            if not (mono.min() >= -LARGEST_SAMPLE and mono.max() <= LARGEST_SAMPLE):
                levels = np.abs(mono)
                valid = levels <= LARGEST_SAMPLE
                mono = np.where(valid, mono, np.float32(0))
                self._invalid += len(mono) - int(np.count_nonzero(valid))
                self._too_large += int(np.count_nonzero(levels > LARGEST_SAMPLE))
            self._samples += len(mono)
            self.duration_s += len(mono) / rate
            yield mono, rate

    def _decoded(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Blocks ``(n, channels)`` and their rate."""
        promises_s: list[float | None] = []
        for file in joined(self._file) or [self._file]:
            self.header_s = None
            yield from self._decoded_file(file, self.duration_s)
            promises_s.append(self.header_s)
        self.header_s = _sum(promises_s)

    def _decoded_file(
        self, whole: BinaryIO, start_s: float
    ) -> Iterator[tuple[NDArray[np.float32], int]]:
        """The sound of one file, before which ``start_s`` was decoded."""
        file, self._share = mended(whole)
        refusal: AudioError | None = None
        try:
            with closing(SndfileReader(file)) as reader:
                self._name_format(reader, reader.sample_rate)
                for block in reader.blocks(self._block_s):
                    yield block, reader.sample_rate
                self.header_s = self._promise(reader)
                if reader.is_cut_off():
                    self._lost["cut_off"] = "its end is missing"
                if self.duration_s > start_s and not reader.came_short():
                    return
                container = reader.container
            if (yield from self._decoded_parts(parts(whole, container), start_s)):
                return
        except AudioError as error:
            refusal = error
        yield from self._decoded_by_ffmpeg(file, refusal, start_s)

    def _decoded_parts(
        self, files: list[BinaryIO], start_s: float
    ) -> Generator[tuple[NDArray[np.float32], int], None, bool]:
        """What follows in files joined into one; returns whether all was read."""
        done_s, is_short = self.duration_s - start_s, not files
        promises_s: list[float | None] = []
        for part in files:
            with closing(SndfileReader(part)) as reader:
                promises_s.append(reader.header_s())
                if is_short:
                    continue
                rate = reader.sample_rate
                self._name_format(reader, rate)
                for block in reader.blocks(self._block_s):
                    dropped = min(len(block), round(done_s * rate))
                    done_s -= dropped / rate
                    if dropped < len(block):
                        yield block[dropped:], rate
                is_short = reader.came_short()
        if files:
            self.header_s = _sum(promises_s)
        return not is_short

    def _decoded_by_ffmpeg(
        self, file: BinaryIO, refusal: AudioError | None, start_s: float
    ) -> Iterator[tuple[NDArray[np.float32], int]]:
        """The sound that follows what libsndfile decoded."""
        from deepmusic.audio.ffmpeg import FfmpegReader  # most files never need it

        try:
            reader = FfmpegReader(file)
        except AudioError as error:
            if self.duration_s:
                self._lost["damaged"] = "the rest cannot be decoded"
                return
            raise self._no_sound(refusal, error) from error
        with closing(reader):
            for block, rate in reader.blocks(skip_s=self.duration_s - start_s):
                self._name_format(reader, rate)
                yield block, rate
            if reader.failed:
                self._lost["damaged"] = "the rest cannot be decoded"
            elif reader.damaged:
                self._lost["damaged"] = "damaged parts were left out"
            if refusal is not None and self.header_s is None:
                self.header_s = self._promise(reader)

    def _promise(self, reader: SndfileReader | FfmpegReader) -> float | None:
        """Seconds that the file's own header promises."""
        length_s = reader.header_s()
        return None if length_s is None or self._share is None else length_s * self._share

    def _name_format(self, reader: SndfileReader | FfmpegReader, rate: int) -> None:
        if not _is_rate(rate):
            reason = f"has a damaged header, of {rate:,} samples per second"
            raise self._error("bad_rate", reason)
        self.decoder, self.container, self.codec = reader.name, reader.container, reader.codec
        self._is_exact = reader.is_exact or (self._share or 0) > 1

    def _conclude(self) -> None:
        """Refuse a file without sound, and describe what was lost."""
        if not self._samples:
            raise self._error("no_sound", "is empty inside, damaged or in an unknown coding")
        if self._invalid == self._samples:
            raise self._error("not_finite", f"holds no sound: every sample is {_INVALID}")
        if self._too_large > self._samples * _GARBAGE_SHARE:
            share = f"{self._too_large / self._samples:.1%} of its samples"
            reason = (
                f"holds no sound: {share} exceed 16 million times full scale; scale or convert it"
            )
            raise self._error("not_finite", reason)
        if self.duration_s < SHORTEST_S:
            length_ms = self.duration_s * 1000
            raise self._error("too_short", f"is too short: {length_ms:.3g} ms of sound")
        padding_s = 0.5 / self.source_rate if self._is_exact else _PADDING_S
        if self.header_s is not None and self.header_s - self.duration_s > padding_s:
            missing_s = self.header_s - self.duration_s
            promise = f"its header promises {_in_words(self.header_s)}"
            if missing_s < _PADDING_S:
                promise += f", and {missing_s * 1000:.3g} ms are missing"
            self._lost = {"header_length": promise, **self._lost}
        if self._invalid:
            reason = f"{self._invalid} samples that were {_INVALID} were silenced"
            self._lost["not_finite_samples"] = reason
        if self._lost:
            reasons = "; ".join(self._lost.values())
            self.damage = f"{_in_words(self.duration_s)} of sound was decoded: {reasons}."
            self.faults = tuple(self._lost)

    def _error(self, code: str, reason: str) -> AudioError:
        return AudioError(f"{self._name} {reason}.", code=code)

    def _no_sound(self, first: AudioError | None, second: AudioError) -> AudioError:
        """Why neither decoder could open the file."""
        if first is not None and first.code == "bad_rate":
            return first
        code = second.code
        if code == "not_audio" and first is None:
            code = "no_sound"
        reasons = {
            "not_audio": "is not a sound file that libsndfile or FFmpeg can read",
            "no_sound_track": "has no sound track",
            "unknown_codec": "is in a coding that neither libsndfile nor FFmpeg supports",
            "no_sound": "has the header of a sound file and no sound after it",
        }
        return self._error(code, reasons[code])


def open_audio(
    source: Source,
    *,
    sample_rate: int | None = 22050,
    max_seconds: float = 6 * 3600.0,
    block_s: float = 1.0,
    on_block: OnBlock | None = None,
) -> AudioStream:
    """Open a sound file, or the sound of a video, as a stream of mono blocks.

    Args:
        source: a path, a binary file object that can seek (read from its start, left open), or a
            pair of samples and their rate, see `deepmusic.audio.Source`.
        sample_rate: samples per second of the blocks; None keeps the rate of the file's start.
        max_seconds: more sound than this is not read, and the warning says so.
        block_s: seconds per block, at most; many channels, a high rate and FFmpeg make it less.
        on_block: called with each block as it was decoded, float32 ``(n, channels)``, full scale
            at 1, its rate and its codec, which must not change it; with the first one before this
            function returns.

    Returns:
        An iterator of float32 arrays ``(n,)``, to be used in a ``with`` block.

    Raises:
        AudioError: there is no sound; ``code`` is one of ``missing``, ``directory``,
            ``not_a_file`` (a pipe, a device), ``permission``, ``unreadable``, ``not_seekable``,
            ``empty``, ``not_audio``, ``no_sound_track``, ``unknown_codec``, ``no_sound``,
            ``bad_rate``; while iterating also ``too_short``, ``not_finite`` (every sample is NaN or
            infinite, or one in a thousand exceeds `LARGEST_SAMPLE`) and ``no_sound``.
        ValueError: ``sample_rate``, ``max_seconds`` or ``block_s`` is out of range.
    """
    if sample_rate is not None and not _is_rate(sample_rate):
        raise ValueError(f"sample_rate is {RATES_HZ[0]} to {RATES_HZ[1]} Hz; got {sample_rate}")
    if not (max_seconds > 0 and block_s > 0):
        raise ValueError(f"max_seconds and block_s are above 0; got {max_seconds} and {block_s}")
    return AudioStream(source, sample_rate, max_seconds, block_s, on_block)


def _sum(lengths_s: list[float | None]) -> float | None:
    return None if None in lengths_s else sum(filter(None, lengths_s))


def _is_rate(sample_rate: int) -> bool:
    return RATES_HZ[0] <= sample_rate <= RATES_HZ[1]


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
