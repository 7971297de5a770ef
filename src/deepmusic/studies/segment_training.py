"""Training of the study's networks: one task for all, and what comes of it.

Segments, augmentation, validation and early stopping are those of the capsule classifier
(:class:`deepmusic.classifier.task.ClassifierTask`); only the network differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepmusic.audio import segment_starts
from deepmusic.classifier.calibration import Calibration, fit_calibration, probabilities
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.model import ImageNetwork, NetworkOutput, views
from deepmusic.classifier.task import Augmentation, ClassifierTask, track_scores
from deepmusic.datasets import Fold, dataset_digest
from deepmusic.errors import CheckpointError, DataError
from deepmusic.files import write_atomically
from deepmusic.studies.segment_networks import (
    CapsuleNetwork,
    build_network,
    count_parameters,
    width_scale,
)
from deepmusic.training import TrainingConfig, fill_model, fit, load_weights, save_weights
from deepmusic.training.checkpoint import checkpoint_path
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
"""What every network of the study is trained with; all get the whole of it."""

SEGMENT_AUGMENTATION = Augmentation(mixup=0.0)
"""How segments are varied for every network of the study."""

_KIND = "segment network"
_AT_ONCE = 64  # segments that are heard together


class SegmentTask(ClassifierTask):
    """A network of the study, as :func:`deepmusic.training.fit` trains it."""

    def genre_loss(self, heard: NetworkOutput, targets: Tensor) -> Tensor:
        """Margin loss of lengths; cross-entropy for all whose scores come from logits."""
        if isinstance(self.model, CapsuleNetwork) and not self.model.by_logit:
            return super().genre_loss(heard, targets)
        return -(targets * heard.log_scores).sum(dim=1).mean()


@dataclass(frozen=True)
class FittedNetwork:
    """A network that has learned.

    Args:
        name: of the network, in :data:`~deepmusic.studies.segment_networks.NETWORKS`.
        network: with its weights, in evaluation mode.
        scale: of its widths.
        calibration: from scores to probabilities, fitted on the validation tracks.
    """

    name: str
    network: ImageNetwork
    scale: float
    calibration: Calibration

    @property
    def parameters(self) -> int:
        """How many numbers it has learned."""
        return count_parameters(self.network)

    def predict_proba(self, data: StudyData, places: Sequence[int]) -> NDArray[np.float64]:
        """Probabilities ``(len(places), genres)`` of tracks; rows add up to 1.

        Args:
            data: with spectrograms and the genres that it learned.
            places: in ``data.dataset.tracks``.

        Raises:
            DataError: there are no spectrograms, or the genres are others.
        """
        if data.genres != self.network.config.genres:
            raise DataError(
                f"{self.name} has learned {', '.join(self.network.config.genres)}; these data have "
                f"{', '.join(data.genres)}."
            )
        scores = hear_tracks(self.network, spectrograms_of(data, places))
        return probabilities(scores, self.calibration)

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``weights.safetensors``.

        Raises:
            DeepMusicError: the folder cannot be written.
        """
        about = {
            "kind": _KIND,
            "name": self.name,
            "scale": self.scale,
            "config": self.network.config.to_dict(),
            "calibration": self.calibration.to_dict(),
            "version": __version__,
        }
        save_weights(folder / "weights.safetensors", self.network.state_dict(), about)
        with write_atomically(folder / "model.json") as file:
            file.write(json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def study_config(genres: tuple[str, ...]) -> ClassifierConfig:
    """What all networks of the study hear: the classifier's segments and stem, no textures."""
    return ClassifierConfig(genres=genres, texture_capsules=0, texture_networks=0, reconstruction=0)


def fit_network(
    name: str,
    data: StudyData,
    fold: Fold,
    seed: int,
    work: Path,
    *,
    config: ClassifierConfig | None = None,
    training: TrainingConfig = SEGMENT_TRAINING,
    augmentation: Augmentation = SEGMENT_AUGMENTATION,
) -> FittedNetwork:
    """Train a network on the training tracks of a fold; stop and calibrate by its validation.

    The folder becomes a run of :func:`deepmusic.training.fit`, with ``history.jsonl``; a call after
    a kill goes on where it was.

    Args:
        name: one of :data:`~deepmusic.studies.segment_networks.NETWORKS`.
        data: with spectrograms.
        fold: the test part is not touched.
        seed: of weights, segments, augmentation and order.
        work: folder to work and resume in.
        config: what it hears; None takes :func:`study_config`.
        training: settings; the seed is replaced.
        augmentation: how segments are varied.

    Raises:
        RequestError: there is no network of that name.
        DataError: there are no spectrograms, or no tracks to learn from or to be validated on.
        CheckpointError: the folder holds a run of other data or settings.
    """
    config = config or study_config(data.genres)
    scale = width_scale(name, config)
    if not fold.train or not fold.validation:
        raise DataError(f"{name} needs tracks to learn from and tracks to be validated on.")
    labels = data.labels
    heard = [spectrograms_of(data, places) for places in (fold.train, fold.validation)]
    with one_thread():
        task = SegmentTask(
            config,
            (heard[0], [int(labels[place]) for place in fold.train]),
            (heard[1], [int(labels[place]) for place in fold.validation]),
            seed=seed,
            augmentation=augmentation,
            metadata={
                "network": name,
                "scale": scale,
                "data": _mark(data, fold),
                "augmentation": asdict(augmentation),
            },
            network=partial(build_network, name, scale=scale),
        )
        fit(
            task,
            replace(training, seed=seed),
            work,
            resume=checkpoint_path(work).exists(),
        )
    network = task.model
    assert isinstance(network, ImageNetwork)
    scores = hear_tracks(network.eval(), heard[1])
    calibration = fit_calibration(scores, labels[list(fold.validation)])
    return FittedNetwork(name, network, scale, calibration)


def load_network(folder: Path) -> FittedNetwork:
    """Read what :meth:`FittedNetwork.save` wrote.

    Raises:
        CheckpointError: something is missing, damaged, or of another model.
    """
    weights, about = load_weights(folder / "weights.safetensors")
    if about.get("kind") != _KIND:
        raise CheckpointError(f"{folder} holds no network of the study.")
    try:
        name, scale = about["name"], float(about["scale"])
        calibration = Calibration(**about["calibration"])
        network = build_network(name, ClassifierConfig.from_dict(about["config"]), scale)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder} holds no network of this version of DeepMusic: {error}."
        ) from error
    fill_model(network, weights, source=folder / "weights.safetensors")
    return FittedNetwork(name, network.eval(), scale, calibration)


@torch.no_grad()
def hear_tracks(
    network: ImageNetwork, spectrograms: Sequence[NDArray[np.floating]]
) -> NDArray[np.float32]:
    """Scores ``(tracks, genres)``: the mean log scores of each track's segments, which overlap."""
    config = network.config
    length = config.segment_frames
    scores = []
    with one_thread():
        for whole in spectrograms:
            starts = segment_starts(whole.shape[1], length=length, hop=config.hop_frames)
            parts = []
            for first in range(0, len(starts), _AT_ONCE):
                cut = [whole[:, s : s + length] for s in starts[first : first + _AT_ONCE]]
                segments = torch.from_numpy(np.stack(cut).astype(np.float32))
                parts.append(network(views(segments, config)).log_scores)
            scores.append(track_scores(torch.cat(parts)).numpy())
    return np.array(scores, np.float32).reshape(-1, len(config.genres))


def spectrograms_of(data: StudyData, places: Sequence[int]) -> list[NDArray[np.float16]]:
    """The spectrograms of tracks.

    Raises:
        DataError: the data have none.
    """
    if data.spectrograms is None:
        raise DataError(
            "Networks on log-mel segments need spectrograms, and these data come without."
        )
    return [data.spectrograms(place) for place in places]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread for a while: sums then come out alike everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _mark(data: StudyData, fold: Fold) -> str:
    """Names data and fold: a run of others is not gone on with."""
    content: Mapping[str, Any] = {
        "data": dataset_digest(data.dataset),
        "fold": [fold.train, fold.validation],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
