"""Checks of data sets: every fault has its code, every leak is seen, every odd file gets a row."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "audio"))
from sounds import PEAK_MB
from test_fingerprint import RATE, music

from deepmusic.audio import NotAudio
from deepmusic.audio.scan import scan_file
from deepmusic.datasets import Fold, Folds, scan_folder, write_splits
from deepmusic.datasets.check import (
    FAULTS,
    NOTES,
    CheckedFile,
    CheckReport,
    check_files,
    write_report,
)
from deepmusic.errors import DataError, RequestError

ODD = Path(__file__).resolve().parents[3] / "shared" / "data" / "odd"


def write(path: Path, sound: NDArray[Any], sample_rate: int = RATE, **options: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, sample_rate, **options)
    return str(path)


def codes(file: CheckedFile) -> list[str]:
    return [finding.code for finding in file.findings]


def test_no_code_is_both_a_fault_and_a_note() -> None:
    assert not FAULTS.keys() & NOTES.keys()


def test_a_file_in_good_order_has_no_findings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(6, 1))
    report = check_files([path])
    assert [(file.path, file.status, file.findings) for file in report.files] == [(path, "ok", ())]
    assert not report.has_faults


def faulty(kind: str) -> tuple[NDArray[Any], int, dict[str, Any]]:
    sound = music(6, 1).astype(float)
    sample_rate, options = RATE, {}
    if kind == "silent":
        sound *= 0
    elif kind == "mostly_silent":
        sound[: len(sound) * 2 // 3] = 0
    elif kind == "clipped":
        sound *= 8
    elif kind == "dc_offset":
        sound += 0.05
    elif kind == "channels_cancel":
        sound = np.stack([sound, -sound], axis=1)
    elif kind == "low_rate":
        sample_rate = 8000
    elif kind == "short":
        sound = sound[: 2 * RATE]
    elif kind == "not_finite_samples":
        sound[100] = np.nan
        options = {"subtype": "FLOAT"}
    elif kind == "not_finite":
        sound[:] = np.nan
        options = {"subtype": "FLOAT"}
    return sound, sample_rate, options


@pytest.mark.parametrize(
    "kind",
    [
        "silent",
        "mostly_silent",
        "clipped",
        "dc_offset",
        "channels_cancel",
        "low_rate",
        "short",
        "not_finite_samples",
        "not_finite",
    ],
)
def test_each_fault_of_a_sound_has_its_code(tmp_path: Path, kind: str) -> None:
    sound, sample_rate, options = faulty(kind)
    (file,) = check_files([write(tmp_path / "a.wav", sound, sample_rate, **options)]).files
    assert codes(file) == [kind]
    assert file.status == ("note" if kind in NOTES else "fault")
    assert file.findings[0].message.endswith(".")


def test_cut_off_files_and_files_without_sound(tmp_path: Path) -> None:
    cut = Path(write(tmp_path / "cut.wav", music(8, 1)))
    cut.write_bytes(cut.read_bytes()[:-40_000])
    (tmp_path / "text.mp3").write_text("no sound")
    gone = NotAudio("gone.mp3", "'gone.mp3' does not exist.", "missing")
    report = check_files([gone, str(cut), str(tmp_path / "text.mp3")])
    assert [codes(file) for file in report.files] == [["missing"], ["cut_off"], ["not_audio"]]
    assert report.has_faults
    assert report.summary()["codes"] == {"cut_off": 1, "missing": 1, "not_audio": 1}


@pytest.fixture
def music_folder(tmp_path: Path) -> Path:
    """Two genres; the same sound in both, in other bytes; a table of artists."""
    root = tmp_path / "music"
    sounds = {
        f"{genre}/{n}.wav": music(8, 10 * place + n)
        for place, genre in enumerate(("jazz", "rock"))
        for n in range(4)
    }
    sounds["rock/copy.flac"] = 0.5 * sounds["jazz/0.wav"]
    sounds["rock/same.wav"] = sounds["rock/1.wav"]
    for name, sound in sounds.items():
        write(root / name, sound)
    with (root / "tracks.csv").open("w", newline="") as file:
        rows = [(name, name.split("/")[0], f"artist {name}", "") for name in sounds]
        csv.writer(file).writerows([("path", "genre", "artist", "album"), *rows])
    return root


def test_copies_and_the_genres_they_lie_in(music_folder: Path) -> None:
    report = check_files([], dataset=scan_folder(music_folder))
    found = {Path(file.path).relative_to(music_folder).as_posix(): file for file in report.files}
    wrong = {name: codes(file) for name, file in found.items() if file.findings}
    assert wrong == {
        "jazz/0.wav": ["near_duplicate", "label_conflict"],
        "rock/copy.flac": ["near_duplicate", "label_conflict"],
        "rock/1.wav": ["exact_duplicate"],
        "rock/same.wav": ["exact_duplicate"],
    }
    assert "'rock' as 'rock/copy.flac'" in found["jazz/0.wav"].findings[1].message
    assert found["jazz/0.wav"].sound_group == found["rock/copy.flac"].sound_group is not None
    assert found["rock/1.wav"].sound_group == found["rock/same.wav"].sound_group is not None
    assert found["rock/2.wav"].sound_group is None


def test_leaks_between_parts(music_folder: Path, tmp_path: Path) -> None:
    dataset = scan_folder(music_folder)
    names = [track.path for track in dataset.tracks]
    tracks = list(dataset.tracks)
    tracks[names.index("jazz/2.wav")] = replace(
        tracks[names.index("jazz/2.wav")], artist="Xan & Yves"
    )
    tracks[names.index("rock/3.wav")] = replace(tracks[names.index("rock/3.wav")], artist="yves")
    tracks[names.index("jazz/3.wav")] = replace(tracks[names.index("jazz/3.wav")], artist="yves")
    dataset = replace(dataset, tracks=tuple(tracks))
    validation = [names.index(name) for name in ("rock/copy.flac", "rock/3.wav", "rock/same.wav")]
    train = [place for place in range(len(names)) if place not in validation]
    splits = tmp_path / "splits.json"
    write_splits(splits, Folds((Fold(tuple(train), tuple(validation), ()),)), dataset)
    report = check_files([], dataset=dataset, splits=splits)
    leaks = {
        Path(file.path).relative_to(music_folder).as_posix(): [
            code for code in codes(file) if code.endswith("_leak")
        ]
        for file in report.files
    }
    assert {name: found for name, found in leaks.items() if found} == {
        "jazz/0.wav": ["duplicate_leak"],
        "rock/copy.flac": ["duplicate_leak"],
        "rock/1.wav": ["duplicate_leak"],
        "rock/same.wav": ["duplicate_leak"],
        "jazz/2.wav": ["artist_leak"],
        "jazz/3.wav": ["artist_leak"],
        "rock/3.wav": ["artist_leak"],
    }
    assert report.files[0].parts == ("train",)


def test_an_album_leaks_and_a_new_file_is_said(music_folder: Path, tmp_path: Path) -> None:
    dataset = scan_folder(music_folder)
    tracks = [
        replace(
            track, artist=None, album="One" if track.path in ("jazz/1.wav", "rock/0.wav") else None
        )
        for track in dataset.tracks
    ]
    old = replace(dataset, tracks=tuple(tracks[1:]))
    splits = tmp_path / "splits.json"
    train = tuple(range(3))
    write_splits(splits, Folds((Fold(train, tuple(range(3, len(tracks) - 1)), ()),)), old)
    report = check_files([], dataset=replace(dataset, tracks=tuple(tracks)), splits=splits)
    found = {
        Path(file.path).relative_to(music_folder).as_posix(): codes(file) for file in report.files
    }
    assert "changed" in found["jazz/0.wav"]
    assert found["jazz/1.wav"] == ["album_leak"]
    assert "album_leak" in found["rock/0.wav"]


@pytest.mark.parametrize("text", ["", "[]", '{"format": "x"}', '{"format": "deepmusic splits"}'])
def test_splits_that_are_none_are_refused(music_folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(DataError, match="holds no splits"):
        check_files([], dataset=scan_folder(music_folder), splits=tmp_path / "s.json")
    with pytest.raises(RequestError, match="Splits are of a data set"):
        check_files([], splits=tmp_path / "s.json")


def test_checksums(tmp_path: Path) -> None:
    paths = [write(tmp_path / "set" / f"{n}.wav", music(6, n)) for n in range(3)]
    sums = [hashlib.sha1(Path(path).read_bytes()).hexdigest() for path in paths]
    table = tmp_path / "set" / "checksums"
    lines = [f"{sums[0]}  0.wav", f"{sums[0]}  1.wav", f"{sums[0]}  gone.wav", f"{sums[1]}  README"]
    table.write_text("\n".join(lines) + "\n")
    report = check_files(paths, checksums=table)
    found = {Path(file.path).name: codes(file) for file in report.files}
    assert found == {
        "0.wav": [],
        "1.wav": ["checksum"],
        "2.wav": ["unlisted"],
        "gone.wav": ["missing"],
    }
    for text in ("", "hello", f"{sums[0]}  a\n{'0' * 64}  b"):
        table.write_text(text)
        with pytest.raises(DataError, match="checksum"):
            check_files(paths, checksums=table)


@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
def test_reports_say_the_same(music_folder: Path, tmp_path: Path, ending: str) -> None:
    (music_folder / "rock" / "bad.wav").write_bytes(b"no")
    report = check_files([], dataset=scan_folder(music_folder))
    output = tmp_path / f"report.{ending}"
    write_report(output, report)
    rows: list[dict[str, Any]]
    if ending == "json":
        whole = json.loads(output.read_text())
        assert whole["summary"]["files"] == len(report.files)
        rows = [row | {"codes": ";".join(row["codes"])} for row in whole["files"]]
    elif ending == "csv":
        with output.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pq.read_table(output).to_pylist()
    assert [row["path"] for row in rows] == [file.path for file in report.files]
    assert [row["codes"] for row in rows] == [";".join(codes(file)) for file in report.files]
    assert [float(row["duration_s"]) for row in rows] == pytest.approx(
        [file.heard.duration_s for file in report.files]
    )
    assert {row["status"] for row in rows} == {"ok", "note", "fault"}


def test_a_report_of_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"ends in \.json, \.csv or \.parquet"):
        write_report(tmp_path / "a.txt", CheckReport(()))


CHECK_ODD = (
    PEAK_MB
    + """
import json, sys
from deepmusic.audio import find_audio
from deepmusic.datasets.check import check_files

report = check_files(find_audio(sys.argv[1:]))
rows = [file.to_dict() for file in report.files]
json.dump({"rows": rows, "memory_mb": peak_mb()}, sys.stdout)
"""
)


@pytest.mark.slow
def test_every_odd_file_gets_a_row(shared_data: Path) -> None:
    with (ODD / "manifest.csv").open(encoding="utf-8", newline="") as file:
        manifest = [row for row in csv.DictReader(file) if row["kind"] == "audio"]
    paths = [str(ODD / row["file"]) for row in manifest]
    done = subprocess.run(
        [sys.executable, "-c", CHECK_ODD, *paths], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert result["memory_mb"] < 400
    found = {row["path"]: row for row in result["rows"]}
    known = {*FAULTS, *NOTES}
    for row, path in zip(manifest, paths, strict=True):
        # a folder called song.mp3 holds no sound files
        checked = found[path]
        assert len(checked["codes"]) == len(checked["messages"])
        if row["expectation"] == "reason":
            assert checked["status"] == "fault", path
            assert set(checked["codes"]) - known, path  # a code of a file without sound
        elif row["expectation"] == "verdict":
            assert set(checked["codes"]) <= known, path
            assert checked["duration_s"] > 0


def test_many_channels_are_heard_in_blocks(tmp_path: Path) -> None:
    sound = np.repeat(music(6, 1)[:, None], 8, axis=1)
    sound[:, 5] *= 4
    heard = scan_file(write(tmp_path / "a.flac", sound))
    assert heard.channels == 8
    assert heard.peak == pytest.approx(min(1.0, float(np.abs(sound).max())), abs=1e-3)
