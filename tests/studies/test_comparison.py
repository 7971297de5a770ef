"""The figures of the comparison, against sums done by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from deepmusic.studies.comparison import markdown_table, paired_difference, score

GENRES = ["classical", "pop", "rock"]


def result(model: str, seed: int, fold: int, truth: str, said: str) -> dict[str, Any]:
    """A result on tracks given by the first letters of their genres."""
    index = {genre[0]: place for place, genre in enumerate(GENRES)}
    rows = {str(i): np.eye(3)[index[letter]].tolist() for i, letter in enumerate(said)}
    return {
        "model": model,
        "seed": seed,
        "fold": fold,
        "correct": sum(a == b for a, b in zip(truth, said, strict=True)),
        "tracks": len(truth),
        "trained_on": 4 * len(truth),
        "seconds": 2.0,
        "parameters": 1234,
        "genres": GENRES,
        "truth": [GENRES[index[letter]] for letter in truth],
        "probabilities": rows,
    }


def test_the_folds_of_a_seed_are_scored_together() -> None:
    found = score(
        [
            result("a", 0, 0, "ccpr", "ccpr"),
            result("a", 0, 1, "pr", "rc"),
            result("a", 1, 0, "ccpr", "cccc"),
            result("a", 1, 1, "pr", "pr"),
        ]
    )
    assert found.accuracy == pytest.approx([4 / 6, 4 / 6])
    assert found.recall == pytest.approx([1.0, 0.5, 0.5])
    # in seed 0 one pop is called rock: right, once the two are one
    assert found.merged == pytest.approx((5 / 6 + 4 / 6) / 2)
    # seed 0: classical 2 right, 1 wrongly claimed; pop 1 right, 1 missed; rock both
    assert found.macro_f1[0] == pytest.approx((4 / 5 + 2 / 3 + 2 / 4) / 3)
    assert found.folds == {(0, 0): 1.0, (0, 1): 0.0, (1, 0): 0.5, (1, 1): 1.0}


def test_without_overlap_the_test_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.6, 0.05, 25), rng.normal(0.58, 0.05, 25)
    keys = [(seed, fold) for seed in range(5) for fold in range(5)]
    mean, half, p = paired_difference(
        dict(zip(keys, ours, strict=True)), dict(zip(keys, theirs, strict=True)), overlap=0.0
    )
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval()
    assert mean == pytest.approx(np.mean(ours - theirs))
    assert p == pytest.approx(expected.pvalue)
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))


def test_shared_tracks_widen_the_interval_as_the_paper_says() -> None:
    keys = [(0, fold) for fold in range(10)]
    ours = {key: 0.6 + 0.01 * (key[1] % 3) for key in keys}
    theirs = dict.fromkeys(keys, 0.58)
    _, plain, _ = paired_difference(ours, theirs, overlap=0.0)
    _, corrected, _ = paired_difference(ours, theirs, overlap=0.25)
    assert corrected / plain == pytest.approx(math.sqrt((1 / 10 + 0.25) / (1 / 10)))


def test_only_folds_that_both_have_are_compared() -> None:
    mean, half, p = paired_difference({(0, 0): 0.5, (0, 1): 1.0}, {(0, 0): 0.25}, overlap=0.25)
    assert mean == 0.25
    assert math.isnan(half)
    assert math.isnan(p)


def test_a_model_equal_to_the_reference_does_not_differ() -> None:
    folds = {(0, fold): 0.5 for fold in range(5)}
    assert paired_difference(folds, folds, overlap=0.25) == (0.0, 0.0, 1.0)


def test_the_table_names_the_best_first_and_leaves_unrun_models_out() -> None:
    results = [
        result("worse", 0, 0, "ccpr", "cccc"),
        result("worse", 0, 1, "ccpr", "ccrp"),
        result("better", 0, 0, "ccpr", "ccpr"),
        result("better", 0, 1, "ccpr", "ccpp"),
    ]
    lines = markdown_table(results, ["worse", "better", "unrun"], "worse").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| better", "| worse"]
    assert "+37.5" in lines[2]
    assert "1,234" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
