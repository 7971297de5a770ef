"""Tables that grow over several runs: what is done stays done, and is never done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from recordings import write_tone

from deepmusic.audio import NotAudio, find_audio
from deepmusic.errors import DataError
from deepmusic.features import (
    RECIPES,
    TrackFeatures,
    extract_library,
    library as library_module,
    read_features,
)
from deepmusic.journal import Journal

FMA = RECIPES["fma"]


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for number in range(5):
        write_tone(tmp_path / "music" / f"{number}.wav", 200 + 50 * number)
    return tmp_path / "music"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that features are computed of."""
    seen: list[str] = []
    original = library_module.extract

    def watched(paths: list[str], *args: object, **options: object) -> Iterator[TrackFeatures]:
        for row in original(paths, *args, **options):  # type: ignore[arg-type]
            seen.append(Path(row.path).name)
            yield row

    monkeypatch.setattr(library_module, "extract", watched)
    return seen


def run(music: Path, output: Path, recipe: str = "fma") -> list[TrackFeatures]:
    return list(extract_library(find_audio([music]), output, RECIPES[recipe]))


def test_a_table_has_a_row_for_each_entry_in_order(music: Path, tmp_path: Path) -> None:
    (music / "2.wav").write_text("no sound")
    entries = [str(music / "4.wav"), NotAudio("nowhere", "'nowhere' does not exist.", "missing")]
    entries += [str(music / "2.wav"), str(music / "0.wav"), str(music / "4.wav")]
    rows = list(extract_library(entries, tmp_path / "t.parquet", FMA))
    table = read_features(tmp_path / "t.parquet")
    assert [Path(path).name for path in table.paths] == ["4.wav", "nowhere", "2.wav", "0.wav"]
    assert table.facts["code"] == ["", "missing", "not_audio", ""]
    assert (table.recipe, table.version) == ("fma", FMA.version)
    by_path = {row.path: row for row in rows}
    for place, path in enumerate(table.paths):
        np.testing.assert_array_equal(table.columns[place], by_path[path].columns)
    assert not (tmp_path / "t.parquet.journal").exists()
    mark = json.loads(pq.read_schema(tmp_path / "t.parquet").metadata[b"deepmusic"])
    assert mark["recipe"] == "fma"


def test_only_new_changed_and_failed_tracks_are_computed(
    music: Path, tmp_path: Path, computed: list[str]
) -> None:
    (music / "3.wav").write_text("no sound")
    output = tmp_path / "t.parquet"
    run(music, output)
    computed.clear()
    write_tone(music / "9.wav")
    write_tone(music / "1.wav", 999, seconds=0.7)
    (music / "0.wav").unlink()
    run(music, output)
    assert computed == ["1.wav", "3.wav", "9.wav"]
    names = [Path(path).name for path in read_features(output).paths]
    assert names == ["1.wav", "2.wav", "3.wav", "4.wav", "9.wav"]


def test_a_stop_loses_nothing_that_was_done(
    music: Path, tmp_path: Path, computed: list[str]
) -> None:
    output = tmp_path / "t.parquet"
    rows = extract_library(find_audio([music]), output, FMA)
    for _ in range(3):
        next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert not output.exists()
    computed.clear()
    run(music, output)
    assert computed == ["3.wav", "4.wav"]
    assert len(read_features(output)) == 5


@pytest.mark.parametrize("cut", [1, 50, 1000, 3500])
def test_a_line_that_was_cut_short_is_done_again(
    music: Path, tmp_path: Path, computed: list[str], cut: int
) -> None:
    output = tmp_path / "t.parquet"
    expected = {row.path: row.columns for row in run(music, tmp_path / "whole.parquet")}
    rows = extract_library(find_audio([music]), output, FMA)
    for _ in range(3):
        next(rows)
    rows.close()  # type: ignore[attr-defined]
    journal = tmp_path / "t.parquet.journal"
    os.truncate(journal, journal.stat().st_size - cut)
    computed.clear()
    for row in run(music, output):
        np.testing.assert_array_equal(row.columns, expected[row.path])
    lost = 1 if cut < 3000 else 2
    assert computed == [f"{number}.wav" for number in range(3 - lost, 5)]


def test_another_recipe_needs_another_table(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.parquet"
    run(music, output)
    before = output.read_bytes()
    with pytest.raises(DataError, match="recipe 'fma', version 1, exact, not of 'fma-corrected'"):
        run(music, output, "fma-corrected")
    assert output.read_bytes() == before
    with pytest.raises(DataError, match="version 1, exact, not of 'fma', version 1, fast"):
        list(extract_library(find_audio([music]), output, replace(FMA, is_fast=True)))
    setting = {"recipe": FMA.name, "version": FMA.version, "mode": FMA.mode}
    with Journal(tmp_path / "u.parquet.journal", "features", setting):
        pass
    with pytest.raises(DataError, match="journal' holds rows of recipe 'fma'"):
        run(music, tmp_path / "u.parquet", "fma-librosa")


def test_what_is_no_table_is_not_written_over(music: Path, tmp_path: Path) -> None:
    letter = tmp_path / "letter.parquet"
    letter.write_text("Dear reader,\n")
    with pytest.raises(DataError, match="no table of the 518 features"):
        run(music, letter)
    assert letter.read_text() == "Dear reader,\n"
    (tmp_path / "t.parquet.journal").write_text("my diary\n")
    with pytest.raises(DataError, match="something else than a journal"):
        run(music, tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet.journal").read_text() == "my diary\n"


def test_a_name_that_is_no_text_is_kept_escaped(music: Path, tmp_path: Path) -> None:
    name = os.fsencode(music) + b"/caf\xe9.wav"
    try:
        os.rename(music / "0.wav", name)
    except OSError:
        pytest.skip("this file system has no such names")
    output = tmp_path / "t.parquet"
    run(music, output)
    assert any(path.endswith("caf\\xe9.wav") for path in read_features(output).paths)
    rows = run(music, output)
    assert any(row.path.endswith("caf\udce9.wav") for row in rows)


def test_csv_holds_the_same_values(music: Path, tmp_path: Path) -> None:
    run(music, tmp_path / "t.csv")
    run(music, tmp_path / "t.parquet")
    csv, parquet = (read_features(tmp_path / f"t.{end}") for end in ("csv", "parquet"))
    np.testing.assert_array_equal(csv.columns, parquet.columns)
    assert csv.facts == parquet.facts
