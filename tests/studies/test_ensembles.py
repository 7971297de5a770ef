"""Hybrids and averages: pooling against plain arithmetic, and missing parts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from made_study import made_fold, made_study
from numpy.typing import NDArray

from deepmusic.errors import CheckpointError, DataError, RequestError, ShapeError
from deepmusic.studies import ensembles
from deepmusic.studies.ensembles import PARTS, combine, fit_ensemble, load_ensemble, study_models
from deepmusic.studies.models import MODELS, StudyModel

NAME = "hybrid-capsules-logistic"
DATA = made_study(each=4)
FOLD = made_fold(DATA)

rows = st.lists(st.floats(1e-5, 1), min_size=3, max_size=3).map(lambda r: np.array(r) / sum(r))
tables = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*[st.lists(rows, min_size=n, max_size=n).map(np.array)] * 2)
)


@settings(deadline=None, max_examples=60)
@given(tables)
def test_a_pool_adds_log_probabilities(both: tuple[NDArray[Any], NDArray[Any]]) -> None:
    capsules, logistic = both
    pooled = combine(NAME, {"logistic": logistic, "capsules": capsules, "other": logistic[:0]})
    for row in range(len(capsules)):
        roots = [float(np.sqrt(a * b)) for a, b in zip(capsules[row], logistic[row], strict=True)]
        np.testing.assert_allclose(pooled[row], np.array(roots) / sum(roots), rtol=1e-9)
    np.testing.assert_allclose(pooled.sum(axis=1), 1, atol=1e-12)
    swapped = combine(NAME, {"logistic": capsules, "capsules": logistic})
    np.testing.assert_allclose(pooled, swapped, rtol=1e-9)
    alone = combine(NAME, {"logistic": capsules, "capsules": capsules})
    np.testing.assert_allclose(alone, capsules, rtol=1e-9)


def test_no_part_alone_rules_a_genre_out() -> None:
    against, for_it = np.array([[0.0, 0.5, 0.5]]), np.array([[0.9, 0.05, 0.05]])
    pooled = combine(NAME, {"capsules": against, "logistic": for_it})
    assert 1e-3 < pooled[0, 0] < 1e-2
    both = combine(NAME, {"capsules": np.array([[1.0, 0, 0]]), "logistic": against})
    assert np.isfinite(both).all()


def test_bad_parts_are_one_sentence() -> None:
    table = np.full((2, 3), 1 / 3)
    with pytest.raises(RequestError, match="no hybrid or average 'hybrid-x'; there are hybrid-"):
        combine("hybrid-x", {})
    with pytest.raises(DataError, match="lacks the probabilities of logistic"):
        combine(NAME, {"capsules": table})
    with pytest.raises(ShapeError, match="one shape"):
        combine(NAME, {"capsules": table, "logistic": table[:1]})


def test_parts_are_models_of_the_study_and_not_ensembles() -> None:
    for model in study_models():
        assert MODELS[model.name] is not None
        assert model.summary.endswith(".")
        kinds = {MODELS[part].kind for part in PARTS[model.name]}
        assert kinds <= {"features", "textures", "segments"}
        # one that learns from both is a hybrid
        assert (model.kind == "hybrid") == (len(kinds) > 1), model.name
        assert len(set(PARTS[model.name])) == len(PARTS[model.name]) >= 2


@dataclass(frozen=True)
class Fixed:
    """A trained model with one prediction for every track."""

    row: tuple[float, ...]

    parameters = 7

    def predict_proba(self, data: Any, indices: Any) -> NDArray[Any]:
        return np.tile(self.row, (len(indices), 1))

    def save(self, folder: Path) -> None:
        (folder / "model.json").write_text(json.dumps(self.row))


def test_fitted_by_itself_a_pool_trains_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"capsules": (0.9, 0.1), "logistic": (0.2, 0.8)}
    fitted: list[tuple[str, int, Path]] = []

    def model_named(name: str) -> StudyModel:
        def fit(data: Any, fold: Any, seed: int, work: Path) -> Fixed:
            assert work.is_dir()
            fitted.append((name, seed, work))
            return Fixed(rows[name])

        def load(folder: Path) -> Fixed:
            return Fixed(tuple(json.loads((folder / "model.json").read_text())))

        return StudyModel(name, "features", "A test.", fit, load)

    monkeypatch.setattr(ensembles, "model_named", model_named)
    model = fit_ensemble(NAME, DATA, FOLD, 3, tmp_path)
    assert fitted == [(part, 3, tmp_path / part) for part in ("capsules", "logistic")]
    assert model.parameters == 14
    odds = np.sqrt([0.9 * 0.2, 0.1 * 0.8])
    shares = model.predict_proba(DATA, [0, 5, 2])
    np.testing.assert_allclose(shares, np.tile(odds / odds.sum(), (3, 1)), rtol=1e-9)
    model.save(tmp_path / "kept")
    again = load_ensemble(NAME, tmp_path / "kept")
    np.testing.assert_array_equal(again.predict_proba(DATA, [0, 5, 2]), shares)


def test_a_folder_without_the_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model"):
        MODELS["average-features"].load(tmp_path)
