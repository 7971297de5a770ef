"""Models of textures: their columns, and folds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_study import made_fold, made_study

from deepmusic.classifier.texture import texture
from deepmusic.errors import DataError
from deepmusic.studies.data import StudyData
from deepmusic.studies.models import MODELS, TABLE_KINDS, model_named
from deepmusic.studies.texture_models import track_textures

DATA = made_study()
FOLD = made_fold(DATA)
NAMES = [name for name, model in MODELS.items() if model.kind == "textures"]


def test_a_track_is_the_mean_of_its_segments_textures() -> None:
    long = made_study(each=2, frames=258 + 2 * 129 + 20)
    assert long.spectrograms is not None
    whole = torch.from_numpy(long.spectrograms(1).astype(np.float32))
    # as in classification: every 3 s, and the last one at the end
    cut = [whole[:, start : start + 258] for start in (0, 129, 258, 278)]
    expected = texture(torch.stack(cut)).mean(dim=0).numpy()
    found = track_textures(long, [1, 0])
    assert found.shape == (2, 554)
    np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-3)
    assert np.abs(found[1] - found[0]).max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_textures_learns_a_fold_and_is_saved(name: str, tmp_path: Path) -> None:
    model = model_named(name)
    fitted = model.fit(DATA, FOLD, 0, tmp_path)
    shares = fitted.predict_proba(DATA, FOLD.test)
    assert shares.shape == (len(FOLD.test), len(DATA.genres))
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.mean(shares.argmax(axis=1) == DATA.labels[list(FOLD.test)]) > 0.7
    fitted.save(tmp_path / "kept")
    again = model.load(tmp_path / "kept")
    assert again.parameters == fitted.parameters > 0
    np.testing.assert_array_equal(again.predict_proba(DATA, FOLD.test), shares)


def test_test_tracks_are_not_used(tmp_path: Path) -> None:
    asked = []

    def recording(index: int) -> object:
        asked.append(index)
        assert DATA.spectrograms is not None
        return DATA.spectrograms(index)

    data = StudyData(DATA.dataset, None, recording)  # type: ignore[arg-type]
    model_named("textures-logistic").fit(data, FOLD, 0, tmp_path)
    assert sorted(asked) == sorted((*FOLD.train, *FOLD.validation))


def test_missing_inputs_are_one_sentence(tmp_path: Path) -> None:
    model = model_named("textures-svc")
    with pytest.raises(DataError, match="the study has none"):
        model.fit(StudyData(DATA.dataset), FOLD, 0, tmp_path)
    fitted = model.fit(DATA, FOLD, 0, tmp_path)
    other = made_study()
    other.dataset.__dict__["genres"] = ("polka", *other.genres[1:])
    with pytest.raises(DataError, match="the data have polka"):
        fitted.predict_proba(other, FOLD.test)


def test_they_are_quick_and_do_without_pytorch() -> None:
    assert NAMES == ["textures-logistic", "textures-svc"]
    assert "textures" in TABLE_KINDS
    code = (
        "import sys\n"
        "from deepmusic.studies.models import model_named\n"
        "import deepmusic.studies.texture_models\n"
        "assert model_named('textures-svc').kind == 'textures'\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
