"""The registry of the study: names, laziness, and models of columns on folds."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_study import made_fold, made_study

from deepmusic.classifier.model import texture
from deepmusic.datasets import Fold, FolderDataset, Track
from deepmusic.errors import CheckpointError, DataError, RequestError
from deepmusic.studies.baselines import TABLE_MODELS
from deepmusic.studies.data import StudyData
from deepmusic.studies.models import MODELS, TABLE_KINDS, model_named
from deepmusic.studies.tabular_io import track_textures

GENRES = ("clicks", "sines", "voices")


def study(*, tracks: int = 60, artists: int = 12) -> StudyData:
    """Made columns of three genres, by a few artists each."""
    rng = np.random.default_rng(0)
    listed = [
        Track(f"{GENRES[i % 3]}/{i:03}.wav", GENRES[i % 3], f"{i % 3} {i // 3 % artists}", None,
              str(i))
        for i in range(tracks)
    ]  # fmt: skip
    listed.sort(key=lambda track: track.path)
    dataset = FolderDataset(Path("music"), tuple(listed), GENRES)
    genre_means = rng.normal(size=(3, 518))
    columns = rng.normal(size=(tracks, 518)) + genre_means[list(dataset.labels)]
    columns[::9, 100] = np.nan
    return StudyData(dataset, columns.astype(np.float32))


def fold_of(data: StudyData) -> Fold:
    """Every fourth track is tested, every fifth of the others validates."""
    indices = range(len(data.dataset.tracks))
    rest = [i for i in indices if i % 4]
    return Fold(
        tuple(i for i in rest if i % 5), tuple(i for i in rest if not i % 5), tuple(indices[::4])
    )


COLUMNS, SOUNDS = study(), made_study()
FOLD, SOUND_FOLD = fold_of(COLUMNS), made_fold(SOUNDS)


def test_the_registry_lists_table_models_first_and_goes_to_other_processes() -> None:
    names = list(MODELS)
    assert names[: len(TABLE_MODELS)] == list(TABLE_MODELS)
    assert len(names) == len(set(names)) == len(MODELS)
    for name, model in pickle.loads(pickle.dumps(MODELS)).items():
        assert model.name == name
        assert model.summary.endswith(".")
        assert pickle.loads(pickle.dumps(model)).summary == model.summary
    assert {MODELS[name].kind for name in TABLE_MODELS} == {"features"}
    textures = [name for name, model in MODELS.items() if model.kind == "textures"]
    assert textures == ["textures-logistic", "textures-svc"]
    assert TABLE_KINDS == ("features", "textures")


def test_an_unknown_name_is_one_sentence() -> None:
    with pytest.raises(RequestError, match="no model 'perceptron'; there are majority, logistic"):
        model_named("perceptron")
    assert "perceptron" not in MODELS


@pytest.mark.slow
def test_models_are_listed_without_pytorch() -> None:
    code = (
        "import sys\n"
        "from deepmusic.studies.models import MODELS\n"
        "assert all(model.kind for model in MODELS.values())\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "fold"),
    [
        *((n, COLUMNS, FOLD) for n in ("majority", "logistic", "svc-rbf", "qda")),
        *((n, SOUNDS, SOUND_FOLD) for n in ("textures-logistic", "textures-svc")),
    ],
)
def test_a_model_of_columns_learns_a_fold_and_is_saved(
    name: str, data: StudyData, fold: Fold, tmp_path: Path
) -> None:
    model = model_named(name)
    fitted = model.fit(data, fold, 1, tmp_path)
    shares = fitted.predict_proba(data, fold.test)
    assert shares.shape == (len(fold.test), len(data.genres))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    if name != "majority":
        assert np.mean(shares.argmax(axis=1) == data.labels[list(fold.test)]) > 0.7
    fitted.save(tmp_path / "kept")
    again = model.load(tmp_path / "kept")
    assert again.parameters == fitted.parameters > 0
    np.testing.assert_array_equal(again.predict_proba(data, fold.test), shares)
    np.testing.assert_allclose(fitted.predict_proba(data, fold.test[2:3])[0], shares[2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic", "knn", "svc-linear"])
def test_nothing_of_the_test_tracks_is_learned(name: str, tmp_path: Path) -> None:
    assert COLUMNS.columns is not None
    poisoned = COLUMNS.columns.copy()
    poisoned[list(FOLD.test)] = 1e6
    model, rest = model_named(name), [*FOLD.train, *FOLD.validation]
    first, second = (
        model.fit(data, FOLD, 0, tmp_path).predict_proba(data, rest)
        for data in (COLUMNS, StudyData(COLUMNS.dataset, poisoned))
    )
    np.testing.assert_array_equal(first, second)


def test_textures_of_test_tracks_are_not_computed(tmp_path: Path) -> None:
    asked = []

    def recording(index: int) -> Any:
        asked.append(index)
        assert SOUNDS.spectrograms is not None
        return SOUNDS.spectrograms(index)

    data = StudyData(SOUNDS.dataset, None, recording)
    model_named("textures-logistic").fit(data, SOUND_FOLD, 0, tmp_path)
    assert sorted(asked) == sorted((*SOUND_FOLD.train, *SOUND_FOLD.validation))


def test_textures_are_the_mean_of_a_tracks_segments() -> None:
    long = made_study(each=2, frames=258 + 2 * 129 + 20)
    assert long.spectrograms is not None
    whole = torch.from_numpy(long.spectrograms(1).astype(np.float32))
    # as in classification: every 3 s, and the last one at the end
    cut = [whole[:, start : start + 258] for start in (0, 129, 258, 278)]
    expected = texture(torch.stack(cut)).mean(dim=0).numpy()
    result = track_textures(long, [1, 0])
    assert result.shape == (2, 554)
    np.testing.assert_allclose(result[0], expected, rtol=1e-3, atol=1e-3)
    assert np.abs(result[1] - result[0]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "fold"), [("lda", COLUMNS, FOLD), ("textures-svc", SOUNDS, SOUND_FOLD)]
)
def test_missing_inputs_and_other_genres_are_one_sentence(
    name: str, data: StudyData, fold: Fold, tmp_path: Path
) -> None:
    bare, model = StudyData(data.dataset), model_named(name)
    with pytest.raises(DataError, match="and the study has none"):
        model.fit(bare, fold, 0, tmp_path)
    fitted = model.fit(data, fold, 0, tmp_path)
    with pytest.raises(DataError, match="and the study has none"):
        fitted.predict_proba(bare, fold.test)
    others = FolderDataset(Path("music"), data.dataset.tracks, ("polka", *data.genres[1:]))
    with pytest.raises(DataError, match=f"distinguishes {', '.join(data.genres)}.*have polka"):
        fitted.predict_proba(StudyData(others, data.columns, data.spectrograms), fold.test)
    with pytest.raises(CheckpointError, match="no model of feature columns"):
        model.load(tmp_path)
