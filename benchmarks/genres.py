"""Variants of the shipped classifier and models of features on the same artist-grouped folds.

    python benchmarks/fma_features.py --data ../shared/data/emotify      # once, some minutes
    python benchmarks/genres.py --data ../shared/data/emotify --models capsules,cnn,logistic

Each seed divides the artists into different folds; all models get the same folds. A job is one
model on one fold of one seed; its result is appended to ``results.jsonl``, and a later run does
only what is missing. ``scripts/write_results.py --genres`` imports the results. For all other
models, use ``deepmusic study genres``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset, dataset_digest, scan_folder
from deepmusic.datasets.splits import Fold, make_folds
from deepmusic.studies.baselines import TABLE_MODELS
from deepmusic.studies.data import StudyData
from fma_features import load_table
from job_results import append_result, read_results

VARIANTS: dict[str, dict[str, Any]] = {
    "capsules": {},
    "capsules-networks": {"texture_networks": 0},
    "cnn": {"networks": 3, "routing": "none", "texture_capsules": 0, "texture_networks": 0},
    "capsules-texture": {"networks": 3, "position_types": 0, "texture_networks": 0},
    "cnn-texture": {"routing": "none"},
    "capsules-position": {"texture_capsules": 0, "texture_networks": 0},
    "capsules-uniform": {"routing": "uniform"},
}
"""Networks by name: how they differ from the shipped classifier."""

Predicted = tuple[NDArray[np.floating], int, float]
"""Probabilities ``(tracks, genres)`` of the test tracks, parameters, threshold of unsure."""


def predict_by_features(
    name: str, dataset: FolderDataset, fold: Fold, seed: int, work: Path
) -> Predicted:
    """A scikit-learn model on the 518 columns of FMA."""
    by_path = load_table(dataset.root)
    data = StudyData(dataset, np.stack([by_path[track.path] for track in dataset.tracks]))
    fitted = TABLE_MODELS[name].fit_fold(data, fold, seed)
    shares = fitted.predict_proba(data, fold.test)
    return shares, fitted.parameters, fitted.calibration.threshold


def predict_by_network(
    name: str, dataset: FolderDataset, fold: Fold, seed: int, work: Path
) -> Predicted:
    """An ensemble as `deepmusic train classifier` trains it, with some settings changed."""
    import torch

    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.data import SpectrogramStore, calibration_folds
    from deepmusic.classifier.training import DEFAULT_TRAINING, train_ensemble

    torch.set_num_threads(1)
    config = ClassifierConfig(genres=dataset.genres, **VARIANTS[name])
    store = SpectrogramStore(Path(".cache/spectrograms"), config)
    if problems := store.fill(dataset):
        raise ValueError(problems[0].message)
    known = [*fold.train, *fold.validation]
    classifier, _ = train_ensemble(
        dataset,
        calibration_folds(dataset, known, networks=config.networks, seed=seed),
        store.load,
        config,
        work,
        training=replace(DEFAULT_TRAINING, seed=seed, device="cpu"),
        resume=True,
    )
    rows = [classifier.predict_spectrogram(store.load(dataset.tracks[i])) for i in fold.test]
    parameters = sum(p.numel() for p in classifier.ensemble.parameters())
    return np.stack(rows), parameters, classifier.calibration.threshold


def run_job(name: str, dataset: FolderDataset, fold: Fold, seed: int, work: Path) -> dict[str, Any]:
    """Train one model on one fold and predict its test tracks."""
    work.mkdir(parents=True, exist_ok=True)
    predict = predict_by_network if name in VARIANTS else predict_by_features
    began = time.perf_counter()
    shares, parameters, threshold = predict(name, dataset, fold, seed, work)
    seconds = time.perf_counter() - began
    tested = [dataset.tracks[index] for index in fold.test]
    labels = np.array(dataset.labels)[list(fold.test)]
    return {
        "correct": int((shares.argmax(axis=1) == labels).sum()),
        "tracks": len(labels),
        "trained_on": len(fold.train) + len(fold.validation),
        "seconds": round(seconds, 3),
        "parameters": parameters,
        "threshold": threshold,
        "genres": list(dataset.genres),
        "truth": [track.genre for track in tested],
        "probabilities": {
            track.path: row for track, row in zip(tested, shares.round(6).tolist(), strict=True)
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/emotify"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less one")
    parser.add_argument("--models", default=",".join(VARIANTS), help="names, comma-separated")
    parser.add_argument("--work", type=Path, default=Path("runs/genres"), help="results go here")
    arguments = parser.parse_args()
    names = arguments.models.split(",")
    if unknown := [name for name in names if name not in {*VARIANTS, *TABLE_MODELS}]:
        parser.error(f"no model {', '.join(unknown)}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.work / "results.jsonl"
    dataset = scan_folder(arguments.data)
    done = {(r["model"], r["seed"], r["fold"], r["fold_mark"]) for r in read_results(path)}
    for seed in range(arguments.seeds):
        for number, fold in enumerate(make_folds(dataset, folds=arguments.folds, seed=seed)):
            content = [dataset_digest(dataset), fold.train, fold.validation, fold.test]
            mark = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
            for name in names:
                if (name, seed, number, mark) in done:
                    continue
                work = arguments.work / f"{name}-{seed}-{number}"
                result = run_job(name, dataset, fold, seed, work)
                about = {"model": name, "seed": seed, "fold": number, "fold_mark": mark}
                append_result(path, about | result)
                print(
                    f"{name}, seed {seed}, fold {number}: {result['correct']} of "
                    f"{result['tracks']} correct, {result['seconds']:.1f} s",
                    file=sys.stderr,
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
