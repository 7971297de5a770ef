"""Intervals of differences: against known tests, and by what they promise in the long run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deepmusic.studies.significance import (
    bootstrap_difference,
    paired_difference,
    resampled_difference,
)


def test_the_interval_of_the_t_test_lies_about_the_mean() -> None:
    rng = np.random.default_rng(1)
    keys = [(seed, fold) for seed in range(3) for fold in range(5)]
    ours = dict(zip(keys, rng.normal(0.7, 0.05, 15), strict=True))
    theirs = dict(zip(keys, rng.normal(0.6, 0.05, 15), strict=True))
    found = resampled_difference(ours, theirs, overlap=0.25)
    mean, half, p = paired_difference(ours, theirs, overlap=0.25)
    assert found == (mean, mean - half, mean + half, p)
    swapped = resampled_difference(theirs, ours, overlap=0.25)
    assert swapped.mean == pytest.approx(-found.mean)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))


def test_the_bootstrap_has_the_width_of_the_normal_interval() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.random(400), rng.random(400)
    found = bootstrap_difference(ours, theirs, range(400))
    error = np.std(ours - theirs) / math.sqrt(400)
    assert found.mean == pytest.approx(np.mean(ours - theirs))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.mean) / error), abs=0.03)


def test_tracks_of_one_artist_count_as_one() -> None:
    """Ten copies of every track tell nothing new: the interval stays as wide."""
    rng = np.random.default_rng(3)
    ours, theirs = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    alone = bootstrap_difference(ours, theirs, range(60))
    copied = bootstrap_difference(
        np.repeat(ours, 10), np.repeat(theirs, 10), np.repeat(np.arange(60), 10).tolist()
    )
    blind = bootstrap_difference(np.repeat(ours, 10), np.repeat(theirs, 10), range(600))
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert blind.high - blind.low < 0.5 * (copied.high - copied.low)


def test_groups_of_unlike_size_keep_the_mean_of_tracks() -> None:
    found = bootstrap_difference([1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1])
    assert found.mean == pytest.approx(0.75)
    assert found.low == 0
    assert found.high == 1


def test_equal_models_do_not_differ_and_clear_ones_do() -> None:
    same = bootstrap_difference([1, 0, 1, 0], [1, 0, 1, 0], range(4))
    assert same == (0, 0, 0, 1)
    clear = bootstrap_difference(np.ones(50), np.zeros(50), range(50))
    assert clear.low == 1
    assert 0 < clear.p < 0.01


def test_what_cannot_be_told_is_nan() -> None:
    assert math.isnan(bootstrap_difference([], [], []).mean)
    one = bootstrap_difference([1.0, 0.0], [0.0, 0.0], [7, 7])
    assert one.mean == 0.5
    assert math.isnan(one.p)
    assert math.isnan(resampled_difference({(0, 0): 1.0}, {(0, 0): 0.5}, overlap=0.2).low)


def test_a_true_null_is_rejected_about_as_often_as_said() -> None:
    """Of many pairs of equal models, some one in twenty falls below 0.05."""
    rng = np.random.default_rng(4)
    below = 0
    for trial in range(150):
        groups = np.arange(120) // 3
        ease = rng.random(40)[groups]  # an artist is easy or hard for both
        ours, theirs = rng.random((2, 120)) < ease
        below += bootstrap_difference(ours, theirs, groups.tolist(), draws=400, seed=trial).p < 0.05
    assert 2 <= below <= 18
