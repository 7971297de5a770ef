"""``deepmusic data build``: what it writes, prints and refuses, and its exit status."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from training_runs import start

from deepmusic.cli.data_build import build as build_command
from deepmusic.errors import DataError, RequestError

RATE = 8000


def write(path: Path, seconds: float = 1.0, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    soundfile.write(path, sound.astype("f4"), RATE)


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for number in range(4):
        write(tmp_path / "in" / ("rock", "jazz")[number % 2] / f"{number}.wav", seed=number)
    return tmp_path / "in"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build_command, [*map(str, arguments)])


def test_a_data_set_and_its_archive(music: Path, tmp_path: Path) -> None:
    command = (music, "-o", tmp_path / "out", "--seconds", "0.5", "--zip", "--loudness", "-23")
    for _ in range(2):
        result = invoke(*command)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.splitlines() == [str(tmp_path / "out"), str(tmp_path / "out.zip")]
        assert "4 clips of 4 tracks." in result.stderr
    other = invoke(*command, "--mono")
    assert isinstance(other.exception, DataError)
    assert "mono False, now True" in str(other.exception)


def test_tracks_that_cannot_be_used_and_tracks_that_are_dropped(
    music: Path, tmp_path: Path
) -> None:
    write(music / "rock/short.wav", 0.3, 9)
    command = (music, "-o", tmp_path / "out", "--seconds", "0.5", "--min-seconds", "0.5")
    result = invoke(*command)
    assert result.exit_code == 0
    assert "4 clips of 4 tracks, 1 dropped as too short." in result.stderr
    (music / "rock" / "bad\x1b[31m.wav").write_bytes(b"nothing")
    result = invoke(*command)
    assert result.exit_code == 1
    assert "1 dropped as too short, 1 not usable (see problems.csv)." in result.stderr
    assert "\x1b" not in result.stderr
    assert r"bad\x1b[31m.wav" in result.stderr


@pytest.mark.parametrize(
    "options",
    [["--format", "copy", "--loudness", "-23"], ["--clips", "3", "--start", "10"]],
)
def test_options_that_contradict_each_other(
    options: list[str], music: Path, tmp_path: Path
) -> None:
    result = invoke(music, "-o", tmp_path / "out", *options)
    assert isinstance(result.exception, RequestError)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends an interrupt")
def test_an_interrupt_prints_how_to_continue(tmp_path: Path) -> None:
    write(tmp_path / "in/rock/0.wav", 30.0)
    for number in range(1, 50):
        shutil.copy(tmp_path / "in/rock/0.wav", tmp_path / f"in/rock/{number}.wav")
    command = [
        sys.executable, "-m", "deepmusic", "data", "build", tmp_path / "in", "-o", tmp_path / "out",
        "--format", "ogg", "--seconds", "30",
    ]  # fmt: skip
    running = start(command)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").rglob("*.ogg")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "run the same command again" in message
    assert "Traceback" not in message
