"""CPU time of decoding and log-mel of files, stage by stage, compared with librosa.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py [--data DIR] [--rounds 5] [--json FILE]

CPU time of this process in ms per file, medians over files and rounds, stages interleaved.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import librosa
import numpy as np
import soundfile
import soxr

from deepmusic.audio import load, log_mel
from deepmusic.audio.ffmpeg import FfmpegReader
from deepmusic.audio.libsndfile import SndfileReader
from deepmusic.files import write_atomically

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
RATE = 22050
T = TypeVar("T")


def read_blocks(path: Path, open_reader: type[SndfileReader] | type[FfmpegReader]) -> None:
    with open(path, "rb", buffering=0) as file:
        reader = open_reader(file)
        for _ in reader.blocks():
            pass
        reader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=CLIPS, help="folder of sound files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    paths = sorted(path for path in options.data.iterdir() if path.suffix == ".mp3")
    if not paths:
        raise SystemExit(f"no mp3 file in {options.data}")
    spent: dict[str, list[float]] = {}

    def timed(stage: str, function: Callable[[], T]) -> T:
        start = time.process_time()
        result = function()
        spent.setdefault(stage, []).append(1000 * (time.process_time() - start))
        return result

    read_blocks(paths[0], FfmpegReader)  # imports
    log_mel(load(paths[0]).samples)
    librosa.load(paths[0], sr=RATE)
    for _ in range(options.rounds):
        for path in paths:
            sound, sample_rate = timed(
                "soundfile.read", lambda path=path: soundfile.read(path, dtype="f4", always_2d=True)
            )
            mono = timed(
                "NumPy mean of channels", lambda sound=sound: sound.T.sum(axis=0) / len(sound.T)
            )
            timed(
                "soxr at once",
                lambda mono=mono, sample_rate=sample_rate: soxr.resample(
                    mono.astype(np.float32), sample_rate, RATE
                ),
            )
            timed("blocks by libsndfile", lambda path=path: read_blocks(path, SndfileReader))
            timed("blocks by FFmpeg", lambda path=path: read_blocks(path, FfmpegReader))
            samples = timed("load (all of it)", lambda path=path: load(path)).samples
            timed("log_mel", lambda samples=samples: log_mel(samples))
            timed("librosa.load", lambda path=path: librosa.load(path, sr=RATE))
    print(f"{len(paths)} files, {options.rounds} rounds (ms CPU per file, median)")
    medians = {stage: statistics.median(times) for stage, times in spent.items()}
    for stage, median in medians.items():
        print(f"  {stage:<22}{median:8.1f}")
    if options.json is not None:
        record = {"files": len(paths), "ms": {s: round(m, 2) for s, m in medians.items()}}
        with write_atomically(options.json) as file:
            file.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
