"""``deepmusic data build``: what it makes, says and refuses, and its exit status."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from deepmusic.cli.data_build import build as build_command
from deepmusic.errors import DataError, RequestError

RATE = 8000


def write(path: Path, seconds: float = 1.0, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    soundfile.write(path, sound.astype("f4"), RATE)


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for place in range(4):
        write(tmp_path / "in" / ("rock", "jazz")[place % 2] / f"{place}.wav", seed=place)
    return tmp_path / "in"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build_command, [*map(str, arguments)])


def test_a_data_set_and_its_archive(music: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = invoke(music, "-o", output, "--seconds", "0.5", "--zip", "--loudness", "-23")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(output), f"{output}.zip"]
    assert "4 clips of 4 tracks." in result.stderr
    with open(output / "tracks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["duration_s"] for row in rows] == ["0.500000"] * 4
    assert {row["loudness_lufs"] for row in rows} <= {"-23.00", "-23.01"}
    with zipfile.ZipFile(f"{output}.zip") as archive:
        assert archive.testzip() is None


def test_bad_tracks_are_told_and_the_status_is_1(music: Path, tmp_path: Path) -> None:
    (music / "rock" / "bad\x1b[31m.wav").write_bytes(b"nothing")
    result = invoke(music, "-o", tmp_path / "out", "--seconds", "0.5")
    assert result.exit_code == 1
    assert "4 clips of 4 tracks, 1 left out (see problems.csv)." in result.stderr
    assert "\x1b" not in result.stderr
    assert r"bad\x1b[31m.wav" in result.stderr


def test_tracks_dropped_on_request_are_no_failure(music: Path, tmp_path: Path) -> None:
    write(music / "rock/short.wav", 0.3, 9)
    result = invoke(music, "-o", tmp_path / "out", "--seconds", "0.5", "--min-seconds", "0.5")
    assert result.exit_code == 0
    assert "4 clips of 4 tracks, 1 dropped as too short." in result.stderr


def test_going_on_where_it_was_and_other_settings(music: Path, tmp_path: Path) -> None:
    assert invoke(music, "-o", tmp_path / "out", "--seconds", "0.5").exit_code == 0
    assert invoke(music, "-o", tmp_path / "out", "--seconds", "0.5").exit_code == 0
    other = invoke(music, "-o", tmp_path / "out", "--seconds", "0.5", "--mono")
    assert isinstance(other.exception, DataError)
    assert "mono False, now True" in str(other.exception)


@pytest.mark.parametrize(
    "options",
    [
        ["--format", "copy", "--loudness", "-23"],
        ["--format", "copy", "--sample-rate", "22050"],
        ["--format", "copy", "--mono"],
        ["--clips", "3", "--start", "10"],
        ["--min-seconds", "31"],
        ["--seconds", "0"],
        ["--loudness", "5"],
        ["--sample-rate", "12"],
        ["--format", "mp3", "--sample-rate", "96000"],
    ],
)
def test_options_that_contradict(options: list[str], music: Path, tmp_path: Path) -> None:
    result = invoke(music, "-o", tmp_path / "out", *options)
    assert isinstance(result.exception, RequestError)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [["--start", "end"], ["--format", "aac"], ["--workers", "0"], ["--seconds", "x"]]
)
def test_values_that_are_none(options: list[str], music: Path, tmp_path: Path) -> None:
    result = invoke(music, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_an_output_within_the_input_is_one_sentence(music: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deepmusic", "data", "build", music, "-o", music / "out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "name a folder outside of it" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends an interrupt")
def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    for place in range(48):
        write(tmp_path / "in" / "rock" / f"{place}.wav", 15.0, place)
    command = [
        sys.executable, "-m", "deepmusic", "data", "build", tmp_path / "in", "-o", tmp_path / "out",
        "--format", "ogg", "--seconds", "20", "--workers", "2",
    ]  # fmt: skip
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what runs tests in the background has it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").rglob("*.ogg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "give the same command again" in said
    assert "Traceback" not in said
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert "48 clips of 48 tracks" in done.stderr
    assert not list((tmp_path / "out").rglob(".*"))
