"""Training of the study's networks on log-mel segments, and of the shipped classifier.

Segments, augmentation, validation and early stopping of the networks are those of the capsule
classifier (``deepmusic.classifier.task.ClassifierTask``); only the network differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from deepmusic.audio import segment_batches
from deepmusic.classifier import training as classifier_training
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.data import calibration_folds
from deepmusic.classifier.evaluation import fit_calibration
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import ImageNetwork, views
from deepmusic.classifier.task import Augmentation, ClassifierTask
from deepmusic.classifier.verdict import Calibration
from deepmusic.datasets import Fold, dataset_digest
from deepmusic.errors import CheckpointError, DataError
from deepmusic.files import make_folder, write_json
from deepmusic.studies.segment_networks import (
    build_network,
    count_parameters,
    width_scale,
)
from deepmusic.training import TrainingConfig, fill_model, fit, load_weights, save_weights
from deepmusic.training.checkpoint import checkpoint_path
from deepmusic.training.runtime import torch_in_one_thread
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.studies.data import StudyData

SEGMENT_TRAINING = TrainingConfig(
    epochs=35,
    batch_size=32,
    learning_rate=3e-3,
    weight_decay=0.05,
    clip_norm=5.0,
    warmup=0.2,
    device="cpu",
)
"""Training settings of every network of the study."""

SEGMENT_AUGMENTATION = Augmentation(mixup=0.0)
"""Augmentation for every network of the study."""

_KIND = "segment network"
_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class FittedNetwork:
    """A trained network."""

    name: str  # in NETWORKS
    network: ImageNetwork  # with its weights, in evaluation mode
    scale: float  # of its widths
    calibration: Calibration  # from scores to probabilities, fitted on the validation tracks

    @property
    def parameters(self) -> int:
        """How many numbers it has learned."""
        return count_parameters(self.network)

    def predict_proba(self, data: StudyData, indices: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(indices), genres)`` of tracks; rows sum to 1."""
        spectrograms = spectrograms_of(data, indices, genres=self.network.config.genres)
        return self.calibration.probabilities(predict_scores(self.network, spectrograms))

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``weights.safetensors``."""
        about = {
            "kind": _KIND,
            "name": self.name,
            "scale": self.scale,
            "config": self.network.config.to_dict(),
            "calibration": self.calibration.to_dict(),
            "version": __version__,
        }
        save_weights(folder / _WEIGHTS, self.network.state_dict(), about)
        write_json(folder / "model.json", about)


def fit_network(
    name: str,
    data: StudyData,
    fold: Fold,
    seed: int,
    work: Path,
    *,
    config: ClassifierConfig | None = None,
    training: TrainingConfig = SEGMENT_TRAINING,
) -> FittedNetwork:
    """Train a network on the training tracks of a fold; its validation tracks stop and calibrate.

    Args:
        name: one of ``NETWORKS``.
        data: with spectrograms.
        fold: its test tracks are not used.
        seed: of weights, segments, augmentation and order.
        work: becomes a run of ``deepmusic.training.fit``, which a second call resumes.
        config: of the input; None takes the segments and the stem of the classifier.
        training: settings, apart from the seed.

    Raises:
        DataError: there are no spectrograms, or no training or validation tracks.
        CheckpointError: the folder holds a run of other data or settings.
    """
    config = config or ClassifierConfig(
        genres=data.genres, texture_capsules=0, texture_networks=0, reconstruction=0
    )
    scale = width_scale(name, config)
    if not fold.train or not fold.validation:
        raise DataError(f"{name} needs training tracks and validation tracks.")
    train, validation = (
        (spectrograms_of(data, part), data.labels[list(part)].tolist())
        for part in (fold.train, fold.validation)
    )
    inputs = json.dumps([dataset_digest(data.dataset), fold.train, fold.validation])
    with torch_in_one_thread():
        task = ClassifierTask(
            config,
            train,
            validation,
            seed=seed,
            augmentation=SEGMENT_AUGMENTATION,
            metadata={
                "network": name,
                "scale": scale,
                "data": hashlib.sha256(inputs.encode()).hexdigest()[:16],
                "augmentation": asdict(SEGMENT_AUGMENTATION),
            },
            network=partial(build_network, name, scale=scale),
        )
        resume = checkpoint_path(work).exists()
        fit(task, replace(training, seed=seed), work, resume=resume)
    network = task.model
    scores = predict_scores(network.eval(), validation[0])
    return FittedNetwork(name, network, scale, fit_calibration(scores, np.array(validation[1])))


def load_network(folder: Path) -> FittedNetwork:
    """Read what ``FittedNetwork.save`` wrote.

    Raises:
        CheckpointError: something is missing, damaged, or of another model.
    """
    weights, about = load_weights(folder / _WEIGHTS)
    try:
        if about["kind"] != _KIND:
            raise ValueError("another kind of model")
        name, scale = about["name"], float(about["scale"])
        calibration = Calibration(**about["calibration"])
        network = build_network(name, ClassifierConfig.from_dict(about["config"]), scale)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder} does not hold a network of the study of this version of DeepMusic: {error}."
        ) from error
    fill_model(network, weights, source=folder / _WEIGHTS)
    return FittedNetwork(name, network.eval(), scale, calibration)


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
        genres = self.classifier.genres
        spectrograms = spectrograms_of(data, indices, genres=genres)
        with torch_in_one_thread():
            rows = [self.classifier.predict_spectrogram(log_mel) for log_mel in spectrograms]
        return np.array(rows).reshape(-1, len(genres))

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and a file of weights that ``deepmusic classify`` takes too."""
        make_folder(folder)
        self.classifier.save(folder / _WEIGHTS)
        about = {"kind": "capsule ensemble", "name": "capsules", "version": __version__}
        write_json(folder / "model.json", about)


def fit_classifier(data: StudyData, fold: Fold, seed: int, work: Path) -> FittedClassifier:
    """Train the shipped design, as ``deepmusic train classifier`` does.

    Its networks divide the training and the validation tracks among themselves: each is validated
    on tracks that it is not trained on.

    Raises:
        DataError: there are no spectrograms, or the tracks cannot be divided by artist.
        CheckpointError: the folder holds a run of other data or settings.
    """
    config = ClassifierConfig(genres=data.genres)
    tracks = [*fold.train, *fold.validation]
    index = {track.path: number for number, track in enumerate(data.dataset.tracks)}
    with torch_in_one_thread():
        classifier, _ = classifier_training.train_ensemble(
            data.dataset,
            calibration_folds(data.dataset, tracks, networks=config.networks, seed=seed),
            lambda track: spectrograms_of(data, [index[track.path]])[0],
            config,
            work,
            training=replace(classifier_training.DEFAULT_TRAINING, seed=seed, device="cpu"),
            resume=True,
        )
    return FittedClassifier(classifier)


def load_classifier(folder: Path) -> FittedClassifier:
    """Read what ``FittedClassifier.save`` wrote."""
    return FittedClassifier(Classifier.load(folder / _WEIGHTS, device="cpu"))


@torch.no_grad()
def predict_scores(
    network: ImageNetwork, spectrograms: Sequence[NDArray[np.floating]]
) -> NDArray[np.float32]:
    """Scores ``(tracks, genres)``: mean log scores of each track's overlapping segments."""
    config = network.config
    scores = []
    with torch_in_one_thread():
        for log_mel in spectrograms:
            batches = segment_batches(log_mel, length=config.segment_frames, hop=config.hop_frames)
            parts = [
                network(views(torch.from_numpy(segments), config)).log_scores
                for _, segments in batches
            ]
            scores.append(torch.cat(parts).mean(dim=0).numpy())
    return np.array(scores, np.float32).reshape(-1, len(config.genres))


def spectrograms_of(
    data: StudyData, indices: Sequence[int], *, genres: Sequence[str] | None = None
) -> list[NDArray[np.float16]]:
    """The spectrograms of tracks.

    Raises:
        DataError: the data have none, or other genres than the trained ones.
    """
    if genres is not None and genres != data.genres:
        raise DataError(
            f"The network distinguishes {', '.join(genres)}; the data have "
            f"{', '.join(data.genres)}."
        )
    if data.spectrograms is None:
        raise DataError("Networks on log-mel segments need spectrograms, and the study has none.")
    return [data.spectrograms(index) for index in indices]
