"""The group: help, exit status, and that no traceback reaches a person."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_classifier import COMMAND, Run

import deepmusic

HEAVY = ("torch", "numpy", "rich", "scipy", "av", "soundfile", "matplotlib")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["classify", "--help"], ["doctor", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv[1:] = " + repr(arguments) + "\n"
        "from deepmusic.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in " + repr(HEAVY) + " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert done.stderr == "[]\n"


def test_version(run: Run) -> None:
    done = run("--version")
    assert done.returncode == 0
    assert deepmusic.__version__ in done.stdout.decode()


def test_a_refusal_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_text("rock")
    (tmp_path / "foreign").write_text("something of mine\n")
    done = run("classify", "a.mp3", "--results", "foreign")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"foreign" in done.stderr
    assert (tmp_path / "foreign").read_text() == "something of mine\n"


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_one_sentence_unless_asked(debug: bool) -> None:
    code = (
        "import deepmusic.cli as cli\n"
        "def boom(*_, **__): raise ZeroDivisionError('of two\\nlines')\n"
        "cli.deepmusic.main = boom\ncli.main()"
    )
    environment = {"DEEPMUSIC_DEBUG": "1"} if debug else {}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) == debug
    if not debug:
        assert done.stderr.count("\n") == 1
        assert "ZeroDivisionError: of two lines" in done.stderr
        assert "DEEPMUSIC_DEBUG=1" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interruption_leaves_valid_json(run: Run, tmp_path: Path, jobs: str) -> None:
    (tmp_path / "a.mp3").write_text("rock")
    (tmp_path / "b.mp3").write_text("interrupt")
    done = run("classify", "a.mp3", "b.mp3", "--format", "json", "--jobs", jobs)
    assert done.returncode == 130
    assert done.stderr.strip() == b"deepmusic: interrupted"
    assert [entry["genre"] for entry in json.loads(done.stdout)] == ["rock"]


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="needs a shell")
def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    for index in range(50):
        (tmp_path / f"{index}.mp3").write_text("rock")
    words = " ".join(f"'{word}'" for word in COMMAND)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{words} classify . --format json | true"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no locale without UTF-8")
def test_tables_are_utf_8_in_any_locale(tmp_path: Path) -> None:
    rows = ["path,artist"]
    for genre in ("ジャズ", "Ñandú"):
        for number in range(4):
            path = tmp_path / "music" / genre / f"é{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([number, len(genre)]).normal(0, 0.1, 8000)
            soundfile.write(path, noise, 8000)
            rows.append(f"{genre}/é{number}.wav,Künstler {number}")
    table = "\ufeff" + "\n".join(rows) + "\n"  # as Excel writes it
    (tmp_path / "music" / "tracks.csv").write_text(table, encoding="utf-8")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}

    def run(*arguments: str) -> bytes:
        command = [sys.executable, "-m", "deepmusic", "data", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **locale}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        return done.stdout

    text = run("stats", "music", "--format", "csv").decode("utf-8")
    genres = {row["genre"]: row["artists"] for row in csv.DictReader(io.StringIO(text))}
    assert genres == {"ジャズ": "4", "Ñandú": "4"}
    run("check", "music", "-o", "report.csv")
    with open(tmp_path / "report.csv", encoding="utf-8", newline="") as file:
        found = {row["path"] for row in csv.DictReader(file)}
    assert found == {f"music/{row.split(',')[0]}" for row in rows[1:]}
    run("split", "music", "--no-fingerprint", "-o", "splits.json")
    splits = json.loads((tmp_path / "splits.json").read_bytes())
    assert {track["genre"] for track in splits["tracks"]} == set(genres)
