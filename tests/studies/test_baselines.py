"""The feature models: what all of them promise, on tables with holes."""

from __future__ import annotations

import numpy as np
import pytest

from deepmusic.studies.baselines import FEATURE_MODELS, count_parameters

GENRES = np.array(["classical", "pop", "rock"])
LEARNING = [name for name in FEATURE_MODELS if name != "majority"]


def table(rng: np.random.Generator, *, tracks: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Columns of very different scale, of which two tell the genre and one is a constant."""
    genre = rng.integers(len(GENRES), size=tracks)
    columns = rng.normal(size=(tracks, 6))
    columns[:, 0] += 4 * (genre == 1)
    columns[:, 1] += 4 * (genre == 2)
    columns *= [1e-4, 1e-4, 1e4, 1e4, 1.0, 0.0]
    return columns, GENRES[genre]


@pytest.mark.parametrize("name", FEATURE_MODELS)
def test_probabilities_of_tracks_with_holes(name: str) -> None:
    columns, genres = table(np.random.default_rng(0))
    columns[::7, 2] = np.nan
    columns[:, 4] = np.nan  # nothing known of a whole column
    probabilities = FEATURE_MODELS[name](0).fit(columns, genres).predict_proba(columns[:10])
    assert probabilities.shape == (10, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", LEARNING)
def test_scale_of_a_column_does_not_hide_it(name: str) -> None:
    rng = np.random.default_rng(1)
    model = FEATURE_MODELS[name](0).fit(*table(rng))
    columns, genres = table(rng)
    assert np.mean(model.predict(columns) == genres) > 0.75


@pytest.mark.parametrize("name", FEATURE_MODELS)
def test_a_seed_is_one_model(name: str) -> None:
    columns, genres = table(np.random.default_rng(2))
    first, second = (FEATURE_MODELS[name](3).fit(columns, genres) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(columns), second.predict_proba(columns))


def test_the_majority_is_what_most_tracks_are() -> None:
    columns = np.zeros((5, 2))
    model = FEATURE_MODELS["majority"](0).fit(columns, ["pop", "pop", "rock", "pop", "rock"])
    assert model.predict(columns).tolist() == ["pop"] * 5


def test_likeliest_genre_of_the_svc_is_nearly_always_its_vote() -> None:
    rng = np.random.default_rng(3)
    model = FEATURE_MODELS["svc"](0).fit(*table(rng))
    columns, _ = table(rng)
    inner = model["classify"].calibrated_classifiers_[0].estimator
    assert np.mean(inner.predict(model[:-1].transform(columns)) == model.predict(columns)) > 0.9


def test_parameters_of_a_linear_model_are_counted_by_hand() -> None:
    columns, genres = table(np.random.default_rng(4))
    for name in ("logistic", "lda"):
        assert count_parameters(FEATURE_MODELS[name](0).fit(columns, genres)) == 3 * (6 + 1)
    assert count_parameters(FEATURE_MODELS["knn"](0).fit(columns, genres)) == 90 * 6
    assert count_parameters(FEATURE_MODELS["majority"](0).fit(columns, genres)) == 3


@pytest.mark.parametrize("name", ["svc", "boosting", "forest"])
def test_parameters_grow_with_what_there_is_to_learn(name: str) -> None:
    columns, genres = table(np.random.default_rng(5), tracks=200)
    few = count_parameters(FEATURE_MODELS[name](0).fit(columns[:60], genres[:60]))
    assert 0 < few < count_parameters(FEATURE_MODELS[name](0).fit(columns, genres))
