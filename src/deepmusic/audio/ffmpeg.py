"""Reads sound in blocks through FFmpeg (PyAV): what libsndfile refuses or reads in part.

FFmpeg is given an open file, never a name, and a list of containers that hold their own sound: no
playlist, no network protocol and no container that names other files is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from deepmusic.audio.chunks import mended
from deepmusic.audio.sources import SteadyFile, open_source
from deepmusic.errors import AudioError

# FFmpeg's names of demuxers. Left out on purpose: hls, dash, concat, sdp, rtsp, image sequences,
# raw formats without a signature, scripts and game formats.
_CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,iff,matroska,webm,mov,mp4,m4a,3gp,"
    "mp3,mpc,mpc8,mpeg,mpegts,nsv,ogg,oma,qoa,rm,shn,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
# The length of these containers is computed from a bit rate, not read from a header.
_GUESSING = {"aac", "ac3", "amr", "dts", "eac3", "mp3", "mpeg", "mpegts", "truehd"}
# Containers of one lossless coding, whose header counts the samples.
_EXACT = {"flac", "tta", "wv"}
_ASIDE = (
    Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired
    | Disposition.clean_effects | Disposition.karaoke | Disposition.dub | Disposition.dependent
)  # fmt: skip
_FAILURES = (av.FFmpegError, OSError, EOFError, ValueError, MemoryError)
_SCALES = {"u1": 1 / 128, "i2": 1 / 2**15, "i4": 1 / 2**31, "i8": 1 / 2**63}


def open_container(file: BinaryIO | SteadyFile, suffix: str | None = None) -> InputContainer:
    """Open a seekable file in FFmpeg, restricted to containers that hold their own sound.

    ``suffix`` is its extension where it has no name.

    Raises:
        AudioError: ``not_audio``, FFmpeg refuses the file.
    """
    file.seek(0)
    steady = file if isinstance(file, SteadyFile) else SteadyFile(file)
    if suffix is not None:
        steady.name = f"sound{suffix}"
    try:
        return av.open(
            steady,
            mode="r",
            options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"},
            metadata_errors="ignore",
        )
    except _FAILURES as error:
        raise AudioError(f"FFmpeg does not read it: {error}", code="not_audio") from error


def sound_track(container: InputContainer) -> AudioStream | None:
    """The sound track that players choose; None if there is none.

    It is the first one marked as default, or else the first without a mark such as commentary.
    Tracks without a decoder come last.
    """

    def rank(stream: AudioStream) -> tuple[bool, bool, bool]:
        marks = stream.disposition
        has_decoder = stream.codec_context is not None
        return not has_decoder, not marks & Disposition.default, bool(marks & _ASIDE)

    return min(container.streams.audio, key=rank, default=None)


def read_header(path: str) -> tuple[float | None, int]:
    """Seconds, and bits per second, of the sound in a file, by its header; both may be a guess.

    None and 0 where FFmpeg finds none.
    """
    try:
        with open_source(path)[0] as file, open_container(mended(file)[0]) as container:
            audio = sound_track(container)
            if audio is None:
                return None, 0
            bit_rate = audio.bit_rate or container.bit_rate or 0
            if audio.duration and audio.time_base:
                return float(audio.duration * audio.time_base), bit_rate
            return container.duration / av.time_base if container.duration else None, bit_rate
    except (*_FAILURES, AudioError):
        return None, 0  # libsndfile may read it; otherwise decoding says why not


class FfmpegReader:
    """Blocks of the sound track of a seekable file, which stays open; see `sound_track`.

    Raises:
        AudioError: ``not_audio``, FFmpeg refuses the file; ``no_sound_track``; ``unknown_codec``.
    """

    name = "ffmpeg"

    def __init__(self, file: BinaryIO) -> None:
        self._file = SteadyFile(file)
        self._container = open_container(self._file)
        stream = sound_track(self._container)
        if stream is None or stream.codec_context is None:
            self._container.close()
            if stream is None:
                raise AudioError("there is no sound track in it", code="no_sound_track")
            raise AudioError("FFmpeg has no decoder for its sound", code="unknown_codec")
        self._stream = stream
        self._stream.codec_context.thread_count = 1  # parallelism is over files
        self.container = self._container.format.name.split(",")[0]
        coding = self._stream.codec_context.codec.canonical_name
        self.codec = re.sub(r"^(pcm_.*?)[bl]e$", r"\1", coding)
        self.is_exact = self.container in _EXACT  # whether the header counts every sample
        self.damaged = 0  # packets that are missing or could not be decoded, between others
        self.failed = False  # whether reading ended with an error before the end of the file

    def blocks(self, *, skip_s: float = 0.0) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Blocks of about a second: ``(n, channels)`` in float32, and their rate in Hz.

        A block ends early where the rate or the number of channels changes. ``skip_s`` seconds at
        the start are decoded and dropped.
        """
        waiting: list[NDArray[np.float32]] = []
        now_s, layout, length = 0.0, (0, 0), 0
        for frame in self._frames():
            samples = _as_float(frame)  # (channels, n)
            rate, count = frame.sample_rate, samples.shape[1]
            dropped = min(count, max(0, round((skip_s - now_s) * rate)))
            now_s += count / rate
            if dropped == count:
                continue
            if layout != (rate, len(samples)) or length >= rate:
                if waiting:
                    yield np.concatenate(waiting, axis=1).T, layout[0]
                waiting, layout, length = [], (rate, len(samples)), 0
            waiting.append(samples[:, dropped:])
            length += count - dropped
        if waiting:
            yield np.concatenate(waiting, axis=1).T, layout[0]

    def header_s(self) -> float | None:
        """Seconds that the container promises; None where the number is only a guess."""
        if _GUESSING.intersection(self._container.format.name.split(",")):
            return None
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        streams = self._container.streams
        if len(streams.video) + len(streams.audio) > 1 or self._container.duration is None:
            return None  # another track may be longer than this one
        return self._container.duration / av.time_base

    def close(self) -> None:
        """Release FFmpeg's handles; the file itself stays open."""
        self._container.close()

    def _frames(self) -> Iterator[av.AudioFrame]:
        packets = self._container.demux(self._stream)
        errors = 0  # since the last good frame; junk at either end of a file does not count
        has_decoded = False
        expected: int | None = None  # position of the next packet
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                self.failed = self._file.failed
                return
            except _FAILURES:
                self.failed = True
                return
            if self.is_exact and packet.pts is not None:  # FLAC and WavPack number their samples
                errors += expected is not None and packet.pts > expected
                expected = packet.pts + packet.duration if packet.duration else None
            try:
                frames = packet.decode()
            except _FAILURES:
                errors += 1
                continue
            for frame in frames:
                if frame.samples and frame.sample_rate > 0:
                    self.damaged += errors if has_decoded else 0
                    errors, has_decoded = 0, True
                    yield frame


def _as_float(frame: av.AudioFrame) -> NDArray[np.float32]:
    """The samples of a frame, ``(channels, n)``, full scale at 1 for integer formats."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    scaled = samples.astype(np.float32) * np.float32(_SCALES[samples.dtype.str[1:]])
    return scaled - 1 if samples.dtype.kind == "u" else scaled
