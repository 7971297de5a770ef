"""What people's pieces share with others, and how near the index of copying comes to it.

    python benchmarks/copying.py [--data DIR]

Prints the figures and writes docs/measured/copying.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepmusic.composer.copying import CopyFigures, CopyIndex, Originals, human_reference
from deepmusic.datasets import load_symbolic
from deepmusic.files import write_atomically
from deepmusic.music import Grid

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "symbolic"
MEASURED = ROOT / "docs" / "measured" / "copying.json"

WINDOWS = ((8,), (16,), (8, 16), (8, 12, 16), (16, 32))
VIEWS: dict[str, int | None] = {"all parts": None, "melody": 0}
RANDOM_HASHES = 200_000


class Style(NamedTuple):
    """Music of one style: what is trained on, and sides that are not, each with its name."""

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


def measure(styles: Mapping[str, Style]) -> dict[str, Any]:
    """The figures of each style and view; a style may be any lists of grids."""
    return {
        name: {"steps": sum(map(len, style.train)), "pieces": len(style.train)}
        | {view: measure_view(name, style, part) for view, part in VIEWS.items()}
        for name, style in styles.items()
    }


def measure_view(name: str, style: Style, part: int | None) -> dict[str, Any]:
    begun = time.perf_counter()
    originals = Originals(style.train, part=part)
    build_s = time.perf_counter() - begun
    exact, query_ms = timed_figures(originals, style)
    return {
        "exact": {
            "build_s": rounded(build_s),
            "query_ms": rounded(query_ms),
            "people": {
                side: human_reference(originals, grids, style=name).to_dict()
                for side, grids in style.held_out.items()
            },
        },
        "index": [measure_index(name, style, part, windows, exact) for windows in WINDOWS],
    }


def measure_index(
    name: str,
    style: Style,
    part: int | None,
    windows: tuple[int, ...],
    exact: Sequence[CopyFigures],
) -> dict[str, Any]:
    """Sizes and times of an index, and how far its bounds are from the exact figures."""
    begun = time.perf_counter()
    index = CopyIndex.build(style.train, windows=windows, part=part)
    build_s = time.perf_counter() - begun
    bounds, query_ms = timed_figures(index, style)
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
        "false_positives": rounded(float(index.knows(hashes).mean())),
        "steps_exact": rounded(float(np.mean(steps == 0))),
        "steps_above": {"mean": rounded(float(steps.mean())), "most": int(steps.max())},
        "chords_exact": rounded(float(np.mean(chords == 0))),
        "chords_above": {"mean": rounded(float(chords.mean())), "most": int(chords.max())},
        "people": {
            side: human_reference(index, grids, style=name).to_dict()
            for side, grids in style.held_out.items()
        },
    }


def timed_figures(source: Originals | CopyIndex, style: Style) -> tuple[list[CopyFigures], float]:
    """Figures of all pieces that are not trained on, and milliseconds a piece."""
    grids = [grid for side in style.held_out.values() for grid in side]
    begun = time.perf_counter()
    figures = [source.figures(grid) for grid in grids]
    return figures, 1000 * (time.perf_counter() - begun) / len(grids)


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def lines(measured: Mapping[str, Any]) -> list[str]:
    """What was measured, to be read."""
    text = []
    for name, style in measured.items():
        for view in VIEWS:
            exact = style[view]["exact"]
            text.append(f"{name}, {view}: p50, p75, p95 and most of people's pieces")
            for side, people in exact["people"].items():
                for figure in ("steps", "chords"):
                    values = "  ".join(f"{value:6.1f}" for value in people[figure].values())
                    text.append(f"  {side:<12}{people['pieces']:>5} pieces  {figure:<7} {values}")
            text.append(f"  exact: {exact['query_ms']} ms a piece")
            text += [index_line(index) for index in style[view]["index"]]
    return text


def index_line(index: Mapping[str, Any]) -> str:
    return (
        f"  windows {index['windows']!s:<12} {index['bytes']:>9,} bytes  "
        f"{index['build_s']:5.2f} s  {index['query_ms']:5.2f} ms a piece  "
        f"steps +{index['steps_above']['mean']}, exact {index['steps_exact']:.0%}  "
        f"chords +{index['chords_above']['mean']}, exact {index['chords_exact']:.0%}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data sets")
    options = parser.parse_args()
    measured = measure({"chorales": chorales(options.data)})
    with write_atomically(MEASURED) as file:
        file.write(json.dumps(measured, indent=1) + "\n")
    print("\n".join(lines(measured)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
