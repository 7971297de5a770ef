"""Models compared over the same folds of several seeds: their figures, and one table of all.

A *result* is what one model made of one fold: a dictionary of ``model``, ``seed``, ``fold``,
``tracks`` and ``correct`` (numbers of test tracks), ``trained_on`` (number of tracks learned from),
``seconds``, ``parameters``, ``genres``, ``truth`` (a genre a track) and ``probabilities`` (path ->
one number a genre), in the order of ``truth``. Where they were measured, ``seconds_per_track`` and
``peak_memory_bytes`` stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score

from deepmusic.classifier.calibration import calibration_error
from deepmusic.studies.significance import paired_difference

Result = Mapping[str, Any]


class Score(NamedTuple):
    """One model over all its folds and seeds."""

    accuracy: list[float]  # one a seed, pooled over its folds
    macro_f1: list[float]
    recall: NDArray[np.floating]  # (genres,), mean over seeds
    merged: float | None  # accuracy where pop and rock count as one genre
    parameters: float
    seconds: float  # a fold
    folds: dict[tuple[int, int], float]  # (seed, fold) -> accuracy
    calibration: float  # expected calibration error, mean over seeds
    confusion: NDArray[np.int64]  # (genres, genres), rows are the truth, tracks of all seeds
    seconds_per_track: float | None  # of the prediction, median over folds
    peak_memory_bytes: float | None  # of the process, the greatest of all folds


def heard(results: Sequence[Result]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities ``(tracks, genres)`` and labels ``(tracks,)`` of some results together."""
    genres = results[0]["genres"]
    rows = [row for result in results for row in result["probabilities"].values()]
    labels = [genres.index(genre) for result in results for genre in result["truth"]]
    return np.array(rows, np.float64), np.array(labels, np.int64)


def score(results: Sequence[Result]) -> Score:
    """The figures of one model from its results."""
    genres = results[0]["genres"]
    accuracy, macro_f1, recall, merged, calibration = [], [], [], [], []
    confusion = np.zeros((len(genres), len(genres)), np.int64)
    for seed in sorted({result["seed"] for result in results}):
        ours = [result for result in results if result["seed"] == seed]
        rows, labels = heard(ours)
        np.add.at(confusion, (labels, rows.argmax(axis=1)), 1)
        truth, said = np.array(genres)[labels], np.array(genres)[rows.argmax(axis=1)]
        accuracy.append(float(np.mean(truth == said)))
        common = {"labels": genres, "average": None, "zero_division": 0}
        macro_f1.append(float(f1_score(truth, said, **common).mean()))
        recall.append(recall_score(truth, said, **common))
        calibration.append(calibration_error(rows, labels))
        if {"pop", "rock"} <= set(genres):
            both = np.isin(truth, ["pop", "rock"]) & np.isin(said, ["pop", "rock"])
            merged.append(float(np.mean(both | (truth == said))))
    speeds = [s for r in results if (s := r.get("seconds_per_track")) is not None]
    peaks = [b for r in results if (b := r.get("peak_memory_bytes")) is not None]
    return Score(
        accuracy=accuracy,
        macro_f1=macro_f1,
        recall=np.mean(recall, axis=0),
        merged=float(np.mean(merged)) if merged else None,
        parameters=float(np.median([result["parameters"] for result in results])),
        seconds=float(np.median([result["seconds"] for result in results])),
        folds={(r["seed"], r["fold"]): r["correct"] / r["tracks"] for r in results},
        calibration=float(np.mean(calibration)),
        confusion=confusion,
        seconds_per_track=float(np.median(speeds)) if speeds else None,
        peak_memory_bytes=float(np.max(peaks)) if peaks else None,
    )


def markdown_table(results: Sequence[Result], names: Sequence[str], reference: str) -> str:
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
        spread = f" ± {100 * np.std(found.accuracy, ddof=1):.1f}" if len(found.accuracy) > 1 else ""
        row = [
            name,
            f"{100 * np.mean(found.accuracy):.1f}{spread}",
            f"{100 * np.mean(found.macro_f1):.1f}",
            *(f"{100 * value:.0f}" for value in found.recall),
            *([] if found.merged is None else [f"{100 * found.merged:.1f}"]),
        ]
        if reference in scores and name != reference:
            mean, half, p = paired_difference(found.folds, scores[reference].folds, overlap=overlap)
            row += [f"{100 * mean:+.1f} ± {100 * half:.1f}", "< 0.01" if p < 0.01 else f"{p:.2f}"]
        else:
            row += ["", ""]
        row += [f"{found.parameters:,.0f}", f"{found.seconds:.1f}", str(len(by_model[name]))]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"
