"""From a folder of music to a classifier: splits, networks, calibration, one file of weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.calibration import Calibration, fit_calibration, probabilities
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.evaluation import draw_confusion, measure
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import Ensemble
from deepmusic.classifier.spectrograms import SpectrogramStore, without
from deepmusic.classifier.task import Augmentation, ClassifierTask, segment_textures
from deepmusic.datasets import (
    Fold,
    FolderDataset,
    Folds,
    Problem,
    dataset_digest,
    group_tracks,
    make_folds,
    make_split,
    read_splits,
    write_splits,
)
from deepmusic.datasets.load import load_dataset
from deepmusic.errors import CheckpointError, DataError
from deepmusic.files import write_atomically
from deepmusic.training import Progress, TrainingConfig, draw_history, fit
from deepmusic.training.checkpoint import checkpoint_path

DEFAULT_TRAINING = TrainingConfig(
    epochs=35,
    batch_size=32,
    learning_rate=3e-3,
    weight_decay=0.1,
    clip_norm=5.0,
    warmup=0.2,
    patience=12,
)
"""What the shipped model was trained with."""

_PARTS = 5

OnProgress = Callable[[int, int, Progress], None]
"""Takes the network (from 1), networks in all, and where its training is."""


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Args:
        run: the folder with everything.
        classifier: ready to hear.
        metrics: what ``metrics.json`` holds: validation and, where tracks were held out, test.
        problems: tracks that could not be used.
        notes: sentences on what was used and may not be as it should.
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
    test: float = 0.2,
    splits: str | os.PathLike[str] | None = None,
    fold: int = 0,
    networks: int = 1,
    training: TrainingConfig = DEFAULT_TRAINING,
    cache: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    on_spectrogram: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train a genre classifier on ``DATA/GENRE/*``.

    The tracks are divided by artist: a share is held out for the test, the rest is dealt into
    parts, and each network learns from all parts but one, on which it is validated. Some lighter
    networks that read textures alone then learn from all of them, and others of their kind, each
    from all parts but one, score the tracks that they did not learn from: that calibrates. The run
    folder receives ``config.json``, ``splits.json`` (the test), ``networks.json`` and
    ``calibration.json`` (which is validated on what), ``networks/N/`` and ``calibration/N/``
    (one training each), ``model.safetensors``, ``metrics.json``, ``accuracy.png``, ``loss.png``
    and, with a test, ``confusion.png``.

    Args:
        data: folder of genre folders, or another data set that
            :func:`deepmusic.datasets.load_dataset` knows.
        run: folder for the run; made if missing.
        table: CSV of artists; None takes ``tracks.csv`` in ``data`` or the files' tags.
        test: share of tracks held out for the test; 0 for none.
        splits: file of splits of these data; its test part is held out instead.
        fold: which of them, from 0.
        networks: networks to train and average.
        training: settings of each network's training.
        cache: folder for the spectrograms; None takes one inside the run.
        resume: go on with a run that was interrupted.
        on_progress: called after every step.
        on_spectrogram: called after every spectrogram with those done and those in all.

    Returns:
        The classifier and its figures.

    Raises:
        DataError: the data cannot be divided so, or nothing can be heard in them.
        CheckpointError: the run is there already and ``resume`` is off, or it is of other data.
        DeepMusicError: the disk is full.
    """
    run = Path(run)
    _make_folder(run, resume=resume)
    dataset = load_dataset(data, table=table).dataset
    given = None if splits is None else _fold_of(splits, fold, dataset)
    config = ClassifierConfig(genres=_two_or_more(dataset), networks=networks)
    store = SpectrogramStore(run / "spectrograms" if cache is None else Path(cache), config)
    dataset = without(dataset, store.fill(dataset, on_progress=on_spectrogram))
    config = replace(config, genres=_two_or_more(dataset))
    if given is None:
        divided = Folds((make_split(dataset, test=test, seed=training.seed),), training.seed)
    else:
        divided = given(dataset)
    split = divided[0]
    known = [*split.train, *split.validation]
    kept = run / "splits.json"
    if resume and kept.exists() and read_splits(kept, dataset).folds != divided.folds:
        raise CheckpointError(
            f"{run} was divided with another seed or share for the test, or by another file of "
            "splits; resume with the same, or start a new run."
        )
    if _is_main():
        write_splits(kept, divided, dataset)
    ensemble, calibration, metrics = train_ensemble(
        dataset,
        known,
        store,
        config,
        run,
        training=training,
        resume=resume,
        on_progress=on_progress,
    )
    classifier = Classifier(
        ensemble.eval(),
        calibration,
        card={
            "data": dataset_digest(dataset),
            "tracks": len(dataset.tracks),
            "artists": len(set(group_tracks(dataset.tracks))),
            "trained_on": len(known),
            "training": {**training.to_dict(), "reconstruction": config.reconstruction},
            "validation": metrics["validation"],
        },
    )
    if split.test:
        heard = np.stack(
            [classifier.predict_spectrogram(store.load(dataset.tracks[i])) for i in split.test]
        )
        truth = np.array(dataset.labels)[list(split.test)]
        metrics["test"] = measure(heard, truth, config.genres, threshold=calibration.threshold)
    if _is_main():
        classifier.save(run / "model.safetensors")
        _write_json(run / "metrics.json", metrics)
        if split.test:
            draw_confusion(metrics["test"], run / "confusion.png")
    return Trained(run, classifier, metrics, dataset.problems, dataset.notes)


def _fold_of(
    splits: str | os.PathLike[str], fold: int, dataset: FolderDataset
) -> Callable[[FolderDataset], Folds]:
    """One fold of a file, as a function of the data set, of which tracks may have dropped out."""
    found = read_splits(splits, dataset)
    if not 0 <= fold < len(found):
        raise DataError(f"{splits} has folds 0 to {len(found) - 1}; got {fold}.")
    parts = ("train", "validation", "test")
    side = {
        dataset.tracks[place].path: part for part in parts for place in getattr(found[fold], part)
    }

    def of(left: FolderDataset) -> Folds:
        sides = [side.get(track.path) for track in left.tracks]
        chosen = (tuple(i for i, s in enumerate(sides) if s == part) for part in parts)
        return Folds((Fold(*chosen),), found.seed, found.protocol)

    return of


def train_ensemble(
    dataset: FolderDataset,
    known: Sequence[int],
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
        known: places in ``dataset.tracks`` of those to learn from.
        store: holds their spectrograms.
        config: of each network; there are fewer networks where a genre has too few artists.
        run: folder of the run.
        training: settings of each network; network n takes the seed ``100 * seed + n``.
        augmentation: how segments are varied; None takes the defaults.
        resume: go on where a run was interrupted.
        on_progress: called after every step.

    Returns:
        The ensemble without its decoders, its calibration on tracks that the scoring network had
        not learned from, and the figures of single networks on these tracks.

    Raises:
        DataError: the tracks cannot be divided by artist.
    """
    subset = replace(dataset, tracks=tuple(dataset.tracks[i] for i in known))
    parts = _parts(subset, max(config.networks, _PARTS), training.seed)
    config = replace(config, networks=min(config.networks, len(parts)))
    networks = _networks(config, parts, len(subset.tracks))
    if _is_main():
        run.mkdir(parents=True, exist_ok=True)
        _write_json(run / "config.json", config.to_dict())
        write_splits(
            run / "networks.json", Folds(parts.folds[: config.networks], parts.seed), subset
        )
        if config.texture_networks:
            write_splits(run / "calibration.json", parts, subset)
    spectrograms = [store.load(track) for track in subset.tracks]
    labels = subset.labels
    textures = None
    if config.texture_networks:  # once for all networks that read nothing else
        textures = [segment_textures(spectrogram, config) for spectrogram in spectrograms]
    # the decoders have done their part when the training ends
    ensemble = Ensemble(replace(config, reconstruction=0.0))
    scores: list[NDArray[np.float32]] = []
    truth: list[int] = []
    histories = []
    for number, network in enumerate(networks):
        part = network.part
        seed = 100 * training.seed + number

        def pick(places: Sequence[int]) -> tuple[list[NDArray[np.float16]], list[int]]:
            return [spectrograms[i] for i in places], [labels[i] for i in places]

        task = ClassifierTask(
            network.config,
            pick(part.train),
            pick(part.validation),
            seed=seed,
            augmentation=augmentation,
            metadata={"data": dataset_digest(subset), "network": number},
            textures=None
            if textures is None or network.config.position_types
            else ([textures[i] for i in part.train], [textures[i] for i in part.validation]),
        )
        folder = run / network.folder
        result = fit(
            task,
            replace(training, seed=seed, patience=training.patience if network.stops else None),
            folder,
            resume=resume and checkpoint_path(folder).exists(),
            on_progress=on_progress and partial(on_progress, number + 1, len(networks)),
        )
        if network.stops:
            histories.append(result.history)
        if network.calibrates:
            scores.append(task.validation_scores(task.model).numpy())
            truth.extend(labels[i] for i in part.validation)
        if network.speaks:
            kept = ensemble.networks[number]
            trained = task.model.state_dict()
            kept.load_state_dict({name: trained[name] for name in kept.state_dict()})
    calibration = fit_calibration(np.concatenate(scores), np.array(truth))
    if _is_main():
        draw_history(_mean_history(histories), run)
    figures = measure(
        probabilities(np.concatenate(scores), calibration),
        np.array(truth),
        config.genres,
        threshold=calibration.threshold,
    )
    return ensemble, calibration, {"validation": figures, "calibration": calibration.to_dict()}


class _Network(NamedTuple):
    """One network to train."""

    config: ClassifierConfig
    part: Fold
    folder: str
    stops: bool  # whether validation may stop it early
    speaks: bool  # whether it is of the ensemble
    calibrates: bool  # whether its scores on tracks that it did not learn from calibrate


def _networks(config: ClassifierConfig, parts: Folds, tracks: int) -> list[_Network]:
    """All networks of a training, in the order of the ensemble, then those that only judge.

    A light network learns from all tracks for a fixed time, as it has none left to be validated
    on. Further light networks, one for each part, score tracks that they did not learn from: that
    calibrates. Without light networks the full ones do.
    """
    full, light = (
        config.network_configs[: config.networks],
        config.network_configs[config.networks :],
    )
    everything = Fold((*range(tracks),), (*range(tracks),), ())
    networks = [
        _Network(c, part, f"networks/{n}", True, True, not light)
        for n, (c, part) in enumerate(zip(full, parts.folds, strict=False))
    ]
    networks += [
        _Network(c, everything, f"networks/{n}", False, True, False)
        for n, c in enumerate(light, start=len(full))
    ]
    if light:
        networks += [
            _Network(light[0], part, f"calibration/{n}", True, False, True)
            for n, part in enumerate(parts.folds)
        ]
    return networks


def _parts(dataset: FolderDataset, most: int, seed: int) -> Folds:
    """The tracks dealt into parts; split n learns from all but part n and is validated on it.

    Where a genre has too few artists for so many parts, they are fewer.
    """
    for parts in range(most, 1, -1):
        with suppress(DataError):
            folds = make_folds(dataset, folds=parts, seed=seed)
            shares = [Fold(tuple(sorted((*f.train, *f.validation))), f.test, ()) for f in folds]
            return Folds(tuple(shares), seed)
    return Folds((make_split(dataset, test=0, validation=1 / _PARTS, seed=seed),), seed)


def _mean_history(histories: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Histories of validated networks averaged epoch by epoch, as far as the shortest goes."""
    mean = []
    for records in zip(*histories, strict=False):
        entry: dict[str, Any] = {"epoch": records[0]["epoch"]}
        for side in ("train", "validation"):
            names = set.intersection(*(set(record[side]) for record in records))
            entry[side] = {
                name: float(np.mean([record[side][name] for record in records])) for name in names
            }
        mean.append(entry)
    return mean


def _two_or_more(dataset: FolderDataset) -> tuple[str, ...]:
    if len(dataset.genres) < 2:
        there = f"only {dataset.genres[0]!r}" if dataset.genres else "none"
        raise DataError(
            f"{dataset.root} has {there} with music that can be heard; a classifier needs two "
            "genres or more, each a folder of sound files."
        )
    return tuple(dataset.genres)


def _make_folder(run: Path, *, resume: bool) -> None:
    """Make the run's folder, and refuse one that holds a run already, before any work is done."""
    if (run / "config.json").exists() and not resume and _is_main():
        raise CheckpointError(
            f"{run} holds a run already: resume it, or choose another folder for a new one."
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{run} could not be made: {error.strerror}.") from error


def _is_main() -> bool:
    """Whether this is the process that writes, alone or under torchrun."""
    return int(os.environ.get("RANK", "0")) == 0


def _write_json(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        json.dump(values, file, indent=1, ensure_ascii=False)
        file.write("\n")
