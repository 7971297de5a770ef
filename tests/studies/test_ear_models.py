"""The study's models over the pretrained ear, fed with made features, and with those of an ear."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "classifier"))
from ear_stand_in import stand_in_ear  # noqa: F401
from made_study import made_fold, made_study
from synthetic import write_folder

from deepmusic.classifier.ear.classifier import ear_output
from deepmusic.classifier.ear.patches import EarOutput
from deepmusic.errors import CheckpointError, DataError
from deepmusic.studies.data import StudyData, load_study_data
from deepmusic.studies.ear_models import fit_ear
from deepmusic.studies.models import MODELS, model_named
from deepmusic.studies.tabular_io import track_ear_statistics

NAMES = [name for name, model in MODELS.items() if model.kind == "ear"]


def made_ear(data: StudyData, *, poisoned: tuple[int, ...] = ()) -> StudyData:
    """Features whose mean tells the genres apart, of 3 to 11 patches per track."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(data.genres), 256))
    outputs: list[EarOutput] = []
    for index, label in enumerate(data.labels):
        features = centres[label] + rng.normal(size=(3 + index % 9, 256))
        features = features + 1e3 * (index in poisoned)
        tags = rng.normal(size=(len(features), 50))
        outputs.append((features.astype(np.float32), tags.astype(np.float32)))
    return replace(data, ear=outputs.__getitem__)


DATA = made_ear(made_study())
FOLD = made_fold(DATA)


def test_the_registry_has_every_routing_and_two_of_scikit_learn() -> None:
    assert NAMES == [
        "ear-logistic",
        "ear-svc",
        "ear-linear",
        "ear-capsules-self-attention",
        "ear-capsules-dynamic",
        "ear-capsules-uniform",
    ]


def test_columns_are_mean_and_deviation_over_patches() -> None:
    assert DATA.ear is not None
    table = track_ear_statistics(DATA, [3, 0])
    assert table.shape == (2, 512)
    for row, index in zip(table, (3, 0), strict=True):
        patches = DATA.ear(index)[0].astype(np.float64)
        mean = patches.sum(axis=0) / len(patches)
        spread = np.sqrt(((patches - mean) ** 2).sum(axis=0) / len(patches))
        np.testing.assert_allclose(row, [*mean, *spread], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_learns_a_fold_without_its_test_and_is_saved(
    name: str,
    tmp_path: Path,
    stand_in_ear: Path,  # noqa: F811
) -> None:
    model, rest = model_named(name), [*FOLD.train, *FOLD.validation]
    fitted = model.fit(DATA, FOLD, 1, tmp_path)
    shares = fitted.predict_proba(DATA, FOLD.test)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)
    assert np.mean(shares.argmax(axis=1) == DATA.labels[list(FOLD.test)]) > 0.7
    fitted.save(tmp_path / "kept")
    again = model.load(tmp_path / "kept")
    assert again.parameters == fitted.parameters > 0
    # heads are stored in half precision
    np.testing.assert_allclose(again.predict_proba(DATA, FOLD.test), shares, atol=5e-3)
    poisoned = made_ear(made_study(), poisoned=FOLD.test)
    other = model.fit(poisoned, FOLD, 1, tmp_path).predict_proba(DATA, rest)
    np.testing.assert_allclose(other, fitted.predict_proba(DATA, rest), atol=1e-5)


@pytest.mark.slow
def test_missing_outputs_and_other_genres_are_one_sentence(tmp_path: Path) -> None:
    bare = made_study()
    for name in ("ear-logistic", "ear-linear"):
        with pytest.raises(DataError, match="pretrained ear gives, and the study has none"):
            model_named(name).fit(bare, FOLD, 0, tmp_path)
    fitted = fit_ear("none", DATA, FOLD, 0, tmp_path)
    others = replace(DATA, dataset=replace(DATA.dataset, genres=("high", "loud", "low")))
    with pytest.raises(DataError, match="distinguishes high, low; the data have high, loud, low"):
        fitted.predict_proba(others, [0])
    with pytest.raises(CheckpointError):
        model_named("ear-linear").load(tmp_path / "nowhere")


@pytest.mark.slow
def test_the_ear_runs_once_on_each_track(tmp_path: Path, stand_in_ear: Path) -> None:  # noqa: F811
    music = write_folder(tmp_path / "music", artists=2, each=1)
    soundfile.write(music / "clicks" / "silent.wav", np.zeros(44100), 22050)
    for _ in range(2):
        data = load_study_data(music, cache=tmp_path / "cache", needs=("ear",))
        assert data.columns is data.spectrograms is None
        assert [problem.code for problem in data.dataset.problems] == ["silent"]
        assert data.ear is not None
        for index, track in enumerate(data.dataset.tracks):
            for kept, given in zip(
                data.ear(index), ear_output(data.dataset.file(track), patches=10), strict=True
            ):
                np.testing.assert_allclose(kept, given, rtol=2e-3, atol=2e-3)  # half precision
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "ear").iterdir()}
    assert len(files) == len(data.dataset.tracks) == 4
