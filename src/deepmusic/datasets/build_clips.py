"""The clips of one track of a data set that is built: decode, cut, adjust loudness, encode."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from math import floor, inf, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from deepmusic.errors import AudioError, RequestError, reason_of
from deepmusic.store import content_digest

if TYPE_CHECKING:
    from deepmusic.audio.clips import Clip

BuildFormat = Literal["flac", "wav", "ogg", "mp3", "copy"]

_CEILING_DBTP = -1.0  # as EBU R 128 asks
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
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
                raise RequestError(f"{message}; got {self}.")

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


def clip_spans(duration_s: float, config: BuildConfig, seed: str) -> list[tuple[float, float]]:
    """Start and length of each clip of a track, in seconds; none if it ends before the start.

    Args:
        duration_s: of the track.
        config: how clips are made.
        seed: what a random start depends on.
    """
    length = min(config.seconds, duration_s)
    if not isinstance(config.start, str):
        left = duration_s - config.start
        return [(config.start, min(length, left))] if left > 0 else []
    count = max(1, min(config.clips, int(duration_s / config.seconds + 1e-9)))
    part_s = duration_s / count  # each clip lies in its own part of the track
    spans = []
    for part in range(count):
        position = 0.5
        if config.start == "random":
            digest = hashlib.sha256(f"{seed} {part}".encode()).digest()
            position = int.from_bytes(digest[:6], "big") / 2**48
        spans.append((part * part_s + position * max(0.0, part_s - length), length))
    return spans


def build_track(root: Path, config: BuildConfig, path: str) -> BuiltTrack:
    """Decode a track once, and cut and encode its clips; raises nothing.

    Args:
        root: the folder of tracks.
        config: how clips are made.
        path: of the track, below the folder.
    """
    from deepmusic.audio.clips import copy_clips, cut_clips
    from deepmusic.audio.tags import read_metadata

    source = root / path

    def spans(duration_s: float) -> list[tuple[float, float]]:
        seed = content_digest(source) if config.start == "random" else ""
        spans = clip_spans(duration_s, config, seed)
        if not spans:
            message = f"{path!r} ends before {config.start} s: it has {duration_s:.1f} s of sound."
            raise AudioError(message, code="starts_too_late")
        if spans[0][1] < config.min_seconds:
            message = f"{path!r} gives {spans[0][1]:.1f} s, less than {config.min_seconds:g} s."
            raise AudioError(message, code="dropped_short")
        return spans

    try:
        if config.format == "copy":
            clips, warning = copy_clips(source, spans), None
        else:
            clips, warning = cut_clips(
                source, spans, sample_rate=config.sample_rate, mono=config.mono
            )
        tags = read_metadata(source)
        row = {
            column: next((tags[name] for name in names if name in tags), "")
            for column, names in _TAGS.items()
        }
        row["warning"] = warning = warning or ""
        contents, rows = zip(*(_encoded(clip, config) for clip in clips), strict=True)
    except Exception as error:  # a bug that one file triggers must not stop the others
        code, message = reason_of(error, path, "gave no clip")
        message = message.replace(repr(os.fspath(source)), repr(path))
        return BuiltTrack(path, code=code, error=message)
    return BuiltTrack(path, tuple(row | measured for measured in rows), warning, contents=contents)


def crashed_track(path: str) -> BuiltTrack:
    """The result for a track that crashed its worker process twice."""
    error = f"{path!r} crashed its worker process twice."
    return BuiltTrack(path, code="worker_died", error=error)


def _encoded(clip: Clip, config: BuildConfig) -> tuple[bytes, dict[str, Any]]:
    """The content of a clip, and the columns of tracks.csv that are measured."""
    from deepmusic.audio.clips import encode
    from deepmusic.audio.loudness import integrated_loudness, true_peak

    samples, gain_db = clip.samples, 0.0
    loudness = integrated_loudness(samples, clip.sample_rate)
    if config.loudness is not None and loudness is not None:
        headroom_db = _CEILING_DBTP - 20 * log10(true_peak(samples, clip.sample_rate))
        gain_db = min(config.loudness - loudness, headroom_db)
        gain_db = floor(100 * gain_db) / 100  # the table has the exact gain
        samples = samples * samples.dtype.type(10 ** (gain_db / 20))
        loudness += gain_db
    content = clip.content
    if content is None:
        assert config.format != "copy"
        content = encode(samples, clip.sample_rate, config.format)
    return content, {
        "start_s": round(clip.start_s, 6),
        "duration_s": round(clip.duration_s, 6),
        "sample_rate": clip.sample_rate,
        "channels": samples.shape[1],
        "loudness_lufs": "" if loudness is None else round(loudness, 2),
        "gain_db": gain_db,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
