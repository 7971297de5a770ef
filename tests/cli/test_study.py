"""``deepmusic study genres``: what it prints, stores, refuses, and writes when interrupted."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
sys.path.insert(0, str(Path(__file__).parents[1] / "classifier"))
sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))
from fake_models import FAKES, fit_mean, model
from synthetic import write_folder

from deepmusic.cli import deepmusic
from deepmusic.datasets import scan_folder
from deepmusic.features import COLUMNS, FeatureTable, write_features
from deepmusic.studies.ensembles import PARTS
from deepmusic.studies.jobs import open_results, study_results


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("study") / "music", artists=5, each=1)


@pytest.fixture(scope="module")
def table(music: Path) -> Path:
    """Features that separate the genres."""
    tracks = scan_folder(music).tracks
    rows = np.random.default_rng(0).normal(size=(len(tracks), len(COLUMNS)))
    rows[:, 0] += [9.0 * (track.genre == "clicks") for track in tracks]
    facts: dict[str, list[object]] = {"path": [track.path for track in tracks]}
    path = music.parent / "features.parquet"
    write_features(path, FeatureTable(facts, rows.astype(np.float32), "fma", 1))
    return path


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = {name: made for name, made in FAKES.items() if made.kind == "features"}
    fakes["average-features"] = model("average-features", fit_mean, "average")
    monkeypatch.setitem(PARTS, "average-features", ("logistic", "majority"))
    monkeypatch.setattr("deepmusic.studies.models.MODELS", fakes)


def study(music: Path, table: Path, out: Path, *arguments: object) -> Result:
    command = ["study", "genres", "--data", music, "--out", out, "--features", table, "--folds", 2]
    words = [*command, "--seeds", 1, *arguments]
    return CliRunner().invoke(deepmusic, list(map(str, words)))


def models_of(out: Path) -> list[str]:
    return sorted({record["model"] for record in results_of(out)})


def results_of(out: Path) -> list[Any]:
    with open_results(out) as store:
        return list(study_results(store).values())


@pytest.mark.slow
def test_the_report_is_written_and_no_job_repeated(
    music: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    done = study(music, table, out, "--models", "logistic,majority")
    assert done.exit_code == 0, done.output
    for name in ("report.html", "report.md", "table.csv", "results.db"):
        assert (out / name).stat().st_size > 0
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["model", "accuracy"]
    accuracy = {line.split()[0]: float(line.split()[1]) for line in lines[1:3]}
    assert accuracy.keys() == {"logistic", "majority"}
    assert accuracy["majority"] > 80 > accuracy["logistic"]  # the fakes by these names
    assert any("random folds (leaks)" in line for line in lines)
    before = results_of(out)
    again = study(music, table, out, "--models", "logistic,majority")
    assert again.exit_code == 0
    assert "jobs are already done, 0 are left" in again.stderr
    assert results_of(out) == before
    assert again.stdout == done.stdout


@pytest.mark.slow
def test_a_model_that_fails_costs_only_itself(music: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    done = study(music, table, out, "--models", "few,logistic,broken", "--sizes", "1")
    assert done.exit_code == 1
    message = "There are too few tracks of 'jazz' for this model."
    assert (
        sum(message in line and not line.startswith("missing") for line in done.stderr.splitlines())
        == 1
    )
    assert "Unexpected ZeroDivisionError: a bug of two lines." in done.stderr
    assert "Traceback" not in done.output
    assert models_of(out) == ["logistic"]
    report = (out / "report.md").read_text()
    assert f"few: 2 of 2 jobs are missing. {message}" in report
    assert "logistic |" in report


@pytest.mark.slow
def test_models_of_the_ear_need_the_ear(
    music: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepmusic.studies import models

    monkeypatch.setenv("DEEPMUSIC_CACHE", str(tmp_path / "empty"))
    both = {"majority": FAKES["majority"], "ear-linear": model("ear-linear", fit_mean, "ear")}
    monkeypatch.setattr(models, "MODELS", both)
    for names in ("ear-linear", "ear", "all,ear-linear"):
        done = study(music, table, tmp_path / "study", "--models", names)
        assert "The pretrained ear is not installed; run: deepmusic ear install." in str(
            done.exception
        )
        assert not (tmp_path / "study").exists()
    done = study(music, table, tmp_path / "study", "--models", "all", "--sizes", "1")
    assert done.exit_code == 0, done.output
    line = "Left out, as the pretrained ear is not installed: ear-linear; run: "
    assert line in done.stderr
    assert models_of(tmp_path / "study") == ["majority"]


@pytest.mark.slow
def test_an_average_brings_its_parts(music: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    done = study(music, table, out, "--models", "average-features", "--sizes", "1")
    assert done.exit_code == 0, done.output
    assert "Also trained, as parts of averages: majority, logistic." in done.stderr
    assert models_of(out) == ["average-features", "logistic", "majority"]


@pytest.mark.slow
def test_an_interrupt_keeps_results_and_writes_the_report(
    music: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepmusic.studies import models

    calls: list[int] = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit_mean(*arguments)

    both = {"logistic": model("logistic", interrupted), "majority": FAKES["majority"]}
    monkeypatch.setattr(models, "MODELS", both)
    out = tmp_path / "study"
    options = ("--models", "all", "--protocol", "random")
    done = study(music, table, out, *options)
    assert done.exit_code != 0
    assert "Interrupted; the report is written" in done.stderr
    assert len(results_of(out)) == 1
    assert "logistic: 1 of 2 jobs are missing" in (out / "report.md").read_text()
    assert study(music, table, out, *options).exit_code == 0
    assert "Traceback" not in done.output


@pytest.mark.slow
def test_a_time_budget_leaves_jobs_for_another_run(
    music: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    done = study(music, table, out, "--models", "logistic", "--budget", "1e-9")
    assert done.exit_code == 0
    assert "did not start in time" in done.stderr
    assert "No model has a result." in (out / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "polka"), "no model 'polka'"),
        (("--models", ","), "at least one model"),
        (("--sizes", "half"), "not a list of shares"),
        (("--sizes", "2"), "above 0 to 1"),
        (("--protocol", "official"), "omit --folds"),
        (("--dask", "tcp://x:1", "--workers", "2"), "choose one"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_read(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = study(tmp_path / "nowhere", tmp_path / "no.parquet", tmp_path / "study", *arguments)
    assert done.exit_code != 0
    assert message in (done.stderr + str(done.exception))
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_indivisible_data_are_one_sentence(music: Path, table: Path, tmp_path: Path) -> None:
    done = study(music, table, tmp_path / "study", "--folds", "9")
    assert re.search(r"has 5 tracks in \d groups", str(done.exception))
    command = ["study", "genres", "--data", music, "--out", tmp_path / "s", "--features", table]
    official = CliRunner().invoke(deepmusic, [*map(str, command), "--protocol", "official"])
    assert "no official split" in str(official.exception)


@pytest.mark.slow
def test_tracks_without_a_row_are_reported_and_left_out(
    music: Path, table: Path, tmp_path: Path
) -> None:
    from deepmusic.features import read_features

    short = tmp_path / "short.parquet"
    found = read_features(table)
    write_features(short, found.rows(range(1, len(found))))
    out = tmp_path / "study"
    done = study(music, short, out, "--models", "logistic", "--protocol", "random", "--sizes", "1")
    assert done.exit_code == 1
    assert "has no row in the feature table" in done.stderr
    assert models_of(out) == ["logistic"]
    report = (out / "report.md").read_text()
    assert "has no row in the feature table" in report
    assert "9 tracks of 2 genres" in report
