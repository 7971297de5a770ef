"""Checks of data sets: every fault has its code, every leak is reported."""

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
from test_fingerprint import RATE, music

from deepmusic.audio import NotAudio
from deepmusic.datasets import Fold, Folds, scan_folder, write_splits
from deepmusic.datasets.check import (
    FAULTS,
    NOTES,
    CheckedFile,
    CheckReport,
    check_files,
)
from deepmusic.errors import DataError, RequestError


def write(path: Path, sound: NDArray[Any], sample_rate: int = RATE, **options: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, sample_rate, **options)
    return str(path)


def codes(file: CheckedFile) -> list[str]:
    return [finding.code for finding in file.findings]


def test_no_code_is_both_a_fault_and_a_note() -> None:
    assert not FAULTS & NOTES


def test_a_file_in_good_order_has_no_findings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", music(6, 1))
    report = check_files([path])
    assert [(file.path, file.status, file.findings) for file in report.files] == [(path, "ok", ())]
    assert not report.has_faults


def faulty(code: str) -> tuple[NDArray[Any], int, dict[str, Any]]:
    """Samples, sample rate and options of a file with this code."""
    sound = music(6, 1).astype(float)
    match code:
        case "silent":
            return 0 * sound, RATE, {}
        case "mostly_silent":
            sound[: len(sound) * 2 // 3] = 0
        case "clipped":
            sound *= 8
        case "dc_offset":
            sound += 0.05
        case "channels_cancel":
            return np.stack([sound, -sound], axis=1), RATE, {}
        case "low_rate":
            return sound, 8000, {}
        case "short":
            return sound[: 2 * RATE], RATE, {}
        case "not_finite_samples":
            sound[100] = np.nan
            return sound, RATE, {"subtype": "FLOAT"}
        case "not_finite":
            return np.nan * sound, RATE, {"subtype": "FLOAT"}
    return sound, RATE, {}


@pytest.mark.parametrize(
    "code",
    [
        "silent", "mostly_silent", "clipped", "dc_offset", "channels_cancel", "low_rate", "short",
        "not_finite_samples", "not_finite",
    ],
)  # fmt: skip
def test_each_fault_of_a_sound_has_its_code(tmp_path: Path, code: str) -> None:
    sound, sample_rate, options = faulty(code)
    (file,) = check_files([write(tmp_path / "a.wav", sound, sample_rate, **options)]).files
    assert codes(file) == [code]
    assert file.status == ("note" if code in NOTES else "fault")
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
        f"{genre}/{n}.wav": music(8, 10 * index + n)
        for index, genre in enumerate(("jazz", "rock"))
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


def test_copies_and_their_genres(music_folder: Path) -> None:
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
    train = [index for index in range(len(names)) if index not in validation]
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


def test_album_leaks_and_unlisted_files(music_folder: Path, tmp_path: Path) -> None:
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
def test_other_files_are_not_splits(music_folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(DataError, match=r"damaged|another program"):
        check_files([], dataset=scan_folder(music_folder), splits=tmp_path / "s.json")
    with pytest.raises(RequestError, match="Splits belong to a data set"):
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
def test_reports_in_every_format_agree(music_folder: Path, tmp_path: Path, ending: str) -> None:
    (music_folder / "rock" / "bad.wav").write_bytes(b"no")
    report = check_files([], dataset=scan_folder(music_folder))
    output = tmp_path / f"report.{ending}"
    report.write(output)
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
        [file.scan.duration_s for file in report.files]
    )
    assert {row["status"] for row in rows} == {"ok", "note", "fault"}


def test_a_report_with_another_extension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"ends in \.json, \.csv or \.parquet"):
        CheckReport(()).write(tmp_path / "a.txt")


CHECK_ODD = """
import json, sys
from deepmusic.audio import find_audio
from deepmusic.datasets.check import check_files

json.dump([file.to_dict() for file in check_files(find_audio(sys.argv[1:])).files], sys.stdout)
"""


def test_every_odd_file_has_a_row(shared_data: Path) -> None:
    odd = shared_data / "odd"
    with (odd / "manifest.csv").open(encoding="utf-8", newline="") as file:
        manifest = [row for row in csv.DictReader(file) if row["kind"] == "audio"]
    # three hours of silence in a small file are a test of the decoder
    expected = {
        str(odd / row["file"]): row["expectation"] for row in manifest if "bomb" not in row["file"]
    }
    done = subprocess.run(
        [sys.executable, "-c", CHECK_ODD, *expected], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["path"]: row for row in json.loads(done.stdout)}
    for path, expectation in expected.items():
        codes = set(rows[path]["codes"])
        if expectation == "reason":
            assert rows[path]["status"] == "fault", path
            assert codes - FAULTS - NOTES, path  # a code of a file without sound
        elif expectation == "verdict":
            assert codes <= FAULTS | NOTES, path
            assert rows[path]["duration_s"] > 0
