"""Sound files in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio.decode import open_audio
from deepmusic.audio.sources import Source, name_of
from deepmusic.errors import AudioError


@dataclass(frozen=True)
class Audio:
    """Sound in memory: mono ``samples``, ``(n,)``, and the rate and channels of their file."""

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
    """Read a sound file, or a part of it, into memory as mono float32.

    An hour takes 318 MB at the default rate: for long files prefer `open_audio`, whose arguments
    and errors are the same.

    Args:
        source: as in `open_audio`.
        sample_rate: samples per second of the result.
        offset_s: seconds to skip at the start; a file without more is ``too_short``.
        seconds: seconds to read at most; None reads to the end.
        max_seconds: as in `open_audio`.
    """
    if offset_s < 0 or (seconds is not None and seconds <= 0):
        raise ValueError(f"offset_s >= 0 and seconds > 0 must hold; got {offset_s}, {seconds}")
    first = round(offset_s * sample_rate)
    last = math.inf if seconds is None else first + round(seconds * sample_rate)
    kept: list[NDArray[np.float32]] = []
    position = 0
    with open_audio(source, sample_rate=sample_rate, max_seconds=max_seconds) as stream:
        for block in stream:
            end = int(min(last - position, len(block)))
            kept.append(block[max(0, first - position) : end])
            position += len(block)
            if position >= last:
                break
        samples = np.concatenate(kept)
        if not len(samples):
            length = f"{stream.duration_s:.1f} s of sound"
            raise AudioError(
                f"{name_of(source)} ends before {offset_s:g} s: it has only {length}.",
                code="too_short",
            )
        source_rate, channels, warning = stream.source_rate, stream.channels, stream.warning
    duration_s = len(samples) / sample_rate
    return Audio(samples, sample_rate, duration_s, source_rate, channels, warning)
