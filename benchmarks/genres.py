"""The honest table of genre models: artist-grouped folds, several seeds, the same tracks for all.

    python benchmarks/fma_features.py --data ../shared/data/emotify      # once, some minutes
    python benchmarks/genres.py --data ../shared/data/emotify --models logistic,svc

Each seed deals the artists to other folds, and every model hears the same ones. One model on one
fold of one seed is a job; its result is a line of ``results.jsonl`` as soon as it is done, so a
second call does only what is missing. Models of feature columns train on the training and the
validation tracks of a fold, as they need none to stop early; networks stop by the validation
tracks and never learn from them.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.datasets.folder import FolderDataset, dataset_digest, scan_folder
from deepmusic.datasets.splits import Fold, make_folds
from deepmusic.files import write_atomically
from deepmusic.studies.baselines import FEATURE_MODELS, count_parameters
from deepmusic.studies.comparison import markdown_table
from fma_features import load_table
from job_results import append_result, read_results


class Result(NamedTuple):
    """What a model makes of a fold's test tracks, in their order."""

    probabilities: NDArray[np.floating]  # (tracks, genres), genres as in dataset.genres
    parameters: int
    threshold: float | None = None  # below it the model says that it is unsure


# dataset, fold, seed, an empty folder to work in -> what was heard
Model = Callable[[FolderDataset, Fold, int, Path], Result]


def test_features(name: str, dataset: FolderDataset, fold: Fold, seed: int, work: Path) -> Result:
    """A scikit-learn model on the 518 columns of FMA."""
    by_path = load_table(dataset.root)
    columns = np.stack([by_path[track.path] for track in dataset.tracks])
    known = [*fold.train, *fold.validation]
    model = FEATURE_MODELS[name](seed).fit(columns[known], np.array(dataset.labels)[known])
    return Result(model.predict_proba(columns[list(fold.test)]), count_parameters(model))


def test_network(
    variant: dict[str, Any], dataset: FolderDataset, fold: Fold, seed: int, work: Path
) -> Result:
    """An ensemble as `deepmusic train classifier` trains it, with some settings changed."""
    import torch

    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.inference import Classifier
    from deepmusic.classifier.spectrograms import SpectrogramStore
    from deepmusic.classifier.training import DEFAULT_TRAINING, calibration_folds, train_ensemble

    torch.set_num_threads(1)
    config = ClassifierConfig(genres=dataset.genres, **variant)
    store = SpectrogramStore(Path(".cache/spectrograms"), config)
    if problems := store.fill(dataset):
        raise ValueError(problems[0].message)
    tracks = [*fold.train, *fold.validation]
    ensemble, calibration, _ = train_ensemble(
        dataset,
        calibration_folds(dataset, tracks, networks=config.networks, seed=seed),
        store,
        config,
        work,
        training=replace(DEFAULT_TRAINING, seed=seed, device="cpu"),
        resume=True,
    )
    classifier = Classifier(ensemble, calibration, device="cpu")
    rows = [classifier.predict_spectrogram(store.load(dataset.tracks[i])) for i in fold.test]
    parameters = sum(p.numel() for p in ensemble.parameters())
    return Result(np.stack(rows), parameters, calibration.threshold)


VARIANTS: dict[str, dict[str, Any]] = {
    "capsules": {},
    "capsules-members": {"texture_networks": 0},
    "cnn": {"networks": 3, "routing": "none", "texture_capsules": 0, "texture_networks": 0},
    "capsules-texture": {"networks": 3, "position_types": 0, "texture_networks": 0},
    "cnn-texture": {"routing": "none"},
    "capsules-place": {"texture_capsules": 0, "texture_networks": 0},
    "capsules-uniform": {"routing": "uniform"},
}
"""Networks by name: what differs from the classifier that is shipped."""

NETWORKS: dict[str, Model] = {
    name: partial(test_network, variant) for name, variant in VARIANTS.items()
}
MODELS: dict[str, Model] = {
    **{name: partial(test_features, name) for name in FEATURE_MODELS},
    **NETWORKS,
}


def fold_mark(dataset: FolderDataset, fold: Fold) -> str:
    """Names a fold by its content: results of other data or other folds are not mixed up."""
    content = [dataset_digest(dataset), fold.train, fold.validation, fold.test]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def run_job(name: str, dataset: FolderDataset, fold: Fold, seed: int, work: Path) -> dict[str, Any]:
    """Train one model on one fold and hear its test tracks."""
    work.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    heard = MODELS[name](dataset, fold, seed, work)
    seconds = time.perf_counter() - began
    if heard.probabilities.shape != (len(fold.test), len(dataset.genres)):
        raise ValueError(f"{name} gave {heard.probabilities.shape}, not (tracks, genres)")
    tested = [dataset.tracks[place] for place in fold.test]
    truth = [track.genre for track in tested]
    said = [dataset.genres[index] for index in heard.probabilities.argmax(axis=1)]
    return {
        "correct": sum(a == b for a, b in zip(truth, said, strict=True)),
        "tracks": len(truth),
        "trained_on": len(fold.train) + len(fold.validation),
        "seconds": round(seconds, 3),
        "parameters": heard.parameters,
        "threshold": heard.threshold,
        "genres": list(dataset.genres),
        "truth": truth,
        "probabilities": {
            track.path: [round(float(value), 6) for value in row]
            for track, row in zip(tested, heard.probabilities, strict=True)
        },
    }


EXPLANATION = """
Accuracy, macro-F1 and recall are per cent of tracks. A seed's folds are scored together; shown is
the mean over {seeds} seeds with their standard deviation. No artist is on two sides of a fold. The
difference is paired by fold, with the 95 % interval and p of the corrected resampled t-test (Nadeau
and Bengio 2003). Networks stop by the validation tracks of a fold and never learn from them; models
of feature columns learn from the training and the validation tracks, as they need none to stop:
{features}. Parameters and seconds are medians over folds; seconds are without the making of the
features.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/emotify"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less one")
    parser.add_argument("--models", default=",".join(MODELS), help="names, comma-separated")
    parser.add_argument("--reference", default="logistic", help="model to compare with")
    parser.add_argument("--work", type=Path, default=Path("runs/genres"), help="results go here")
    arguments = parser.parse_args()
    names = arguments.models.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")

    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.work / "results.jsonl"
    results = read_results(path)
    dataset = scan_folder(arguments.data)
    wanted = {}
    for seed in range(arguments.seeds):
        for number, fold in enumerate(make_folds(dataset, folds=arguments.folds, seed=seed)):
            mark = fold_mark(dataset, fold)
            for name in names:
                wanted[name, seed, number, mark] = fold
    done = {(r["model"], r["seed"], r["fold"], r["fold_mark"]): r for r in results}
    missing = [key for key in wanted if key not in done]
    for count, key in enumerate(missing, start=1):
        name, seed, number, mark = key
        work = arguments.work / f"{name}-{seed}-{number}"
        result = run_job(name, dataset, wanted[key], seed, work)
        done[key] = {"model": name, "seed": seed, "fold": number, "fold_mark": mark, **result}
        append_result(path, done[key])
        print(
            f"{count} of {len(missing)}: {name}, seed {seed}, fold {number}: {result['correct']} "
            f"of {result['tracks']} right, {result['seconds']:.1f} s",
            file=sys.stderr,
        )

    text = markdown_table([done[key] for key in wanted], names, arguments.reference)
    text += EXPLANATION.format(seeds=arguments.seeds, features=", ".join(FEATURE_MODELS))
    with write_atomically(arguments.work / "table.md") as file:
        file.write(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
