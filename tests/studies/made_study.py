"""A study of synthetic spectrograms: genres differ in where the energy is and how it moves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.datasets.folder import FolderDataset, Track
from deepmusic.datasets.splits import Fold
from deepmusic.studies.data import StudyData

GENRES = ("high", "low")


def made_spectrogram(number: int, genre: str, frames: int) -> NDArray[np.float16]:
    """Noise of 128 mels in dB; low tracks are louder below and swell, high ones above."""
    random = np.random.default_rng([number, GENRES.index(genre)])
    band = np.linspace(-1, 1, 128)[:, None]
    slope = 15 * (band if genre == "high" else -band)
    swell = 6 * np.sin(np.arange(frames) / 12) if genre == "low" else np.zeros(frames)
    return (-40 + slope + swell + 3 * random.normal(size=(128, frames))).astype(np.float16)


def made_study(*, each: int = 8, frames: int = 300, mark: str = "") -> StudyData:
    """As many tracks of each genre, every artist with two of them."""
    tracks, spectrograms = [], []
    for genre in GENRES:
        for number in range(each):
            path = f"{genre}/{number}.mp3"
            content = hashlib.sha256(f"{mark}{path}".encode()).hexdigest()
            tracks.append(Track(path, genre, f"{genre} player {number // 2}", None, content))
            spectrograms.append(made_spectrogram(number, genre, frames))
    dataset = FolderDataset(Path("made"), tuple(tracks), GENRES)
    return StudyData(dataset, None, spectrograms.__getitem__)


def made_fold(data: StudyData) -> Fold:
    """Whole artists: the first quarter of each genre to test, the second to validate."""
    each = len(data.dataset.tracks) // len(GENRES)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index in range(len(data.dataset.tracks)):
        parts[max(2 - 4 * (index % each) // each, 0)].append(index)
    return Fold(*map(tuple, parts))


def small_config(genres: tuple[str, ...] = GENRES) -> ClassifierConfig:
    """Segments of 1.5 s over 64 bands, and few channels and capsules."""
    return ClassifierConfig(
        genres=genres,
        segment_frames=128,
        hop_frames=64,
        texture_capsules=0,
        texture_networks=0,
        channels=(4, 8, 8),
        position_types=4,
        pose_dim=4,
        genre_dim=8,
        reconstruction=0.0,
    )
