"""``deepmusic features show``: a picture and a table."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from training_runs import Call

from deepmusic.cli import deepmusic
from deepmusic.features import feature_columns, frame_features
from deepmusic.features.recipe import COLUMNS, FEATURE_SIZES
from deepmusic.features.statistics import STATISTICS

RATE = 22050
NAMES = ["/".join(column) for column in COLUMNS]


def write(path: Path, seconds: float = 4, sample_rate: int = RATE) -> None:
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    noise = np.random.default_rng(8).normal(size=len(t)) * np.exp(-20 * (t % 0.5))
    sound = (0.3 * np.sin(2 * np.pi * 440 * t) + 0.2 * noise).astype(np.float32)
    soundfile.write(path, sound, sample_rate, subtype="FLOAT", format="WAV")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the sounds are in another."""
    (tmp_path / "music").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "music" / "my song.wav"
    write(path)
    return path


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write an empty picture, which takes no time."""

    def draw(analysis: object, path: Path, **texts: str) -> None:
        path.write_bytes(b"")

    monkeypatch.setattr("deepmusic.features.plot.draw_analysis", draw)


def invoke(*arguments: str | Path) -> Result:
    command = ["features", "show", *map(str, arguments)]
    return CliRunner().invoke(deepmusic, command, catch_exceptions=False)


@pytest.mark.slow
def test_text_and_picture(song: Path, folder: Path) -> None:
    (folder / "my song-features.png").write_bytes(b"old")
    result = invoke(song)
    assert result.exit_code == 0
    assert os.listdir(folder) == ["my song-features.png"]
    assert result.stderr == "The picture is 'my song-features.png'.\n"
    assert (folder / "my song-features.png").read_bytes().startswith(b"\x89PNG")
    lines = result.stdout.splitlines()
    assert lines[0] == str(song)
    assert lines[1].startswith("4 s; 22,050 Hz; about 117 beats per minute; recipe fma")
    blocks = result.stdout.split("\n\n")[1:]
    assert [block.split()[0] for block in blocks] == list(FEATURE_SIZES)
    for block, rows in zip(blocks, FEATURE_SIZES.values(), strict=True):
        head, *body = block.splitlines()
        assert head.split()[-7:] == list(STATISTICS)
        assert len(body) == rows
        # aligned: every line ends where the heading does
        assert {len(line) for line in body} == {len(head)}
        for number, line in enumerate(body, start=1):
            assert int(line.split()[0]) == number
            assert all(np.isfinite([float(cell) for cell in line.split()[-7:]]))
    assert any(block.startswith("spectral_centroid (Hz)") for block in blocks)


@pytest.mark.usefixtures("no_drawing")
def test_json_holds_every_value(song: Path) -> None:
    record = json.loads(
        invoke(
            song, "--format", "json", "--recipe", "fma-corrected", "--from", 1, "--seconds", 2
        ).stdout
    )
    values = record.pop("values")
    assert record == {
        "path": str(song),
        "recipe": "fma-corrected",
        "version": 1,
        "from_s": 1,
        "duration_s": 2,
        "sample_rate": RATE,
        "tempo_bpm": None,  # too short
        "warning": None,
    }
    assert list(values) == NAMES
    sound, _ = soundfile.read(song, dtype="float32")
    expected = feature_columns(frame_features(sound[RATE : 3 * RATE], RATE, "fma-corrected"))
    np.testing.assert_allclose(np.float32(list(values.values())), expected, rtol=1e-5)


@pytest.mark.usefixtures("no_drawing")
def test_a_low_rate_has_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "music" / "low.wav"
    write(path, sample_rate=8000)
    missing = {
        name for name in NAMES if name.split("/")[0] in ("chroma_cqt", "chroma_cens", "tonnetz")
    }
    header, *records = csv.reader(io.StringIO(invoke(path, "--format", "csv").stdout))
    assert header == ["name", "value"]
    rows = dict(records)
    assert list(rows) == NAMES
    assert {name for name, value in rows.items() if value == ""} == missing
    text = invoke(path).stdout
    cells = [cell for line in text.splitlines() for cell in line.split()[-7:]]
    assert cells.count("-") == len(missing)
    assert "true frequencies are 0.363 times" in text


@pytest.mark.usefixtures("no_drawing")
def test_long_tracks_are_cut(song: Path) -> None:
    result = invoke(song, "--max-minutes", "0.05")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].startswith("the first 3 s; ")
    assert result.stderr.startswith("Only the first 3 s is analyzed; --max-minutes M takes more.\n")
    later = invoke(song, "--max-minutes", "0.05", "--from", "0.5")
    assert later.stderr.startswith("Only 3 s from 0.5 s on is analyzed;")


def test_the_track_itself_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "music" / "odd.png"
    write(path)
    before = path.read_bytes()
    result = invoke(path, "-o", path)
    assert result.exit_code == 2
    assert "that is FILE itself" in result.stderr
    assert path.read_bytes() == before


def test_bad_files_are_one_sentence(call: Call, tmp_path: Path, song: Path, folder: Path) -> None:
    (tmp_path / "text.mp3").write_text("no sound")
    (tmp_path / "empty.wav").touch()
    for arguments, message in (
        ([tmp_path / "none.mp3"], "does not exist"),
        ([tmp_path], "is a folder"),
        ([tmp_path / "text.mp3"], "is not a sound file"),
        ([tmp_path / "empty.wav"], "is empty"),
        ([song, "--from", "60"], "ends before 60 s: it has only 4.0 s"),
    ):
        done = call("features", "show", *arguments)
        assert (done.status, done.output) == (1, "")
        assert message in done.error
        assert done.error.startswith("deepmusic: ")
        assert len(done.error.splitlines()) == 1
        assert not os.listdir(folder)


@pytest.mark.usefixtures("no_drawing")
def test_lost_sound_is_reported(song: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "music" / "cut.wav"
    damaged.write_bytes(song.read_bytes()[:-100_001])
    result = invoke(damaged, "--format", "json")
    assert result.exit_code == 0
    warning = json.loads(result.stdout)["warning"]
    assert "of sound was decoded" in warning
    assert f"{damaged}: {warning}" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.usefixtures("no_drawing")
def test_odd_names(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "music" / "a\nb\x1b[31m.wav"
    write(path, 0.5)
    result = invoke(path)
    assert result.exit_code == 0
    assert "a\\nb\\x1b[31m.wav" in result.stdout
    assert "\x1b" not in result.output
    assert os.listdir(folder) == ["a\nb\x1b[31m-features.png"]
    long = tmp_path / "music" / ("é" * 125 + ".wav")
    write(long, 0.5)
    assert invoke(long).exit_code == 0


@pytest.mark.slow
def test_a_real_clip(shared_data: Path, folder: Path) -> None:
    result = invoke(shared_data / "emotify" / "pop" / "88.mp3", "--format", "json")
    record = json.loads(result.stdout)
    assert (result.exit_code, result.stdout.count("null")) == (0, 1)  # of the warning
    assert (record["sample_rate"], record["duration_s"]) == (44100, pytest.approx(30, abs=0.1))
    assert None not in record["values"].values()
    assert os.listdir(folder) == ["88-features.png"]
