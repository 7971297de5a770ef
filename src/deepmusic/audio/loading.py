"""Reads a sound file, or a part of it, into memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.decoding import open_audio
from deepmusic.audio.sources import Source, name_of
from deepmusic.errors import AudioError


@dataclass(frozen=True)
class Audio:
    """Sound in memory.

    Args:
        samples: ``(n,)`` float32, mono.
        sample_rate: samples per second.
        duration_s: seconds of ``samples``.
        source_rate: samples per second in the file (at its start).
        channels: channels in the file (at its start).
        warning: how much was heard and why not more, when sound was lost; None as a rule.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    duration_s: float
    source_rate: int
    channels: int
    warning: str | None = None


def load(
    source: Source,
    *,
    sample_rate: int = 22050,
    offset_s: float = 0.0,
    seconds: float | None = None,
    max_seconds: float = 6 * 3600.0,
) -> Audio:
    """Read a sound file into memory as mono float32.

    Args:
        source: a path, or a binary file object that can seek.
        sample_rate: samples per second wanted.
        offset_s: seconds to leave out at the start.
        seconds: seconds to read at most; None reads to the end.
        max_seconds: as in :func:`open_audio`.

    Returns:
        The samples, and what is known of the file. An hour takes 318 MB at the default rate: for
        long files prefer :func:`open_audio`.

    Raises:
        AudioError: as in :func:`open_audio`; ``too_short`` when nothing is left after
            ``offset_s``.
        ValueError: a number is out of range.
    """
    if offset_s < 0 or (seconds is not None and seconds <= 0):
        raise ValueError(f"offset_s >= 0 and seconds > 0 must hold; got {offset_s}, {seconds}")
    first = round(offset_s * sample_rate)
    last = None if seconds is None else first + round(seconds * sample_rate)
    kept: list[NDArray[np.float32]] = []
    position = 0
    with open_audio(source, sample_rate=sample_rate, max_seconds=max_seconds) as stream:
        for block in stream:
            begin = max(0, first - position)
            end = len(block) if last is None else last - position
            kept.append(block[begin:end])
            position += len(block)
            if last is not None and position >= last:
                break
        samples = np.concatenate(kept)
        if not len(samples):
            raise AudioError(
                f"{name_of(source)} ends before {offset_s:g} s: only {stream.duration_s:.1f} s of "
                "sound are in it.",
                code="too_short",
            )
        return Audio(
            samples=samples,
            sample_rate=sample_rate,
            duration_s=len(samples) / sample_rate,
            source_rate=stream.source_rate,
            channels=stream.channels,
            warning=stream.warning,
        )
