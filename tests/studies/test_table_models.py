"""Table models: what all of them promise, on tables with missing values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepmusic.errors import DataError, ShapeError
from deepmusic.studies.baselines import TABLE_MODELS
from deepmusic.studies.sklearn_class import table_model
from deepmusic.studies.table_models import TableModel, _TooFewGroupsError, inner_folds
from deepmusic.studies.tabular_io import FittedTable

GENRES = ("classical", "pop", "rock")
NAMES = tuple("abcdef")
# the models as they are, with fewer trees and iterations than small data need
SMALLER = {
    name: table_model(name, {"n_estimators": 10} if name in ("forest", "adaboost") else {})
    for name in TABLE_MODELS
} | {"boosting": table_model("boosting", {"max_iter": 10})}


def table(seed: int, *, tracks: int = 90, missing: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Columns of very different scales: two depend on the genre, one is constant."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=tracks)
    columns = rng.normal(size=(tracks, 6))
    columns[:, 0] += 4 * (labels == 1)
    columns[:, 1] += 4 * (labels == 2)
    columns *= [1e-4, 1e-4, 1e4, 1e4, 1.0, 0.0]
    if missing:
        columns[::7, 2] = np.nan
        columns[::11, 3] = np.inf
        columns[1::11, 3] = -np.inf
        columns[:, 4] = np.nan  # a column without any value
    return columns, labels


def fitted(
    model: str | TableModel, columns: np.ndarray, labels: np.ndarray, **options: object
) -> FittedTable:
    chosen = TABLE_MODELS[model] if isinstance(model, str) else model
    return chosen.fit(columns, labels, GENRES, names=NAMES, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned() -> dict[str, FittedTable]:
    columns, labels = table(6, missing=True)
    return {name: fitted(model, columns, labels, seed=3) for name, model in SMALLER.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE_MODELS)
def test_every_model_learns_despite_missing_values_and_scales(
    name: str, learned: dict[str, FittedTable]
) -> None:
    columns, truth = table(7, missing=True)
    model = learned[name]
    shares = model.probabilities(columns)
    assert shares.shape == (90, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-9)
    if name != "majority":
        assert np.mean(shares.argmax(axis=1) == truth) > 0.75
    assert set(model.settings) == set(TABLE_MODELS[name].grid)
    if model.searched:
        best = min(model.searched, key=lambda record: record["log_loss"])
        assert dict(model.settings) == best["setting"]
    assert model.validation["tracks"] == 90
    assert model.notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE_MODELS)
def test_the_same_seed_gives_the_same_model(name: str) -> None:
    columns, labels = table(8, missing=True)
    quick = replace(SMALLER[name], grid={})
    # one group per genre leaves nothing to search
    groups = labels if quick.has_probabilities else None
    first, second = (
        fitted(quick, columns, labels, groups=groups, seed=4).probabilities(columns)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic", "svc-rbf", "knn"])
def test_values_are_clipped_at_four_deviations(name: str) -> None:
    columns, labels = table(0)
    model = fitted(SMALLER[name], columns, labels)
    mean, deviation = columns[:, 2].mean(), columns[:, 2].std()
    near, edge, far = (columns[:3].copy() for _ in range(3))
    for rows, deviations in ((near, 1.0), (edge, 4.0), (far, 1e6)):
        rows[:, 2] = mean + deviations * deviation
    shares = [model.probabilities(rows) for rows in (near, edge, far)]
    np.testing.assert_allclose(shares[2], shares[1], atol=1e-6)
    if name != "knn":  # whose neighbours may stay the same
        assert np.abs(shares[1] - shares[0]).max() > 1e-5


@pytest.mark.slow
def test_parameters_are_counted(learned: dict[str, FittedTable]) -> None:
    assert learned["majority"].parameters == 3
    for name in ("logistic", "lda", "svc-linear"):
        assert learned[name].parameters == 3 * (6 + 1)
    assert learned["knn"].parameters == 90 * 6
    assert learned["naive-bayes"].parameters == 3 * (6 + 6 + 1)
    assert learned["mlp"].parameters == 64 * (6 + 1) + 3 * (64 + 1)
    # six components of six columns with their mean; three means, axes, widths, and shares
    assert learned["qda"].parameters == 6 * 6 + 6 + 3 * (6 + 36 + 6 + 1)
    tree = learned["tree"].estimator["classify"]
    assert learned["tree"].parameters == tree.tree_.node_count > 3
    for name in ("forest", "adaboost"):
        trees = learned[name].estimator["classify"].estimators_
        assert learned[name].parameters == sum(t.tree_.node_count for t in trees)
    assert learned["boosting"].parameters > 10 * 3
    assert learned["svc-rbf"].parameters > 90


def test_a_genre_without_training_tracks_is_never_predicted() -> None:
    columns, labels = table(9)
    rows = labels != 1
    model = fitted("logistic", columns[rows], labels[rows])
    shares = model.probabilities(columns)
    assert (shares[:, 1] == 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert any("of the genre pop" in note for note in model.notes)


def test_one_artist_in_a_genre_leaves_the_default_setting() -> None:
    columns, labels = table(10)
    groups = np.where(labels == 2, 999, np.arange(len(labels)))
    model = fitted("logistic", columns, labels, groups=groups)
    assert (dict(model.settings), model.calibration.tracks) == ({}, 0)
    (note,) = model.notes
    assert "'rock'" in note
    assert "in 1 group of" in note
    with pytest.raises(DataError, match=r"'rock' has .* in 1 group .* needs inner folds"):
        fitted("svc-rbf", columns, labels, groups=groups)


def test_the_search_draws_whole_groups_of_many_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepmusic.studies.table_models.SEARCH_TRACKS", 60)
    columns, labels = table(14, tracks=120)
    model = fitted("logistic", columns, labels, groups=np.arange(120) // 2)
    assert model.validation["tracks"] == 60
    rare = np.where(np.arange(120) < 2, 2, labels % 2)  # a genre that the draw may leave out
    for seed in range(3):
        fitted("logistic", columns, rare, groups=np.arange(120) // 2, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic", "knn", "boosting", "svc-linear", "qda"])
def test_three_tracks_in_a_genre_are_enough(name: str) -> None:
    columns, labels = table(11)
    few = np.concatenate([np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:3]])
    shares = fitted(SMALLER[name], columns[few], labels[few]).probabilities(columns)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-9)


def test_bad_input_is_one_sentence() -> None:
    columns, labels = table(12)
    single = np.concatenate([np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:1]])
    for model, rows, message in (
        ("qda", single, r"qda cannot learn from these .* tracks: "),
        ("logistic", labels == 1, "all are of one genre"),
    ):
        with pytest.raises(DataError, match=message):
            fitted(model, columns[rows], labels[rows])
    with pytest.raises(ShapeError, match=r"\(tracks, 6\)"):
        fitted("logistic", columns[:, :5], labels)
    with pytest.raises(ShapeError, match="as many labels"):
        fitted("logistic", columns, labels[:-1])


def test_inner_folds_keep_groups_together_and_have_every_genre() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        groups = rng.integers(12, size=60)
        labels = (groups + rng.integers(2, size=60)) % 3
        folds = inner_folds(labels, groups, seed=seed)
        assert sorted(row for _, test in folds for row in test) == list(range(60))
        for train, test in folds:
            assert not set(groups[train]) & set(groups[test])
            assert len(np.unique(labels[train])) == len(np.unique(labels))
    with pytest.raises(_TooFewGroupsError):
        inner_folds(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))


def test_the_search_finds_the_setting_that_generalizes_to_other_artists() -> None:
    """Columns that name the artist mislead nearest neighbours, unless artists are kept apart."""
    rng = np.random.default_rng(1)
    artist = np.repeat(np.arange(30), 4)
    labels = artist % 3
    columns = rng.normal(size=(120, 6))
    columns[:, :3] += 1.5 * np.eye(3)[labels]
    columns[:, 3:] += 6 * rng.normal(size=(30, 3))[artist]
    tree = replace(TABLE_MODELS["knn"], grid={"classify__n_neighbors": (1, 30)})
    apart = fitted(tree, columns, labels, groups=artist)
    leaking = fitted(tree, columns, labels)
    assert apart.settings == {"classify__n_neighbors": 30}
    assert leaking.validation["accuracy"] > apart.validation["accuracy"]
