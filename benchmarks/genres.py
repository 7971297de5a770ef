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
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import f1_score, recall_score

from deepmusic.datasets.folder import FolderDataset, fingerprint, scan_folder
from deepmusic.datasets.splits import Fold, make_folds
from deepmusic.files import write_atomically
from deepmusic.studies.baselines import FEATURE_MODELS, count_parameters
from fma_features import load_table


class Heard(NamedTuple):
    """What a model makes of a fold's test tracks, in their order."""

    probabilities: NDArray[np.floating]  # (tracks, genres), genres as in dataset.genres
    parameters: int


# dataset, fold, seed, an empty folder to work in -> what was heard
Model = Callable[[FolderDataset, Fold, int, Path], Heard]


def hear_features(name: str, dataset: FolderDataset, fold: Fold, seed: int, work: Path) -> Heard:
    """A scikit-learn model on the 518 columns of FMA."""
    by_path = load_table(dataset.root)
    columns = np.stack([by_path[track.path] for track in dataset.tracks])
    known = [*fold.train, *fold.validation]
    model = FEATURE_MODELS[name](seed).fit(columns[known], np.array(dataset.labels)[known])
    return Heard(model.predict_proba(columns[list(fold.test)]), count_parameters(model))


NETWORKS: dict[str, Model] = {}
MODELS: dict[str, Model] = {
    **{name: partial(hear_features, name) for name in FEATURE_MODELS},
    **NETWORKS,
}


def fold_mark(dataset: FolderDataset, fold: Fold) -> str:
    """Names a fold by its content: results of other data or other folds are not mixed up."""
    content = [fingerprint(dataset), fold.train, fold.validation, fold.test]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines of an earlier run; one that a kill cut in half is left out."""
    results = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            results.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: a line cut in half is left out", file=sys.stderr)
    return results


def append_result(path: Path, result: dict[str, Any]) -> None:
    """Add a line, on a line of its own even if the last one was cut in half."""
    cut = path.is_file() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + json.dumps(result) + "\n")


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
        "genres": list(dataset.genres),
        "truth": truth,
        "probabilities": {
            track.path: [round(float(value), 6) for value in row]
            for track, row in zip(tested, heard.probabilities, strict=True)
        },
    }


class Score(NamedTuple):
    """One model over all its folds and seeds."""

    accuracy: list[float]  # one a seed, pooled over its folds
    macro_f1: list[float]
    recall: NDArray[np.floating]  # (genres,), mean over seeds
    merged: float | None  # accuracy where pop and rock count as one genre
    parameters: float
    seconds: float  # a fold
    folds: dict[tuple[int, int], float]  # (seed, fold) -> accuracy


def score(results: Sequence[dict[str, Any]]) -> Score:
    """The figures of one model from its results."""
    genres = results[0]["genres"]
    accuracy, macro_f1, recall, merged = [], [], [], []
    for seed in sorted({result["seed"] for result in results}):
        ours = [result for result in results if result["seed"] == seed]
        truth = np.array([genre for result in ours for genre in result["truth"]])
        rows = [row for result in ours for row in result["probabilities"].values()]
        said = np.array(genres)[np.argmax(rows, axis=1)]
        accuracy.append(float(np.mean(truth == said)))
        common = {"labels": genres, "average": None, "zero_division": 0}
        macro_f1.append(float(f1_score(truth, said, **common).mean()))
        recall.append(recall_score(truth, said, **common))
        if {"pop", "rock"} <= set(genres):
            both = np.isin(truth, ["pop", "rock"]) & np.isin(said, ["pop", "rock"])
            merged.append(float(np.mean(both | (truth == said))))
    return Score(
        accuracy=accuracy,
        macro_f1=macro_f1,
        recall=np.mean(recall, axis=0),
        merged=float(np.mean(merged)) if merged else None,
        parameters=float(np.median([result["parameters"] for result in results])),
        seconds=float(np.median([result["seconds"] for result in results])),
        folds={(r["seed"], r["fold"]): r["correct"] / r["tracks"] for r in results},
    )


def paired_difference(
    ours: dict[tuple[int, int], float], theirs: dict[tuple[int, int], float], *, overlap: float
) -> tuple[float, float, float]:
    """Mean difference over the same folds, half width of its 95 % interval, and p.

    The corrected resampled t-test of Nadeau and Bengio (2003): folds of several seeds share
    tracks, so the variance of the mean is (1/n + test/train) times that of one difference.

    Args:
        ours, theirs: accuracy by (seed, fold); only folds that both have are compared.
        overlap: test tracks over training tracks of a fold.
    """
    shared = sorted(ours.keys() & theirs.keys())
    difference = np.array([ours[key] - theirs[key] for key in shared])
    if len(shared) < 2:
        return float(difference.mean()) if shared else math.nan, math.nan, math.nan
    error = math.sqrt(difference.var(ddof=1) * (1 / len(shared) + overlap))
    if error == 0:
        return float(difference.mean()), 0.0, 1.0 if difference.mean() == 0 else 0.0
    free = len(shared) - 1
    p = 2 * stats.t.sf(abs(difference.mean()) / error, free)
    return float(difference.mean()), float(stats.t.ppf(0.975, free) * error), float(p)


def write_table(results: list[dict[str, Any]], names: Sequence[str], reference: str) -> str:
    """The results as a table in Markdown, the best model first."""
    by_model = {name: [r for r in results if r["model"] == name] for name in names}
    scores = {name: score(found) for name, found in by_model.items() if found}
    genres = results[0]["genres"]
    tests = sum(r["tracks"] for r in results) / len(results)
    overlap = tests / (sum(r["trained_on"] for r in results) / len(results))
    merged = {"pop", "rock"} <= set(genres)
    head = ["model", "accuracy", "macro-F1", *genres, *(["pop+rock merged"] if merged else [])]
    head += [f"difference to {reference}", "p", "parameters", "s a fold", "jobs"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, found in sorted(scores.items(), key=lambda item: -np.mean(item[1].accuracy)):
        spread = np.std(found.accuracy, ddof=1) if len(found.accuracy) > 1 else math.nan
        row = [
            name,
            f"{100 * np.mean(found.accuracy):.1f} ± {100 * spread:.1f}",
            f"{100 * np.mean(found.macro_f1):.1f}",
            *(f"{100 * value:.0f}" for value in found.recall),
            *([] if found.merged is None else [f"{100 * found.merged:.1f}"]),
        ]
        if reference in scores and name != reference:
            mean, half, p = paired_difference(found.folds, scores[reference].folds, overlap=overlap)
            row += [f"{100 * mean:+.1f} ± {100 * half:.1f}", f"{p:.2f}"]
        else:
            row += ["", ""]
        row += [f"{found.parameters:,.0f}", f"{found.seconds:.1f}", str(len(by_model[name]))]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


EXPLANATION = """
Accuracy, macro-F1 and recall are per cent of tracks. A seed's folds are scored together; shown is
the mean over {seeds} seeds with their standard deviation. No artist is on two sides of a fold. The
difference is paired by fold, with the 95 % interval and p of the corrected resampled t-test (Nadeau
and Bengio 2003). Models of feature columns ({features}) train on the training and validation
tracks of a fold, since they need none to stop early; networks stop by the validation tracks.
Parameters and seconds are medians over folds; seconds are without the making of the features.
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

    text = write_table([done[key] for key in wanted], names, arguments.reference)
    text += EXPLANATION.format(seeds=arguments.seeds, features=", ".join(FEATURE_MODELS))
    with write_atomically(arguments.work / "table.md") as file:
        file.write(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
