"""The registry of the study: names, laziness, and table models on folds."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepmusic.datasets import Fold, FolderDataset, Track
from deepmusic.errors import CheckpointError, DataError, RequestError
from deepmusic.studies.baselines import TABLE_MODELS
from deepmusic.studies.data import StudyData
from deepmusic.studies.models import MODELS, model_named

GENRES = ("clicks", "sines", "voices")


def study(*, tracks: int = 60, artists: int = 12) -> StudyData:
    """Made columns of three genres, by a few artists each."""
    rng = np.random.default_rng(0)
    listed = tuple(
        Track(
            f"{GENRES[i % 3]}/{i:03}.wav",
            GENRES[i % 3],
            f"{i % 3} {i // 3 % artists}",
            None,
            str(i),
        )
        for i in range(tracks)
    )
    listed = tuple(sorted(listed, key=lambda track: track.path))
    dataset = FolderDataset(Path("music"), listed, GENRES)
    genre_means = rng.normal(size=(3, 518))
    columns = (rng.normal(size=(tracks, 518)) + genre_means[list(dataset.labels)]).astype(
        np.float32
    )
    columns[::9, 100] = np.nan
    return StudyData(dataset, columns)


def fold_of(data: StudyData) -> Fold:
    """Every fourth track is tested, every fifth of the others validates."""
    indices = range(len(data.dataset.tracks))
    rest = [i for i in indices if i % 4]
    return Fold(
        tuple(i for i in rest if i % 5), tuple(i for i in rest if not i % 5), tuple(indices[::4])
    )


def test_table_models_come_first_and_in_their_order() -> None:
    names = list(MODELS)
    assert names[: len(TABLE_MODELS)] == list(TABLE_MODELS)
    assert len(names) == len(set(names)) == len(MODELS)
    for name in TABLE_MODELS:
        assert MODELS[name].name == name
        assert MODELS[name].kind == "features"
        assert MODELS[name].summary.endswith(".")


def test_an_unknown_name_is_one_sentence() -> None:
    with pytest.raises(RequestError, match="no model 'perceptron'; there are majority, logistic"):
        model_named("perceptron")
    assert "perceptron" not in MODELS
    assert "logistic" in MODELS


def test_table_models_do_without_pytorch() -> None:
    code = (
        "import sys\n"
        "from deepmusic.studies.models import MODELS, model_named\n"
        "assert model_named('qda').kind == 'features'\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_registry_goes_to_other_processes() -> None:
    again = pickle.loads(pickle.dumps(MODELS))
    assert again["logistic"].summary == MODELS["logistic"].summary
    # what is fitted by, too
    assert pickle.loads(pickle.dumps(MODELS["svc-rbf"])).name == "svc-rbf"


@pytest.mark.parametrize("name", ["majority", "logistic", "svc-rbf", "lda", "qda", "naive-bayes"])
def test_a_table_model_learns_a_fold_and_is_saved(name: str, tmp_path: Path) -> None:
    data = study()
    fold = fold_of(data)
    model = model_named(name)
    fitted = model.fit(data, fold, 1, tmp_path)
    shares = fitted.predict_proba(data, fold.test)
    assert shares.shape == (len(fold.test), 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    if name != "majority":
        assert np.mean(shares.argmax(axis=1) == data.labels[list(fold.test)]) > 0.7
    fitted.save(tmp_path / "kept")
    again = model.load(tmp_path / "kept")
    assert again.parameters == fitted.parameters
    np.testing.assert_array_equal(again.predict_proba(data, fold.test), shares)
    few = fitted.predict_proba(data, fold.test[2:3])
    np.testing.assert_allclose(few[0], shares[2])


@pytest.mark.parametrize("name", ["logistic", "knn", "svc-linear"])
def test_nothing_of_the_test_tracks_is_learned(name: str, tmp_path: Path) -> None:
    data = study()
    fold = fold_of(data)
    assert data.columns is not None
    poisoned = data.columns.copy()
    poisoned[list(fold.test)] = 1e6
    other = StudyData(data.dataset, poisoned)
    model = model_named(name)
    first, second = (model.fit(d, fold, 0, tmp_path) for d in (data, other))
    known = [*fold.train, *fold.validation]
    np.testing.assert_array_equal(
        first.predict_proba(data, known), second.predict_proba(data, known)
    )


def test_data_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    data = study()
    fold = fold_of(data)
    bare = StudyData(data.dataset)
    with pytest.raises(DataError, match="takes feature columns, and the study has none"):
        model_named("logistic").fit(bare, fold, 0, tmp_path)
    fitted = model_named("lda").fit(data, fold, 0, tmp_path)
    with pytest.raises(DataError, match="takes feature columns"):
        fitted.predict_proba(bare, fold.test)
    others = FolderDataset(Path("music"), data.dataset.tracks, ("clicks", "sines", "z"))
    with pytest.raises(DataError, match="distinguishes clicks, sines, voices"):
        fitted.predict_proba(StudyData(others, data.columns), fold.test)
    with pytest.raises(CheckpointError, match="no model of feature columns"):
        model_named("lda").load(tmp_path)
