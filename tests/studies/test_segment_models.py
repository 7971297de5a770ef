"""Training, saving and prediction of the study's networks, on synthetic spectrograms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_study import made_fold, made_study, small_config

from deepmusic.audio import segment_starts
from deepmusic.classifier.model import views
from deepmusic.classifier.task import ClassifierTask
from deepmusic.classifier.verdict import Calibration
from deepmusic.errors import CheckpointError, DataError
from deepmusic.studies import segment_training
from deepmusic.studies.data import StudyData
from deepmusic.studies.segment_models import study_models
from deepmusic.studies.segment_networks import NETWORKS, build_network, width_scale
from deepmusic.studies.segment_training import (
    SEGMENT_TRAINING,
    FittedNetwork,
    fit_classifier,
    fit_network,
    load_classifier,
    load_network,
)
from deepmusic.training import read_history, save_weights

DATA = made_study()
FOLD = made_fold(DATA)
CONFIG = small_config()
SHORT = replace(SEGMENT_TRAINING, epochs=4, batch_size=4)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training loop's own tests look at its pictures; here they only take time."""
    monkeypatch.setattr("deepmusic.training.loop.draw_history", lambda *_, **__: None)


def fitted(name: str, work: Path, *, data: StudyData = DATA, seed: int = 0) -> FittedNetwork:
    return fit_network(name, data, made_fold(data), seed, work, config=CONFIG, training=SHORT)


def made_model(name: str) -> FittedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = build_network(name, CONFIG)
    return FittedNetwork(name, network.eval(), width_scale(name, CONFIG), Calibration(1.7, 0.4, 5))


@pytest.mark.slow
def test_a_network_learns_from_training_and_validation_tracks(tmp_path: Path) -> None:
    asked = []

    def recording(index: int) -> Any:
        asked.append(index)
        assert DATA.spectrograms is not None
        return DATA.spectrograms(index)

    data, training = StudyData(DATA.dataset, None, recording), replace(SHORT, epochs=15)
    model = fit_network("cnn", data, FOLD, 0, tmp_path, config=CONFIG, training=training)
    assert sorted(asked) == sorted((*FOLD.train, *FOLD.validation))
    shares = model.predict_proba(DATA, FOLD.test)
    assert (shares.argmax(axis=1) == DATA.labels[list(FOLD.test)]).all()
    records = read_history(tmp_path)
    assert len(records) == 15
    for side in ("train", "validation"):
        assert {"loss", "accuracy"} <= records[0][side].keys()
    assert records[-1]["validation"]["loss"] < 0.7 * records[0]["validation"]["loss"]


@pytest.mark.parametrize(
    "name",
    ["capsules-dynamic", *(pytest.param(n, marks=pytest.mark.slow) for n in ("crnn", "cnn"))],
)
def test_a_killed_training_resumes_and_the_same_seed_gives_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(name, tmp_path / "whole").predict_proba(DATA, FOLD.test)
    assert whole.shape == (len(FOLD.test), 2)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-12)
    other = fitted(name, tmp_path / "other", seed=1).predict_proba(DATA, FOLD.test)
    assert not np.allclose(np.log(whole), np.log(other), rtol=1e-3)
    validate, calls = ClassifierTask.validate, []

    def dies(self: ClassifierTask, model: torch.nn.Module) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise SystemExit("killed")
        return validate(self, model)

    monkeypatch.setattr(ClassifierTask, "validate", dies)
    torch.rand(7)  # whatever was drawn before
    with pytest.raises(SystemExit):
        fitted(name, tmp_path / "cut")
    assert len(read_history(tmp_path / "cut")) == 2
    calls.clear()
    for _ in range(2):  # the second finds everything done
        again = fitted(name, tmp_path / "cut").predict_proba(DATA, FOLD.test)
        np.testing.assert_array_equal(whole, again)
        assert len(calls) == 2, "only the epochs that were left"


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_saved_model_predicts_the_same(name: str, tmp_path: Path) -> None:
    model = made_model(name)
    model.save(tmp_path / "kept")
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {"model.json", "weights.safetensors"}
    assert json.loads((tmp_path / "kept" / "model.json").read_text())["name"] == name
    again = load_network(tmp_path / "kept")
    assert again.parameters == model.parameters > 0
    assert (again.name, again.scale, again.calibration) == (name, model.scale, model.calibration)
    indices = [3, 0, 9]
    np.testing.assert_array_equal(
        model.predict_proba(DATA, indices), again.predict_proba(DATA, indices)
    )


def test_a_track_is_the_mean_of_its_segments() -> None:
    model = made_model("cnn")
    assert DATA.spectrograms is not None
    whole = DATA.spectrograms(5).astype(np.float32)
    parts = []
    for start in segment_starts(300, length=128, hop=64):
        segment = torch.from_numpy(whole[None, :, start : start + 128])
        with torch.no_grad():
            parts.append(model.network(views(segment, CONFIG)).log_scores[0].numpy())
    expected = model.calibration.probabilities(np.mean(parts, axis=0))
    np.testing.assert_allclose(model.predict_proba(DATA, [5])[0], expected, atol=1e-5)
    assert model.predict_proba(DATA, []).shape == (0, 2)


def test_missing_inputs_are_one_sentence(tmp_path: Path) -> None:
    mute = StudyData(DATA.dataset)
    with pytest.raises(DataError, match="need spectrograms"):
        fitted("cnn", tmp_path, data=mute)
    with pytest.raises(DataError, match="need spectrograms"):
        made_model("cnn").predict_proba(mute, [0])
    with pytest.raises(DataError, match="needs training tracks and validation tracks"):
        fit_network("cnn", DATA, replace(FOLD, validation=()), 0, tmp_path, config=CONFIG)
    others = StudyData(replace(DATA.dataset, genres=("high", "loud", "low")))
    with pytest.raises(DataError, match="distinguishes high, low; the data have high, loud, low"):
        made_model("cnn").predict_proba(others, [0])


def test_a_folder_of_other_data_is_refused(tmp_path: Path) -> None:
    fitted("cnn", tmp_path)
    with pytest.raises(CheckpointError, match="another data"):
        fitted("cnn", tmp_path, data=made_study(mark="other"))
    with pytest.raises(CheckpointError, match="another"):
        fitted("lstm", tmp_path)


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights"):
        load_network(tmp_path)
    model = made_model("gru")
    model.save(tmp_path)
    file = tmp_path / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_network(tmp_path)
    save_weights(file, model.network.state_dict(), {"kind": "classifier"})
    with pytest.raises(CheckpointError, match="does not hold a network of the study"):
        load_network(tmp_path)


@pytest.mark.slow  # trains a whole ensemble
def test_the_shipped_classifier_is_a_model_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepmusic.classifier.training as training

    monkeypatch.setattr(
        training,
        "DEFAULT_TRAINING",
        replace(training.DEFAULT_TRAINING, epochs=1, batch_size=8),
    )
    monkeypatch.setattr(training, "draw_history", lambda *_: None)
    data = made_study(each=12, frames=258)
    fold = made_fold(data)
    asked = []

    def recording(index: int) -> Any:
        asked.append(index)
        assert data.spectrograms is not None
        return data.spectrograms(index)

    model = fit_classifier(StudyData(data.dataset, None, recording), fold, 0, tmp_path / "work")
    assert set(asked) == {*fold.train, *fold.validation}
    shares = model.predict_proba(data, fold.test)
    assert shares.shape == (len(fold.test), 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    model.save(tmp_path / "kept")
    again = load_classifier(tmp_path / "kept")
    assert again.parameters == model.parameters > 0
    # one computes in PyTorch, the other in NumPy
    np.testing.assert_allclose(again.predict_proba(data, fold.test), shares, atol=1e-5)
    resumed = fit_classifier(data, fold, 0, tmp_path / "work")
    np.testing.assert_array_equal(resumed.predict_proba(data, fold.test), shares)
    with pytest.raises(DataError, match="need spectrograms"):
        model.predict_proba(StudyData(data.dataset), [0])


def test_entries_are_those_of_the_networks() -> None:
    models = study_models()
    assert [model.name for model in models] == [*NETWORKS, "capsules"]
    assert {model.kind for model in models} == {"segments"}


def test_an_entry_fits_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(segment_training, "fit_network", lambda *given: asked.append(given))
    monkeypatch.setattr(segment_training, "load_network", lambda *given: asked.append(given))
    model = study_models()[0]
    model.fit(DATA, FOLD, 3, tmp_path)
    model.load(tmp_path)
    assert asked == [("cnn", DATA, FOLD, 3, tmp_path), (tmp_path,)]
