"""``deepmusic study fma-baselines`` from the shell's side."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import make_miniature

from deepmusic.cli.study import fma_baselines
from deepmusic.errors import RequestError


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(fma_baselines, [*map(str, arguments)])


@pytest.fixture(scope="module")
def fma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fma")
    make_miniature(root, 48, audio=False, zips=True)
    return root


@pytest.mark.slow
def test_the_table_and_the_progress(fma: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--data", fma, "--out", out, "--sets", "zcr, mfcc/contrast", "--models", "lr,svm")
    result = invoke(*options)
    assert result.exit_code == 0, result.output
    assert "features       columns  lr" in result.stdout
    assert "1 of 4  zcr lr: " in result.stderr
    assert "published 42.3%" in result.stderr
    assert sorted(path.name for path in out.iterdir()) == ["results.db", "table.csv", "table.md"]
    assert "| zcr | 7 |" in (out / "table.md").read_text()

    again = invoke(*options, "--format", "csv")
    assert again.exit_code == 0
    assert again.stderr == ""
    assert again.stdout.splitlines() == (out / "table.csv").read_text().splitlines()
    rows = list(csv.DictReader(io.StringIO(again.stdout)))
    assert [(row["features"], row["model"]) for row in rows] == [
        ("zcr", "lr"), ("zcr", "svm"), ("mfcc/contrast", "lr"), ("mfcc/contrast", "svm"),
    ]  # fmt: skip

    more = invoke(*options, "--models", "lr,svm,knn", "--format", "markdown")
    assert "4 of 6" not in more.stderr  # finished before
    assert "5 of 6  zcr knn" in more.stderr
    assert more.stdout == (out / "table.md").read_text()


@pytest.mark.slow
def test_the_archive_need_not_be_unpacked(fma: Path, tmp_path: Path) -> None:
    result = invoke(
        "--data", fma / "fma_metadata.zip", "--out", tmp_path, "--task", "multi", "--sets", "mfcc",
        "--models", "lr", "--subset", "small",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "subset accuracy" in result.stdout


@pytest.mark.slow
def test_a_cell_that_fails_gives_status_1(fma: Path, tmp_path: Path) -> None:
    # of the tracks that Echonest knew, small has no test tracks where there are few
    root = tmp_path / "few"
    make_miniature(root, 24, audio=False)
    path = root / "fma_metadata" / "echonest.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:5]) + "\n", encoding="utf-8")
    (root / "fma_metadata" / "checksums").unlink()
    result = invoke(
        "--data", root, "--out", tmp_path / "out", "--sets", "echonest_audio,zcr", "--models", "lr"
    )
    assert result.exit_code == 1, result.output
    assert "1 of 2 cells of the table failed" in result.stderr
    assert "some of both are needed" in result.stdout
    assert "zcr" in result.stdout


@pytest.mark.parametrize("options", [("--sets", "mfcx"), ("--models", "forest")])
def test_unknown_names(fma: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    result = invoke("--data", fma, "--out", tmp_path / "out", *options)
    assert isinstance(result.exception, RequestError)  # status 2, as the shell shows it
    assert not (tmp_path / "out").exists()
