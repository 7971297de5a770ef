"""Checks of data sets: every fault has its code, every leak is reported."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
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

from deepmusic.audio import NotAudio, scan
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


def test_a_file_in_good_order_has_no_findings(tmp_path: Path) -> None:
    assert not FAULTS & NOTES
    path = write(tmp_path / "a.wav", music(6, 1))
    report = check_files([path])
    assert [(file.path, file.status, file.findings) for file in report.files] == [(path, "ok", ())]
    assert not report.has_faults


def padded(sound: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.where(np.arange(len(sound)) < len(sound) * 2 // 3, 0, sound)


@pytest.mark.parametrize(
    ("code", "change", "sample_rate"),
    [
        ("silent", lambda sound: 0 * sound, RATE),
        ("mostly_silent", padded, RATE),
        ("clipped", lambda sound: 8 * sound, RATE),
        ("dc_offset", lambda sound: sound + 0.05, RATE),
        ("channels_cancel", lambda sound: np.stack([sound, -sound], axis=1), RATE),
        ("low_rate", lambda sound: sound, 8000),
        ("short", lambda sound: sound[: 2 * RATE], RATE),
        ("not_finite_samples", lambda sound: np.append(sound, np.nan), RATE),
        ("not_finite", lambda sound: np.nan * sound, RATE),
    ],
)
def test_each_fault_of_a_sound_has_its_code(
    code: str, change: Callable[[NDArray[Any]], NDArray[Any]], sample_rate: int, tmp_path: Path
) -> None:
    sound = change(music(6, 1).astype(float))
    options = {"subtype": "FLOAT"} if code.startswith("not_finite") else {}
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


def test_one_file_under_two_names_is_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Path(write(tmp_path / "one.wav", music(6, 1)))
    (tmp_path / "link.wav").symlink_to("one.wav")
    os.link(one, tmp_path / "hard.wav")
    copy = Path(shutil.copy(one, tmp_path / "copy.wav"))
    other = Path(write(tmp_path / "other.wav", music(6, 2)))
    os.link(other, tmp_path / "alias.wav")
    decoded = []
    original = scan.scan_file
    monkeypatch.setattr(
        "deepmusic.audio.scan.scan_file",
        lambda path, **options: decoded.append(path) or original(path, **options),
    )
    names = ["one", "link", "hard", "copy", "other", "alias"]
    report = check_files([str(tmp_path / f"{name}.wav") for name in names])
    assert decoded == [str(one), str(copy), str(other)]
    found = {Path(file.path).stem: file for file in report.files}
    assert list(found) == names
    assert {name: codes(file) for name, file in found.items()} == {
        "one": ["same_file", "exact_duplicate"],
        "link": ["same_file"],
        "hard": ["same_file"],
        "copy": ["exact_duplicate"],
        "other": ["same_file"],
        "alias": ["same_file"],
    }
    assert found["link"].findings[0].message == (
        f"It is the same file as {str(one)!r} and 1 more: one name is a symbolic link."
    )
    assert found["alias"].findings[0].message == (
        f"It is the same file as {str(other)!r}: the names are hard links."
    )
    assert len({file.sound_group for file in report.files}) == 2
    assert not report.has_faults


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
        artists = {name: f"artist of {Path(name).stem} in {name[:4]}" for name in sounds}
        rows = [(name, name.split("/")[0], artist, "") for name, artist in artists.items()]
        csv.writer(file).writerows([("path", "genre", "artist", "album"), *rows])
    return root


def found_in(report: CheckReport, folder: Path) -> dict[str, CheckedFile]:
    return {Path(file.path).relative_to(folder).as_posix(): file for file in report.files}


@pytest.mark.slow
def test_copies_and_their_genres(music_folder: Path) -> None:
    found = found_in(check_files([], dataset=scan_folder(music_folder)), music_folder)
    assert {name: codes(file) for name, file in found.items() if file.findings} == {
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
    artists = {"jazz/2.wav": "Xan & Yves", "rock/3.wav": "yves", "jazz/3.wav": "yves"}
    tracks = [replace(t, artist=artists.get(t.path, t.artist)) for t in dataset.tracks]
    dataset = replace(dataset, tracks=tuple(tracks))
    validation = ("rock/copy.flac", "rock/3.wav", "rock/same.wav")
    parts = [[], []]
    for index, track in enumerate(tracks):
        parts[track.path in validation].append(index)
    splits = tmp_path / "splits.json"
    write_splits(splits, Folds((Fold(*map(tuple, parts), ()),)), dataset)
    report = check_files([], dataset=dataset, splits=splits)
    leaks = {
        name: [code for code in codes(file) if code.endswith("_leak")]
        for name, file in found_in(report, music_folder).items()
    }
    sounds = ("jazz/0.wav", "rock/copy.flac", "rock/1.wav", "rock/same.wav")
    assert {name: found for name, found in leaks.items() if found} == {
        **{name: ["duplicate_leak"] for name in sounds},
        **{name: ["artist_leak"] for name in artists},
    }
    assert report.files[0].parts == ("train",)


def test_album_leaks_and_unlisted_files(music_folder: Path, tmp_path: Path) -> None:
    dataset = scan_folder(music_folder)
    albums = {"jazz/1.wav": "One", "rock/0.wav": "One"}
    tracks = tuple(replace(t, artist=None, album=albums.get(t.path)) for t in dataset.tracks)
    splits = tmp_path / "splits.json"
    fold = Fold(tuple(range(3)), tuple(range(3, len(tracks) - 1)), ())
    write_splits(splits, Folds((fold,)), replace(dataset, tracks=tracks[1:]))
    report = check_files([], dataset=replace(dataset, tracks=tracks), splits=splits)
    found = found_in(report, music_folder)
    assert "changed" in codes(found["jazz/0.wav"])
    assert codes(found["jazz/1.wav"]) == ["album_leak"]
    assert "album_leak" in codes(found["rock/0.wav"])


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
    expected = {"1.wav": ["checksum"], "2.wav": ["unlisted"], "gone.wav": ["missing"]}
    assert found == {"0.wav": [], **expected}
    for text in ("", "hello", f"{sums[0]}  a\n{'0' * 64}  b"):
        table.write_text(text)
        with pytest.raises(DataError, match="checksum"):
            check_files(paths, checksums=table)


@pytest.mark.slow
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
    with pytest.raises(RequestError, match=r"ends in \.json, \.csv or \.parquet"):
        report.write(tmp_path / "a.txt")


CHECK_ODD = """
import json, sys
from deepmusic.audio import find_audio
from deepmusic.datasets.check import check_files

json.dump([file.to_dict() for file in check_files(find_audio(sys.argv[1:])).files], sys.stdout)
"""


@pytest.mark.slow
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
