"""Inner folds keep groups together; a search finds what there is to find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from deepmusic.studies.nested_search import (
    inner_folds,
    log_scores,
    search,
    settings_of,
    some_groups,
)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), min_size=3, max_size=60),
    st.integers(0, 5),
)
def test_inner_folds_keep_groups_together_and_teach_every_genre(
    tracks: list[tuple[int, int]], seed: int
) -> None:
    labels = np.array([genre for genre, _ in tracks])
    groups = np.array([100 * genre + group for genre, group in tracks])  # artists of one genre
    folds = inner_folds(labels, groups, seed=seed)
    fewest = min(len(np.unique(groups[labels == genre])) for genre in np.unique(labels))
    assert len(folds) <= min(3, fewest)
    assert len(folds) != 1
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert set(labels[train]) == set(labels)
        assert sorted([*train, *test]) == list(range(len(labels)))
    if folds:
        judged = np.sort(np.concatenate([test for _, test in folds]))
        np.testing.assert_array_equal(judged, np.arange(len(labels)))


def test_one_group_in_a_genre_makes_no_inner_folds() -> None:
    assert inner_folds(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2])) == []
    assert len(inner_folds(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]))) == 2


@given(st.lists(st.integers(0, 20), min_size=1, max_size=200), st.integers(1, 100))
def test_groups_are_drawn_whole(names: list[int], most: int) -> None:
    groups = np.array(names)
    rows = some_groups(groups, most, seed=1)
    assert set(groups[rows]).isdisjoint(np.delete(groups, rows))
    largest = np.unique(groups, return_counts=True)[1].max()
    assert min(most, len(groups)) <= len(rows) <= max(most, 1) + largest
    assert (np.diff(rows) > 0).all()


def test_a_search_takes_the_likeliest_setting_and_the_first_of_equals() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=60)

    def predict(setting: Mapping[str, Any], train: Any, test: Any) -> Any:
        right = np.where(labels[test] == 1, 0.9, 0.1)
        noisy = np.where(rng.random(len(test)) < setting["noise"], 0.5, right)
        return np.stack([1 - noisy, noisy], axis=1)

    folds = inner_folds(labels, np.arange(60))
    settings = settings_of({"noise": (0.9, 0.0, 0.5), "same": (1, 2)})
    assert [tuple(s.values()) for s in settings][:3] == [(0.9, 1), (0.9, 2), (0.0, 1)]
    found = search(settings, predict, labels, folds)
    assert dict(found.setting) == {"noise": 0.0, "same": 1}
    assert [record["setting"] for record in found.figures] == settings
    assert found.calibration.tracks == 60
    np.testing.assert_array_equal(found.heard.argmax(axis=1), found.truth)
    with pytest.raises(ValueError, match="a setting"):
        search([], predict, labels, folds)


def test_certainty_has_a_finite_logarithm_and_keeps_its_order() -> None:
    scores = log_scores(np.array([[0.0, 0.2, 0.8], [1.0, 0.0, 0.0]]))
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(np.argsort(scores[0]), [0, 1, 2])
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1.0)
