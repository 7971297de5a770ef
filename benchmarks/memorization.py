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

from deepmusic.composer.memorization import CopyIndex, human_reference
from deepmusic.composer.shared_passages import Overlap, ReferenceCorpus
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
    return {
        "steps": sum(map(len, style.train)),
        "pieces": len(style.train),
        "exact": {
            "build_s": rounded(build_s),
            "query_ms": rounded(query_ms),
            "people": {
                side: asdict(human_reference(corpus, grids, style=name))
                for side, grids in style.held_out.items()
            },
        },
        "index": [measure_index(name, style, windows, exact) for windows in WINDOWS],
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
    bounds, query_ms = timed_overlaps(index, style)
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
            side: asdict(human_reference(index, grids, style=name))
            for side, grids in style.held_out.items()
        },
    }


def timed_overlaps(
    source: ReferenceCorpus | CopyIndex, style: Style
) -> tuple[list[Overlap], float]:
    """Overlaps of all held-out pieces, and milliseconds per piece."""
    grids = [grid for side in style.held_out.values() for grid in side]
    begun = time.perf_counter()
    overlaps = [source.overlap(grid) for grid in grids]
    return overlaps, 1000 * (time.perf_counter() - begun) / len(grids)


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
