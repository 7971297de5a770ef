"""``deepmusic data check``: its output, reports, resuming, and wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from training_runs import Call

from deepmusic.audio.scan import MAX_SECONDS, VERSION

RATE = 16000
MAX_WAIT_S = 60.0
SETTINGS = {"version": VERSION, "max_seconds": MAX_SECONDS}


def write(path: Path, seed: int, *, seconds: float = 6.0, gain: float = 0.1) -> Path:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, gain * rng.standard_normal(round(seconds * RATE)).clip(-3, 3), RATE)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        write(tmp_path / "music" / f"{number}.wav", number)
    return tmp_path / "music"


def test_files_without_findings(call: Call, folder: Path) -> None:
    done = call("data", "check", folder)
    assert done.status == 0
    assert done.output == "3 files, 0:00:18 of sound: 3 ok, 0 with notes, 0 with faults.\n"
    done = call("data", "check", folder, "--all")
    assert done.output.count("6.00 s, 16,000 Hz, mono, wav pcm_s16\n") == 3


def test_findings_are_listed(call: Call, folder: Path) -> None:
    write(folder / "x\n\x1b[31m.flac", 1, gain=0.05)  # as 1.wav, softer
    (folder / "bad.mp3").write_text("no sound")
    done = call("data", "check", folder, folder / "nowhere")
    assert done.status == 1
    lines = done.output.splitlines()
    starts = sorted(line.split()[0] for line in lines[:4])
    assert starts == ["missing", "near_duplicate", "near_duplicate", "not_audio"]
    assert sum("x\\n\\x1b[31m.flac" in line for line in lines) == 2
    assert "6 files, 0:00:24 of sound: 2 ok, 2 with notes, 2 with faults." in lines
    assert lines[-3:] == ["       2  near_duplicate", "       1  missing", "       1  not_audio"]


def test_a_data_set_with_splits(call: Call, tmp_path: Path) -> None:
    from deepmusic.datasets import Fold, Folds, scan_folder, write_splits

    root = tmp_path / "music"
    for genre in ("a", "b"):
        for number in range(2):
            write(root / genre / f"{number}.wav", number)  # the same sound in both genres
    dataset = scan_folder(root)
    splits = tmp_path / "splits.json"
    write_splits(splits, Folds((Fold((0, 1), (2, 3), ()),)), dataset)
    plain = call("data", "check", root)
    assert plain.status == 0
    assert "label_conflict" not in plain.output
    labels = call("data", "check", root, "--dataset")
    assert labels.status == 1
    assert "       4  label_conflict" in labels.output.splitlines()
    report = tmp_path / "r.json"
    leaks = call("data", "check", root, "--splits", splits, "-o", report)
    assert "       4  duplicate_leak" in leaks.output.splitlines()
    assert leaks.error.splitlines()[-1] == f"{report}: 4 files."
    rows = json.loads(report.read_text())["files"]
    assert [row["parts"] for row in rows] == [["train"], ["train"], ["validation"], ["validation"]]


def test_an_output_that_cannot_be_written_is_reported_first(call: Call, folder: Path) -> None:
    done = call("data", "check", folder, "-o", folder / "no" / "r.json")
    assert done.status == 2
    assert "r.json does not exist; make it first" in done.error
