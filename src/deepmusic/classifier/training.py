"""Train a genre classifier from a data set: splits, networks, calibration, one file of weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.data import (
    HeldOut,
    SpectrogramStore,
    TrackStore,
    calibration_folds,
    can_calibrate,
    check_division,
    hold_out,
    without,
    write_run_splits,
)
from deepmusic.classifier.evaluation import draw_confusion, fit_calibration, measure
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import Ensemble
from deepmusic.classifier.task import Augmentation, ClassifierTask, segment_textures
from deepmusic.classifier.verdict import Calibration
from deepmusic.datasets import (
    CodingReport,
    Fold,
    FolderDataset,
    Folds,
    LoadedDataset,
    Problem,
    Track,
    data_card,
    dataset_coding,
    dataset_digest,
    load_dataset,
)
from deepmusic.datasets.groups import unknown_artists
from deepmusic.datasets.splits import Protocol
from deepmusic.errors import CheckpointError, DataError
from deepmusic.files import make_folder, write_json
from deepmusic.parallel import is_main_process
from deepmusic.training import Progress, TrainingConfig, checkpoint_path, draw_history, fit

if TYPE_CHECKING:
    from deepmusic.classifier.ear.classifier import EarClassifier

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

AUGMENTATION = Augmentation(low_pass=0.3)
"""Of `train_classifier`: low-passed segments, so that muffled sound is not called classical."""
_RELIABLE_HZ = 4_000  # of networks trained so; docs/what-did-not-work.md

OnProgress = Callable[[int, int, Progress], None]
"""Takes the network (from 1), the number of networks, and the progress of its training."""


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Args:
        run: its folder.
        classifier: the model.
        metrics: the content of ``metrics.json``: validation and, if tracks were held out, test.
        dataset: the tracks that were used; its ``problems`` are those that could not be.
        notes: sentences on possible defects of the data.
        protocol: how the test tracks were chosen.
        coding: of the files, by genre; None in a process under ``torchrun`` that does not report.
    """

    run: Path
    classifier: Classifier | EarClassifier
    metrics: dict[str, Any]
    dataset: FolderDataset
    notes: tuple[str, ...]
    protocol: Protocol = "grouped"
    coding: CodingReport | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be used."""
        return self.dataset.problems

    @property
    def unknown_artists(self) -> int:
        """Tracks whose artist is not known, and may be on two sides of the split."""
        return unknown_artists(self.dataset.tracks)


def train_classifier(
    data: str | os.PathLike[str] | LoadedDataset,
    run: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    test: HeldOut = None,
    networks: int = 1,
    training: TrainingConfig = DEFAULT_TRAINING,
    cache: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    on_spectrogram: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train a genre classifier on ``DATA/GENRE/*``.

    The run folder receives ``config.json``, ``splits.json`` (one fold per calibration fold),
    ``networks/N/`` and ``calibration/N/``, ``model.safetensors``, ``metrics.json`` and plots.

    Args:
        data: as `deepmusic.datasets.load_dataset` takes it, or what it has loaded.
        run: folder for the run; made if missing.
        table: CSV of artists; None takes ``tracks.csv`` in ``data`` or the files' tags.
        test: what is held out for the test; by default FMA's official part, else a fifth.
        networks: full networks to train and average.
        training: settings of each network's training.
        cache: folder for the spectrograms; None takes one inside the run.
        resume: continue a run that was interrupted.
        on_progress: called after every step.
        on_spectrogram: called with the numbers of spectrograms made and of all.

    Raises:
        DataError: the data cannot be divided, or hold fewer than two genres that can be decoded.
        CheckpointError: the run exists and ``resume`` is off, or it is of other data.
    """
    run = new_run_folder(run, resume=resume)
    loaded = data if isinstance(data, LoadedDataset) else load_dataset(data, table=table)
    dataset, divide = loaded.dataset, hold_out(test, loaded, loaded.dataset, training.seed)
    config = ClassifierConfig(genres=two_or_more_genres(dataset), networks=networks)
    check = can_calibrate(divide, networks=networks, seed=training.seed)
    check_division(check, dataset)
    store = SpectrogramStore(run / "spectrograms" if cache is None else Path(cache), config)
    dataset = without(dataset, store.fill(dataset, on_progress=on_spectrogram))
    config, split = replace(config, genres=two_or_more_genres(dataset)), divide(dataset)
    held_out, tracks = split[0].test, [*split[0].train, *split[0].validation]
    folds = calibration_folds(dataset, tracks, networks=networks, seed=training.seed)
    split = replace(split, folds=tuple(replace(fold, test=held_out) for fold in folds))
    write_run_splits(run, split, dataset, resume=resume)
    coding = _coding(dataset, store)
    options: dict[str, Any] = {"training": training, "augmentation": AUGMENTATION}
    options |= {"resume": resume, "on_progress": on_progress}
    classifier, validation = train_ensemble(dataset, folds, store.load, config, run, **options)
    settings = {**training.to_dict(), "reconstruction": config.reconstruction}
    classifier.card = {**data_card(split, dataset), "trained_on": len(tracks), "training": settings}
    classifier.card |= {"validation": validation, **(coding.card(_RELIABLE_HZ) if coding else {})}
    metrics = {"validation": validation, "calibration": classifier.calibration.to_dict()}
    metrics |= _test_figures(classifier, dataset, held_out, store)
    write_results(run, classifier, metrics)
    return Trained(run, classifier, metrics, dataset, dataset.notes, split.protocol, coding)


def _coding(dataset: FolderDataset, store: TrackStore) -> CodingReport | None:
    if is_main_process():
        return dataset_coding(dataset, cache=store.folder / "codings.db")
    return None


def write_results(
    run: Path, classifier: Classifier | EarClassifier, metrics: Mapping[str, Any]
) -> None:
    """Write the weights, the figures and a plot of the confusion of genres into a run's folder.

    Raises:
        DeepMusicError: the disk is full or cannot be written.
    """
    if is_main_process():
        classifier.save(run / "model.safetensors")
        write_json(run / "metrics.json", metrics)
        if "test" in metrics:
            draw_confusion(metrics["test"], run / "confusion.png")


def _test_figures(
    classifier: Classifier, dataset: FolderDataset, tracks: Sequence[int], store: SpectrogramStore
) -> dict[str, Any]:
    if not tracks:
        return {}
    rows = [classifier.predict_spectrogram(store.load(dataset.tracks[i])) for i in tracks]
    labels = np.array(dataset.labels)[list(tracks)]
    threshold = classifier.calibration.threshold
    return {"test": measure(np.stack(rows), labels, classifier.genres, threshold=threshold)}


def train_ensemble(
    dataset: FolderDataset,
    folds: Folds,
    load: Callable[[Track], NDArray[np.floating]],
    config: ClassifierConfig,
    run: Path,
    *,
    training: TrainingConfig = DEFAULT_TRAINING,
    augmentation: Augmentation | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Classifier, dict[str, Any]]:
    """Train all networks on some tracks of a data set, and calibrate them.

    Args:
        dataset: all tracks.
        folds: as `calibration_folds` gives them.
        load: gives the spectrogram ``(n_mels, frames)`` of a track.
        config: of each network; there are at most as many full networks as folds.
        run: folder of the run.
        augmentation: how segments are varied.
        training: settings of each network; network n has the seed ``100 * seed + n``.
        resume: continue a run that was interrupted.
        on_progress: called after every step.

    Returns:
        The classifier without decoders, and the figures of `measure` on tracks new to the networks.
    """
    config = replace(config, networks=min(config.networks, len(folds)))
    if is_main_process():
        make_folder(run)
        write_json(run / "config.json", config.to_dict())
    make_task = _task_maker(dataset, folds, load, config, augmentation or Augmentation())
    ensemble = Ensemble(replace(config, reconstruction=0.0))  # decoders serve the training alone
    scores, labels, histories = [], [], []
    trainings = _trainings(config, folds)
    for number, one in enumerate(trainings):
        patience = training.patience if one.is_validated else None
        settings = replace(training, seed=100 * training.seed + number, patience=patience)
        task, folder = make_task(one, number, settings.seed), run / one.folder
        history = fit(
            task,
            settings,
            folder,
            resume=resume and checkpoint_path(folder).exists(),
            on_progress=on_progress and partial(on_progress, number + 1, len(trainings)),
        )
        if one.is_validated:
            histories.append(history)
        if one.calibrates:
            scores.append(task.validation_scores(task.model).numpy())
            labels += [dataset.labels[i] for i in one.fold.validation]
        if one.in_ensemble:
            weights, network = task.model.state_dict(), ensemble.networks[number]
            network.load_state_dict({name: weights[name] for name in network.state_dict()})
    if is_main_process():
        draw_history(_mean_history(histories), run)
    calibration, figures = calibrated(np.concatenate(scores), np.array(labels), config.genres)
    return Classifier(ensemble, calibration, device=training.device), figures


def calibrated(
    log_scores: NDArray[np.floating], labels: NDArray[np.integer], genres: Sequence[str]
) -> tuple[Calibration, dict[str, Any]]:
    """The calibration of scores ``(n, genres)``, and the figures of `measure` with it."""
    calibration = fit_calibration(log_scores, labels)
    predicted = calibration.probabilities(log_scores)
    return calibration, measure(predicted, labels, genres, threshold=calibration.threshold)


def _task_maker(
    dataset: FolderDataset,
    folds: Folds,
    load: Callable[[Track], NDArray[np.floating]],
    config: ClassifierConfig,
    augmentation: Augmentation,
) -> Callable[[_Training, int, int], ClassifierTask]:
    """A function that makes the task of a training from its number and seed."""
    tracks = {i: dataset.tracks[i] for i in _all_tracks(folds)}
    digest = dataset_digest(replace(dataset, tracks=tuple(tracks.values())))
    spectrograms = {i: load(track) for i, track in tracks.items()}
    textures: Mapping[int, NDArray[np.floating]] = {}
    varied = textures
    if config.texture_networks:  # once for all texture networks
        textures = {i: segment_textures(s, config) for i, s in spectrograms.items()}
        varied = dict(textures)
        for index, spectrogram in spectrograms.items() if augmentation.low_pass else ():
            low = segment_textures(spectrogram, config, np.random.default_rng(index))
            every = max(1, round(1 / augmentation.low_pass - 1))
            varied[index] = np.concatenate([textures[index], low[::every]])

    def make(one: _Training, number: int, seed: int) -> ClassifierTask:
        is_full = bool(one.config.position_types)
        inputs = (spectrograms, spectrograms) if is_full else (varied, textures)
        train, validation = (
            ([by_track[i] for i in part], [dataset.labels[i] for i in part])
            for by_track, part in zip(inputs, (one.fold.train, one.fold.validation), strict=True)
        )
        metadata = {"data": digest, "network": number}
        options: dict[str, Any] = {"augmentation": augmentation, "metadata": metadata}
        return ClassifierTask(one.config, train, validation, seed=seed, **options)

    return make


def _all_tracks(folds: Folds) -> list[int]:
    return sorted((*folds[0].train, *folds[0].validation))


class _Training(NamedTuple):
    """The training of one network."""

    config: ClassifierConfig
    fold: Fold
    folder: str
    is_validated: bool  # on tracks that it does not learn from, which may stop it early
    in_ensemble: bool
    calibrates: bool  # its scores of validation tracks are used for calibration


def _trainings(config: ClassifierConfig, folds: Folds) -> list[_Training]:
    """All trainings: first the networks of the ensemble in order, then those for calibration.

    A texture network learns from all tracks for a fixed time. Copies, one per fold, score tracks
    that they do not learn from; without texture networks the full networks do.
    """
    configs = config.network_configs
    full, texture_only = configs[: config.networks], configs[config.networks :]
    tracks = tuple(_all_tracks(folds))
    everything = Fold(tracks, tracks, ())
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


def _mean_history(histories: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean of several histories, epoch by epoch, up to the shortest."""

    def mean(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
        names = set.intersection(*map(set, records))
        return {name: float(np.mean([record[name] for record in records])) for name in names}

    return [
        {"epoch": records[0]["epoch"]}
        | {side: mean([record[side] for record in records]) for side in ("train", "validation")}
        for records in zip(*histories, strict=False)
    ]


def two_or_more_genres(dataset: FolderDataset) -> tuple[str, ...]:
    """The genres of a data set.

    Raises:
        DataError: there are fewer than two.
    """
    if len(dataset.genres) < 2:
        count = f"only {dataset.genres[0]!r}" if dataset.genres else "no genre"
        raise DataError(
            f"{dataset.root} has {count} with music that can be decoded; a classifier needs two "
            "genres or more, each a folder of sound files."
        )
    return dataset.genres


def new_run_folder(run: str | os.PathLike[str], *, resume: bool) -> Path:
    """Make the run's folder, before any work is done.

    Raises:
        CheckpointError: it holds a run already, and ``resume`` is off.
        DataError: it cannot be made.
    """
    if (Path(run) / "config.json").exists() and not resume and is_main_process():
        raise CheckpointError(
            f"{run} already holds a run: resume it, or choose another folder for a new one."
        )
    return make_folder(run)
