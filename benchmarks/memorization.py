"""How much human pieces share with others, and how tight the bounds of the copy index are.

    python benchmarks/memorization.py [--data DIR]

Prints the figures and writes docs/measured/memorization.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepmusic.composer.memorization import (
    ChordSteps,
    CopyIndex,
    HumanReference,
    Overlap,
    Percentiles,
    chord_steps,
)
from deepmusic.datasets import load_symbolic
from deepmusic.files import write_atomically
from deepmusic.music import Grid

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "symbolic"
MEASURED = ROOT / "docs" / "measured" / "memorization.json"

WINDOWS = ((8,), (16,), (8, 16), (8, 12, 16), (16, 32))
RANDOM_HASHES = 200_000


class Style(NamedTuple):
    """Music of one style: training pieces, and held-out pieces by name."""

    train: Sequence[Grid]
    held_out: Mapping[str, Sequence[Grid]]


class Chords(NamedTuple):
    """Steps as chords with durations: columns ``(m,)``, one row per chord or silence.

    Args:
        start: its first step, from the beginning of its piece.
        length: in steps.
        sounds: whether it is a chord.
        is_pause: whether it is a silence too long for a passage.
        key: ``(m, 5)`` int64, equal for rows with equal chords, equal previous chords, and equal
            motion of the bass between them.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    sounds: NDArray[np.bool_]
    is_pause: NDArray[np.bool_]
    key: NDArray[np.int64]

    @classmethod
    def of(cls, steps: ChordSteps) -> Chords:
        start = np.flatnonzero(steps.is_change)
        low, high = steps.low[start].astype(np.int64), steps.high[start].astype(np.int64)
        previous = np.maximum(np.arange(len(start)) - 1, 0)
        motion = steps.bass[start] - steps.bass[start][previous]
        key = np.stack([low[previous], high[previous], low, high, motion], axis=1)
        length = np.diff(start, append=len(steps.low))
        return cls(start, length, low != 0, steps.is_pause[start], key)


class ReferenceCorpus:
    """Music that may have been copied from, indexed for exact search.

    Args:
        grids: the pieces, all with the same steps per beat.
    """

    def __init__(self, grids: Sequence[Grid]) -> None:
        empty = Grid(1, 0, *np.zeros((3, 0), np.int64))  # so that there is always a piece
        pieces = [Chords.of(chord_steps(grid)) for grid in (*grids, empty)]
        self.chords = Chords(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))
        (follows,) = np.nonzero(self.chords.start > 0)
        groups = pd.DataFrame(self.chords.key[follows]).groupby(list(range(5))).indices
        self.rows = {tuple(map(int, key)): follows[rows] for key, rows in groups.items()}

    def overlap(self, piece: Grid) -> Overlap:
        """What a piece shares with the corpus, exactly.

        All runs are followed through the chords of the piece. Wherever the corpus has the same
        chord after the same, the run that reached the chord before continues if that was equally
        long; otherwise a run begins within it.
        """
        corpus, mine = self.chords, Chords.of(chord_steps(piece))
        run_steps = np.zeros(len(corpus.start), np.int64)  # up to a chord; 0 where there is no run
        run_chords = np.zeros_like(run_steps)
        last = np.zeros(0, np.int64)
        longest = most = at = 0
        for i, key in enumerate(map(tuple, mine.key.tolist())):
            rows = self.rows.get(key, last[:0]) if i else last
            length, lengths = mine.length[i - 1], corpus.length[rows - 1]
            continues = (run_steps[rows - 1] > 0) & (lengths == length)
            # silence begins no run, and a pause ends all
            begun = np.minimum(length, lengths) * mine.sounds[i - 1]
            so_far = np.where(continues, run_steps[rows - 1] + length, begun) * ~mine.is_pause[i]
            # where a run begins the chord before counts as well
            chords = np.where(continues, run_chords[rows - 1], 1) + mine.sounds[i]
            run_steps[last] = 0
            run_steps[rows], run_chords[rows] = so_far, chords
            last = rows
            is_run = so_far > 0
            if mine.sounds[i] and is_run.any():
                total = so_far + np.minimum(mine.length[i], corpus.length[rows])
                k = int(np.argmax(np.where(is_run, total, 0)))
                if total[k] > longest:
                    longest, at = int(total[k]), int(mine.start[i] - so_far[k])
                most = max(most, int(chords[is_run].max()))
        return Overlap(longest, most, at)


def people(name: str, overlaps: Sequence[Overlap], *, is_exact: bool) -> dict[str, Any]:
    steps, chords, _ = zip(*overlaps, strict=True)
    figures = Percentiles.of(steps), Percentiles.of(chords)
    return asdict(HumanReference(name, len(overlaps), None, is_exact, *figures))


def chorales(data: Path) -> Style:
    loaded = load_symbolic("chorales", data)
    return Style(
        [piece.grid for piece in loaded.train],
        {
            "test": [piece.grid for piece in loaded.test],
            "validation": [piece.grid for piece in loaded.validation],
        },
    )


def measure(name: str, style: Style) -> dict[str, Any]:
    """Exact figures and bounds of a style."""
    begun = time.perf_counter()
    corpus = ReferenceCorpus(style.train)
    build_s = time.perf_counter() - begun
    exact, query_ms = timed_overlaps(corpus, style)
    flat = [overlap for overlaps in exact.values() for overlap in overlaps]
    return {
        "steps": sum(grid.steps for grid in style.train),
        "pieces": len(style.train),
        "exact": {
            "build_s": rounded(build_s),
            "query_ms": rounded(query_ms),
            "people": {
                side: people(name, overlaps, is_exact=True) for side, overlaps in exact.items()
            },
        },
        "index": [measure_index(name, style, windows, flat) for windows in WINDOWS],
    }


def measure_index(
    name: str,
    style: Style,
    windows: tuple[int, ...],
    exact: Sequence[Overlap],
) -> dict[str, Any]:
    """Sizes and times of an index, and how far its bounds are from the exact figures."""
    begun = time.perf_counter()
    index = CopyIndex.build(style.train, windows=windows)
    build_s = time.perf_counter() - begun
    sides, query_ms = timed_overlaps(index, style)
    bounds = [overlap for overlaps in sides.values() for overlap in overlaps]
    steps = np.array([b.steps - e.steps for b, e in zip(bounds, exact, strict=True)])
    chords = np.array([b.chords - e.chords for b, e in zip(bounds, exact, strict=True)])
    if min(steps.min(), chords.min()) < 0:
        raise SystemExit(f"the index {windows} of {name} is below the exact figures")
    hashes = np.random.default_rng(0).integers(0, 2**64, RANDOM_HASHES, dtype=np.uint64)
    return {
        "windows": list(windows),
        "kept": index.kept,
        "bytes": len(index.bits),
        "build_s": rounded(build_s),
        "query_ms": rounded(query_ms),
        "false_positives": rounded(float(index.contains(hashes).mean())),
        "steps_exact": rounded(float(np.mean(steps == 0))),
        "steps_above": {"mean": rounded(float(steps.mean())), "most": int(steps.max())},
        "chords_exact": rounded(float(np.mean(chords == 0))),
        "chords_above": {"mean": rounded(float(chords.mean())), "most": int(chords.max())},
        "people": {
            side: people(name, overlaps, is_exact=False) for side, overlaps in sides.items()
        },
    }


def timed_overlaps(
    source: ReferenceCorpus | CopyIndex, style: Style
) -> tuple[dict[str, list[Overlap]], float]:
    """Overlaps of all held-out pieces by side, and milliseconds per piece."""
    begun = time.perf_counter()
    sides = {
        side: [source.overlap(grid) for grid in grids] for side, grids in style.held_out.items()
    }
    passed = time.perf_counter() - begun
    return sides, 1000 * passed / sum(map(len, sides.values()))


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def lines(measured: Mapping[str, Any]) -> list[str]:
    """The results as text."""
    text = []
    for name, style in measured.items():
        text.append(f"{name}: p50, p75, p95 and maximum of human pieces")
        for side, people in style["exact"]["people"].items():
            for figure in ("steps", "chords"):
                values = "  ".join(f"{value:6.1f}" for value in people[figure].values())
                text.append(f"  {side:<12}{people['pieces']:>5} pieces  {figure:<7} {values}")
        text.append(f"  exact: {style['exact']['query_ms']} ms per piece")
        text += [index_line(index) for index in style["index"]]
    return text


def index_line(index: Mapping[str, Any]) -> str:
    return (
        f"  windows {index['windows']!s:<12} {index['bytes']:>9,} bytes  "
        f"{index['build_s']:5.2f} s  {index['query_ms']:5.2f} ms per piece  "
        f"steps +{index['steps_above']['mean']}, exact {index['steps_exact']:.0%}  "
        f"chords +{index['chords_above']['mean']}, exact {index['chords_exact']:.0%}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    options = parser.parse_args()
    measured = {"chorales": measure("chorales", chorales(options.data))}
    with write_atomically(MEASURED) as file:
        file.write(json.dumps(measured, indent=1) + "\n")
    print("\n".join(lines(measured)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
