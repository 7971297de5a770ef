"""What training on the pretrained ear takes on FMA: disk, processor time, memory.

    python benchmarks/ear_scale.py --data ../shared/data/emotify

Rates are measured on a few clips and on made features, in one thread; the table for the sizes of
FMA is worked out from them. Both go to ``docs/measured/ear_scale.json``, the table into
``docs/fma.md``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "measured" / "ear_scale.json"
PAGE = ROOT / "docs" / "fma.md"
SIZES = {"small": 8_000, "medium": 25_000, "large": 106_574}
GENRES, CLIPS, CLIP_S = 16, 20, 30.0
FITS = 5  # of as many tracks: five of four fifths for the calibration, and the last


def of_clips(data: Path) -> dict[str, float]:
    """Seconds of processor time and bytes of a clip of 30 s, decoded and given to the ear."""
    import numpy as np

    from deepmusic.classifier.ear.classifier import ear_output
    from deepmusic.classifier.ear.fitting import PATCHES

    clips = sorted(data.rglob("*.mp3"))[:: max(1, len(list(data.rglob("*.mp3"))) // CLIPS)][:CLIPS]
    seconds, sizes = [], []
    for clip in clips:
        began = time.process_time()
        output = ear_output(clip, patches=PATCHES, max_seconds=CLIP_S)
        seconds.append(time.process_time() - began)
        with tempfile.TemporaryFile() as file:
            features, tags = (array.astype(np.float16) for array in output)
            np.savez(file, features=features, tag_logits=tags)
            sizes.append(file.tell())
    # the first also loads the ear
    return {"ear_s": statistics.median(seconds[1:]), "bytes": statistics.median(sizes)}


def of_fit(tracks: int, epochs: int) -> dict[str, float]:
    """Seconds of processor time and peak memory in bytes of a fit to made features."""
    import numpy as np

    from deepmusic.classifier.ear.config import HeadConfig
    from deepmusic.classifier.ear.fitting import PATCHES, FitOptions, fit_head

    random = np.random.default_rng(0)
    outputs = [
        (
            random.normal(size=(PATCHES, 256)).astype(np.float32),
            random.normal(size=(PATCHES, 50)).astype(np.float32),
        )
        for _ in range(tracks)
    ]
    targets = np.eye(GENRES)[np.arange(tracks) % GENRES]
    began = time.process_time()
    fit_head(outputs, targets, HeadConfig(tuple(map(str, range(GENRES)))), FitOptions(epochs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"s": time.process_time() - began, "peak": peak}


def measure(data: Path) -> dict[str, Any]:
    def child(tracks: int, epochs: int) -> dict[str, float]:
        command = [sys.executable, __file__, "--fit", str(tracks), str(epochs)]
        result: dict[str, float] = json.loads(subprocess.check_output(command))
        return result

    few, many, whole = child(500, 1), child(4500, 1), child(600, 15)
    return {
        **of_clips(data),
        "fit_s": whole["s"] / 600,
        "track_bytes": (many["peak"] - few["peak"]) / 4000,
        "base_bytes": few["peak"],
    }


def table(rates: dict[str, float]) -> str:
    lines = [
        "| subset | tracks | stored | the ear, CPU | fits, CPU | peak memory of the fits |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, tracks in SIZES.items():
        disk, memory = rates["bytes"] * tracks / 1e6, rates["track_bytes"] * tracks
        minutes = (rates["ear_s"] * tracks / 60, FITS * rates["fit_s"] * tracks / 60)
        lines.append(
            f"| {name} | {tracks:,} | {disk:,.0f} MB | {minutes[0]:,.0f} min | "
            f"{minutes[1]:,.0f} min | {(memory + rates['base_bytes']) / 1e9:.1f} GB |"
        )
    return (
        "\n".join(lines) + f"\n\nA clip of {CLIP_S:.0f} s takes {1000 * rates['ear_s']:.0f} ms of "
        f"one processor and {rates['bytes'] / 1000:.1f} kB; a fit of {GENRES} genres "
        f"{1000 * rates['fit_s']:.0f} ms and {rates['track_bytes'] / 1000:.0f} kB of memory per "
        "track.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/emotify"))
    parser.add_argument("--fit", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        print(json.dumps(of_fit(*options.fit)))
        return 0

    from deepmusic.files import write_json
    from docs_page import write_parts

    rates = measure(options.data)
    write_json(MEASURED, rates)
    write_parts(PAGE, "benchmarks/ear_scale.py", {"table": table(rates)})
    print(table(rates))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
