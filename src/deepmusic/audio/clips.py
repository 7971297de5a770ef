"""Cutting clips from tracks and encoding them, or copying the frames of an mp3."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from deepmusic.audio.decode import open_audio
from deepmusic.audio.sources import Source, name_of, open_source
from deepmusic.errors import AudioError

if TYPE_CHECKING:
    from av import Packet
    from av.audio import AudioStream

ClipFormat = Literal["flac", "wav", "ogg", "mp3"]
Spans = Callable[[float], list[tuple[float, float]]]
"""Takes the duration of a track and returns start and length of each clip, all in seconds."""

_SUBTYPES: dict[ClipFormat, str] = {
    "flac": "PCM_16",
    "wav": "PCM_16",
    "ogg": "VORBIS",
    "mp3": "MPEG_LAYER_III",
}
_MAX_OGG_RATE_HZ = 200_000  # libsndfile crashes above
_MAX_WAV_BYTES = (1 << 32) - 4096  # the header counts in 32 bits
_MAX_MEMORY_BYTES = 128 << 20  # longer tracks are decoded into a temporary file
_LARGEST = 2.0**32  # as in decode.py


@dataclass(frozen=True, eq=False)
class Clip:
    """A part of a track.

    Args:
        samples: `(n, channels)` float32, full scale at 1.
        sample_rate: in Hz.
        start_s: where it starts in the track, in seconds.
        content: the encoded file, if its frames were copied; else None.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    start_s: float
    content: bytes | None = None

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return len(self.samples) / self.sample_rate


class _Writer:
    """Writes decoded blocks to a file as float32 of one sample rate and number of channels."""

    def __init__(self, file: SpooledTemporaryFile[bytes], sample_rate: int, channels: int) -> None:
        self.sample_rate = sample_rate  # 0: that of the first block
        self.channels = channels  # likewise
        self._file = file
        self._input_rate = 0
        self._resampler: soxr.ResampleStream | None = None

    def add(self, block: NDArray[np.float32], sample_rate: int, codec: str) -> None:
        """Take a block `(n, channels)`; rate and channels may change within a file."""
        self.sample_rate = self.sample_rate or sample_rate
        self.channels = self.channels or block.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            if block.shape[1] != self.channels:
                block = np.repeat(block.mean(axis=1, keepdims=True), self.channels, axis=1)
            is_valid = np.abs(block) <= _LARGEST  # false for NaN
        block = np.ascontiguousarray(np.where(is_valid, block, np.float32(0)))
        if sample_rate != self._input_rate:
            self.flush()
            self._input_rate = sample_rate
            if sample_rate != self.sample_rate:
                self._resampler = soxr.ResampleStream(
                    sample_rate, self.sample_rate, self.channels, "float32", "HQ"
                )
        sound = block if self._resampler is None else self._resampler.resample_chunk(block)
        self._file.write(sound.tobytes())

    def flush(self) -> None:
        """Write what the resampler still holds."""
        if self._resampler is not None:
            nothing = np.empty((0, self.channels), np.float32)
            self._file.write(self._resampler.resample_chunk(nothing, last=True).tobytes())
            self._resampler = None


def cut_clips(
    source: Source, spans: Spans, *, sample_rate: int | None = None, mono: bool = False
) -> tuple[list[Clip], str | None]:
    """Decode a track once, to its end, and cut clips from it.

    Args:
        source: the track.
        spans: where to cut, given the decoded duration; nothing beyond the end is taken.
        sample_rate: of the clips in Hz; None keeps that of the track.
        mono: whether to average all channels.

    Returns:
        The clips, and a sentence about lost sound or None.

    Raises:
        AudioError: as in `open_audio`.
    """
    with SpooledTemporaryFile(max_size=_MAX_MEMORY_BYTES) as decoded:
        writer = _Writer(decoded, sample_rate or 0, int(mono))
        with open_audio(source, sample_rate=None, on_block=writer.add) as stream:
            for _ in stream:
                pass
        writer.flush()
        rate, frame_bytes = writer.sample_rate, 4 * writer.channels
        length = decoded.tell() // frame_bytes
        clips = []
        for start_s, seconds in spans(length / rate):
            start = min(max(0, round(start_s * rate)), length)
            decoded.seek(start * frame_bytes)
            content = decoded.read(min(round(seconds * rate), length - start) * frame_bytes)
            samples = np.frombuffer(content, np.float32).reshape(-1, writer.channels)
            clips.append(Clip(samples, rate, start / rate))
    return clips, stream.warning


def copy_clips(path: str | os.PathLike[str], spans: Spans) -> list[Clip]:
    """Cut clips from an mp3 without encoding again, frame by frame, as FMA's clips were made.

    Clips start and end at a frame (26 ms at 44.1 kHz). A first frame may refer to bytes of the
    frame before it, which is missing: decoders then give silence for some hundredths of a second.

    Args:
        path: an mp3, or another container with mp3 inside.
        spans: where to cut, given the duration by the number of frames.

    Returns:
        The clips: `content` is the mp3, `samples` what it decodes to.

    Raises:
        AudioError: `not_mp3`, or as in `open_audio`.
    """
    import av

    from deepmusic.audio.ffmpeg import open_container

    packets: list[Packet[Any]] = []
    with open_source(path)[0] as file, open_container(file) as container:
        audio = next(iter(container.streams.audio), None)
        if audio is None or audio.codec_context is None or "mp3" not in (audio.name or ""):
            message = f"{name_of(path)} is not an mp3; choose a format to encode it again."
            raise AudioError(message, code="not_mp3")
        with suppress(av.FFmpegError, OSError, ValueError):  # packets before the damage are intact
            packets.extend(packet for packet in container.demux(audio) if packet.size)
        if not packets or not packets[0].duration or packets[0].time_base is None:
            raise AudioError(f"{name_of(path)} has no mp3 frames.", code="no_sound")
        frame_s = float(packets[0].duration * packets[0].time_base)
        clips = []
        for start_s, seconds in spans(len(packets) * frame_s):
            start = min(round(start_s / frame_s), len(packets) - 1)
            count = max(1, round(seconds / frame_s))
            content = _mp3(audio, packets[start : start + count])
            (clip,), _ = cut_clips(io.BytesIO(content), lambda duration_s: [(0.0, duration_s)])
            clips.append(Clip(clip.samples, clip.sample_rate, start * frame_s, content))
    return clips


def _mp3(template: AudioStream, packets: Sequence[Packet[Any]]) -> bytes:
    """An mp3 of these frames, with a header that counts them."""
    import av

    buffer = io.BytesIO()
    options = {"id3v2_version": "0", "write_xing": "1", "fflags": "+bitexact"}
    with av.open(buffer, "w", format="mp3", options=options) as output:
        stream = output.add_stream_from_template(template)
        stream.metadata.clear()
        time = 0
        for packet in packets:
            packet.pts = packet.dts = time
            time += packet.duration or 0
            packet.stream = stream
            output.mux(packet)
    return buffer.getvalue()


def encode(samples: NDArray[np.float32], sample_rate: int, form: ClipFormat) -> bytes:
    """The content of a sound file; samples beyond full scale are clipped.

    FLAC and WAV have 16 bits; Ogg Vorbis and mp3 have libsndfile's default quality. The same
    samples give the same bytes, except in Ogg files, which have a random serial number.

    Args:
        samples: `(n, channels)`, full scale at 1.
        sample_rate: in Hz.
        form: the format.

    Raises:
        AudioError: `not_in_format`, such as 96 kHz or five channels in an mp3.
    """
    import soundfile

    channels = samples.shape[1]
    buffer = io.BytesIO()
    try:
        if form == "ogg" and sample_rate > _MAX_OGG_RATE_HZ:
            raise ValueError("sample rate")
        if form == "wav" and 2 * samples.size > _MAX_WAV_BYTES:
            raise ValueError("length")
        soundfile.write(buffer, samples, sample_rate, _SUBTYPES[form], format=form.upper())
    except (soundfile.SoundFileError, ValueError, AssertionError) as error:
        raise AudioError(
            f"{len(samples) / sample_rate:.0f} s at {sample_rate} Hz in {channels} channels cannot "
            f"be written as {form}; choose another sample rate or format, or mix to mono.",
            code="not_in_format",
        ) from error
    return buffer.getvalue()
