"""The clips of one track of a data set that is built: decode, cut, adjust loudness, encode."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import floor, inf, log10
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import soxr
from numpy.typing import NDArray

from deepmusic.audio.decode import open_audio
from deepmusic.audio.silence import (
    MOSTLY_SILENT,
    SILENCE,
    SILENCE_DB,
    frame_levels,
    silent_frames,
    start_with_sound,
)
from deepmusic.audio.sources import LARGEST_SAMPLE, Source, name_of, open_source
from deepmusic.datasets.loudness import integrated_loudness, true_peak
from deepmusic.errors import AudioError, RequestError, reason_of
from deepmusic.store import content_digest

if TYPE_CHECKING:
    from av import Packet
    from av.audio import AudioStream

BuildFormat = Literal["flac", "wav", "ogg", "mp3", "copy"]
Spans = Callable[[float, NDArray[np.bool_]], list[tuple[float, float]]]
"""Takes the duration of a track and whether each 50 ms of it is silent; returns start and length of
each clip. All in seconds."""

_CEILING_DBTP = -1.0  # as EBU R 128 asks
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_SUBTYPES = {"flac": "PCM_16", "wav": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}
_MAX_OGG_RATE_HZ = 200_000  # libsndfile crashes above
_MAX_WAV_BYTES = (1 << 32) - 4096  # the header counts in 32 bits
_MAX_MEMORY_BYTES = 128 << 20  # longer tracks are decoded into a temporary file
# The names of a tag differ by format; the first that is present counts.
_TAGS = {
    "title": ("title",),
    "date": ("date", "year", "originaldate", "tdor"),
    "licence": ("license", "licence", "wcop", "copyright"),
    "url": ("url", "website", "woaf", "woar", "contact"),
}


@dataclass(frozen=True)
class BuildConfig:
    """How clips are made.

    Raises:
        RequestError: a number is out of range, or two options contradict each other.
    """

    seconds: float = 30.0  # of each clip; a shorter track is taken whole
    start: float | Literal["middle", "random"] = "middle"  # or seconds; random is seeded by content
    clips: int = 1  # per track, evenly spread without overlap; fewer if it is too short
    min_seconds: float = 0.0  # tracks that give less sound are dropped
    format: BuildFormat = "flac"  # copy: the frames of an mp3 as they are
    mono: bool = False
    sample_rate: int | None = None  # in Hz; None keeps that of each track
    loudness: float | None = None  # LUFS (BS.1770-4), unless a true peak would exceed -1 dBTP

    def __post_init__(self) -> None:
        start_s = self.start if not isinstance(self.start, str) else None
        rate = self.sample_rate
        checks = {
            "Clips have 0.1 to 3600 seconds": 0.1 <= self.seconds <= 3600,
            "A clip starts at middle, random, or 0 seconds or later": (
                self.start in ("middle", "random") if start_s is None else 0 <= start_s < inf
            ),
            "A track gives 1 to 1000 clips": 1 <= self.clips <= 1000,
            "Several clips cannot all start at one second": start_s is None or self.clips == 1,
            "The minimum length is at most that of a clip": 0 <= self.min_seconds <= self.seconds,
            "Formats are flac, wav, ogg, mp3 and copy": self.format in get_args(BuildFormat),
            "Sample rates are 1000 to 384000 Hz": rate is None or 1000 <= rate <= 384_000,
            f"The sample rates of mp3 are {', '.join(map(str, _MP3_RATES_HZ))} Hz": (
                self.format != "mp3" or rate in (None, *_MP3_RATES_HZ)
            ),
            "Loudness is -70 to 0 LUFS": self.loudness is None or -70 <= self.loudness <= 0,
            "Copied frames keep their channels, sample rate and loudness; choose another format": (
                self.format != "copy" or not (self.mono or rate or self.loudness is not None)
            ),
        }
        for message, is_valid in checks.items():
            if not is_valid:
                raise RequestError(f"{message}.")

    @property
    def extension(self) -> str:
        """Of the clips, with its dot."""
        return ".mp3" if self.format == "copy" else f".{self.format}"


@dataclass(frozen=True)
class BuiltTrack:
    """The result for one track.

    Codes are `dropped_short` (by `min_seconds`), `starts_too_late`, `not_in_format`, `not_mp3`,
    those of `open_audio`, `memory`, `unexpected` and `worker_died`.
    """

    path: str  # below the folder of tracks
    clips: tuple[dict[str, Any], ...] = ()  # a row of tracks.csv each
    warning: str = ""  # one sentence about lost sound
    code: str = ""  # why there are no clips
    error: str = ""  # one sentence about it
    contents: tuple[bytes, ...] = field(default=(), repr=False)  # of clips, until they are written


class Clip(NamedTuple):
    """A part of a track."""

    samples: NDArray[np.float32]  # (n, channels), full scale at 1
    sample_rate: int  # in Hz
    start_s: float  # where it starts in the track, in seconds
    content: bytes | None = None  # the encoded file, if its frames were copied


def build_track(root: Path, config: BuildConfig, path: str) -> BuiltTrack:
    """Decode a track, its path below ``root``, cut and encode its clips; raises nothing."""
    from deepmusic.audio.metadata import read_metadata

    source, warning = root / path, None
    try:
        seed = content_digest(source) if config.start == "random" else ""
        spans = partial(clip_spans, config=config, seed=seed, name=repr(path))
        if config.format == "copy":
            clips = copy_clips(source, spans)
        else:
            clips, warning = cut_clips(
                source, spans, sample_rate=config.sample_rate, mono=config.mono
            )
        tags = read_metadata(source)
        row = {
            column: "; ".join(next((tags[name] for name in names if name in tags), ()))
            for column, names in _TAGS.items()
        }
        row["warning"] = warning or ""
        contents, measured = zip(*(_encoded(clip, config) for clip in clips), strict=True)
    except Exception as error:  # a bug that one file triggers must not stop the others
        code, message = reason_of(error, path, "gave no clip")
        message = message.replace(repr(os.fspath(source)), repr(path))
        return BuiltTrack(path, code=code, error=message)
    rows = tuple(row | one for one in measured)
    silent = [row for row in rows if row["silent_share"] >= MOSTLY_SILENT]
    for row in silent:
        share = f"{row['silent_share']:.0%} of the clip from {row['start_s']:.1f} s are"
        row["warning"] = f"{row['warning']} {share} below {SILENCE_DB:g} dBFS.".strip()
    warning = silent[0]["warning"] if silent else warning
    return BuiltTrack(path, rows, warning or "", contents=contents)


def crashed_track(path: str) -> BuiltTrack:
    """The result for a track that crashed its worker process twice."""
    error = f"{path!r} crashed its worker process twice."
    return BuiltTrack(path, code="worker_died", error=error)


def clip_spans(
    duration_s: float,
    is_silent: NDArray[np.bool_],
    *,
    config: BuildConfig,
    seed: str,
    name: str = "The track",
) -> list[tuple[float, float]]:
    """Start and length of each clip of a track, in seconds; a random start depends on the seed.

    A clip that would be silent for half of its time is moved within its part of the track.

    Raises:
        AudioError: `starts_too_late`, `dropped_short`.
    """
    length = min(config.seconds, duration_s)
    if isinstance(config.start, str):
        count = max(1, min(config.clips, int(duration_s / config.seconds + 1e-9)))
        part_s = duration_s / count  # each clip lies in its own part of the track
        spans = []
        for part in range(count):
            position = 0.5
            if config.start == "random":
                digest = hashlib.sha256(f"{seed} {part}".encode()).digest()
                position = int.from_bytes(digest[:6], "big") / 2**48
            start_s = part * part_s + position * max(0.0, part_s - length)
            latest_s = (part + 1) * part_s - length
            spans.append(
                (start_with_sound(start_s, part * part_s, latest_s, length, is_silent), length)
            )
    else:
        length = min(length, duration_s - config.start)
        spans = [(config.start, length)]
    if length <= 0:
        message = f"{name} ends before {config.start} s: it has {duration_s:.1f} s of sound."
        raise AudioError(message, code="starts_too_late")
    if length < config.min_seconds:
        message = f"{name} gives {length:.1f} s, less than {config.min_seconds:g} s."
        raise AudioError(message, code="dropped_short")
    return spans


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
            # 0 also for NaN
            block = np.where(np.abs(block) <= LARGEST_SAMPLE, block, np.float32(0))
        if sample_rate != self._input_rate:
            self.flush()
            self._input_rate = sample_rate
            if sample_rate != self.sample_rate:
                self._resampler = soxr.ResampleStream(
                    sample_rate, self.sample_rate, self.channels, "float32", "HQ"
                )
        self._write(block)

    def flush(self) -> None:
        """Write what the resampler still holds."""
        self._write(np.empty((0, self.channels), np.float32), last=True)
        self._resampler = None

    def _write(self, block: NDArray[np.float32], last: bool = False) -> None:
        if self._resampler is not None:
            block = self._resampler.resample_chunk(np.ascontiguousarray(block), last=last)
        self._file.write(block.tobytes())


def cut_clips(
    source: Source, spans: Spans, *, sample_rate: int | None = None, mono: bool = False
) -> tuple[list[Clip], str | None]:
    """Decode a track once, to its end, and cut clips from it; raises as `open_audio`.

    Args:
        source: the track.
        spans: where to cut, given the decoded duration; nothing beyond the end is taken.
        sample_rate: of the clips in Hz; None keeps that of the track.
        mono: whether to mix all channels, as `open_audio` does.

    Returns:
        The clips, and a sentence about lost sound or None.
    """
    with SpooledTemporaryFile(max_size=_MAX_MEMORY_BYTES) as decoded:
        writer = _Writer(decoded, sample_rate or 0, int(mono))

        def mixed() -> Iterator[NDArray[np.float32]]:
            for block in stream:
                if mono:
                    writer.add(block[:, None], stream.sample_rate, "")
                yield block

        on_block = None if mono else writer.add
        with open_audio(source, sample_rate=None, on_block=on_block) as stream:
            is_silent = silent_frames(mixed(), stream.sample_rate)
        writer.flush()
        rate, frame_bytes = writer.sample_rate, 4 * writer.channels
        length = decoded.tell() // frame_bytes
        clips = []
        for start_s, seconds in spans(length / rate, is_silent):
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
    The duration is that of the frames; the `samples` of a clip are what its mp3 decodes to.

    Raises:
        AudioError: `not_mp3`, or as in `open_audio`.
    """
    import av

    from deepmusic.audio.ffmpeg import open_container, sound_track

    packets: list[Packet[Any]] = []
    with open_source(path)[0] as file, open_container(file) as container:
        audio = sound_track(container)
        if audio is None or audio.codec_context is None or "mp3" not in (audio.name or ""):
            message = f"{name_of(path)} is not an mp3; choose a format to encode it again."
            raise AudioError(message, code="not_mp3")
        with suppress(av.FFmpegError, OSError, ValueError):  # packets before the damage are intact
            packets.extend(packet for packet in container.demux(audio) if packet.size)
        if not packets or not packets[0].duration or packets[0].time_base is None:
            raise AudioError(f"{name_of(path)} has no mp3 frames.", code="no_sound")
        frame_s = float(packets[0].duration * packets[0].time_base)
        clips = []
        with open_audio(path, sample_rate=None) as stream:
            is_silent = silent_frames(stream, stream.sample_rate)
        for start_s, seconds in spans(len(packets) * frame_s, is_silent):
            start = min(round(start_s / frame_s), len(packets) - 1)
            count = max(1, round(seconds / frame_s))
            content = _mp3(audio, packets[start : start + count])
            (clip,), _ = cut_clips(io.BytesIO(content), lambda duration_s, _: [(0.0, duration_s)])
            clips.append(clip._replace(start_s=start * frame_s, content=content))
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


def _encoded(clip: Clip, config: BuildConfig) -> tuple[bytes, dict[str, Any]]:
    """The content of a clip, and the columns of tracks.csv that are measured."""
    samples, sample_rate, start_s, content = clip
    silent = [frame_levels(channel, sample_rate) < SILENCE for channel in samples.T]
    gain_db, loudness = 0.0, integrated_loudness(samples, sample_rate)
    if config.loudness is not None and loudness is not None:
        headroom_db = _CEILING_DBTP - 20 * log10(true_peak(samples, sample_rate))
        gain_db = min(config.loudness - loudness, headroom_db)
        gain_db = floor(100 * gain_db) / 100  # the table has the exact gain
        samples = samples * samples.dtype.type(10 ** (gain_db / 20))
        loudness += gain_db
    if content is None:
        content = encode(samples, sample_rate, config.format)
    return content, {
        "start_s": round(start_s, 6),
        "duration_s": round(len(samples) / sample_rate, 6),
        "sample_rate": sample_rate,
        "channels": samples.shape[1],
        "loudness_lufs": "" if loudness is None else round(loudness, 2),
        "gain_db": gain_db,
        "silent_share": round(float(np.mean(np.all(silent, axis=0))), 3),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def encode(samples: NDArray[np.float32], sample_rate: int, form: str) -> bytes:
    """The content of a sound file; samples beyond full scale are clipped.

    FLAC and WAV have 16 bits; Ogg Vorbis and mp3 have libsndfile's default quality. The same
    samples `(n, channels)` give the same bytes, except in Ogg files, which have a random serial
    number.

    Raises:
        AudioError: `not_in_format`, such as 96 kHz or five channels in an mp3.
    """
    import soundfile

    channels = samples.shape[1]
    buffer = io.BytesIO()
    is_too_large = form == "wav" and 2 * samples.size > _MAX_WAV_BYTES
    try:
        if is_too_large or (form == "ogg" and sample_rate > _MAX_OGG_RATE_HZ):
            raise ValueError("sample rate or length")
        soundfile.write(buffer, samples, sample_rate, _SUBTYPES[form], format=form.upper())
    except (soundfile.SoundFileError, ValueError, AssertionError) as error:
        raise AudioError(
            f"{len(samples) / sample_rate:.0f} s at {sample_rate} Hz in {channels} channels cannot "
            f"be written as {form}; choose another sample rate or format, or mix to mono.",
            code="not_in_format",
        ) from error
    return buffer.getvalue()
