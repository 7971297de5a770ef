"""Train a classifier of one's own genres on the features of the pretrained ear: in a minute."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepmusic.classifier.data import (
    HeldOut,
    TrackStore,
    calibration_folds,
    can_calibrate,
    check_division,
    hold_out,
    without,
    write_run_splits,
)
from deepmusic.classifier.ear.classifier import EarClassifier, ear_output
from deepmusic.classifier.ear.config import HeadConfig
from deepmusic.classifier.ear.fitting import (
    PATCHES,
    FitOptions,
    fit_head,
    predict_log_scores,
)
from deepmusic.classifier.ear.head import EarHead, head_graph
from deepmusic.classifier.ear.patches import EarOutput
from deepmusic.classifier.evaluation import measure
from deepmusic.classifier.training import (
    Trained,
    calibrated,
    new_run_folder,
    two_or_more_genres,
    write_results,
)
from deepmusic.classifier.verdict import Calibration
from deepmusic.datasets import (
    Fold,
    FolderDataset,
    LoadedDataset,
    Problem,
    Track,
    data_card,
    dataset_coding,
    group_tracks,
    load_dataset,
)
from deepmusic.datasets.folder import file_hash
from deepmusic.errors import AudioError, DataError, counted
from deepmusic.files import write_atomically, write_json

_VERSION = 2  # of what is stored: of the ear and how patches are chosen


class EarStore(TrackStore):
    """What the ear gave for tracks, one file per track in a folder.

    Args:
        folder: made if missing.

    Raises:
        DataError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(folder, f"ear{_VERSION}.npz")

    def load(self, track: Track) -> EarOutput:
        """Features ``(n, 256)`` and tag logits ``(n, 50)`` of a track."""
        with self.reading(track) as path, np.load(path) as arrays:
            return arrays["features"].astype(np.float32), arrays["tag_logits"].astype(np.float32)

    def compute(self, content_hash: str, source: str | os.PathLike[str]) -> None:
        """Run the ear on a track; see `TrackStore.compute`.

        Raises:
            CheckpointError: the ear is not installed.
        """
        features, tag_logits = ear_output(source, patches=PATCHES)
        with write_atomically(self.path(content_hash), "wb") as file:
            half = features.astype(np.float16), tag_logits.astype(np.float16)
            np.savez(file, features=half[0], tag_logits=half[1])

    def output(self, file: str | os.PathLike[str]) -> EarOutput:
        """What the ear gives for any file, kept for the next time.

        Raises:
            AudioError: it is missing, silent or cannot be decoded.
        """
        path = os.fspath(file)
        content_hash = file_hash(Path(path), path)
        if isinstance(content_hash, Problem):
            raise AudioError(content_hash.message, code=content_hash.code)
        if not self.path(content_hash).exists():
            self.compute(content_hash, path)
        return self.load(Track(path, "", None, None, content_hash))


def train_on_ear(
    data: str | os.PathLike[str] | LoadedDataset,
    run: str | os.PathLike[str],
    *,
    table: str | os.PathLike[str] | None = None,
    test: HeldOut = None,
    min_tracks: int = 1,
    options: FitOptions | None = None,
    cache: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_track: Callable[[int, int], object] | None = None,
    on_notes: Callable[[Sequence[str]], object] | None = None,
) -> Trained:
    """Train a classifier on ``DATA/GENRE/*`` from what the pretrained ear hears in it.

    The run folder receives ``config.json``, ``splits.json``, ``model.safetensors``,
    ``metrics.json`` and ``confusion.png``.

    Args:
        data: as `deepmusic.datasets.load_dataset` takes it, or what it has loaded.
        run: folder for the run; made if missing.
        table: CSV of artists; None takes ``tracks.csv`` in ``data`` or the files' tags.
        test: what is held out for the test; by default FMA's official part, else a fifth.
        min_tracks: genres with fewer tracks are left out.
        options: settings of the fit.
        cache: folder for what the ear gave; None takes one inside the run.
        resume: continue a run that was interrupted.
        on_track: called with the numbers of tracks done and of all.
        on_notes: called before the work with sentences on possible defects of the data.

    Raises:
        DataError: the data cannot be divided, or hold fewer than two genres that can be decoded.
        CheckpointError: the run exists and ``resume`` is off, or the ear is not installed.
    """
    options = options or FitOptions()
    run = new_run_folder(run, resume=resume)
    loaded = data if isinstance(data, LoadedDataset) else load_dataset(data, table=table)
    dataset, notes = _chosen_genres(loaded.dataset, min_tracks)
    if on_notes is not None and notes:
        on_notes(notes)
    two_or_more_genres(dataset)
    divide = hold_out(test, loaded, dataset, options.seed)
    check_division(can_calibrate(divide, networks=1, seed=options.seed), dataset)
    store = EarStore(run / "ear" if cache is None else cache)
    dataset = without(dataset, store.fill(dataset, on_progress=on_track))
    two_or_more_genres(dataset)
    split = divide(dataset)
    write_run_splits(run, split, dataset, resume=resume)
    tracks = [*split[0].train, *split[0].validation]
    head, calibration, metrics = _fitted(dataset, tracks, list(split[0].test), store, options)
    coding = dataset_coding(dataset, cache=store.folder / "codings.db")
    card = {**data_card(split, dataset), **coding.card(), "trained_on": len(tracks)}
    card |= {"validation": metrics["validation"]}
    classifier = exported_classifier(head, calibration, card)
    write_json(run / "config.json", head.config.to_dict())
    write_results(run, classifier, metrics)
    return Trained(run, classifier, metrics, dataset, tuple(notes), split.protocol, coding)


def _fitted(
    dataset: FolderDataset,
    tracks: list[int],
    held_out: list[int],
    store: EarStore,
    options: FitOptions,
) -> tuple[EarHead, Calibration, dict[str, Any]]:
    """The head fitted to tracks, its calibration, and figures on tracks that it does not know."""
    config = HeadConfig(dataset.genres)
    outputs = {index: store.load(dataset.tracks[index]) for index in (*tracks, *held_out)}
    folds = calibration_folds(dataset, tracks, networks=1, seed=options.seed)
    head, calibration, validation = fit_calibrated(dataset, folds, outputs, config, options)
    metrics: dict[str, Any] = {"validation": validation, "calibration": calibration.to_dict()}
    if held_out:
        scores = predict_log_scores(head, [outputs[i] for i in held_out])
        predicted, labels = calibration.probabilities(scores), np.array(dataset.labels)[held_out]
        metrics["test"] = measure(predicted, labels, config.genres, threshold=calibration.threshold)
    return head, calibration, metrics


def exported_classifier(
    head: EarHead, calibration: Calibration, card: dict[str, Any]
) -> EarClassifier:
    """A classifier that runs without PyTorch, from a head that was fitted."""
    weights = {name: tensor.detach().numpy() for name, tensor in head.state_dict().items()}
    return EarClassifier(head.config, head_graph(head.config), weights, calibration, card=card)


def fit_calibrated(
    dataset: FolderDataset,
    folds: Iterable[Fold],
    outputs: Mapping[int, EarOutput],
    config: HeadConfig,
    options: FitOptions,
) -> tuple[EarHead, Calibration, dict[str, Any]]:
    """Fit a head to the training and validation tracks of folds, and its calibration.

    Args:
        dataset: with the genres of ``config``.
        folds: for the calibration; together, their parts are the tracks to learn from.
        outputs: what the ear gave for each of these, by index.
        config: of the head.
        options: settings of the fit.

    Returns:
        The head; the calibration, and the figures of `measure` on the validation tracks, both from
        heads that were fitted to the training tracks of a fold.
    """
    folds = tuple(folds)
    tracks = sorted({index for fold in folds for index in (*fold.train, *fold.validation)})
    targets = np.eye(len(config.genres))[list(dataset.labels)]

    def fitted(part: Sequence[int]) -> EarHead:
        return fit_head([outputs[i] for i in part], targets[list(part)], config, options)

    scores, order = [], []
    for fold in folds:
        unseen = [outputs[i] for i in fold.validation]
        scores.append(predict_log_scores(fitted(fold.train), unseen))
        order += list(fold.validation)
    labels = np.array(dataset.labels)[order]
    return fitted(tracks), *calibrated(np.concatenate(scores), labels, config.genres)


def _chosen_genres(dataset: FolderDataset, min_tracks: int) -> tuple[FolderDataset, list[str]]:
    """The data set without small genres, and sentences on what may be wrong with it."""
    counts = Counter(track.genre for track in dataset.tracks)
    small = sorted(genre for genre, count in counts.items() if count < min_tracks)
    notes = list(dataset.notes)
    if small:
        notes.append(
            f"Genres with fewer than {min_tracks} tracks are left out: {', '.join(small)}."
        )
        tracks = [track for track in dataset.tracks if track.genre not in small]
        if len(counts) - len(small) < 2:
            raise DataError(
                f"Fewer than two genres of {dataset.root} have {min_tracks} tracks: allow fewer by "
                "--min-tracks."
            )
        dataset = FolderDataset.of(dataset.root, tracks, dataset.problems)
    artists = {genre: set[int]() for genre in dataset.genres}
    for track, group in zip(dataset.tracks, group_tracks(dataset.tracks), strict=True):
        artists[track.genre].add(group)
    notes += [
        f"{genre!r} has {counted(counts[genre], 'track')} by one artist: it cannot be both "
        "learned and tested."
        for genre in dataset.genres
        if counts[genre] > 1 == len(artists[genre])
    ]
    return replace(dataset, notes=tuple(notes)), notes
