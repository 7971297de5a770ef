"""Measure what quantisation to a grid loses, by data set and steps per beat.

    python benchmarks/quantisation.py [--data DIR] [--pages]

Writes docs/measured/quantisation.json and the tables in docs/symbolic.md. With --pages, only
writes the tables from earlier measurements.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmusic.errors import ScoreError
from deepmusic.files import write_atomically
from deepmusic.music import QuantisationLoss, Score, aligned, quantisation_loss, read_midi
from docs_page import write_parts

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
MEASURED = ROOT / "docs" / "measured" / "quantisation.json"
PAGE = ROOT / "docs" / "symbolic.md"

STEPS_PER_BEAT = (2, 3, 4, 6, 8, 12, 24)
A_32ND = 1 / 8
AUDIBLE_S = 0.05
ON_GRID_BEATS = 1 / 480  # rounding by one tick does not count
# The grid chosen for a data set is the coarsest with sixteenths within these limits
HOLDS_SIXTEENTHS = (4, 8, 12, 24)
MOST_MOVED = 0.05  # share of onsets that move by more than 50 ms
MOST_LOST = 0.005  # share of notes that a fine grid keeps and this one loses
TITLES = {
    "pop909": "POP909 (pop)",
    "pop909_aligned": "POP909, aligned",
    "nottingham": "Nottingham (folk)",
    "classical": "classical, from scores",
    "performance": "classical, performed",
    "ragtime": "ragtime",
    "jazz": "jazz",
    "rock_pop": "rock and pop",
    "game": "game",
}


def archived(path: Path) -> list[bytes]:
    """The MIDI files in a tar archive, by name."""
    with tarfile.open(path, "r:xz") as archive:
        opened = ((entry.name, archive.extractfile(entry)) for entry in archive)
        files = {name: file.read() for name, file in opened if file and name.endswith(".mid")}
    return [files[name] for name in sorted(files)]


def data_sets(data: Path) -> dict[str, list[bytes]]:
    symbolic = data / "symbolic"
    pop909 = archived(symbolic / "pop909" / "pop909_midi.tar.xz")
    sets = {
        "pop909": pop909,
        "pop909_aligned": pop909,
        "nottingham": archived(symbolic / "nottingham" / "nottingham_midi.tar.xz"),
    }
    for name in TITLES:
        if name in sets:
            continue
        folder = "classical" if name == "performance" else name
        paths = sorted((data / "midi_genres" / folder).glob("*.mid"))
        if folder == "classical":  # MAESTRO is recorded from a piano: its beats mean nothing
            paths = [p for p in paths if p.name.startswith("Maestro") == (name == "performance")]
        sets[name] = [path.read_bytes() for path in paths]
    return sets


def readable(files: Iterable[bytes]) -> list[Score]:
    scores = []
    for content in files:
        try:
            scores.append(read_midi(content))
        except ScoreError as error:
            print(f"left out: {error}")
    return scores


def summary(losses: Sequence[QuantisationLoss]) -> dict[str, float]:
    """Figures over all notes of a data set."""
    notes = sum(loss.notes for loss in losses)
    beats = np.abs(np.concatenate([loss.onset_error_beats for loss in losses]))
    seconds = np.abs(np.concatenate([loss.onset_error_s for loss in losses]))
    duration = np.abs(np.concatenate([loss.duration_error for loss in losses]))
    by_file = [float(np.mean(np.abs(loss.onset_error_s) > AUDIBLE_S)) for loss in losses]
    return {
        "on_grid": float(np.mean(beats <= ON_GRID_BEATS)),
        "moved_32nd": float(np.mean(beats > A_32ND + 1e-9)),
        "moved_50ms": float(np.mean(seconds > AUDIBLE_S)),
        "files_over": float(np.mean(np.array(by_file) > MOST_MOVED)),
        "onset_error_ms": float(1000 * seconds.mean()),
        "lost": sum(loss.merged for loss in losses) / notes,
        "cut": sum(loss.cut for loss in losses) / notes,
        "duration_error": float(duration.mean()),
        "duration_error_median": float(np.median(duration)),
    }


def measure(data: Path) -> dict[str, Any]:
    found = {}
    for name, files in data_sets(data).items():
        scores = readable(files)
        if name.endswith("_aligned"):
            scores = [aligned(score) for score in scores]
        grids = []
        for steps in STEPS_PER_BEAT:
            figures = summary([quantisation_loss(score, steps) for score in scores])
            rounded = {key: float(f"{value:.4g}") for key, value in figures.items()}
            grids.append({"steps_per_beat": steps, "steps_per_bar": 4 * steps} | rounded)
        notes = sum(len(score.notes) for score in scores)
        found[name] = {"files": len(scores), "notes": notes, "grids": grids}
        print(f"{name}: {len(scores)} files, {notes} notes")
    return found


def chosen(grids: list[dict[str, float]]) -> dict[str, float]:
    """The coarsest grid that costs little; 12 instead of 8 where there are triplets."""
    by_steps = {grid["steps_per_beat"]: grid for grid in grids}
    finest = by_steps[HOLDS_SIXTEENTHS[-1]]
    choice = next(
        (
            by_steps[steps]
            for steps in HOLDS_SIXTEENTHS
            if by_steps[steps]["moved_50ms"] <= MOST_MOVED
            and by_steps[steps]["lost"] <= finest["lost"] + MOST_LOST
        ),
        finest,
    )
    # Steps a third shorter reduce errors by a third; triplets reduce them further.
    has_triplets = by_steps[12]["onset_error_ms"] < 0.95 * 8 / 12 * by_steps[8]["onset_error_ms"]
    return by_steps[12] if choice["steps_per_beat"] == 8 and has_triplets else choice


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def per_cent(share: float) -> str:
    return f"{100 * share:.2f}" if share < 0.1 else f"{100 * share:.0f}"


def tables(measured: dict[str, Any]) -> str:
    """What docs/symbolic.md shows."""
    head = ["steps per beat", *map(str, STEPS_PER_BEAT)]
    columns = [
        ("Onsets moved by more than 50 ms, %", "moved_50ms", per_cent),
        ("Mean movement of onsets, ms", "onset_error_ms", "{:.1f}".format),
        ("Notes lost, %", "lost", per_cent),
        ("Median change of duration, %", "duration_error_median", per_cent),
    ]
    text = ""
    for title, key, format_value in columns:
        rows = [
            [TITLES[name], *(format_value(grid[key]) for grid in found["grids"])]
            for name, found in measured.items()
        ]
        text += f"{title}:\n\n{table(head, rows)}\n"
    rows = []
    for name, found in measured.items():
        grid = chosen(found["grids"])
        rows.append(
            [
                TITLES[name],
                f"{found['files']}",
                f"{found['notes']:,}",
                f"**{grid['steps_per_beat']}**",
                f"{grid['steps_per_bar']}",
                per_cent(grid["moved_50ms"]),
                per_cent(grid["files_over"]),
                f"{grid['onset_error_ms']:.1f}",
                per_cent(grid["lost"]),
            ]
        )
    head = ["music", "files", "notes", "steps per beat", "steps per 4/4 bar", "moved > 50 ms, %"]
    head += [
        f"files with more than {100 * MOST_MOVED:g} % moved, %",
        "mean movement, ms",
        "lost, %",
    ]
    text += f"Chosen:\n\n{table(head, rows)}"
    text += f"""
Chosen is the coarsest of {", ".join(map(str, HOLDS_SIXTEENTHS))} steps per beat that moves at most
{100 * MOST_MOVED:g} % of onsets by more than 50 ms and loses at most {100 * MOST_LOST:g} % of
the notes that 24 steps keep. If that is 8, and 12 steps reduce the movement by more than their
finer spacing explains, there are triplets, and 12 is chosen. If none qualifies, the finest is.
"""
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    parser.add_argument("--pages", action="store_true", help="write the tables only")
    options = parser.parse_args()
    if not options.pages:
        measured = measure(options.data)
        with write_atomically(MEASURED) as file:
            file.write(json.dumps(measured, indent=1) + "\n")
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    write_parts(PAGE, "benchmarks/quantisation.py", {"tables": f"\n{tables(measured)}\n"})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
