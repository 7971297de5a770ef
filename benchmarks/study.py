"""Time of the study's models of feature columns, and two workers against one.

    python benchmarks/study.py --data ../shared/data/emotify [--parts whole,workers]

*whole*: ``deepmusic study genres --models tables`` with its defaults and two workers, without
features and the search for copies. *workers*: one seed of it without learning curves, with one
worker and with two, alternating, medians of rounds. The figures go to
``docs/measured/study_cost.json``, from where ``scripts/write_results.py`` takes them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deepmusic.files import write_atomically
from deepmusic.studies.jobs import open_results, study_results

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "measured" / "study_cost.json"


def seconds(data: Path, cache: Path, out: Path, *options: str) -> float:
    """Wall time of a study of the models of features."""
    command = [sys.executable, "-m", "deepmusic", "study", "genres", "--data", str(data)]
    command += ["--models", "tables", "--cache", str(cache), "--out", str(out), *options]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def whole(data: Path, cache: Path, out: Path) -> dict[str, Any]:
    found = {"minutes": round(seconds(data, cache, out, "--workers", "2") / 60, 1)}
    with open_results(out) as store:
        return {**found, "jobs": len(study_results(store))}


def workers(data: Path, cache: Path, folder: Path, rounds: int) -> dict[str, Any]:
    taken: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for count, spent in taken.items():
            out = folder / f"{number}-{count}"
            options = ("--seeds", "1", "--sizes", "1", "--workers", str(count))
            spent.append(seconds(data, cache, out, *options))
    ratios = [one / two for one, two in zip(taken[1], taken[2], strict=True)]
    return {
        "one, s": round(statistics.median(taken[1]), 1),
        "two, s": round(statistics.median(taken[2]), 1),
        "times": round(statistics.median(ratios), 2),
        "rounds": [round(ratio, 2) for ratio in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "emotify")
    parser.add_argument("--cache", type=Path, default=ROOT / "runs" / "study" / "cache")
    parser.add_argument("--out", type=Path, help="keeps the study of the part whole")
    parser.add_argument("--parts", default="whole,workers")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        # the first run computes features and copies
        first = ("--seeds", "1", "--sizes", "1", "--budget", "0.001")
        seconds(options.data, options.cache, Path(folder) / "first", *first)
        for part in options.parts.split(","):
            load = round(os.getloadavg()[0], 1)
            if part == "whole":
                found = whole(options.data, options.cache, options.out or Path(folder) / "whole")
            else:
                found = workers(options.data, options.cache, Path(folder), options.rounds)
            measured[part] = {**found, "load before": load}
            print(part, measured[part], flush=True)
            with write_atomically(MEASURED) as file:
                file.write(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
