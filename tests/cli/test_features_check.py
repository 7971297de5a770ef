"""``deepmusic features check``: its output and exit status."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from deepmusic.cli import deepmusic
from deepmusic.errors import DataError
from deepmusic.features import COLUMNS, FEATURE_SIZES
from deepmusic.features.table import FeatureTable, write_features

Columns = NDArray[np.float32]

IS_RMSE = np.array([c[0] == "rmse" and c[1] not in ("skew", "kurtosis") for c in COLUMNS])


def made(tracks: int = 6) -> Columns:
    values = np.random.default_rng(0).lognormal(size=(tracks, len(COLUMNS)))
    return values.astype(np.float32)


def with_rmse(columns: Columns, factor: float) -> Columns:
    return np.where(IS_RMSE, columns * factor, columns).astype(np.float32)


def written(
    path: Path, columns: Columns, recipe: str = "fma", names: list[str] | None = None
) -> Path:
    paths = names or [f"000/{row + 2:06d}.mp3" for row in range(len(columns))]
    facts = {"path": paths, "code": [""] * len(paths)}
    write_features(path, FeatureTable(facts, columns, recipe, 1))
    return path


def published(path: Path, columns: Columns) -> Path:
    """As FMA's features.csv: three lines of header, then one that names the index."""
    headings = ("feature", "statistics", "number")
    levels = zip(*COLUMNS, strict=True)
    lines = [",".join([head, *names]) for head, names in zip(headings, levels, strict=True)]
    lines.append("track_id" + "," * len(COLUMNS))
    for row, values in enumerate(columns):
        lines.append(f"{row + 2}," + ",".join(f"{value:.10e}" for value in values))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deepmusic, ["features", "check", *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracks", "suffix", "has_nan"), [(1, "csv", False), (3, "parquet", True), (2, "csv", True)]
)
def test_a_table_agrees_with_itself(
    tmp_path: Path, tracks: int, suffix: str, has_nan: bool
) -> None:
    columns = made(tracks)
    if has_nan:
        columns[0] = np.nan
    path = written(tmp_path / f"a.{suffix}", columns)
    result = invoke(path, path, "--tolerance", "0")
    assert result.exit_code == 0
    assert "518 of 518 columns agree within 0 in every track." in result.stdout
    assert ("One track has no standard deviation" in result.stdout) == (tracks == 1)
    records = json.loads(invoke(path, path, "--format", "json").stdout)
    assert all(record["agrees"] and not record["maximum"] for record in records)


@pytest.mark.slow
def test_our_table_against_the_published_one(tmp_path: Path) -> None:
    columns = made()
    ours = written(tmp_path / "ours.parquet", columns)
    theirs = published(tmp_path / "features.csv", with_rmse(columns, 2048 / np.sqrt(2050)))
    result = invoke(ours, theirs)
    assert result.exit_code == 1
    assert result.stderr == ""
    summary, table = result.stdout.split("\n\n", 1)
    assert "6 tracks, recipe fma 1." in summary
    assert "6 tracks, no recipe named." in summary
    assert "6 tracks in both, matched by name." in summary
    assert "513 of 518 columns agree within 0.0001" in summary
    assert "Between fma and FMA's published table, rmse differ (rmse by a factor of 45.2" in summary
    assert summary.endswith("The tables are as expected.")
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(FEATURE_SIZES)
    rmse = next(line for line in lines if line.startswith("rmse "))
    assert rmse.split()[1] == "5/7"
    assert rmse.endswith("expected")


@pytest.mark.slow
def test_tracks_of_one_table_only_and_unexpected_differences(tmp_path: Path) -> None:
    columns = made()
    other = columns.copy()
    other[:, 0] *= 1.2
    a = written(tmp_path / "a.parquet", columns[:-1], names=[f"{i}.mp3" for i in "abcde"])
    b = written(
        tmp_path / "b.parquet", other, names=["x\x1b[31m\n", *(f"{i}.mp3" for i in "bcdef")]
    )
    result = invoke(a, b)
    assert result.exit_code == 1
    assert "4 tracks in both, matched by path, 1 only in A (such as 'a.mp3')," in result.stdout
    assert "2 only in B (such as 'x\\x1b[31m\\n')." in result.stdout
    assert "Unexpected:" in result.stdout


@pytest.mark.slow
def test_all_shows_every_column(tmp_path: Path) -> None:
    columns = made()
    a = written(tmp_path / "a.parquet", with_rmse(columns, 3))
    b = written(tmp_path / "b.parquet", columns)
    lines = invoke(a, b, "--all").stdout.split("\n\n")[1].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["/".join(column) for column in COLUMNS]
    mean = next(line for line in lines if line.startswith("rmse/mean/01"))
    assert mean.endswith("unexpected")
    assert "100.0%" in mean


@pytest.mark.slow
def test_json_and_csv_have_one_record_per_column(tmp_path: Path) -> None:
    columns = made()
    other = with_rmse(columns, 3)
    other[:, 0] = np.nan
    a, b = written(tmp_path / "a.parquet", other), written(tmp_path / "b.csv", columns)
    result = invoke(a, b, "--format", "json")
    assert result.exit_code == 1
    assert "6 tracks in both" in result.stderr
    records = json.loads(result.stdout)
    assert [record["name"] for record in records] == ["/".join(column) for column in COLUMNS]
    assert (records[0]["tracks"], records[0]["one_sided"], records[0]["beyond"]) == (0, 6, 1)
    assert records[0]["median"] is None
    text = invoke(a, b, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 518
    assert list(rows[0]) == list(records[0])
    assert rows[0]["median"] == ""
    for row, record in zip(rows, records, strict=True):
        assert row["agrees"] == ("true" if record["agrees"] else "false")
        assert row["maximum"] == ("" if record["maximum"] is None else str(record["maximum"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "is not a table of"), (b"path,a\nx,1\n", "is not a table of")],
)
def test_unreadable_tables_are_reported(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    good, bad = written(tmp_path / "a.parquet", made()), tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    for pair in ((good, bad), (bad, good)):
        result = invoke(*pair)
        assert result.exit_code == 1
        assert isinstance(result.exception, DataError)
        assert message in str(result.exception)
        assert result.stdout == ""
