"""``deepmusic data split``: what it writes, prints and refuses."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from training_runs import Call

from faults import failing

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from miniature_fma import make_miniature
from miniature_gtzan import read_gtzan, write_gtzan

from deepmusic.cli import deepmusic
from deepmusic.datasets import read_splits, scan_folder
from deepmusic.datasets.gtzan import fault_filtered_split
from deepmusic.errors import DataError

RATE = 11025


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(deepmusic, ["data", "split", *map(str, arguments)])


def melody(seed: int, seconds: float = 8.0) -> np.ndarray[Any, Any]:
    """Notes with overtones, each of its own length."""
    rng = np.random.default_rng(seed)
    notes = []
    while sum(map(len, notes)) < seconds * RATE:
        time = np.arange(round(rng.uniform(0.15, 0.5) * RATE)) / RATE
        pitch = 110 * 2 ** (rng.integers(0, 36) / 12)
        tones = (np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 6))
        notes.append(sum(tones) * np.exp(-4 * time))
    return 0.2 * np.concatenate(notes)[: round(seconds * RATE)]


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Two genres of six artists each; rock/0.wav and jazz/copy.flac are the same recording."""
    root = tmp_path / "music"
    rows = ["path,artist"]
    for number, genre in enumerate(("jazz", "rock")):
        (root / genre).mkdir(parents=True)
        for n in range(6):
            soundfile.write(root / genre / f"{n}.wav", melody(10 * number + n), RATE)
            rows.append(f"{genre}/{n}.wav,{genre} name {n}")
    soundfile.write(root / "jazz" / "copy.flac", 0.5 * melody(10), RATE)
    rows.append("jazz/copy.flac,somebody else")
    (root / "tracks.csv").write_text("\n".join(rows) + "\n")
    return root


def parts_of(file: Path) -> dict[str, list[str]]:
    return {entry["path"]: entry["parts"] for entry in json.loads(file.read_text())["tracks"]}


@pytest.mark.slow
def test_near_duplicates_are_on_one_side(music: Path, tmp_path: Path) -> None:
    file, kept = tmp_path / "s.json", tmp_path / "kept"
    result = invoke(music, "-o", file, "--cache", kept)
    assert result.exit_code == 0, result.output
    assert kept.is_file()
    assert "near copy" in result.stdout
    parts = parts_of(file)
    assert parts["rock/0.wav"] == parts["jazz/copy.flac"]


def test_what_is_printed_and_written(music: Path, tmp_path: Path) -> None:
    result = invoke(music, "-o", tmp_path / "s.json", "--no-fingerprint", "--test", "0.3")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["genre", "train", "artists", "validation"]
    assert lines[3].startswith("all")
    total = [int(cell) for cell in lines[3].split()[1:]]
    assert sum(total[::2]) == sum(total[1::2]) == 13
    assert "13 tracks in 13 groups; the largest has 1." in result.stdout
    assert "folder of genres with the table tracks.csv" in result.stderr
    assert "Near-duplicates were not searched for" in result.stderr
    stored = json.loads((tmp_path / "s.json").read_text())
    assert (stored["protocol"], stored["leaks"], stored["folds"]) == ("grouped", False, 1)
    assert stored["unknown_artists"] == 0
    assert len(read_splits(tmp_path / "s.json", scan_folder(music))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--folds", "3")])
def test_random_splits_are_labelled_and_warned_of(
    options: tuple[str, ...], music: Path, tmp_path: Path
) -> None:
    (music / "tracks.csv").write_text(
        "path,artist\n" + "".join(f"{g}/{n}.wav,{g}\n" for g in ("jazz", "rock") for n in range(6))
    )
    result = invoke(music, "-o", tmp_path / "r.json", "--protocol", "random", *options)
    assert result.exit_code == 0
    assert "Warning: a random split leaks" in result.stderr
    assert "of tracks on two sides" in result.stderr
    stored = json.loads((tmp_path / "r.json").read_text())
    assert (stored["protocol"], stored["leaks"]) == ("random", True)
    assert read_splits(tmp_path / "r.json", scan_folder(music)).protocol == "random"


@pytest.mark.slow
def test_the_official_split_of_gtzan(tmp_path: Path) -> None:
    write_gtzan(tmp_path)
    result = invoke(tmp_path, "-o", tmp_path / "g.json", "--protocol", "official")
    assert result.exit_code == 1  # for the clip that cannot be read
    assert "jazz/jazz.00054.wav" in result.stderr
    assert "loaded as GTZAN" in result.stderr
    dataset = read_gtzan(tmp_path)
    splits = read_splits(tmp_path / "g.json", dataset)
    assert (splits.folds, splits.protocol) == ((fault_filtered_split(dataset),), "official")
    result = invoke(tmp_path, "-o", tmp_path / "g.json", "--no-fingerprint")
    assert "has an official split: --protocol official" in result.stderr
    assert "an artist is on two sides is unknown: 60 of 60 tracks name none." in result.stderr
    assert json.loads((tmp_path / "g.json").read_text())["leaks"] == "unknown"


@pytest.mark.slow
def test_the_official_split_of_fma_and_its_known_faults(tmp_path: Path) -> None:
    mini = make_miniature(tmp_path, bad_clips=(133297,))
    result = invoke(tmp_path, "-o", tmp_path / "f.json", "--protocol", "official")
    assert result.exit_code == 0, result.stderr  # a known bad clip is not a failure
    assert "133297" in result.stderr
    names = {"training": "train", "validation": "validation", "test": "test"}
    assert parts_of(tmp_path / "f.json") == {
        row.path: [names[row.split]] for row in mini.audio_rows if row.id != 133297
    }
    next(iter(sorted((tmp_path / "fma_small").rglob("*.mp3")))).unlink()
    result = invoke(tmp_path, "-o", tmp_path / "f.json", "--protocol", "official")
    assert result.exit_code == 1


def test_impossible_splits_write_nothing(music: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    result = invoke(music, "-o", file, "--no-fingerprint", "--folds", "9")
    assert isinstance(result.exception, DataError)
    assert "ask for 6 folds at most" in str(result.exception)
    result = invoke(music, "-o", file, "--protocol", "official")
    assert "has no official split" in str(result.exception)
    result = invoke(tmp_path / "gone", "-o", file)
    assert "does not exist" in str(result.exception)
    assert not file.exists()


@pytest.mark.slow
def test_control_characters_in_names_are_escaped(music: Path, tmp_path: Path) -> None:
    (music / "jazz").rename(music / "ja\x1b[31mzz")
    (music / "ro\nck").mkdir()
    (music / "ro\nck" / "empty.wav").touch()
    result = invoke(music, "-o", tmp_path / "s.json", "--no-fingerprint")
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert "ja\\x1b[31mzz" in result.stdout
    assert "ro\\nck/empty.wav" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [("full", "the disk is full"), ("broken", "input/output error"), ("memory", "out of memory")],
)
def test_whatever_fails_the_command_says_one_sentence(
    music: Path, tmp_path: Path, call: Call, fault: str, message: str
) -> None:
    (out := tmp_path / "out").mkdir()
    for at in itertools.count(1):
        with failing(out, at, fault) as injector:
            done = call("data", "split", music, "-o", out / "s.json", "--no-fingerprint")
        if not injector.has_failed:
            break
        assert done.status == 1
        assert "Traceback" not in done.error
        last = done.error.splitlines()[-1]
        assert last.startswith("deepmusic: ")
        assert message in last
        assert last.endswith(".")
    assert done.status == 0
    assert [path.name for path in out.iterdir()] == ["s.json"]
