"""``deepmusic features extract`` from outside: tables, reasons, stops, parts."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from training_runs import Call

from deepmusic.features import RECIPES, extract_file, read_features

COMMAND = [sys.executable, "-m", "deepmusic", "features", "extract"]
LONGEST_S = 60.0


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


def test_a_table_of_a_folder(call: Call, tones: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.parquet"
    done = call("features", "extract", tones, "-o", output)
    assert done.status == 0
    assert done.output == ""
    assert done.error.splitlines()[-1] == f"{output}: 4 of 4 tracks, recipe fma, exact."
    table = read_features(output)
    expected = [extract_file(tones / f"{n}.wav", RECIPES["fma"]).columns for n in range(4)]
    np.testing.assert_array_equal(table.columns, expected)


def test_recipes_are_what_they_are_called(call: Call, tones: Path, tmp_path: Path) -> None:
    for recipe in RECIPES:
        output = tmp_path / f"{recipe}.csv"
        assert call("features", "extract", tones, "-o", output, "--recipe", recipe).status == 0
        row = extract_file(tones / "0.wav", RECIPES[recipe]).columns
        np.testing.assert_array_equal(read_features(output).columns[0], row)


def test_the_fast_mode_is_another_table(call: Call, tones: Path, tmp_path: Path) -> None:
    output = tmp_path / "t.parquet"
    done = call("features", "extract", tones, "-o", output, "--fast")
    assert done.status == 0
    assert done.error.splitlines()[-1].endswith("4 of 4 tracks, recipe fma, fast.")
    assert read_features(output).mode == "fast"
    row = extract_file(tones / "0.wav", replace(RECIPES["fma"], is_fast=True)).columns
    np.testing.assert_array_equal(read_features(output).columns[0], row)
    done = call("features", "extract", tones, "-o", output)
    assert done.status == 1
    assert "fast, not of 'fma', version 1, exact: name another output." in done.error


def test_bad_files_get_a_reason_and_the_rest_goes_on(
    call: Call, tones: Path, tmp_path: Path
) -> None:
    (tones / "0.wav").write_text("no sound")
    write_tone(tones / "low.wav", 300, sample_rate=8000)
    output = tmp_path / "t.parquet"
    done = call("features", "extract", tones, tmp_path / "nowhere", "-o", output)
    assert done.status == 1
    lines = done.error.splitlines()
    assert any("'" in line and "nowhere" in line for line in lines)
    assert any(
        "8000 samples per second, too few for chroma_cens, chroma_cqt, tonnetz" in line
        for line in lines
    )
    assert lines[-1].endswith("4 of 6 tracks, recipe fma, exact.")
    codes = read_features(output).facts["code"]
    assert codes == ["not_audio", "", "", "", "low_rate", "missing"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "fmaa"], "There is no recipe 'fmaa'; there are fma, fma-librosa"),
        (["--workers", "2", "--dask", "tcp://localhost:1"], "--workers is for this machine"),
        (["--split", "more"], "--split takes one PATH"),
        (["--spectrograms", "s", "more"], "--spectrograms takes one PATH"),
        (["--workers", "0"], "0 is not in the range"),
        (["--max-minutes", "0"], "0"),
    ],
)
def test_wrong_usage(
    call: Call, tones: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = call("features", "extract", tones, "-o", tmp_path / "t.parquet", *arguments)
    assert done.status == 2
    assert said in done.error
    assert not list(tmp_path.glob("t.parquet*"))


def test_an_output_that_cannot_be_written_is_said_at_once(
    call: Call, tones: Path, tmp_path: Path
) -> None:
    done = call("features", "extract", tones, "-o", tmp_path / "no" / "folder" / "t.parquet")
    assert done.status == 1
    assert done.error.count("\n") == 1
    assert "cannot be used: no such file or directory" in done.error


@pytest.mark.parametrize("given", ["music", "./music/", "."])
def test_parts_never_share_an_artist(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    root = tmp_path / "music"
    rows = []
    for genre, hz in (("high", 800), ("low", 200)):
        for number in range(12):
            write_tone(root / genre / f"{number}.wav", hz + 7 * number)
            rows.append((f"{genre}/{number}.wav", genre, f"{genre} artist {number // 2}"))
    with (root / "tracks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "genre", "artist"), *rows])
    monkeypatch.chdir(root if given == "." else tmp_path)
    done = call("features", "extract", given, "-o", tmp_path / "t.parquet", "--split")
    assert done.status == 0, done.error
    parts = {
        part: read_features(tmp_path / f"t.{part}.parquet")
        for part in ("train", "validation", "test")
    }
    assert sum(map(len, parts.values())) == 24
    artists = []
    for table in parts.values():
        assert table.extra is not None
        assert set(table.extra["genre"]) == {"high", "low"}
        artists.append(set(table.extra["artist"]))
    assert not (artists[0] & artists[1] | artists[0] & artists[2] | artists[1] & artists[2])
    whole = read_features(tmp_path / "t.parquet")
    place = whole.paths.index(parts["test"].paths[0])
    np.testing.assert_array_equal(parts["test"].columns[0], whole.columns[place])
    assert json.loads((tmp_path / "t.splits.json").read_text())


def test_spectrograms_are_those_that_training_takes(call: Call, tmp_path: Path) -> None:
    root = tmp_path / "music"
    for genre, hz in (("high", 800), ("low", 200)):
        for number in range(2):
            write_tone(root / genre / f"{number}.wav", hz + 7 * number, seconds=4)
    (root / "low" / "silent.wav").write_bytes((root / "low" / "0.wav").read_bytes()[:44])
    done = call(
        "features", "extract", root, "-o", tmp_path / "t.parquet", "--spectrograms", tmp_path / "s"
    )
    assert done.status == 1  # of silent.wav
    assert f"{tmp_path / 's'}: spectrograms of 4 of" in done.error
    kept = sorted((tmp_path / "s").glob("*.npy"))
    assert len(kept) == 4
    mapped = np.load(kept[0], mmap_mode="r")
    assert mapped.dtype == np.float16
    before = {path: path.stat().st_mtime_ns for path in kept}
    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.spectrograms import SpectrogramStore
    from deepmusic.datasets import scan_folder

    dataset = scan_folder(root)
    store = SpectrogramStore(tmp_path / "s", ClassifierConfig(genres=dataset.genres))
    store.fill(dataset)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert store.load(dataset.tracks[0]).shape[0] == 128


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGKILL, 2)])
def test_a_stop_at_any_time_costs_the_tracks_in_flight_alone(
    tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    music, output = tmp_path / "music", tmp_path / "t.parquet"
    for track in range(40):
        write_tone(music / f"{track:02d}.wav", 200 + 10 * track, seconds=3, sample_rate=44100)
    command = [*COMMAND, str(music), "-o", str(output), "--workers", str(workers)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    journal = tmp_path / "t.parquet.journal"
    while process.poll() is None and lines_of(journal) < 6:
        pass
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=60)
    kept = lines_of(journal) - 1
    assert not output.exists()
    assert 5 <= kept < 40
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert error.splitlines()[-1] == "deepmusic: interrupted"
        assert "Traceback" not in error
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "40 of 40 tracks" in done.stderr
    table = read_features(output)
    assert len(set(table.paths)) == len(table) == 40
    assert np.isfinite(table.columns).all()


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.slow
def test_every_odd_file_gets_values_or_a_reason(shared_data: Path, tmp_path: Path) -> None:
    odd = shared_data / "odd"
    with (odd / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "audio"]
    wanted = {
        str(odd / row["file"]): row["expectation"]
        for row in rows
        if float(row["seconds"] or 0) <= LONGEST_S
    }
    output = tmp_path / "t.parquet"
    done = subprocess.run(
        [*COMMAND, *wanted, "-o", str(output), "--max-minutes", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    table = read_features(output)
    assert set(table.paths) == set(wanted)
    for path, code, columns in zip(table.paths, table.facts["code"], table.columns, strict=True):
        has_values = not np.isnan(columns).all()
        if wanted[path] != "either":
            assert has_values == (wanted[path] == "verdict"), (path, code)
        assert code or np.isfinite(columns).all(), path
        assert not np.isinf(columns).any(), path
