"""docs/recipes/study-model.md, followed step by step."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_models import made_data

from deepmusic.studies.jobs import open_results, run_jobs
from deepmusic.studies.models import StudyModel
from deepmusic.studies.plan import StudyConfig, plan_study
from deepmusic.studies.report_files import write_report

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "study-model.md"
DATA = made_data()


@pytest.fixture(scope="module")
def examples() -> list[dict[str, Any]]:
    """The names that each example of the page defines."""
    names: list[dict[str, Any]] = []
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        names.append({})
        exec(compile(code, str(PAGE), "exec"), names[-1])
    return names


def test_a_table_model(examples: list[dict[str, Any]]) -> None:
    assert DATA.columns is not None
    model = examples[0]["extra"]
    model.classifier.set_params(n_estimators=10)
    columns = tuple(map(str, range(DATA.columns.shape[1])))
    fitted = model.fit(DATA.columns, DATA.labels, DATA.genres, names=columns)
    assert set(fitted.settings) == {"classify__min_samples_leaf"}
    assert np.mean(fitted.probabilities(DATA.columns).argmax(axis=1) == DATA.labels) > 0.8


@pytest.mark.slow
def test_any_other_model_in_a_study(examples: list[dict[str, Any]], tmp_path: Path) -> None:
    (model,) = examples[1]["study_models"]()
    assert isinstance(model, StudyModel)
    models = {model.name: model}
    plan = plan_study(DATA, StudyConfig((model.name,), folds=2, seeds=1), models)
    with open_results(tmp_path) as store:
        assert [r.error for r in run_jobs(DATA, plan, tmp_path, store)] == [""] * 2
        report = write_report(DATA, plan, store, tmp_path)
    assert report.rows[0].accuracy > 0.6
    fold = plan.folds[plan.jobs[0].fold_key]
    fitted = model.fit(DATA, fold, 0, tmp_path)
    fitted.save(tmp_path / "model")
    again = model.load(tmp_path / "model")
    np.testing.assert_allclose(
        again.predict_proba(DATA, fold.test), fitted.predict_proba(DATA, fold.test), rtol=1e-5
    )
