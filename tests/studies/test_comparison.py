"""Scores against sums by hand; intervals against known tests and their long-run properties."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from deepmusic.studies.comparison import bootstrap_difference, paired_difference, score
from deepmusic.studies.report_pages import difference_cells

GENRES = ["classical", "pop", "rock"]


def result(model: str, seed: int, fold: int, truth: str, predicted: str) -> dict[str, Any]:
    """A result on tracks given by the first letters of their genres."""
    index = {genre[0]: number for number, genre in enumerate(GENRES)}
    rows = {str(i): np.eye(3)[index[letter]].tolist() for i, letter in enumerate(predicted)}
    return {
        "model": model,
        "seed": seed,
        "fold": fold,
        "correct": sum(a == b for a, b in zip(truth, predicted, strict=True)),
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
    found = paired_difference(
        dict(zip(keys, ours, strict=True)), dict(zip(keys, theirs, strict=True)), overlap=0.0
    )
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval()
    assert found == pytest.approx(
        (np.mean(ours - theirs), interval.low, interval.high, expected.pvalue)
    )


def test_shared_tracks_widen_the_interval_as_the_paper_says() -> None:
    keys = [(0, fold) for fold in range(10)]
    ours = {key: 0.6 + 0.01 * (key[1] % 3) for key in keys}
    theirs = dict.fromkeys(keys, 0.58)
    plain = paired_difference(ours, theirs, overlap=0.0)
    corrected = paired_difference(ours, theirs, overlap=0.25)
    ratio = (corrected.high - corrected.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(math.sqrt((1 / 10 + 0.25) / (1 / 10)))


@pytest.mark.parametrize("count", [2, 3])
def test_an_interval_of_few_folds_stays_within_what_is_possible(count: int) -> None:
    ours = {(0, fold): (0.2, 0.9, 0.4)[fold] for fold in range(count)}
    theirs = {(0, fold): (0.7, 0.1, 0.3)[fold] for fold in range(count)}
    found = paired_difference(ours, theirs, overlap=0.5)
    if count == 2:  # the quantile of one degree of freedom would give 1200 points
        assert np.isnan(found[1:]).all()
        assert difference_cells(found) == ("+15.0", "too few")
    else:
        assert (found.low, found.high) == (-1, 1)


def test_only_folds_that_both_have_are_compared() -> None:
    found = paired_difference({(0, 0): 0.5, (0, 1): 1.0}, {(0, 0): 0.25}, overlap=0.25)
    assert found.mean == 0.25
    assert np.isnan(found[1:]).all()
    folds = {(0, fold): 0.5 for fold in range(5)}
    assert paired_difference(folds, folds, overlap=0.25) == (0.0, 0.0, 0.0, 1.0)


def test_the_bootstrap_has_the_width_of_the_normal_interval() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.random(400), rng.random(400)
    found = bootstrap_difference(ours, theirs, range(400))
    error = np.std(ours - theirs) / math.sqrt(400)
    assert found.mean == pytest.approx(np.mean(ours - theirs))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.mean) / error), abs=0.03)


def test_tracks_of_one_artist_count_as_one() -> None:
    """Ten copies of every track add nothing: the interval stays as wide."""
    rng = np.random.default_rng(3)
    ours, theirs = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    alone = bootstrap_difference(ours, theirs, range(60))
    copied = bootstrap_difference(
        np.repeat(ours, 10), np.repeat(theirs, 10), np.repeat(np.arange(60), 10).tolist()
    )
    blind = bootstrap_difference(np.repeat(ours, 10), np.repeat(theirs, 10), range(600))
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert blind.high - blind.low < 0.5 * (copied.high - copied.low)


def test_small_cases_of_the_bootstrap() -> None:
    unlike = bootstrap_difference([1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1])  # the mean of tracks
    assert (unlike.mean, unlike.low, unlike.high) == pytest.approx((0.75, 0, 1))
    assert bootstrap_difference([1, 0, 1, 0], [1, 0, 1, 0], range(4)) == (0, 0, 0, 1)
    clear = bootstrap_difference(np.ones(50), np.zeros(50), range(50))
    assert clear.low == 1
    assert 0 < clear.p < 0.01
    one = bootstrap_difference([1.0, 0.0], [0.0, 0.0], [7, 7])
    assert one.mean == 0.5
    assert math.isnan(one.p)
    assert math.isnan(bootstrap_difference([], [], []).mean)


@pytest.mark.slow
def test_a_true_null_is_rejected_at_the_nominal_rate() -> None:
    """Of many pairs of equal models, some one in twenty falls below 0.05."""
    rng = np.random.default_rng(4)
    below = 0
    for trial in range(150):
        groups = np.arange(120) // 3
        ease = rng.random(40)[groups]  # an artist is easy or hard for both
        ours, theirs = rng.random((2, 120)) < ease
        below += bootstrap_difference(ours, theirs, groups.tolist(), draws=400, seed=trial).p < 0.05
    assert 2 <= below <= 18
