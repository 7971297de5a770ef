"""The feature models: what all of them promise, on tables with holes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from deepmusic.errors import DataError, ShapeError
from deepmusic.features.recipe import recipe_named
from deepmusic.studies.baselines import (
    FEATURE_MODELS,
    TABLE_MODELS,
    TableModel,
    count_parameters,
)
from deepmusic.studies.given_models import given_model
from deepmusic.studies.saved_models import FittedTable

GENRES = np.array(["classical", "pop", "rock"])
LEARNING = [name for name in FEATURE_MODELS if name != "majority"]
NAMES = tuple("abcdef")
# as they are, but for numbers of trees and passes that small data do not need
SMALLER = {
    name: given_model(name, {"n_estimators": 20} if name in ("forest", "adaboost") else {})
    for name in TABLE_MODELS
} | {"boosting": given_model("boosting", {"max_iter": 15})}


def table(rng: np.random.Generator, *, tracks: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Columns of very different scale, of which two tell the genre and one is a constant."""
    genre = rng.integers(len(GENRES), size=tracks)
    columns = rng.normal(size=(tracks, 6))
    columns[:, 0] += 4 * (genre == 1)
    columns[:, 1] += 4 * (genre == 2)
    columns *= [1e-4, 1e-4, 1e4, 1e4, 1.0, 0.0]
    return columns, GENRES[genre]


def labelled(rng: np.random.Generator, *, tracks: int = 90) -> tuple[np.ndarray, np.ndarray]:
    columns, genres = table(rng, tracks=tracks)
    return columns, np.searchsorted(GENRES, genres)


def with_holes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    columns, labels = labelled(rng)
    columns[::7, 2] = np.nan
    columns[::11, 3] = np.inf
    columns[1::11, 3] = -np.inf
    columns[:, 4] = np.nan
    return columns, labels


def fitted(
    model: str | TableModel, columns: np.ndarray, labels: np.ndarray, **options: object
) -> FittedTable:
    chosen = TABLE_MODELS[model] if isinstance(model, str) else model
    return chosen.fit(columns, labels, tuple(GENRES), names=NAMES, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FEATURE_MODELS)
def test_probabilities_of_tracks_with_holes(name: str) -> None:
    columns, genres = table(np.random.default_rng(0))
    columns[::7, 2] = np.nan
    columns[:, 4] = np.nan  # nothing known of a whole column
    probabilities = FEATURE_MODELS[name](0).fit(columns, genres).predict_proba(columns[:10])
    assert probabilities.shape == (10, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", LEARNING)
def test_beyond_four_deviations_a_value_is_as_far_as_any(name: str) -> None:
    columns, genres = table(np.random.default_rng(0))
    model = FEATURE_MODELS[name](0).fit(columns, genres)
    mean, deviation = columns[:, 2].mean(), columns[:, 2].std()
    near, at, far = (columns[:3].copy() for _ in range(3))
    for rows, deviations in ((near, 1.0), (at, 4.0), (far, 1e6)):
        rows[:, 2] = mean + deviations * deviation
    heard = [model.predict_proba(rows) for rows in (near, at, far)]
    np.testing.assert_allclose(heard[2], heard[1], atol=1e-6)
    if name in ("logistic", "svc", "lda"):  # a tree or a neighbour may not mind
        assert np.abs(heard[1] - heard[0]).max() > 1e-4


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


@pytest.fixture(scope="module")
def learned() -> dict[str, FittedTable]:
    """All models, after the same tracks with holes and infinities."""
    columns, labels = with_holes(np.random.default_rng(6))
    return {name: fitted(model, columns, labels, seed=3) for name, model in SMALLER.items()}


@pytest.mark.parametrize("name", TABLE_MODELS)
def test_what_every_table_model_promises(name: str, learned: dict[str, FittedTable]) -> None:
    """Holes, infinities and scales do not hide the genre; hyper-parameters were searched."""
    columns, truth = with_holes(np.random.default_rng(7))
    model = learned[name]
    heard = model.probabilities(columns)
    assert heard.shape == (90, 3)
    np.testing.assert_allclose(heard.sum(axis=1), 1.0, atol=1e-9)
    if name != "majority":
        assert np.mean(heard.argmax(axis=1) == truth) > 0.75
    assert model.parameters > 0
    assert set(model.settings) == set(TABLE_MODELS[name].grid)
    assert 1 <= len(model.searched) <= 4
    best = min(model.searched, key=lambda record: record["log_loss"])
    assert dict(model.settings) == best["setting"]
    assert model.validation["tracks"] == 90
    assert model.notes == ()


@pytest.mark.parametrize("name", TABLE_MODELS)
def test_a_seed_is_one_table_model(name: str) -> None:
    columns, labels = with_holes(np.random.default_rng(8))
    quick = replace(SMALLER[name], grid={})
    # one group a genre leaves nothing to search
    groups = labels if quick.has_probabilities else None
    first, second = (
        fitted(quick, columns, labels, groups=groups, seed=4).probabilities(columns)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_parameters_of_all_kinds_are_counted_by_hand(learned: dict[str, FittedTable]) -> None:
    found = learned
    assert found["majority"].parameters == 3
    for name in ("logistic", "lda", "svc-linear"):
        assert found[name].parameters == 3 * (6 + 1)
    assert found["knn"].parameters == 90 * 6
    assert found["naive-bayes"].parameters == 3 * (6 + 6 + 1)
    assert found["mlp"].parameters == 64 * (6 + 1) + 3 * (64 + 1)
    # six components of six columns with their mean; three means, axes, widths, and shares
    assert found["qda"].parameters == 6 * 6 + 6 + 3 * (6 + 36 + 6 + 1)
    tree = found["tree"].pipeline["classify"]
    assert found["tree"].parameters == tree.tree_.node_count > 3
    forest = found["forest"].pipeline["classify"]
    assert found["forest"].parameters == sum(t.tree_.node_count for t in forest.estimators_)
    small = found["adaboost"].pipeline["classify"]
    assert found["adaboost"].parameters == sum(t.tree_.node_count for t in small.estimators_)


def test_a_genre_without_training_tracks_is_never_said() -> None:
    columns, labels = labelled(np.random.default_rng(9))
    there = labels != 1
    model = fitted("logistic", columns[there], labels[there])
    heard = model.probabilities(columns)
    assert (heard[:, 1] == 0).all()
    np.testing.assert_allclose(heard.sum(axis=1), 1.0)
    assert any("No track of pop" in note for note in model.notes)


def test_one_artist_in_a_genre_leaves_the_default_setting() -> None:
    columns, labels = labelled(np.random.default_rng(10))
    groups = np.where(labels == 2, 999, np.arange(len(labels)))
    model = fitted("logistic", columns, labels, groups=groups)
    assert dict(model.settings) == {}
    assert model.calibration.tracks == 0
    (note,) = model.notes
    assert "'rock'" in note
    assert "1 artist" in note
    with pytest.raises(DataError, match=r"'rock' has .* by 1 artist .* no probabilities"):
        fitted("svc-rbf", columns, labels, groups=groups)


def test_two_tracks_in_a_genre_are_learned_from_all_the_same() -> None:
    columns, labels = labelled(np.random.default_rng(11))
    few = np.concatenate([np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:2]])
    for name in ("logistic", "knn", "boosting", "svc-linear"):
        heard = fitted(name, columns[few], labels[few]).probabilities(columns)
        np.testing.assert_allclose(heard.sum(axis=1), 1.0, atol=1e-9)


def test_what_the_estimator_refuses_is_one_sentence() -> None:
    columns, labels = labelled(np.random.default_rng(12))
    single = np.concatenate([np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:1]])
    with pytest.raises(DataError, match=r"qda cannot learn from these .* tracks: "):
        fitted("qda", columns[single], labels[single])
    with pytest.raises(DataError, match="all of one genre"):
        fitted("logistic", columns[labels == 1], labels[labels == 1])
    with pytest.raises(ShapeError, match=r"\(tracks, 6\)"):
        fitted("logistic", columns[:, :5], labels)
    with pytest.raises(ShapeError, match="as many labels"):
        fitted("logistic", columns, labels[:-1])


def test_scores_without_probabilities_are_calibrated_on_whole_groups() -> None:
    columns, labels = labelled(np.random.default_rng(13))
    model = fitted(
        TableModel("ridge", "Ridge.", RidgeClassifier()),
        columns,
        labels,
        recipe=recipe_named("fma"),
    )
    heard = model.probabilities(columns)
    assert np.mean(heard.argmax(axis=1) == labels) > 0.9
    assert 0.5 < heard.max(axis=1).mean() <= 1
    assert model.parameters == 3 * (6 + 1)
