"""Log-mel spectrograms of real clips compared with librosa: time and error.

    OMP_NUM_THREADS=1 python benchmarks/log_mel.py [--data DIR] [--rounds 15] [--json FILE]

Medians of CPU time, the two alternating; decoding is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, load, log_mel
from deepmusic.files import write_atomically

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"


def by_librosa(samples: NDArray[np.float32], config: LogMelConfig) -> NDArray[np.float32]:
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
    )
    decibels: NDArray[np.float32] = librosa.power_to_db(power, top_db=None)
    return decibels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=CLIPS, help="folder of sound files")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    config = LogMelConfig()
    clips = [load(path).samples for path in sorted(options.data.glob("*.mp3"))]
    if not clips:
        raise SystemExit(f"no mp3 file in {options.data}")
    seconds: dict[str, list[float]] = {"librosa": [], "deepmusic": []}
    error = 0.0
    for turn in range(options.rounds):
        clip = clips[turn % len(clips)]
        results = []
        for name, function in (("librosa", by_librosa), ("deepmusic", log_mel)):
            if turn == 0:
                function(clip, config)  # tables and caches
            start = time.process_time()
            results.append(function(clip, config))
            seconds[name].append(time.process_time() - start)
        error = max(error, float(np.abs(results[0] - results[1]).max()))
    medians = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    length = statistics.mean(len(clip) / config.sample_rate for clip in clips)
    print(
        f"log-mel of {length:.0f} s, {config.sample_rate} Hz, {config.n_mels} mels (ms CPU, median)"
    )
    for name, median in medians.items():
        print(f"  {name:<12}{median:8.1f}")
    print(f"  {'ratio':<12}{medians['librosa'] / medians['deepmusic']:8.2f}")
    print(f"  largest difference {error:.1e} dB")
    if options.json is not None:
        record = {
            "seconds": round(length, 1),
            "ms": {name: round(median, 2) for name, median in medians.items()},
            "largest_difference_db": error,
        }
        with write_atomically(options.json) as file:
            file.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
