"""How well the style critic classifies human pieces, and whether it detects degraded music.

    python benchmarks/style_critic.py [--data DIR] [--seed N]

Trains on the training pieces of the four styles, measures on the test pieces, prints a table and
writes docs/measured/style_critic.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.critic_training import train_critic
from deepmusic.composer.style_critic import StyleCritic
from deepmusic.datasets.symbolic import Piece, SymbolicDataset, load_styles
from deepmusic.files import write_atomically
from deepmusic.music import Grid, Part

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "symbolic"
MEASURED = ROOT / "docs" / "measured" / "style_critic.json"

LENGTHS = (8, 16, 32)  # bars
EXCERPTS = 3  # of a piece
DEGRADED_BARS = 16


class Notes(NamedTuple):
    """Columns ``(n,)`` in steps, steps per bar, and steps in all."""

    onset: NDArray[np.int64]
    duration: NDArray[np.int64]
    pitch: NDArray[np.int64]
    bar: int
    steps: int


def notes_of(grid: Grid) -> Notes:
    metre = grid.time_signatures[0]
    bar = max(1, round(metre.beats_per_bar * grid.steps_per_beat))
    return Notes(grid.onset, grid.duration, grid.pitch.astype(np.int64), bar, grid.steps)


def grid_of(notes: Notes, steps_per_beat: int) -> Grid:
    """Each note gets its own part, since moved notes may overlap."""
    steps = max(notes.steps, int((notes.onset + notes.duration).max(initial=0)))
    count = len(notes.onset)
    return Grid(
        steps_per_beat,
        steps,
        onset=notes.onset,
        duration=notes.duration,
        pitch=np.clip(notes.pitch, 0, 127),
        part=np.arange(count),
        parts=(Part(),) * max(count, 1),
    )


def cut(notes: Notes, start: int, length: int) -> Notes:
    end = notes.onset + notes.duration
    inside = (notes.onset < start + length) & (end > start)
    onset = np.maximum(notes.onset[inside], start)
    duration = np.minimum(end[inside], start + length) - onset
    return Notes(onset - start, duration, notes.pitch[inside], notes.bar, length)


def excerpt(grid: Grid, bars: int, rng: np.random.Generator) -> Notes | None:
    """This many bars from a random bar of a piece; None if it is shorter."""
    notes = notes_of(grid)
    spare = notes.steps // notes.bar - bars
    if spare < 0:
        return None
    found = cut(notes, int(rng.integers(spare + 1)) * notes.bar, bars * notes.bar)
    return found if len(found.onset) else None


# ------------------------------------------------------------------------------------- degraded


def moved_pitches(share: float) -> Callable[[Notes, np.random.Generator], Notes]:
    def degrade(notes: Notes, rng: np.random.Generator) -> Notes:
        off = rng.random(len(notes.pitch)) < share
        by = rng.integers(1, 4, len(off)) * rng.choice([-1, 1], len(off))
        return notes._replace(pitch=notes.pitch + off * by)

    return degrade


def jittered(share: float) -> Callable[[Notes, np.random.Generator], Notes]:
    """Some onsets a step early or late."""

    def degrade(notes: Notes, rng: np.random.Generator) -> Notes:
        off = rng.random(len(notes.onset)) < share
        by = off * rng.choice([-1, 1], len(off))
        return notes._replace(onset=np.maximum(notes.onset + by, 0))

    return degrade


def in_order(notes: Notes, starts: NDArray[np.int64], length: int) -> Notes:
    """Spans, one after the other."""
    spans = [cut(notes, int(start), length) for start in starts]
    late = np.repeat(np.arange(len(spans)) * length, [len(span.onset) for span in spans])
    onset, duration, pitch = (
        np.concatenate([span[column] for span in spans]) for column in range(3)
    )
    return Notes(onset + late, duration, pitch, notes.bar, length * len(spans))


def shuffled_bars(notes: Notes, rng: np.random.Generator) -> Notes:
    return in_order(notes, rng.permutation(notes.steps // notes.bar) * notes.bar, notes.bar)


def shuffled_beats(notes: Notes, rng: np.random.Generator) -> Notes:
    return in_order(notes, rng.permutation(notes.steps // 4) * 4, 4)


def looped_bar(notes: Notes, rng: np.random.Generator) -> Notes:
    bar = int(rng.choice(notes.onset)) // notes.bar * notes.bar
    return in_order(notes, np.full(notes.steps // notes.bar, bar), notes.bar)


def backwards(notes: Notes, rng: np.random.Generator) -> Notes:
    return notes._replace(onset=notes.steps - notes.onset - notes.duration)


def upside_down(notes: Notes, rng: np.random.Generator) -> Notes:
    return notes._replace(pitch=notes.pitch.min() + notes.pitch.max() - notes.pitch)


def random_pitches(notes: Notes, rng: np.random.Generator) -> Notes:
    """Random pitches in the range."""
    low, high = notes.pitch.min(), notes.pitch.max()
    return notes._replace(pitch=rng.integers(low, high + 1, len(notes.pitch)))


def held_chord(notes: Notes, rng: np.random.Generator) -> Notes:
    """What sounds at one onset, in every bar.

    Every second bar a note moves: a repeated chord is one sustained chord to the critic.
    """
    at = int(rng.choice(notes.onset))
    end = notes.onset + notes.duration
    chord = np.unique(notes.pitch[(notes.onset <= at) & (end > at)])
    bars = notes.steps // notes.bar
    onset = np.repeat(np.arange(bars) * notes.bar, len(chord))
    pitch = np.tile(chord, bars)
    pitch[:: 2 * len(chord)] += 2
    return Notes(onset, np.full(len(onset), notes.bar), pitch, notes.bar, notes.steps)


DEGRADED: dict[str, tuple[bool, Callable[[Notes, np.random.Generator], Notes]]] = {
    "as it is": (False, lambda notes, rng: notes),
    "10% of pitches moved by 1 to 3": (True, moved_pitches(0.1)),
    "30% of pitches moved by 1 to 3": (True, moved_pitches(0.3)),
    "all pitches moved by 1 to 3": (True, moved_pitches(1.0)),
    "20% of onsets moved by a step": (True, jittered(0.2)),
    "50% of onsets moved by a step": (True, jittered(0.5)),
    "beats in any order": (True, shuffled_beats),
    "one bar, again and again": (True, looped_bar),
    "bars in any order": (False, shuffled_bars),
    "any pitches, same rhythm": (False, random_pitches),
    "one chord in all bars": (False, held_chord),
    "backwards": (False, backwards),
    "upside down": (False, upside_down),
}
"""Name to whether the critic was trained on spoiled music of the kind, and what makes it."""


# ------------------------------------------------------------------------------------- measured


def measure(dataset: SymbolicDataset, seed: int) -> dict[str, Any]:
    begun = time.perf_counter()
    pieces = dataset.train
    critic = train_critic([p.grid for p in pieces], [p.style for p in pieces], seed=seed)
    trained_s = time.perf_counter() - begun
    rng = np.random.default_rng(seed)
    begun = time.perf_counter()
    whole = verdicts(critic, [(piece.style, piece.grid) for piece in dataset.test])
    judged_ms = 1000 * (time.perf_counter() - begun) / (2 * len(dataset.test))
    return {
        "training": {
            "pieces": {style: sum(p.style == style for p in pieces) for style in critic.styles},
            "seconds": rounded(trained_s),
            "bytes": sum(array.nbytes for array in critic.to_arrays().values()),
            "measures": len(critic.mean),
            "temperature": rounded(float(critic.temperature[0])),
        },
        "judged_ms": rounded(judged_ms),
        "people": {"whole pieces": whole}
        | {f"{bars} bars": verdicts(critic, cuts(dataset.test, bars, rng)) for bars in LENGTHS},
        "degraded": {
            name: {
                "is_trained_on": is_trained_on,
                "styles": verdicts(critic, degraded_pieces(dataset.test, degrade, seed)),
            }
            for name, (is_trained_on, degrade) in DEGRADED.items()
        },
    }


def cuts(pieces: Sequence[Piece], bars: int, rng: np.random.Generator) -> list[tuple[str, Grid]]:
    return [
        (piece.style, grid_of(found, piece.grid.steps_per_beat))
        for piece in pieces
        for _ in range(EXCERPTS)
        if (found := excerpt(piece.grid, bars, rng)) is not None
    ]


def degraded_pieces(
    pieces: Sequence[Piece],
    degrade: Callable[[Notes, np.random.Generator], Notes],
    seed: int,
) -> list[tuple[str, Grid]]:
    """A degraded excerpt of each piece; every degradation gets the same excerpts."""
    found = []
    for number, piece in enumerate(pieces):
        rng = np.random.default_rng([seed, number])
        bars = min(DEGRADED_BARS, notes_of(piece.grid).steps // notes_of(piece.grid).bar)
        notes = excerpt(piece.grid, bars, rng)
        if notes is not None:
            found.append((piece.style, grid_of(degrade(notes, rng), piece.grid.steps_per_beat)))
    return found


def verdicts(
    critic: StyleCritic, pieces: Sequence[tuple[str, Grid]]
) -> dict[str, dict[str, float]]:
    """By style: number of pieces, accuracy and mean probabilities."""
    rows: dict[str, list[tuple[bool, float, float, bool]]] = {style: [] for style in critic.styles}
    for style, grid in pieces:
        found = critic.probabilities(grid)
        spoiled = critic.spoiled(grid)
        is_right = max(found, key=lambda name: found[name]) == style
        rows[style].append((is_right, found[style], spoiled, spoiled > 0.5))
    names = ("accuracy", "probability", "spoiled", "called_spoiled")
    return {
        style: {"pieces": len(row)}
        | dict(zip(names, map(rounded, np.mean(row, axis=0).tolist()), strict=True))
        for style, row in rows.items()
        if row
    }


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def lines(measured: Mapping[str, Any]) -> list[str]:
    """The results as text."""
    training = measured["training"]
    text = [
        f"trained in {training['seconds']} s on {sum(training['pieces'].values())} pieces, "
        f"{training['bytes']:,} bytes, temperature {training['temperature']}; "
        f"{measured['judged_ms']} ms a piece",
        f"{'':<34}{'style':<11}{'pieces':>7}{'accuracy':>10}{'p(style)':>10}{'p(spoiled)':>12}",
    ]
    for name, styles in measured["people"].items():
        text += verdict_lines(name, styles)
    text.append(f"degraded excerpts of {DEGRADED_BARS} bars (* trained on music spoiled so)")
    for name, kind in measured["degraded"].items():
        text += verdict_lines(name + " *" * kind["is_trained_on"], kind["styles"])
    return text


def verdict_lines(name: str, styles: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"{name if not number else '':<34}{style:<11}{row['pieces']:>7}{row['accuracy']:>10.3f}"
        f"{row['probability']:>10.3f}{row['spoiled']:>12.3f}"
        for number, (style, row) in enumerate(styles.items())
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    parser.add_argument("--seed", type=int, default=0, help="of the critic and of the excerpts")
    options = parser.parse_args()
    measured = measure(load_styles(options.data), options.seed)
    with write_atomically(MEASURED) as file:
        file.write(json.dumps(measured, indent=1) + "\n")
    print("\n".join(lines(measured)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
