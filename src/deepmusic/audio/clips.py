"""Cutting clips out of tracks, and coding them so that the same sound gives the same bytes."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import soxr
from numpy.typing import NDArray

from deepmusic.audio.decode import open_audio
from deepmusic.audio.sources import Source, name_of, open_source
from deepmusic.errors import AudioError

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer

ClipFormat = Literal["flac", "wav", "ogg", "mp3"]
Cut = Callable[[float], list[tuple[float, float]]]
"""Takes the seconds of a track, and gives start and length of each clip in seconds."""

MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)

_CODINGS: dict[ClipFormat, tuple[str, str]] = {
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
_MOST_CHANNELS: dict[ClipFormat, int] = {"flac": 8, "wav": 1024, "ogg": 255, "mp3": 2}
_WAV_BYTES = (1 << 32) - 4096  # its header counts in 32 bits
_LONGEST_S = 6 * 3600.0
_LOUDEST = 2.0**32
_KEPT_SAMPLES = 1 << 25
"""A longer track (128 MiB as float32) is decoded twice rather than held in memory."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A piece of a track.

    Args:
        samples: ``(n, channels)`` float32, full scale at 1.
        sample_rate: samples per second.
        start_s: where it begins in the track, in seconds.
        content: the coded file, where nothing was coded anew; else None.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    start_s: float
    content: bytes | None = None

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return len(self.samples) / self.sample_rate


class _ChannelStream:
    """A sound file as blocks ``(n, channels)`` at one rate, to be iterated once.

    Where the number of channels changes within a file, what follows is brought to that of the
    file's start.
    """

    def __init__(
        self,
        source: Source,
        *,
        mono: bool = False,
        sample_rate: int | None,
        max_seconds: float = _LONGEST_S,
    ) -> None:
        self._is_mono = mono
        self._waiting: list[tuple[NDArray[np.float32], int]] = []  # decoded, not given out yet
        if mono:
            self._stream = open_audio(source, sample_rate=sample_rate, max_seconds=max_seconds)
        else:
            self._stream = open_audio(
                source,
                sample_rate=None,
                max_seconds=max_seconds,
                on_block=lambda block, sample_rate, _: self._waiting.append((block, sample_rate)),
            )
        self.sample_rate = sample_rate or self._stream.sample_rate

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    @property
    def warning(self) -> str | None:
        """As of the stream: on sound that was lost, once the blocks are exhausted."""
        return self._stream.warning

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        if self._is_mono:
            for mono in self._stream:
                yield mono[:, None]
            return
        channels = current = 0
        resampler: soxr.ResampleStream | None = None
        for block, sample_rate in self._decoded():
            channels = channels or block.shape[1]
            if sample_rate != current:
                if resampler is not None:
                    yield from _rest(resampler, channels)
                current, resampler = sample_rate, None
                if sample_rate != self.sample_rate:
                    resampler = soxr.ResampleStream(
                        sample_rate, self.sample_rate, channels, "float32", "HQ"
                    )
            sound = _clean(_with_channels(block, channels))
            if resampler is not None:
                sound = resampler.resample_chunk(sound)
            if len(sound):
                yield sound
        if resampler is not None:
            yield from _rest(resampler, channels)

    def _decoded(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        for _ in self._stream:
            yield from self._waiting
            self._waiting.clear()


def _with_channels(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if block.shape[1] == channels:
        return np.ascontiguousarray(block)
    return np.repeat(block.mean(axis=1, keepdims=True), channels, axis=1)


def _clean(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Silence in place of what is no number or beyond measure, as the mono stream has it."""
    good = np.abs(block) <= _LOUDEST
    return block if good.all() else np.where(good, block, np.float32(0))


def cut_clips(
    path: str | os.PathLike[str],
    cut: Cut,
    *,
    sample_rate: int | None = None,
    mono: bool = False,
    max_seconds: float = _LONGEST_S,
) -> tuple[list[Clip], str | None]:
    """Decode a track and cut clips out of it.

    The track is decoded to its end, since no header is believed. Up to 128 MiB of it are held;
    a longer one is decoded a second time.

    Args:
        path: of the track.
        cut: where to cut, once the track's length is known; nothing beyond its end is taken.
        sample_rate: samples per second wanted; None keeps those of the track.
        mono: whether the mean of all channels is taken.
        max_seconds: as in :func:`~deepmusic.audio.open_audio`.

    Returns:
        The clips, and a sentence on sound that was lost, or None.

    Raises:
        AudioError: as in :func:`~deepmusic.audio.open_audio`, or ``changed``: the file is another
            on the second reading.
    """
    kept: list[NDArray[np.float32]] = []
    length = 0
    with _ChannelStream(
        path, mono=mono, sample_rate=sample_rate, max_seconds=max_seconds
    ) as stream:
        for block in stream:
            length += len(block)
            kept.append(block)
            if length * block.shape[1] > _KEPT_SAMPLES:
                kept.clear()
        sample_rate, warning = stream.sample_rate, stream.warning
    spans = []
    for start_s, seconds in cut(length / sample_rate):
        first = min(max(0, round(start_s * sample_rate)), length)
        spans.append((first, min(length, first + round(seconds * sample_rate))))
    held = sum(len(block) for block in kept) == length
    if held:
        sound = np.concatenate(kept)
        pieces = [sound[first:last] for first, last in spans]
    else:
        kept.clear()
        with _ChannelStream(
            path, mono=mono, sample_rate=sample_rate, max_seconds=max_seconds
        ) as stream:
            pieces = _pick(stream, spans)
    if [len(piece) for piece in pieces] != [last - first for first, last in spans]:
        raise AudioError(f"{name_of(path)} was changed while it was read.", code="changed")
    clips = [
        Clip(piece, sample_rate, first / sample_rate)
        for piece, (first, _) in zip(pieces, spans, strict=True)
    ]
    return clips, warning


def encode(samples: NDArray[np.float32], sample_rate: int, form: ClipFormat) -> bytes:
    """The bytes of a sound file; the same samples give the same bytes with the same libraries.

    FLAC and WAV hold 16 bits, Ogg Vorbis and mp3 have the quality that libsndfile takes by
    default. Samples beyond full scale are clipped. An Ogg file gets a serial number made from its
    content, where libsndfile takes one from the clock.

    Args:
        samples: ``(n, channels)``, full scale at 1.
        sample_rate: samples per second.
        form: the format.

    Raises:
        AudioError: ``not_in_format``, such as 96 kHz or five channels in an mp3.
    """
    import soundfile

    name = form.upper() if form != "ogg" else "Ogg Vorbis"
    channels = samples.shape[1]
    if form == "mp3" and sample_rate not in MP3_RATES_HZ:
        raise AudioError(
            f"An mp3 cannot have {sample_rate} samples per second; give a rate such as 44100.",
            code="not_in_format",
        )
    if channels > _MOST_CHANNELS[form] or (form == "wav" and 2 * samples.size > _WAV_BYTES):
        raise AudioError(
            f"{channels} channels of {len(samples) / sample_rate:.0f} s do not fit into {name}; "
            "mix them to mono, or choose another format.",
            code="not_in_format",
        )
    kind, coding = _CODINGS[form]
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", sample_rate, channels, coding, format=kind) as file:
            file.write(samples)
    except (soundfile.SoundFileError, ValueError, AssertionError) as error:
        raise AudioError(
            f"{sample_rate} samples per second in {channels} channels cannot be written as {name}; "
            "choose another rate or format.",
            code="not_in_format",
        ) from error
    content = buffer.getvalue()
    return _with_steady_serial(content) if form == "ogg" else content


def copy_clips(path: str | os.PathLike[str], cut: Cut) -> list[Clip]:
    """Cut clips out of an mp3 without coding it anew, frame by frame, as FMA's clips were made.

    Clips begin and end at a frame (26 ms at 44.1 kHz). A first frame may lean on bytes of the one
    before, which is not there: decoders then keep silent for the first hundredths of a second.

    Args:
        path: of the track: an mp3, or another container with one inside.
        cut: where to cut, once the track's frames have been counted.

    Returns:
        The clips: ``content`` is the mp3, ``samples`` what it decodes to.

    Raises:
        AudioError: ``not_mp3``, or as in :func:`~deepmusic.audio.open_audio`.
    """
    from deepmusic.audio.ffmpeg import open_container

    file, is_ours = open_source(path)
    try:
        with open_container(file) as container:
            frame_s, count = _count_frames(container, path)
        spans = []
        for start_s, seconds in cut(count * frame_s):
            first = min(round(start_s / frame_s), count)
            spans.append((first, min(count, first + max(1, round(seconds / frame_s)))))
        clips = []
        for first, last in spans:
            with open_container(file) as container:
                content = _frames(container, path, first, last)
            with _ChannelStream(io.BytesIO(content), sample_rate=None) as stream:
                sound = np.concatenate(list(stream))
            clips.append(Clip(sound, stream.sample_rate, first * frame_s, content))
        return clips
    finally:
        if is_ours:
            file.close()


def _rest(resampler: soxr.ResampleStream, channels: int) -> Iterator[NDArray[np.float32]]:
    out = resampler.resample_chunk(np.empty((0, channels), np.float32), last=True)
    if len(out):
        yield out


def _pick(stream: _ChannelStream, spans: list[tuple[int, int]]) -> list[NDArray[np.float32]]:
    """The samples of spans that may overlap, of a stream that is read once."""
    parts: list[list[NDArray[np.float32]]] = [[] for _ in spans]
    place = 0
    for block in stream:
        for found, (first, last) in zip(parts, spans, strict=True):
            piece = block[max(0, first - place) : max(0, last - place)]
            if len(piece):
                found.append(piece.copy())
        place += len(block)
        if place >= max((last for _, last in spans), default=0):
            break
    return [np.concatenate(found) if found else np.empty((0, 1), np.float32) for found in parts]


def _count_frames(container: InputContainer, path: Source) -> tuple[float, int]:
    """Seconds of a frame, and how many there are."""
    packets = _packets(container, path)
    first = next(packets, None)
    if first is None or not first.duration or first.time_base is None:
        raise AudioError(f"{name_of(path)} holds no mp3 frames.", code="no_sound")
    return float(first.duration * first.time_base), 1 + sum(1 for _ in packets)


def _packets(container: InputContainer, path: Source) -> Iterator[Packet[Any]]:
    import av

    streams = container.streams.audio
    if not streams or streams[0].codec_context is None or "mp3" not in (streams[0].name or ""):
        raise AudioError(
            f"{name_of(path)} is no mp3; only mp3 frames are copied. Choose a format to code it "
            "anew.",
            code="not_mp3",
        )
    try:
        yield from (packet for packet in container.demux(streams[0]) if packet.size)
    except (av.FFmpegError, OSError, ValueError):
        return  # what came before it is sound; the clip is decoded, and so looked at


def _frames(container: InputContainer, path: Source, first: int, last: int) -> bytes:
    """Frames of an mp3 as a file with a header that counts them."""
    import av

    buffer = io.BytesIO()
    options = {"id3v2_version": "0", "write_xing": "1", "fflags": "+bitexact"}
    try:
        with av.open(buffer, "w", format="mp3", options=options) as out:
            stream = out.add_stream_from_template(container.streams.audio[0])
            stream.metadata.clear()
            place = 0
            for number, packet in enumerate(_packets(container, path)):
                if number >= last:
                    break
                if number >= first:
                    packet.pts = packet.dts = place
                    place += packet.duration or 0
                    packet.stream = stream
                    out.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(
            f"The frames of {name_of(path)} cannot be copied.", code="no_sound"
        ) from error
    return buffer.getvalue()


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> int:
    """The CRC of an Ogg page: polynomial 0x04c11db7, highest bit first, no inversion."""
    # zlib has the same polynomial with the bits in the other order and both ends inverted
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _with_steady_serial(content: bytes) -> bytes:
    """An Ogg file of one stream with a serial number that its content alone decides."""
    pages = []
    place = 0
    while place < len(content):
        segments = content[place + 26]
        size = 27 + segments + sum(content[place + 27 : place + 27 + segments])
        pages.append(content[place : place + size])
        place += size
    serial = zlib.crc32(b"".join(page[27:] for page in pages))
    written = []
    for page in pages:
        blank = page[:14] + struct.pack("<I", serial) + page[18:22] + bytes(4) + page[26:]
        written.append(blank[:22] + struct.pack("<I", _ogg_checksum(blank)) + blank[26:])
    return b"".join(written)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """All tags of a sound file by lower-case name; none where it cannot be read.

    Args:
        path: the file; pipes, devices and folders are not opened.
    """
    from deepmusic.audio.tags import _metadata

    try:
        with open_source(path)[0] as file:
            return _metadata(file)
    except Exception:  # FFmpeg meets anything here, and no tag is worth stopping for
        return {}
