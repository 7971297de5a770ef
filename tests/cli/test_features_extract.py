"""``deepmusic features extract``: tables, reasons, interruptions."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from training_runs import Call, start

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import make_miniature

from deepmusic.datasets.gtzan import fault_filtered_clips
from deepmusic.features import RECIPES, extract_file, read_features

COMMAND = [sys.executable, "-m", "deepmusic", "features", "extract"]
MAX_S = 60.0


def write_tone(path: Path, hz: float, *, seconds: float = 0.5, sample_rate: int = 22050) -> Path:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = np.sin(2 * np.pi * hz * time) * (0.3 + 0.1 * np.sin(20 * time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, sample_rate)
    return path


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    for number in range(4):
        write_tone(tmp_path / "music" / f"{number}.wav", 200 + 50 * number)
    return tmp_path / "music"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fma", "fma-corrected"])
def test_a_table_of_a_folder(call: Call, tones: Path, tmp_path: Path, recipe: str) -> None:
    output = tmp_path / "t.parquet"
    done = call("features", "extract", tones, "-o", output, "--recipe", recipe)
    assert done.status == 0
    assert done.output == ""
    assert done.error.splitlines()[-1] == f"{output}: 4 of 4 tracks, recipe {recipe}."
    table = read_features(output)
    assert table.recipe == recipe
    expected = [extract_file(tones / f"{n}.wav", RECIPES[recipe]).columns for n in range(4)]
    np.testing.assert_allclose(table.columns, expected, rtol=1e-6)


@pytest.mark.slow
def test_bad_files_have_a_reason_and_the_rest_goes_on(
    call: Call, tones: Path, tmp_path: Path
) -> None:
    (tones / "0.wav").write_text("no sound")
    write_tone(tones / "low.wav", 300, sample_rate=8000)
    output = tmp_path / "t.parquet"
    done = call("features", "extract", tones, tmp_path / "nowhere", "-o", output)
    assert done.status == 1
    lines = done.error.splitlines()
    assert any("'" in line and "nowhere" in line for line in lines)
    assert any("8000 Hz, too low for chroma_cens, chroma_cqt, tonnetz" in line for line in lines)
    assert lines[-1].endswith("4 of 6 tracks, recipe fma.")
    codes = read_features(output).facts["code"]
    assert codes == ["not_audio", "", "", "", "low_rate", "missing"]


def test_an_output_that_cannot_be_written_is_reported_at_once(
    call: Call, tones: Path, tmp_path: Path
) -> None:
    done = call("features", "extract", tones, "-o", tmp_path / "no" / "folder" / "t.parquet")
    assert done.status == 2
    assert "t.parquet does not exist; make it first" in done.error


def finished_rows(store: Path) -> int:
    """How many rows another process has stored."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM work").fetchone()[0])
    return 0


TRACKS = 48  # enough that a busy machine does not finish them before it is interrupted


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_kill_loses_only_the_tracks_in_progress(tmp_path: Path, number: signal.Signals) -> None:
    music, output = tmp_path / "music", tmp_path / "t.parquet"
    for track in range(TRACKS):
        write_tone(music / f"{track:02d}.wav", 200 + 10 * track, seconds=2, sample_rate=44100)
    command = [*COMMAND, str(music), "-o", str(output), "--workers", "2"]
    process = start(command, start_new_session=True)
    store = tmp_path / "t.parquet.partial"
    while process.poll() is None and finished_rows(store) < 3:
        pass
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert not output.exists()
    assert 3 <= finished_rows(store) < TRACKS
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert error.splitlines()[-1] == "deepmusic: interrupted"
        assert "Traceback" not in error
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert f"{TRACKS} of {TRACKS} tracks" in done.stderr
    assert not store.exists()
    table = read_features(output)
    assert len(set(table.paths)) == len(table) == TRACKS
    assert np.isfinite(table.columns).all()


@pytest.mark.slow
def test_every_odd_file_has_values_or_a_reason(
    shared_data: Path, tmp_path: Path, call: Call
) -> None:
    odd = shared_data / "odd"
    with (odd / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "audio"]
    wanted = {
        str(odd / row["file"]): row["expectation"]
        for row in rows
        if float(row["seconds"] or 0) <= MAX_S
    }
    output = tmp_path / "t.parquet"
    done = call("features", "extract", *wanted, "-o", output, "--max-minutes", "1")
    assert done.status == 1
    assert "Traceback" not in done.error
    assert "unexpected" not in done.error
    table = read_features(output)
    assert set(table.paths) == set(wanted)
    for path, code, columns in zip(table.paths, table.facts["code"], table.columns, strict=True):
        has_values = not np.isnan(columns).all()
        if wanted[path] != "either":
            assert has_values == (wanted[path] == "verdict"), (path, code)
        assert code or np.isfinite(columns).all(), path
        assert not np.isinf(columns).any(), path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gtzan", "folder", "table"])
def test_a_data_set_of_any_kind_is_divided(call: Call, tmp_path: Path, kind: str) -> None:
    data, genres = tmp_path / "data", ("blues", "rock")
    parts = fault_filtered_clips()
    clips = {part: [c for c in parts[part] if c.split(".")[0] in genres] for part in parts}
    names = [n for g in genres for p in clips.values() for n in [c for c in p if g in c][:2]]
    for number, name in enumerate(names):
        name = name if kind == "gtzan" else f"{number}"
        folder = data / "genres_original" if kind == "gtzan" else data
        genre = genres[number * len(genres) // len(names)]
        write_tone(folder / genre / f"{name}.wav", 200 + 20 * number)
    if kind == "table":
        rows = [f"{p.relative_to(data)},{p.parent.name}" for p in sorted(data.rglob("*.wav"))]
        (data / "my.csv").write_text("\n".join(["path,genre", *rows]) + "\n")
    given = data / "my.csv" if kind == "table" else data
    done = call("features", "extract", given, "--split", "-o", tmp_path / "t.parquet")
    assert done.status == 0, done.error
    table = read_features(tmp_path / "t.parquet")
    assert len(table) == len(names) == 12
    written = json.loads((tmp_path / "t.splits.json").read_text())
    assert written["protocol"] == ("official" if kind == "gtzan" else "grouped")
    tracks = {entry["path"]: entry["parts"][0] for entry in written["tracks"]}
    root = data / "genres_original" if kind == "gtzan" else data
    assert {os.fspath(root / path) for path in tracks} == set(table.paths)
    assert set(tracks.values()) == {"train", "validation", "test"}
    if kind == "gtzan":
        assert all(Path(path).stem in clips[part] for path, part in tracks.items())


def test_a_file_that_a_data_set_cannot_use_keeps_its_path_and_reason(
    call: Call, tmp_path: Path
) -> None:
    for number in range(6):
        write_tone(tmp_path / "data" / "ab"[number % 2] / f"{number}.wav", 200 + 50 * number)
    empty = tmp_path / "data" / "a" / "empty.wav"
    empty.touch()
    done = call("features", "extract", tmp_path / "data", "--split", "-o", tmp_path / "t.parquet")
    assert done.status == 1
    table = read_features(tmp_path / "t.parquet")
    row = table.paths.index(os.fspath(empty))
    assert table.facts["code"][row] == "empty"
    assert "is empty (0 bytes)" in table.facts["error"][row]


@pytest.mark.slow
def test_the_official_split_of_fma(call: Call, tmp_path: Path) -> None:
    fma = make_miniature(tmp_path / "fma", bad_clips=(133297, 98565))
    done = call("features", "extract", fma.root, "--split", "-o", tmp_path / "t.parquet")
    assert done.status == 1
    assert "The clip of track 133297 holds no sound." in done.error.splitlines()
    table = read_features(tmp_path / "t.parquet")
    assert set(table.paths) == {str(fma.audio / row.path) for row in fma.audio_rows}
    rows = map(table.track, range(len(table)))
    codes = {Path(row.path).stem: row.code for row in rows if row.code}
    assert codes == {"098565": "short", "133297": "no_sound"}
    written = json.loads((tmp_path / "t.splits.json").read_text())
    assert written["protocol"] == "official"
    given = {"training": "train", "validation": "validation", "test": "test"}
    expected = {row.path: given[row.split] for row in fma.audio_rows if row.path[4:10] not in codes}
    assert {entry["path"]: entry["parts"][0] for entry in written["tracks"]} == expected
