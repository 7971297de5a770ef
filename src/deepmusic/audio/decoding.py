"""Opens any sound file as a stream of mono float32 blocks at one rate, in bounded memory.

libsndfile reads first. Where it refuses, fails in mid-stream or leaves bytes unread, FFmpeg decodes
the file from its start and goes on where the delivered sound ends: nothing is heard twice, and
files in good order cost nothing extra. No length that a header claims is ever allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import soxr
from numpy.typing import NDArray

from deepmusic.audio.libsndfile import SndfileReader
from deepmusic.audio.sources import Source, name_of, open_source
from deepmusic.errors import AudioError

if TYPE_CHECKING:
    from deepmusic.audio.ffmpeg import FfmpegReader

RATES_HZ = (1000, 3_072_000)
"""Sample rates that are believed: below is no sound, the upper end is raw DSD."""

SHORTEST_S = 0.02
"""A file with less sound than this is refused."""

_LOUDEST = 2.0**32  # beyond any integer stored as float; squares and sums stay finite in float32
_UNDERSTATED_S = 0.25  # a promise missed by less is encoder padding


OnBlock = Callable[[NDArray[np.float32], int, str], object]
"""Takes a block as it was decoded, ``(n, channels)``, its rate in Hz and its codec."""


class AudioStream:
    """Mono blocks of about a second; made by :func:`open_audio`.

    Iterate once, inside a ``with`` block or to the end: both close the file. Each stream belongs to
    one thread at a time; different streams may run in different threads.

    Attributes:
        sample_rate: of the blocks in Hz; the file's own, at its start, where none was given.
        source_rate, channels: of the file, at its start.
        decoder: ``"libsndfile"`` or ``"ffmpeg"``: which one gave the latest block.
        container, codec: short names such as ``"wav"`` and ``"pcm_s16"``, by that decoder.
        duration_s: seconds of sound decoded so far.
        warning: one sentence naming how much was heard when sound was lost, damaged or cut off;
            valid once the blocks are exhausted.
        faults: codes of what the warning says: ``header_length`` (the header promises more),
            ``cut_off`` (the end is missing), ``damaged`` (parts cannot be decoded),
            ``not_finite_samples`` and ``too_long`` (more than ``max_seconds``).
        promised_s: seconds that the header promises; None where it is only a guess.
    """

    def __init__(
        self,
        source: Source,
        *,
        sample_rate: int | None,
        max_seconds: float,
        block_s: float = 1.0,
        on_block: OnBlock | None = None,
    ) -> None:
        self.sample_rate = sample_rate or 0  # until the first block tells
        self.source_rate = 0
        self.channels = 0
        self.decoder = ""
        self.container = ""
        self.codec = ""
        self.duration_s = 0.0
        self.warning: str | None = None
        self.faults: tuple[str, ...] = ()
        self.promised_s: float | None = None
        self._max_seconds = max_seconds
        self._shown = name_of(source)
        self._block_s = block_s
        self._on_block = on_block
        self._faults: list[str] = []
        self._reasons: list[str] = []  # why less was heard than there seems to be
        self._samples = 0
        self._nonsense = 0  # samples that are no numbers, or beyond all measure
        self._file, self._is_ours = open_source(source)
        self._blocks = self._resampled()
        try:
            # The first block is decoded now, so that a file without sound is refused on opening.
            self._first = next(self._blocks, None)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self

    def __next__(self) -> NDArray[np.float32]:
        if self._first is not None:
            block, self._first = self._first, None
            return block
        return next(self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding and close the file, unless the caller opened it."""
        self._first = None
        self._blocks.close()
        if self._is_ours:
            self._file.close()

    def _resampled(self) -> Generator[NDArray[np.float32], None, None]:
        """Mono blocks at the wanted rate, checks at the end included."""
        resampler: soxr.ResampleStream | None = None
        current = 0
        for mono, sample_rate in self._capped():
            self.sample_rate = self.sample_rate or sample_rate
            if sample_rate != current:
                if resampler is not None:
                    yield from _not_empty(resampler.resample_chunk(_NOTHING, last=True))
                current = sample_rate
                resampler = None
                if sample_rate != self.sample_rate:
                    resampler = soxr.ResampleStream(
                        sample_rate, self.sample_rate, 1, "float32", quality="HQ"
                    )
            yield from _not_empty(mono if resampler is None else resampler.resample_chunk(mono))
        if resampler is not None:
            yield from _not_empty(resampler.resample_chunk(_NOTHING, last=True))
        self._conclude()
        if self._is_ours:
            self._file.close()

    def _capped(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Clean mono blocks and their rate, up to the longest length that is read."""
        for block, sample_rate in self._decoded():
            room = round((self._max_seconds - self.duration_s) * sample_rate)
            if room <= 0:
                self._note("too_long", "longer files are heard in part")
                return
            block = block[:room]
            if self._on_block is not None:
                self._on_block(block, sample_rate, self.codec)
            mono, nonsense = _clean(_to_mono(block))
            self._samples += len(mono)
            self._nonsense += nonsense
            self.duration_s += len(mono) / sample_rate
            if not self.source_rate:
                self.source_rate, self.channels = sample_rate, block.shape[1]
            yield mono, sample_rate

    def _decoded(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Blocks ``(n, channels)`` as the decoders give them, and their rate."""
        refusal: AudioError | None = None
        came_short = True
        try:
            reader = SndfileReader(self._file)
        except AudioError as error:
            refusal = error
        else:
            try:
                if _is_rate(reader.sample_rate):
                    self._name(reader)
                    for block in reader.blocks(self._block_s):
                        yield block, reader.sample_rate
                    came_short = reader.came_short() or not self.duration_s
                    self.promised_s = reader.promised_s()
                    if reader.is_cut_off():
                        self._note("cut_off", "its end is missing")
                else:
                    refusal = self._bad_rate(reader.sample_rate)
            finally:
                reader.close()
        if came_short:
            yield from self._decoded_by_ffmpeg(refusal)

    def _decoded_by_ffmpeg(
        self, refusal: AudioError | None
    ) -> Iterator[tuple[NDArray[np.float32], int]]:
        """The sound after what was delivered already."""
        from deepmusic.audio.ffmpeg import FfmpegReader  # most files never need it

        before_s = self.duration_s
        try:
            reader = FfmpegReader(self._file)
        except AudioError as error:
            if before_s:
                self._note("damaged", "the rest cannot be decoded")
                return
            raise self._no_sound(refusal, error) from error
        try:
            for block, sample_rate in reader.blocks(skip_s=before_s):
                if not _is_rate(sample_rate):
                    raise self._bad_rate(sample_rate)
                self._name(reader)
                yield block, sample_rate
            if reader.failed:
                self._note("damaged", "the rest cannot be decoded")
            elif reader.damaged:
                self._note("damaged", "damaged parts were left out")
            if refusal is not None and self.promised_s is None:
                self.promised_s = reader.promised_s()
        finally:
            reader.close()

    def _name(self, reader: SndfileReader | FfmpegReader) -> None:
        self.decoder, self.container, self.codec = reader.name, reader.container, reader.codec

    def _note(self, code: str, reason: str) -> None:
        self._faults.append(code)
        self._reasons.append(reason)

    def _conclude(self) -> None:
        """Refuse what is no sound, and put what was lost into words."""
        if not self._samples:
            raise AudioError(
                f"{self._shown} holds no sound that can be decoded: it is empty inside, damaged or "
                "coded in an unknown way.",
                code="no_sound",
            )
        if self._nonsense == self._samples:
            raise AudioError(
                f"{self._shown} holds no sound: every sample is NaN, infinite or beyond measure.",
                code="not_finite",
            )
        if self.duration_s < SHORTEST_S:
            raise AudioError(
                f"{self._shown} is too short: {self.duration_s * 1000:.3g} ms of sound.",
                code="too_short",
            )
        promised_s = self.promised_s or 0.0
        if promised_s - self.duration_s > _UNDERSTATED_S:
            said = f"its header promises {_in_words(promised_s)}"
            self._reasons.insert(0, said)
            self._faults.insert(0, "header_length")
        if self._nonsense:
            said = (
                f"{self._nonsense} samples that were NaN, infinite or beyond measure were silenced"
            )
            self._note("not_finite_samples", said)
        if self._reasons:
            heard = _in_words(self.duration_s)
            self.warning = f"{heard} of sound was heard: {'; '.join(self._reasons)}."
            self.faults = tuple(dict.fromkeys(self._faults))

    def _bad_rate(self, sample_rate: int) -> AudioError:
        return AudioError(
            f"{self._shown} claims {sample_rate:,} samples per second, which no music has; its "
            "header is damaged.",
            code="bad_rate",
        )

    def _no_sound(self, first: AudioError | None, second: AudioError) -> AudioError:
        """Why neither decoder gave a sound, in words for people."""
        if first is not None and first.code == "bad_rate":
            return first
        if second.code == "no_sound_track":
            return AudioError(f"{self._shown} has no sound track.", code="no_sound_track")
        if second.code == "unknown_codec":
            return AudioError(
                f"{self._shown} is coded in a way that neither libsndfile nor FFmpeg knows.",
                code="unknown_codec",
            )
        if first is None:
            return AudioError(
                f"{self._shown} has the header of a sound file and no sound after it.",
                code="no_sound",
            )
        return AudioError(
            f"{self._shown} is no sound file that libsndfile or FFmpeg can read.",
            code="not_audio",
        )


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
        source: a path, or a binary file object that can seek (read from its start, left open).
        sample_rate: samples per second of the blocks; None takes the rate of the file's start.
        max_seconds: more sound than this is not read, and the warning says so.
        block_s: about how many seconds of sound come at a time, at most; many channels or a high
            rate make it fewer, and FFmpeg's blocks are shorter.
        on_block: called with each block as it was decoded, float32 ``(n, channels)``, full scale
            at 1, its rate and its codec, before the channels are mixed; it must not change the
            block. The first comes while the file is opened.

    Returns:
        An iterator of float32 arrays ``(n,)``, to be used in a ``with`` block. Its first block is
        decoded already.

    Raises:
        AudioError: there is no sound to be had; ``code`` is one of ``missing``, ``directory``,
            ``not_a_file`` (a pipe, a device), ``permission``, ``unreadable``, ``not_seekable``,
            ``empty``, ``not_audio``, ``no_sound_track``, ``unknown_codec``, ``no_sound``,
            ``bad_rate``. While
            iterating also ``too_short``, ``not_finite`` (every sample is NaN or infinite) and
            ``no_sound``.
        ValueError: ``sample_rate``, ``max_seconds`` or ``block_s`` is out of range.
    """
    if sample_rate is not None and not _is_rate(sample_rate):
        raise ValueError(f"rate is {RATES_HZ[0]} to {RATES_HZ[1]} Hz; got {sample_rate}")
    if not max_seconds > 0:
        raise ValueError(f"max_seconds is above 0; got {max_seconds}")
    if not block_s > 0:
        raise ValueError(f"block_s is above 0; got {block_s}")
    return AudioStream(
        source, sample_rate=sample_rate, max_seconds=max_seconds, block_s=block_s, on_block=on_block
    )


_NOTHING = np.empty(0, np.float32)


def _not_empty(block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    if len(block):
        yield block


def _is_rate(sample_rate: int) -> bool:
    return RATES_HZ[0] <= sample_rate <= RATES_HZ[1]


def _to_mono(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the channels of ``(n, channels)``."""
    # summed a channel at a time: NumPy's mean over a short last axis is ten times slower
    channels = block.shape[1]
    if channels == 1:
        return np.ascontiguousarray(block[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        mono = block[:, 0] + block[:, 1]
        for channel in range(2, channels):
            mono += block[:, channel]
        mono *= np.float32(1 / channels)
    return mono


def _clean(mono: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """The samples with those that are no sound set to zero, and how many these were."""
    if mono.min() >= -_LOUDEST and mono.max() <= _LOUDEST:  # false for NaN, which both pass on
        return mono, 0
    good = np.abs(mono) <= _LOUDEST
    return np.where(good, mono, np.float32(0)), int(good.size - np.count_nonzero(good))


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
