"""The study's models of log-mel segments: networks and the shipped classifier.

The entries can be listed without PyTorch; only fitting and loading import it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepmusic.files import write_atomically
from deepmusic.studies.models import FittedModel, StudyModel
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.classifier import Classifier
    from deepmusic.datasets import Fold
    from deepmusic.studies.data import StudyData

_NETWORKS = {
    "cnn": "Plain convolutional network: the capsules' stem, one more convolution, mean over time.",
    "alexnet": "AlexNet-like: five convolutions and three fully connected layers, scaled down "
    "(Krizhevsky et al. 2012).",
    "lstm": "Two LSTM layers over the frames, mean of their states (Hochreiter and Schmidhuber "
    "1997).",
    "gru": "Two GRU layers over the frames, mean of their states (Cho et al. 2014).",
    "crnn": "Four convolutions, then two GRU layers (Choi et al. 2017).",
    "capsules-dynamic": "One routed layer of genre capsules, dynamic routing (Sabour et al. 2017).",
    "capsules-em": "The same with EM routing (Hinton et al. 2018).",
    "capsules-self": "The same with self-routing (Hahn et al. 2019).",
    "capsules-variational": "The same with variational Bayes routing (Ribeiro et al. 2020).",
    "capsules-inverted-attention": "The same with inverted dot-product attention (Tsai et al. "
    "2020).",
    "capsules-self-attention": "The same with self-attention routing (Mazzia et al. 2021).",
    "capsules-uniform": "The same with equal couplings: no routing.",
}
_WEIGHTS = "weights.safetensors"


def study_models() -> tuple[StudyModel, ...]:
    """Entries of ``deepmusic.studies.models.MODELS``, in the order of the report."""
    networks = [
        StudyModel(name, "segments", summary, partial(_fit_network, name), _load_network)
        for name, summary in _NETWORKS.items()
    ]
    shipped = StudyModel(
        "capsules",
        "segments",
        "The shipped classifier: an ensemble of capsule networks on segments and on textures.",
        fit_classifier,
        load_classifier,
    )
    return (*networks, shipped)


def _fit_network(name: str, data: StudyData, fold: Fold, seed: int, work: Path) -> FittedModel:
    from deepmusic.studies.segment_training import fit_network

    return fit_network(name, data, fold, seed, work)


def _load_network(folder: Path) -> FittedModel:
    from deepmusic.studies.segment_training import load_network

    return load_network(folder)


@dataclass(frozen=True)
class FittedClassifier:
    """The shipped design, trained on one fold; its classifier is on the CPU."""

    classifier: Classifier

    @property
    def parameters(self) -> int:
        """How many numbers its networks have learned."""
        return sum(parameter.numel() for parameter in self.classifier.ensemble.parameters())

    def predict_proba(self, data: StudyData, indices: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(indices), genres)`` of tracks; rows sum to 1."""
        from deepmusic.studies.segment_training import spectrograms_of
        from deepmusic.training.runtime import torch_in_one_thread

        genres = self.classifier.genres
        spectrograms = spectrograms_of(data, indices, genres=genres)
        with torch_in_one_thread():
            rows = [self.classifier.predict_spectrogram(log_mel) for log_mel in spectrograms]
        return np.array(rows).reshape(-1, len(genres))

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and a file of weights that ``deepmusic classify`` takes too."""
        folder.mkdir(parents=True, exist_ok=True)
        self.classifier.save(folder / _WEIGHTS)
        about = {"kind": "capsule ensemble", "name": "capsules", "version": __version__}
        with write_atomically(folder / "model.json") as file:
            json.dump(about, file, indent=1)


def fit_classifier(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedClassifier:
    """Train the shipped design, as ``deepmusic train classifier`` does.

    Its networks divide the training and the validation tracks among themselves: each is validated
    on tracks that it is not trained on.

    Raises:
        DataError: there are no spectrograms, or the tracks cannot be divided by artist.
        CheckpointError: the folder holds a run of other data or settings.
    """
    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.data import calibration_folds
    from deepmusic.classifier.training import DEFAULT_TRAINING, train_ensemble
    from deepmusic.studies.segment_training import spectrograms_of
    from deepmusic.training.runtime import torch_in_one_thread

    config = ClassifierConfig(genres=data.genres)
    index = {track.path: number for number, track in enumerate(data.dataset.tracks)}
    tracks = [*fold.train, *fold.validation]
    with torch_in_one_thread():
        classifier, _ = train_ensemble(
            data.dataset,
            calibration_folds(data.dataset, tracks, networks=config.networks, seed=seed),
            lambda track: spectrograms_of(data, [index[track.path]])[0],
            config,
            work,
            training=replace(DEFAULT_TRAINING, seed=seed, device="cpu"),
            resume=True,
        )
    return FittedClassifier(classifier)


def load_classifier(folder: Path) -> FittedClassifier:
    """Read what ``FittedClassifier.save`` wrote."""
    from deepmusic.classifier.inference import Classifier

    return FittedClassifier(Classifier.load(folder / _WEIGHTS, device="cpu"))
