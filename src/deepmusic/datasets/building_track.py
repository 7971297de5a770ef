"""The work on one track of a data set that is built: decode, cut, make as loud, code, write."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from deepmusic.errors import AudioError, DeepMusicError, RequestError
from deepmusic.files import write_atomically

BuildFormat = Literal["flac", "wav", "ogg", "mp3", "copy"]

CEILING = 10 ** (-1 / 20)
"""No gain lifts the true peak of a clip above -1 dBTP, as EBU R 128 asks."""

_LONGEST_S = 3600.0


@dataclass(frozen=True)
class BuildConfig:
    """How clips are made.

    Args:
        seconds: of each clip, at most an hour; a shorter track is taken whole.
        start: ``"middle"``; ``"random"``, by the content of the track, the same each time; or
            seconds from the track's beginning.
        clips: of each track, evenly spread and never overlapping; a track has fewer where it is
            too short for so many.
        min_seconds: a track that gives less sound is dropped.
        format: ``flac``, ``wav``, ``ogg`` (Vorbis), ``mp3``, or ``copy``: the frames of an mp3 as
            they are.
        mono: whether the mean of all channels is taken.
        sample_rate: samples per second; None keeps that of each track.
        loudness: LUFS of each clip (BS.1770-4); None leaves it as it is. Where the gain would
            lift the true peak above -1 dBTP, it is smaller.

    Raises:
        RequestError: a number is out of range, or two options contradict each other.
    """

    seconds: float = 30.0
    start: float | Literal["middle", "random"] = "middle"
    clips: int = 1
    min_seconds: float = 0.0
    format: BuildFormat = "flac"
    mono: bool = False
    sample_rate: int | None = None
    loudness: float | None = None

    def __post_init__(self) -> None:
        from deepmusic.audio.clips import MP3_RATES_HZ

        if not 0.1 <= self.seconds <= _LONGEST_S:
            raise RequestError(f"Clips have 0.1 to 3600 seconds; got {self.seconds:g}.")
        if not 1 <= self.clips <= 1000:
            raise RequestError(f"There are 1 to 1000 clips of a track; got {self.clips}.")
        if not 0 <= self.min_seconds <= self.seconds:
            raise RequestError(
                f"The shortest length must be between 0 and that of a clip, {self.seconds:g} s; "
                f"got {self.min_seconds:g}."
            )
        if self.format not in get_args(BuildFormat):
            raise RequestError(f"Formats are {', '.join(get_args(BuildFormat))}.")
        if isinstance(self.start, str):
            if self.start not in ("middle", "random"):
                raise RequestError("A clip starts in the middle, at random, or at a second.")
        elif not 0 <= self.start < float("inf"):
            raise RequestError(f"A clip starts at 0 seconds or later; got {self.start:g}.")
        elif self.clips > 1:
            raise RequestError("Several clips of a track cannot all start at one second.")
        if self.sample_rate is not None and not 1000 <= self.sample_rate <= 384_000:
            raise RequestError(
                f"Rates are 1000 to 384000 samples per second; got {self.sample_rate}."
            )
        if self.format == "mp3" and self.sample_rate not in (None, *MP3_RATES_HZ):
            raise RequestError(
                f"An mp3 has {', '.join(map(str, MP3_RATES_HZ))} samples per second; "
                f"got {self.sample_rate}."
            )
        if self.loudness is not None and not -70 <= self.loudness <= 0:
            raise RequestError(f"Loudness is -70 to 0 LUFS; got {self.loudness:g}.")
        if self.format == "copy" and (self.mono or self.sample_rate or self.loudness is not None):
            raise RequestError(
                "Copied frames keep their channels, rate and loudness: mono, rate and loudness "
                "need another format than copy."
            )

    @property
    def extension(self) -> str:
        """Of the clips, with its dot."""
        return ".mp3" if self.format == "copy" else f".{self.format}"


@dataclass(frozen=True)
class BuiltClip:
    """A clip on the disk; numbers are as the table writes them.

    Args:
        path: below the data set's folder, with forward slashes.
        start_s, duration_s: seconds, of the track and of the clip.
        sample_rate: samples per second.
        channels: how many.
        loudness_lufs: of what was coded, by BS.1770-4; empty for silence and below 0.4 s.
        gain_db: by which the sound was multiplied.
        sha1, sha256: of the file, in hexadecimal.
    """

    path: str
    start_s: str
    duration_s: str
    sample_rate: str
    channels: str
    loudness_lufs: str
    gain_db: str
    sha256: str
    sha1: str = ""


@dataclass(frozen=True)
class BuiltTrack:
    """What became of a track.

    Args:
        path: of the track, below the folder of tracks.
        source_sha256: of the track, in hexadecimal.
        clips: made of it; none where there is a code.
        warning: one sentence about sound that was lost; empty as a rule.
        code: why there are no clips: ``dropped_short`` (by ``min_seconds``), ``starts_too_late``,
            ``not_in_format``, ``not_mp3``, a code of :func:`deepmusic.audio.open_audio`,
            ``changed``, ``memory``, ``unexpected`` or ``worker_died``; else empty.
        error: one sentence about the code.
    """

    path: str
    source_sha256: str = ""
    clips: tuple[BuiltClip, ...] = ()
    warning: str = ""
    code: str = ""
    error: str = ""

    def record(self) -> dict[str, Any]:
        """As a journal keeps it; :meth:`of_record` is the inverse."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> BuiltTrack | None:
        """A track as it was kept; None where the record is none."""
        try:
            clips = tuple(BuiltClip(**clip) for clip in record["clips"])
            return cls(**{**record, "clips": clips})
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; it travels as text, since a pool hands out names of files."""

    path: str
    root: str
    output: str
    names: tuple[str, ...]
    config: dict[str, Any]
    known: dict[str, Any] | None = field(default=None)

    def text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Job:
        """The inverse of :meth:`text`."""
        found = json.loads(text)
        return cls(**{**found, "names": tuple(found["names"])})


def make_track(text: str) -> BuiltTrack:
    """Make the clips of one track, or find that they are there; the job's text is its path.

    Raises:
        DeepMusicError: a clip cannot be written; then none can.
    """
    job = Job.of_text(text)
    return replace(_made(job, BuildConfig(**job.config)), path=text)


def died(text: str) -> BuiltTrack:
    """The result for a track that twice ended the process that worked on it."""
    job = Job.of_text(text)
    error = f"{job.path!r} twice ended the process that worked on it."
    return BuiltTrack(text, code="worker_died", error=error)


def _made(job: Job, config: BuildConfig) -> BuiltTrack:
    source = Path(job.root) / job.path
    result = BuiltTrack(job.path)
    try:
        result = replace(result, source_sha256=_hash(source))
        known = BuiltTrack.of_record(job.known) if job.known else None
        if known is not None and known.source_sha256 == result.source_sha256:
            kept = _kept(known, job)
            if kept is not None:
                return kept
        before = os.stat(source)
        clips, warning = _cut(source, config, result.source_sha256)
        after = os.stat(source)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise AudioError(f"{job.path!r} was changed while it was read.", code="changed")
        made = [
            (_finished(clip, config), name) for clip, name in zip(clips, job.names, strict=False)
        ]
    except AudioError as error:
        said = str(error).replace(repr(os.fspath(source)), repr(job.path))
        return replace(result, code=error.code, error=said)
    except MemoryError:
        error_text = f"{job.path!r} needs more memory than there is."
        return replace(result, code="memory", error=error_text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return replace(result, code="unreadable", error=f"{job.path!r} cannot be read: {reason}.")
    except DeepMusicError:
        raise
    except Exception as error:  # a bug that one file uncovers must not cost the others
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return replace(
            result, code="unexpected", error=f"{job.path!r} gave no clip: unexpected {said}."
        )
    written = [_written(content, facts, job, name) for (content, facts), name in made]
    return replace(result, clips=tuple(written), warning=warning or "")


def _hash(source: Path) -> str:
    from deepmusic.audio.sources import open_source

    with open_source(source)[0] as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _kept(known: BuiltTrack, job: Job) -> BuiltTrack | None:
    """What was made before, where every clip is still there as it was made."""
    clips = []
    if not known.clips:
        return None
    for number, clip in enumerate(known.clips):
        if number >= len(job.names) or clip.path != job.names[number]:
            return None
        sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
        try:
            with open(Path(job.output) / clip.path, "rb") as file:
                while block := file.read(1 << 20):
                    sha1.update(block)
                    sha256.update(block)
        except OSError:
            return None
        if sha256.hexdigest() != clip.sha256:
            return None
        clips.append(replace(clip, sha1=sha1.hexdigest()))
    return replace(known, path=job.path, clips=tuple(clips))


def _cut(source: Path, config: BuildConfig, seed: str) -> tuple[Sequence[Any], str | None]:
    from deepmusic.audio.clips import copy_clips, cut_clips

    shown = repr(os.fspath(source))

    def cut(duration_s: float) -> list[tuple[float, float]]:
        found = spans(duration_s, config, seed)
        if not found:
            raise AudioError(
                f"{shown} ends before {config.start:g} s: it has {duration_s:.1f} s of sound.",
                code="starts_too_late",
            )
        if found[0][1] < config.min_seconds:
            raise AudioError(
                f"{shown} gives {found[0][1]:.1f} s of sound, less than {config.min_seconds:g} s.",
                code="dropped_short",
            )
        return found

    if config.format == "copy":
        return copy_clips(source, cut), None
    return cut_clips(source, cut, sample_rate=config.sample_rate, mono=config.mono)


def spans(duration_s: float, config: BuildConfig, seed: str) -> list[tuple[float, float]]:
    """Start and length of each clip of a track, in seconds; none where it ends before the start.

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
    room = duration_s / count  # each clip lies somewhere in its own part of the track
    found = []
    for number in range(count):
        place = 0.5
        if config.start == "random":
            digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
            place = int.from_bytes(digest[:6], "big") / 2**48
        found.append((number * room + place * max(0.0, room - length), length))
    return found


def _finished(clip: Any, config: BuildConfig) -> tuple[bytes, dict[str, str]]:
    """A clip as it is written, and its numbers as the table writes them."""
    from math import floor, log10

    from deepmusic.audio.clips import encode
    from deepmusic.audio.loudness import integrated_loudness, true_peak

    samples = clip.samples
    loudness = integrated_loudness(samples, clip.sample_rate)
    gain_db = 0.0
    if config.loudness is not None and loudness is not None:
        gain_db = config.loudness - loudness
        gain_db = min(gain_db, 20 * log10(CEILING / true_peak(samples, clip.sample_rate)))
        gain_db = floor(100 * gain_db) / 100  # the table tells the gain as it was used
        samples = samples * samples.dtype.type(10 ** (gain_db / 20))
        loudness += gain_db
    if clip.content is not None:
        content = clip.content
    else:
        assert config.format != "copy"
        content = encode(samples, clip.sample_rate, config.format)
    return content, {
        "start_s": f"{clip.start_s:.6f}",
        "duration_s": f"{clip.duration_s:.6f}",
        "sample_rate": str(clip.sample_rate),
        "channels": str(samples.shape[1]),
        "loudness_lufs": "" if loudness is None else f"{loudness:.2f}",
        "gain_db": f"{gain_db:.2f}",
    }


def _written(content: bytes, facts: dict[str, str], job: Job, name: str) -> BuiltClip:
    target = Path(job.output) / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DeepMusicError(f"The folder {target.parent} cannot be made: {reason}.") from error
    with write_atomically(target, "wb") as file:
        file.write(content)
    return BuiltClip(
        name,
        sha1=hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
        **facts,
    )
