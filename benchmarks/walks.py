"""Count the modules that a run of each command enters, and their lines.

    python benchmarks/walks.py [--data DIR]

A module is entered when one of its functions runs, in the process of the command or in a worker;
importing it alone does not count. DIR holds a folder of recordings per genre; without it, tones
are generated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import deepmusic

PACKAGE = Path(deepmusic.__file__).parent
TARGETS = {
    "classify FILE": 20,
    "generate": 34,
    "features extract": 22,
    "train classifier": 42,
    "study genres": 48,
}
# runs at the start of every Python process of the command, workers included
TRACER = """
import atexit, os, sys, threading
entered = set()
def note(frame, event, argument):
    code = frame.f_code
    # bit 1 of the flags: a function, not the body of a module or class
    if event == "call" and code.co_flags & 1 and code.co_filename.startswith(PACKAGE):
        if not code.co_filename.endswith(".py"):  # a compiled template
            return
        if code.co_filename not in entered:
            entered.add(code.co_filename)
            with open(NOTES, "a") as file:
                file.write(code.co_filename + "\\n")
PACKAGE, NOTES = os.environ["WALK_PACKAGE"], os.environ["WALK_NOTES"]
sys.setprofile(note)
threading.setprofile(note)
"""


def entered_by(arguments: list[str], folder: Path) -> list[Path]:
    """The modules that ``deepmusic ARGUMENTS`` enters, run in ``folder``."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(TRACER)
    notes = folder / "notes"
    notes.write_text("")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(PACKAGE.parent)]),
        "WALK_PACKAGE": str(PACKAGE) + os.sep,
        "WALK_NOTES": str(notes),
    }
    done = subprocess.run(
        [sys.executable, "-m", "deepmusic", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"deepmusic {' '.join(arguments)} failed:\n{done.stderr}")
    return sorted({Path(line) for line in notes.read_text().splitlines()})


def make_tones(folder: Path) -> None:
    """Two genres of eight tracks by four artists each, 8 s of a tone per track."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    time = np.arange(8 * 22050) / 22050
    rows = ["path,genre,artist"]
    for genre, pitches in (("low", (110, 165)), ("high", (660, 990))):
        (folder / genre).mkdir(parents=True)
        for number in range(8):
            samples = 0.3 * np.sin(2 * np.pi * rng.uniform(*pitches) * time)
            samples += 0.02 * rng.normal(size=time.size)
            soundfile.write(folder / genre / f"{number}.flac", samples, 22050)
            rows.append(f"{genre}/{number}.flac,{genre},{genre} {number // 2}")
    (folder / "tracks.csv").write_text("\n".join(rows) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of recordings per genre")
    parser.add_argument("--json", action="store_true", help="list the modules, as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = given.data.resolve() if given.data else folder / "data"
        if given.data is None:
            make_tones(data)
        song = str(next(p for p in sorted(data.rglob("*.*")) if p.suffix != ".csv"))
        commands = {
            "classify FILE": ["classify", song],
            "generate": ["generate", "--style", "folk", "--bars", "4", "--seed", "1", "-o", "tune"],
            "features extract": ["features", "extract", str(data), "-o", "rows.parquet"],
            "train classifier": ["train", "classifier", "--data", str(data), "--out", "run"],
            "study genres": ["study", "genres", "--data", str(data), "--out", "study"],
        }
        commands["train classifier"] += ["--epochs", "1"]
        commands["study genres"] += [
            "--models",
            "svc-linear,logistic",
            "--folds",
            "2",
            "--seeds",
            "1",
        ]
        result = {}
        for command, arguments in commands.items():
            modules = entered_by(arguments, folder)
            lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules)
            result[command] = [str(path.relative_to(PACKAGE)) for path in modules]
            if not given.json:
                aim = TARGETS[command]
                print(f"{command:<18} {len(modules):>3} modules (aim {aim}), {lines:>6,} lines")
        if given.json:
            print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
