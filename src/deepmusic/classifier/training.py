"""Train a genre classifier from a data set: splits, networks, calibration, one file of weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from deepmusic.classifier.calibration import Calibration, fit_calibration, probabilities
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.evaluation import draw_confusion, measure
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import Ensemble
from deepmusic.classifier.spectrograms import SpectrogramStore, without
from deepmusic.classifier.splits import calibration_folds, hold_out, write_run_splits
from deepmusic.classifier.task import Augmentation, ClassifierTask, segment_textures
from deepmusic.datasets import (
    Fold,
    FolderDataset,
    Folds,
    Problem,
    dataset_digest,
    group_tracks,
    load_dataset,
)
from deepmusic.errors import CheckpointError, DataError, os_reason
from deepmusic.files import write_json
from deepmusic.parallel import is_main_process
from deepmusic.training import Progress, TrainingConfig, checkpoint_path, draw_history, fit

DEFAULT_TRAINING = TrainingConfig(
    epochs=35,
    batch_size=32,
    learning_rate=3e-3,
    weight_decay=0.1,
    clip_norm=5.0,
    warmup=0.2,
    patience=12,
)
"""Settings of the shipped model."""

OnProgress = Callable[[int, int, Progress], None]
"""Takes the network (from 1), the number of networks, and the progress of its training."""


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Args:
        run: its folder.
        classifier: the model.
        metrics: the content of ``metrics.json``: validation and, if tracks were held out, test.
        problems: tracks that could not be used.
        notes: sentences on possible defects of the data.
    """

    run: Path
    classifier: Classifier
    metrics: dict[str, Any]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def train_classifier(
    data: str | os.PathLike[str],
    run: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    test: float | tuple[str | os.PathLike[str], int] = 0.2,
    networks: int = 1,
    training: TrainingConfig = DEFAULT_TRAINING,
    cache: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    on_spectrogram: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train a genre classifier on ``DATA/GENRE/*``.

    The run folder receives ``config.json``, ``splits.json`` (one fold per calibration fold, with
    the same test part), ``networks/N/`` and ``calibration/N/`` (one training each),
    ``model.safetensors``, ``metrics.json`` and plots.

    Args:
        data: genre folders, or another data set that `deepmusic.datasets.load_dataset` knows.
        run: folder for the run; made if missing.
        table: CSV of artists; None takes ``tracks.csv`` in ``data`` or the files' tags.
        test: share of tracks held out, 0 for none; or a file of splits and the number of the fold
            whose test part is held out.
        networks: full networks to train and average.
        training: settings of each network's training.
        cache: folder for the spectrograms; None takes one inside the run.
        resume: continue a run that was interrupted.
        on_progress: called after every step.
        on_spectrogram: called after every spectrogram with the number done and that of all.

    Raises:
        DataError: the data cannot be divided, or hold fewer than two genres that can be decoded.
        CheckpointError: the run exists and ``resume`` is off, or it is of other data.
    """
    run = Path(run)
    _make_folder(run, resume=resume)
    dataset = load_dataset(data, table=table).dataset
    divide = hold_out(test, dataset, training.seed)
    config = ClassifierConfig(genres=_two_or_more(dataset), networks=networks)
    store = SpectrogramStore(run / "spectrograms" if cache is None else Path(cache), config)
    dataset = without(dataset, store.fill(dataset, on_progress=on_spectrogram))
    config, split = replace(config, genres=_two_or_more(dataset)), divide(dataset)
    held_out, tracks = split[0].test, [*split[0].train, *split[0].validation]
    folds = calibration_folds(dataset, tracks, networks=networks, seed=training.seed)
    split = replace(split, folds=tuple(replace(fold, test=held_out) for fold in folds))
    write_run_splits(run, split, dataset, resume=resume)
    settings: dict[str, Any] = {"training": training, "resume": resume, "on_progress": on_progress}
    ensemble, calibration, metrics = train_ensemble(dataset, folds, store, config, run, **settings)
    card = _card(dataset, len(tracks), training, config) | {"validation": metrics["validation"]}
    classifier = Classifier(ensemble.eval(), calibration, card=card)
    if held_out:
        metrics["test"] = _test_figures(classifier, dataset, held_out, store)
    _write_results(run, classifier, metrics)
    return Trained(run, classifier, metrics, dataset.problems, dataset.notes)


def _card(
    dataset: FolderDataset, trained_on: int, training: TrainingConfig, config: ClassifierConfig
) -> dict[str, Any]:
    return {
        "data": dataset_digest(dataset),
        "tracks": len(dataset.tracks),
        "artists": len(set(group_tracks(dataset.tracks))),
        "trained_on": trained_on,
        "training": {**training.to_dict(), "reconstruction": config.reconstruction},
    }


def _write_results(run: Path, classifier: Classifier, metrics: dict[str, Any]) -> None:
    if is_main_process():
        classifier.save(run / "model.safetensors")
        write_json(run / "metrics.json", metrics)
        if "test" in metrics:
            draw_confusion(metrics["test"], run / "confusion.png")


def train_ensemble(
    dataset: FolderDataset,
    folds: Folds,
    store: SpectrogramStore,
    config: ClassifierConfig,
    run: Path,
    *,
    training: TrainingConfig = DEFAULT_TRAINING,
    augmentation: Augmentation | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Ensemble, Calibration, dict[str, Any]]:
    """Train all networks on some tracks of a data set, and calibrate them.

    Args:
        dataset: all tracks.
        folds: as `calibration_folds` gives them.
        store: holds the spectrograms.
        config: of each network; there are at most as many full networks as folds.
        run: folder of the run.
        training: settings of each network; network n has the seed ``100 * seed + n``.
        augmentation: how segments are varied; None takes the defaults.
        resume: continue a run that was interrupted.
        on_progress: called after every step.

    Returns:
        The ensemble without decoders; calibration and figures on tracks new to the scoring network.
    """
    config = replace(config, networks=min(config.networks, len(folds)))
    if is_main_process():
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / "config.json", config.to_dict())
    data = _TrainingData(dataset, folds, store, config)
    ensemble = Ensemble(replace(config, reconstruction=0.0))  # decoders serve the training alone
    scores: list[NDArray[np.float32]] = []
    labels: list[int] = []
    histories = []
    trainings = _trainings(config, folds, data.tracks)
    for number, one in enumerate(trainings):
        seed = 100 * training.seed + number
        task = data.task(one, number, seed=seed, augmentation=augmentation)
        folder = run / one.folder
        history = fit(
            task,
            replace(training, seed=seed, patience=training.patience if one.is_validated else None),
            folder,
            resume=resume and checkpoint_path(folder).exists(),
            on_progress=on_progress and partial(on_progress, number + 1, len(trainings)),
        )
        if one.is_validated:
            histories.append(history)
        if one.calibrates:
            scores.append(task.validation_scores(task.model).numpy())
            labels.extend(data.labels[i] for i in one.fold.validation)
        if one.in_ensemble:
            _copy_weights(task.model, ensemble.networks[number])
    if is_main_process():
        draw_history(_mean_history(histories), run)
    calibration, metrics = _calibrate(np.concatenate(scores), np.array(labels), config.genres)
    return ensemble, calibration, metrics


def _copy_weights(trained: nn.Module, network: nn.Module) -> None:
    weights = trained.state_dict()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})


def _calibrate(
    log_scores: NDArray[np.float32], labels: NDArray[np.integer], genres: Sequence[str]
) -> tuple[Calibration, dict[str, Any]]:
    calibration = fit_calibration(log_scores, labels)
    predicted = probabilities(log_scores, calibration)
    figures = measure(predicted, labels, genres, threshold=calibration.threshold)
    return calibration, {"validation": figures, "calibration": calibration.to_dict()}


class _TrainingData:
    """Spectrograms, labels and textures of the tracks in some folds, by index of the track."""

    def __init__(
        self,
        dataset: FolderDataset,
        folds: Folds,
        store: SpectrogramStore,
        config: ClassifierConfig,
    ) -> None:
        self.tracks = sorted((*folds[0].train, *folds[0].validation))
        self.labels = dataset.labels
        tracks = tuple(dataset.tracks[i] for i in self.tracks)
        self._digest = dataset_digest(replace(dataset, tracks=tracks))
        self._spectrograms = {i: store.load(dataset.tracks[i]) for i in self.tracks}
        self._textures: dict[int, NDArray[np.float32]] = {}
        if config.texture_networks:  # once for all texture networks
            self._textures = {i: segment_textures(s, config) for i, s in self._spectrograms.items()}

    def task(
        self, one: _Training, number: int, *, seed: int, augmentation: Augmentation | None
    ) -> ClassifierTask:
        sides = (one.fold.train, one.fold.validation)
        train, validation = (
            ([self._spectrograms[i] for i in side], [self.labels[i] for i in side])
            for side in sides
        )
        textures = None
        if self._textures and not one.config.position_types:
            textures = (
                [self._textures[i] for i in sides[0]],
                [self._textures[i] for i in sides[1]],
            )
        return ClassifierTask(
            one.config,
            train,
            validation,
            seed=seed,
            augmentation=augmentation,
            metadata={"data": self._digest, "network": number},
            textures=textures,
        )


class _Training(NamedTuple):
    """The training of one network."""

    config: ClassifierConfig
    fold: Fold
    folder: str
    is_validated: bool  # on tracks that it does not learn from, which may stop it early
    in_ensemble: bool
    calibrates: bool  # its scores of validation tracks are used for calibration


def _trainings(config: ClassifierConfig, folds: Folds, tracks: Sequence[int]) -> list[_Training]:
    """All trainings: first the networks of the ensemble in order, then those for calibration.

    A texture network learns from all tracks for a fixed time. Copies, one per fold, score tracks
    that they do not learn from; without texture networks the full networks do.
    """
    configs = config.network_configs
    full, texture_only = configs[: config.networks], configs[config.networks :]
    everything = Fold(tuple(tracks), tuple(tracks), ())
    trainings = [
        _Training(c, fold, f"networks/{n}", True, True, not texture_only)
        for n, (c, fold) in enumerate(zip(full, folds, strict=False))
    ]
    trainings += [
        _Training(c, everything, f"networks/{n}", False, True, False)
        for n, c in enumerate(texture_only, start=len(full))
    ]
    if texture_only:
        trainings += [
            _Training(texture_only[0], fold, f"calibration/{n}", True, False, True)
            for n, fold in enumerate(folds)
        ]
    return trainings


def _test_figures(
    classifier: Classifier, dataset: FolderDataset, tracks: Sequence[int], store: SpectrogramStore
) -> dict[str, Any]:
    rows = [classifier.predict_spectrogram(store.load(dataset.tracks[i])) for i in tracks]
    labels = np.array(dataset.labels)[list(tracks)]
    threshold = classifier.calibration.threshold
    return measure(np.stack(rows), labels, classifier.genres, threshold=threshold)


def _mean_history(histories: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean of several histories, epoch by epoch, up to the shortest."""
    mean = []
    for records in zip(*histories, strict=False):
        entry: dict[str, Any] = {"epoch": records[0]["epoch"]}
        for side in ("train", "validation"):
            names = set.intersection(*(set(record[side]) for record in records))
            entry[side] = {
                n: float(np.mean([record[side][n] for record in records])) for n in names
            }
        mean.append(entry)
    return mean


def _two_or_more(dataset: FolderDataset) -> tuple[str, ...]:
    if len(dataset.genres) < 2:
        count = f"only {dataset.genres[0]!r}" if dataset.genres else "no genre"
        raise DataError(
            f"{dataset.root} has {count} with music that can be decoded; a classifier needs two "
            "genres or more, each a folder of sound files."
        )
    return dataset.genres


def _make_folder(run: Path, *, resume: bool) -> None:
    """Make the run's folder, and refuse an existing run, before any work is done."""
    if (run / "config.json").exists() and not resume and is_main_process():
        raise CheckpointError(
            f"{run} already holds a run: resume it, or choose another folder for a new one."
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{run} could not be made: {os_reason(error)}.") from error
