"""Models compared over the same folds of several seeds: their figures, and one table of all.

A *result* is what one model made of one fold: a dictionary of ``model``, ``seed``, ``fold``,
``tracks`` and ``correct`` (numbers of test tracks), ``trained_on`` (number of tracks learned from),
``seconds``, ``parameters``, ``genres``, ``truth`` (a genre a track) and ``probabilities`` (path ->
one number a genre), in the order of ``truth``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import f1_score, recall_score

__all__ = ["Score", "markdown_table", "paired_difference", "score"]

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


def score(results: Sequence[Result]) -> Score:
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
    ours: Mapping[tuple[int, int], float],
    theirs: Mapping[tuple[int, int], float],
    *,
    overlap: float,
) -> tuple[float, float, float]:
    """Mean difference over the same folds, half width of its 95 % interval, and p.

    The corrected resampled t-test of Nadeau and Bengio (2003): folds of several seeds share
    tracks, so the variance of the mean is (1/n + test/train) times that of one difference.

    Args:
        ours: accuracy by (seed, fold); only folds that both models have are compared.
        theirs: likewise, of the model to compare with.
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
