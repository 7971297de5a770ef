"""Tables on disk: written and read back, FMA's own, and files that are not tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from deepmusic.errors import DataError
from deepmusic.features import COLUMNS, read_features, write_features
from deepmusic.features.table import COLUMN_NAMES, FeatureTable

Columns = NDArray[np.float32]


def made(tracks: int = 3) -> Columns:
    return np.random.default_rng(0).normal(size=(tracks, len(COLUMNS))).astype(np.float32)


def full() -> FeatureTable:
    columns = made()
    columns[0] = np.nan
    columns[:, 5] = np.nan
    facts: dict[str, list[object]] = {
        "path": ["a/b.mp3", 'c, "d"\n.mp3', "2.mp3"],
        "code": ["too_short", "", ""],
        "error": ["It is short.", "", ""],
        "duration_s": [None, 29.98, 30.5],
        "sample_rate": [None, 44100, 48000],
    }
    return FeatureTable(facts, columns, "fma", 1)


def published(path: Path, columns: Columns, end: str = "\n") -> Path:
    """As FMA's features.csv: three lines of header, one that names the index; none where NaN."""
    lines = [
        ",".join([head, *levels])
        for head, levels in zip(
            ("feature", "statistics", "number"), zip(*COLUMNS, strict=True), strict=True
        )
    ]
    lines.append("track_id" + "," * len(COLUMNS))
    for row, values in enumerate(columns):
        cells = ("" if np.isnan(value) else f"{value:.10e}" for value in values)
        lines.append(",".join([str(row + 2), *cells]))
    path.write_bytes((end.join(lines) + end).encode())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_are_read_back(tmp_path: Path, suffix: str) -> None:
    table, path = full(), tmp_path / f"features.{suffix}"
    write_features(path, table)
    back = read_features(path)
    assert np.array_equal(back.columns, table.columns, equal_nan=True)
    assert back.columns.dtype == np.float32
    assert back.paths == table.paths
    assert back.facts == table.facts
    expected = (table.recipe, table.version) if suffix == "parquet" else ("", 0)
    assert (back.recipe, back.version) == expected


def test_a_table_for_pandas() -> None:
    frame = full().to_frame()
    assert list(frame.index) == full().paths
    assert np.array_equal(
        frame["mfcc/mean/01"], full().columns[:, COLUMN_NAMES.index("mfcc/mean/01")], equal_nan=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_an_empty_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"none.{suffix}"
    write_features(path, FeatureTable({"path": []}, made(0)))
    assert len(read_features(path)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_published_table_is_read(tmp_path: Path, end: str) -> None:
    columns = made()
    columns[1, 7] = np.nan
    table = read_features(published(tmp_path / "features.csv", columns, end))
    assert np.array_equal(table.columns, columns, equal_nan=True)
    assert table.paths == ["2", "3", "4"]
    assert (table.recipe, table.version) == ("", 0)


@pytest.mark.slow
def test_columns_are_found_by_name(tmp_path: Path) -> None:
    write_features(tmp_path / "a.parquet", full())
    arrow = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(arrow.select(arrow.column_names[::-1]), tmp_path / "b.parquet")
    back = read_features(tmp_path / "b.parquet")
    assert np.array_equal(back.columns, full().columns, equal_nan=True)


def test_rows_in_any_order() -> None:
    table = full().rows([2, 0])
    assert table.paths == ["2.mp3", "a/b.mp3"]
    assert np.array_equal(table.columns, full().columns[[2, 0]], equal_nan=True)
    assert len(full().rows([])) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1",
        b"PAR1 and then nothing of the kind",
        b"path,a\nx,1\n",
        b"feature,a\n",
        b"feature,\xff\n" * 5,
        ("path," + ",".join(COLUMN_NAMES) + "\nx" + ",y" * 518 + "\n").encode(),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a table of the 518 features"):
        read_features(path)


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: no such file"):
        read_features(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read: is a directory"):
        read_features(tmp_path)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    write_features(tmp_path / "a.parquet", full())
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    text = published(tmp_path / "a.csv", made()).read_bytes()
    (tmp_path / "a.csv").write_bytes(text[:-2000])
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(DataError, match="is not a table"):
            read_features(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [["0012", "013", "14"], ["true", "false", "NA"], ["2020-01-01", "1e5", "nan"]]
)
def test_names_in_csv_stay_text(tmp_path: Path, names: list[str]) -> None:
    table = FeatureTable({"path": list(names)}, made())
    write_features(tmp_path / "a.csv", table)
    back = read_features(tmp_path / "a.csv")
    assert back.facts == table.facts
    write_features(tmp_path / "b.parquet", back)


@pytest.mark.slow
def test_a_name_like_an_url_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("s3:a.parquet", "file:b.csv"):
        write_features(name, full())
        assert read_features(name).paths == full().paths


@pytest.mark.slow
@pytest.mark.parametrize("metadata", [b"[]", b"{", b'{"version": "new"}'])
def test_damaged_metadata_are_refused(tmp_path: Path, metadata: bytes) -> None:
    path = tmp_path / "a.parquet"
    write_features(path, full())
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"deepmusic": metadata}), path)
    with pytest.raises(DataError, match="is not a table"):
        read_features(path)
