"""Sounds that the tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray


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


def chord(
    sample_rate: int, seconds: float = 3, detuned: float = 0.21, seed: int = 0
) -> NDArray[np.float32]:
    """Six detuned tones with noise, 60 dB below."""
    random = np.random.default_rng(seed)
    time = np.arange(round(sample_rate * seconds)) / sample_rate
    total = 1e-3 * random.standard_normal(len(time))
    for pitch in random.integers(45, 84, 6):
        total += np.sin(2 * np.pi * 440 * 2 ** ((pitch + detuned - 69) / 12) * time + pitch)
    return (0.1 * total * (0.6 + 0.4 * np.sin(9 * time))).astype(np.float32)
