"""Small sound files for the tests of many tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def write_tone(
    path: Path, hz: float = 440.0, *, seconds: float = 0.6, sample_rate: int = 22050
) -> Path:
    """A tone with an overtone and a beat, so that no row is constant."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = np.sin(2 * np.pi * hz * time) + 0.3 * np.sin(2 * np.pi * 2.01 * hz * time)
    sound *= 0.2 + 0.1 * np.sin(2 * np.pi * 3 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, sample_rate)
    return path
