"""``deepmusic features check``: what it says of two tables, and how it ends."""

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
from deepmusic.features import COLUMNS, ROWS
from deepmusic.features.table import FeatureTable, write_features

Columns = NDArray[np.float32]

IS_RMSE = np.array([c[0] == "rmse" and c[1] not in ("skew", "kurtosis") for c in COLUMNS])
FACTOR = 2048 / np.sqrt(2050)


def made(tracks: int = 6) -> Columns:
    values = np.random.default_rng(0).lognormal(size=(tracks, len(COLUMNS)))
    return values.astype(np.float32)


def written(
    path: Path, columns: Columns, recipe: str = "fma", names: list[str] | None = None
) -> Path:
    paths = names or [f"000/{row + 2:06d}.mp3" for row in range(len(columns))]
    write_features(
        path, FeatureTable({"path": paths, "code": [""] * len(paths)}, columns, recipe, 1)
    )
    return path


def published(path: Path, columns: Columns) -> Path:
    """As FMA's features.csv: three lines of header, one that names the index."""
    lines = [
        ",".join([head, *levels])
        for head, levels in zip(
            ("feature", "statistics", "number"), zip(*COLUMNS, strict=True), strict=True
        )
    ]
    lines.append("track_id" + "," * len(COLUMNS))
    for row, values in enumerate(columns):
        lines.append(f"{row + 2}," + ",".join(f"{value:.10e}" for value in values))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deepmusic, ["features", "check", *map(str, arguments)])


@pytest.mark.parametrize(
    ("tracks", "suffix", "lacks"), [(1, "csv", False), (3, "parquet", True), (2, "csv", True)]
)
def test_a_table_agrees_with_itself(tmp_path: Path, tracks: int, suffix: str, lacks: bool) -> None:
    columns = made(tracks)
    if lacks:
        columns[0] = np.nan
    path = written(tmp_path / f"a.{suffix}", columns)
    result = invoke(path, path, "--tolerance", "0")
    assert result.exit_code == 0
    assert "518 of 518 columns agree within 0 in every track." in result.stdout
    records = json.loads(invoke(path, path, "--format", "json").stdout)
    assert all(record["agrees"] and not record["maximum"] for record in records)


def test_ours_against_the_published_table(tmp_path: Path) -> None:
    columns = made()
    ours = written(tmp_path / "ours.parquet", columns)
    theirs = published(
        tmp_path / "features.csv", np.where(IS_RMSE, columns * FACTOR, columns).astype(np.float32)
    )
    result = invoke(ours, theirs)
    assert result.exit_code == 1
    assert result.stderr == ""
    summary, table = result.stdout.split("\n\n", 1)
    assert "6 tracks, recipe fma 1, exact." in summary
    assert "6 tracks, no recipe named." in summary
    assert "6 tracks in both, matched by name." in summary
    assert "513 of 518 columns agree within 0.0001" in summary
    assert (
        "Expected of fma against FMA's published table, rmse differs by a factor of 45.2" in summary
    )
    assert summary.endswith("So it is.")
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[1:12]] == list(ROWS)
    rmse = next(line for line in lines if line.startswith("rmse "))
    assert rmse.split()[1] == "5/7"
    assert rmse.endswith("rmse_scale")
    assert lines[-1].startswith("rmse_scale: rmse of librosa 0.5")


def test_what_only_one_has_and_what_is_not_known_is_said(tmp_path: Path) -> None:
    columns = made()
    other = columns.copy()
    other[:, 0] *= 1.2
    a = written(tmp_path / "a.parquet", columns[:-1], "fma", [f"{i}.mp3" for i in "abcde"])
    b = written(tmp_path / "b.parquet", other, "fma", ["x", *(f"{i}.mp3" for i in "bcdef")])
    result = invoke(a, b)
    assert result.exit_code == 1
    assert "4 tracks in both, matched by path, 1 only in A (such as 'a.mp3')," in result.stdout
    assert "2 only in B (such as 'x')." in result.stdout
    assert "differ for no reason that is known here." in result.stdout


def test_all_shows_every_column(tmp_path: Path) -> None:
    columns = made()
    a = written(tmp_path / "a.parquet", np.where(IS_RMSE, columns * 3, columns).astype(np.float32))
    b = written(tmp_path / "b.parquet", columns)
    lines = invoke(a, b, "--all").stdout.split("\n\n")[1].splitlines()[1:]
    assert len(lines) == 518
    assert [line.split()[0] for line in lines] == ["/".join(column) for column in COLUMNS]
    mean = next(line for line in lines if line.startswith("rmse/mean/01"))
    assert mean.endswith("unexplained (A is 3 times B)")
    assert "100.0%" in mean


def test_programs_get_a_record_a_column(tmp_path: Path) -> None:
    columns = made()
    other = np.where(IS_RMSE, columns * FACTOR, columns).astype(np.float32)
    other[:, 0] = np.nan
    a, b = written(tmp_path / "a.parquet", other), written(tmp_path / "b.csv", columns)
    result = invoke(a, b, "--format", "json")
    assert result.exit_code == 1
    assert "6 tracks in both" in result.stderr
    records = json.loads(result.stdout)
    assert [(r["feature"], r["statistic"], r["number"]) for r in records] == list(COLUMNS)
    lone = records[0]
    assert (lone["tracks"], lone["one_sided"], lone["beyond"]) == (0, 6, 1)
    assert lone["median"] is lone["correlation"] is None
    assert lone["causes"] == ["missing"]
    mean = next(r for r in records if (r["feature"], r["statistic"]) == ("rmse", "mean"))
    assert mean["ratio"] == pytest.approx(FACTOR)
    assert mean["causes"] == ["rmse_scale"]
    assert mean["explanation"].startswith("rmse of librosa 0.5")

    text = invoke(a, b, "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 518
    assert list(rows[0]) == list(lone)
    assert rows[0]["median"] == ""
    for row, record in zip(rows, records, strict=True):
        assert row["agrees"] == ("true" if record["agrees"] else "false")
        assert row["causes"] == "; ".join(record["causes"])
        assert row["maximum"] == ("" if record["maximum"] is None else str(record["maximum"]))


def test_one_track_is_said_to_be_one(tmp_path: Path) -> None:
    a = written(tmp_path / "a.parquet", made(1))
    result = invoke(a, a)
    assert result.exit_code == 0
    assert "1 track in both" in result.stdout
    assert "One track has no standard deviation: errors are relative to |b| alone." in result.stdout


def test_the_tolerance_decides(tmp_path: Path) -> None:
    columns = made()
    a = written(tmp_path / "a.parquet", (columns * 1.01).astype(np.float32))
    b = written(tmp_path / "b.parquet", columns)
    assert invoke(a, b).exit_code == 1
    assert invoke(a, b, "--tolerance", "0.02").exit_code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "is no table of the 518 features"),
        (b"PAR1 and then nothing", "is no table of the 518 features"),
        (b"path,a\nx,1\n", "is no table of the 518 features"),
        (b"feature,a\n", "is no table of the 518 features"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    good, bad = written(tmp_path / "a.parquet", made()), tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    for pair in ((good, bad), (bad, good)):
        result = invoke(*pair)
        assert result.exit_code == 1
        assert isinstance(result.exception, DataError)
        assert said in str(result.exception)
        assert result.stdout == ""


def test_tables_without_a_common_track_are_refused(tmp_path: Path) -> None:
    a = written(tmp_path / "a.parquet", made(1), names=["a"])
    b = written(tmp_path / "b.parquet", made(1), names=["b"])
    result = invoke(a, b)
    assert result.exit_code == 1
    assert "no track in common" in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["a"],
        ["a", "b", "c"],
        ["a", "b", "--tolerance", "-1"],
        ["a", "b", "--tolerance", "nan"],
        ["a", "b", "--format", "xml"],
    ],
)
def test_wrong_usage_is_said(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


def test_names_cannot_disturb_the_terminal(tmp_path: Path) -> None:
    a = written(tmp_path / "a.parquet", made(2), names=["a", "b\x1b[31m\n"])
    b = written(tmp_path / "b.parquet", made(1), names=["a"])
    summary = invoke(a, b).stdout.splitlines()[0]
    assert "\x1b" not in summary
    assert "only in A (such as" in summary
