"""Two genres that anyone can tell apart, and a classifier small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from deepmusic.audio import log_mel
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import Ensemble, Views, views
from deepmusic.classifier.verdict import Calibration

RATE = 22050
GENRES = ("chords", "clicks")


def chords(seed: int, seconds: float = 8.0, sample_rate: int = RATE) -> NDArray[np.float32]:
    """Low triads of sines that swell and fade, a new one every half second."""
    rng = np.random.default_rng([0, seed])
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    root = rng.uniform(80, 160, size=int(2 * seconds) + 1)[(2 * time).astype(int)]
    swell = 0.6 + 0.4 * np.sin(np.pi * (2 * time % 1))
    sound = sum(np.sin(2 * np.pi * np.cumsum(root * k) / sample_rate) for k in (1, 1.25, 1.5))
    return (0.15 * swell * sound).astype(np.float32)


def clicks(seed: int, seconds: float = 8.0, sample_rate: int = RATE) -> NDArray[np.float32]:
    """Bursts of noise, four to eight a second."""
    rng = np.random.default_rng([1, seed])
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    decay = np.exp(-60 * (time * rng.uniform(4, 8) % 1))
    return (0.3 * decay * rng.normal(size=len(time))).astype(np.float32)


MAKERS = {"chords": chords, "clicks": clicks}


def spectrograms(tracks: int, *, seed: int = 0) -> tuple[list[NDArray[np.float16]], list[int]]:
    """As many tracks in turn of both genres, as training keeps them, and their labels."""
    labels = [index % 2 for index in range(tracks)]
    return [
        log_mel(MAKERS[GENRES[label]](1000 * seed + index)).astype(np.float16)
        for index, label in enumerate(labels)
    ], labels


def write_folder(root: Path, *, artists: int, seconds: float = 7.0, each: int = 2) -> Path:
    """A folder of both genres and its table; every artist plays one genre."""
    rows = ["path,genre,artist,album"]
    for genre, make in MAKERS.items():
        (root / genre).mkdir(parents=True)
        for number in range(artists * each):
            path = f"{genre}/{number}.wav"
            soundfile.write(root / path, make(number, seconds), RATE, subtype="PCM_16")
            rows.append(f"{path},{genre},{genre} player {number % artists},")
    (root / "tracks.csv").write_text("\n".join(rows) + "\n")
    return root


def tiny_config(**changes: Any) -> ClassifierConfig:
    settings: dict[str, Any] = {
        "genres": GENRES,
        "segment_frames": 128,
        "hop_frames": 64,
        "networks": 1,
        "texture_networks": 0,
        "bands": 32,
        "channels": (4, 8, 8),
        "position_types": 4,
        "texture_capsules": 4,
        "pose_dim": 4,
        "genre_dim": 8,
    }
    return ClassifierConfig(**(settings | changes))


def tiny_ensemble(config: ClassifierConfig, *, seed: int = 0) -> Ensemble:
    """Untrained networks, scaled to the synthetic genres, that disagree about them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        ensemble = Ensemble(config)
        for parameter in ensemble.parameters():
            if parameter.ndim > 1:
                parameter.data *= 2
    segments = torch.stack(
        [torch.from_numpy(s[:, :128].astype(np.float32)) for s in spectrograms(4)[0]]
    )
    seen = views(segments[:, :, : config.segment_frames], config)
    for network in ensemble.networks:
        network.fit_scales(Views(*seen))
    return ensemble.eval()


def tiny_classifier(**changes: Any) -> Classifier:
    calibration = Calibration(inverse_temperature=2.0, threshold=0.0, tracks=10)
    ensemble = tiny_ensemble(tiny_config(**({"networks": 2} | changes)))
    return Classifier(ensemble, calibration, card={"data": "synthetic"}, device="cpu")
