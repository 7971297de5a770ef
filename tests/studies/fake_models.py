"""A synthetic data set and small models for it, in a module that workers can import."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets import Fold
from deepmusic.datasets.folder import FolderDataset, Track
from deepmusic.errors import DataError
from deepmusic.studies.data import StudyData
from deepmusic.studies.models import Kind, StudyModel

GENRES = ("jazz", "pop", "rock")


def made_data(
    *, artists: int = 8, each: int = 3, columns: int = 6, seed: int = 0, artist_effect: float = 0.0
) -> StudyData:
    """Genres that lie apart in their first column.

    Args:
        artists: of each genre.
        each: tracks of an artist.
        columns: of the table.
        seed: of the noise.
        artist_effect: how far an artist's tracks lie from those of others, whatever the genre.
    """
    rng = np.random.default_rng(seed)
    tracks, rows = [], []
    for number, genre in enumerate(GENRES):
        for artist in range(artists):
            own = artist_effect * rng.normal(size=columns)
            for take in range(each):
                path = f"{genre}/{artist}-{take}.wav"
                tracks.append(Track(path, genre, f"{genre} {artist}", None, f"hash of {path}"))
                rows.append(own + rng.normal(size=columns) + 2 * number * np.eye(columns)[0])
    dataset = FolderDataset(Path("music"), tuple(tracks), GENRES)
    return StudyData(dataset, np.array(rows, np.float32))


@dataclass(frozen=True)
class FittedMean:
    """Probabilities by the distance to the mean of each genre."""

    means: NDArray[np.float64]

    @property
    def parameters(self) -> int:
        return int(self.means.size)

    def predict_proba(self, data: StudyData, indices: Sequence[int]) -> NDArray[np.float64]:
        assert data.columns is not None
        rows = np.asarray(data.columns, np.float64)[list(indices)]
        scores = -((rows[:, None] - self.means) ** 2).sum(axis=2)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        found: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
        return found

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps(self.means.tolist()))


@dataclass(frozen=True)
class FittedNeighbour(FittedMean):
    """The genre of the nearest track, which is by the same artist if it can be."""

    labels: NDArray[np.int64]
    genres: int

    def predict_proba(self, data: StudyData, indices: Sequence[int]) -> NDArray[np.float64]:
        assert data.columns is not None
        rows = np.asarray(data.columns, np.float64)[list(indices)]
        near = ((rows[:, None] - self.means) ** 2).sum(axis=2).argmin(axis=1)
        found: NDArray[np.float64] = (
            0.9 * np.eye(self.genres)[self.labels[near]] + 0.1 / self.genres
        )
        return found


def fit_mean(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedMean:
    assert data.columns is not None
    known = [*fold.train, *fold.validation]
    columns, labels = np.asarray(data.columns, np.float64)[known], data.labels[known]
    means = [columns[labels == number].mean(axis=0) for number in range(len(data.genres))]
    return FittedMean(np.array(means))


def fit_neighbour(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedNeighbour:
    assert data.columns is not None
    known = [*fold.train, *fold.validation]
    columns = np.asarray(data.columns, np.float64)[known]
    return FittedNeighbour(columns, data.labels[known], len(data.genres))


def fit_network(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedMean:
    """Leaves what networks leave: a history, and checkpoints."""
    with open(work / "history.jsonl", "w") as file:
        for epoch in range(1, 6):
            record = {"loss": 1 / epoch, "accuracy": 1 - 0.5 / epoch}
            line = {"epoch": epoch, "train": record, "validation": record}
            file.write(json.dumps(line) + "\n")
    (work / "config.json").write_text("{}")
    for name in ("checkpoint/optimizer.bin", "best/weights.bin"):
        (work / name).parent.mkdir()
        (work / name).write_bytes(bytes(1000))
    return fit_mean(data, fold, seed, work)


def fit_too_few(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedMean:
    raise DataError("There are too few tracks of 'jazz' for this model.")


def fit_broken(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedMean:
    raise ZeroDivisionError("a bug\nof two lines")


def fit_nan(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedMean:
    return FittedMean(np.full((3, 6), np.nan))


def fit_deadly(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedMean:
    os._exit(9)


def load(folder: Path) -> FittedMean:
    return FittedMean(np.array(json.loads((folder / "model.json").read_text())))


def model(name: str, fit: Any, kind: Kind = "features") -> StudyModel:
    return StudyModel(name, kind, f"The fake {name}.", fit, load)


FAKES = {
    made.name: made
    for made in (
        model("majority", fit_neighbour),
        model("logistic", fit_mean),
        model("svc-rbf", fit_neighbour),
        model("few", fit_too_few),
        model("broken", fit_broken),
        model("nan", fit_nan),
        model("deadly", fit_deadly),
        model("cnn", fit_network, "segments"),
        model("capsules", fit_network, "segments"),
        model("average-features", fit_mean, "average"),
    )
}
