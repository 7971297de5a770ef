"""Time to read FMA's tracks.csv: as CSV the first time, as Parquet afterwards.

    OMP_NUM_THREADS=1 python benchmarks/fma_tables.py [--rounds 5] [--packed] [--json FILE]

A tracks.csv with the published layout and size (106,574 tracks, 52 columns, about 260 MB) is
generated in a temporary folder. Each reading runs in its own process, imports included; FMA's own
method in pandas is measured, too. Wall and CPU seconds (median of later readings), peak memory in
MB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "datasets"))

from miniature_fma import pack, write_real_size

from deepmusic.files import write_atomically

BIOGRAPHY_BYTES = 2620  # so that the whole has the published 260 MB

OURS = """
import time; start, start_cpu = time.perf_counter(), time.process_time()
import deepmusic.datasets.fma as fma
table = fma.read_fma(PATH).tracks
"""
THEIRS = """
import time; start, start_cpu = time.perf_counter(), time.process_time()
import ast
import pandas as pd
table = pd.read_csv(PATH + "/tracks.csv", index_col=0, header=[0, 1])
for column in [("track", "tags"), ("album", "tags"), ("artist", "tags"), ("track", "genres"),
               ("track", "genres_all")]:
    table[column] = table[column].map(ast.literal_eval)
for column in [("track", "date_created"), ("track", "date_recorded"), ("album", "date_created"),
               ("album", "date_released"), ("artist", "date_created"),
               ("artist", "active_year_begin"), ("artist", "active_year_end")]:
    table[column] = pd.to_datetime(table[column])
for column in [("track", "genre_top"), ("track", "license"), ("album", "type"),
               ("album", "information"), ("artist", "bio"), ("set", "subset")]:
    table[column] = table[column].astype("category")
"""
END = """
wall_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
import json, resource, sys
unit = 1e6 if sys.platform == "darwin" else 1e3
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
assert table.shape == (106574, 52), table.shape
print(json.dumps([wall_s, cpu_s, peak]))
"""


def reading(script: str, path: Path) -> dict[str, float]:
    """The cost of a process that reads the table: ``s``, ``cpu_s`` and ``peak_mb``."""
    code = script.replace("PATH", repr(str(path))) + END
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return dict(zip(("s", "cpu_s", "peak_mb"), json.loads(done.stdout), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--packed", action="store_true", help="from fma_metadata.zip, too")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    figures: dict[str, float] = {}

    def note(name: str, readings: list[dict[str, float]]) -> None:
        for unit in readings[0]:
            figures[f"{name}_{unit}"] = statistics.median(taken[unit] for taken in readings)

    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder) / "fma_metadata"
        csv = write_real_size(metadata, bio_bytes=BIOGRAPHY_BYTES)
        figures["csv_mb"] = csv.stat().st_size / 1e6
        note("pandas", [reading(THEIRS, metadata)])
        note("first", [reading(OURS, metadata)])
        note("later", [reading(OURS, metadata) for _ in range(options.rounds)])
        cache = metadata / ".deepmusic"
        figures["parquet_mb"] = (cache / "tracks.parquet").stat().st_size / 1e6
        if options.packed:
            shutil.rmtree(cache)
            packed = pack(metadata)
            note("packed_first", [reading(OURS, packed)])
            note("packed_later", [reading(OURS, packed) for _ in range(options.rounds)])
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:8.2f}")
    if options.json:
        with write_atomically(options.json) as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
