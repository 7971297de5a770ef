"""The 518 features compared with librosa: accuracy, speed, memory, several processes.

    python benchmarks/features.py --data ../shared/data
    python benchmarks/features.py --sections timed

Ratios of medians of process time, in one thread, librosa and ours alternating. The figures go to
``docs/measured/features.json`` and into ``docs/features.md`` and ``docs/scale.md``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import open_audio
from deepmusic.features import (
    COLUMNS,
    FEATURE_SIZES,
    RECIPES,
    extract,
    extract_file,
    feature_columns,
    frame_features,
    log_mel_spectrogram,
)
from deepmusic.files import write_atomically
from docs_page import write_parts
from fma_features import librosa_features, load_table, scipy_statistics

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "measured" / "features.json"
FMA_TRACKS, FMA_FULL_S, FMA_FULL_GIB = 106_574, 278, 879
A_CORE_HOUR = 0.04
FMA = RECIPES["fma"]
TOLERANCE = 1e-4


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def our_sound(path: Path) -> tuple[NDArray[np.float32], int]:
    with open_audio(path, sample_rate=None) as stream:
        return np.concatenate(list(stream)), stream.sample_rate


def librosa_columns(sound: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    rows = librosa_features(sound, sample_rate)
    return np.concatenate([scipy_statistics(rows[feature]) for feature in FEATURE_SIZES])


def our_columns(sound: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    return feature_columns(frame_features(sound, sample_rate))


def librosa_log_mel(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    power = librosa.feature.melspectrogram(y=sound, sr=22050)
    return librosa.power_to_db(power)


def timed(data: Path) -> dict[str, Any]:
    """Medians in ms over clips and rounds, and their ratios."""
    clips = sorted((data / "clips").rglob("*.mp3"))
    took: dict[str, list[float]] = {}
    worst_mel = 0.0
    for number in range(4):  # the first round is a warm-up
        for clip in clips:
            sound, sample_rate = our_sound(clip)
            low = librosa.resample(sound, orig_sr=sample_rate, target_sr=22050)
            works = {
                "librosa features": lambda s=sound, r=sample_rate: librosa_columns(s, r),
                "our features": lambda s=sound, r=sample_rate: feature_columns(
                    frame_features(s, r)
                ),
                "librosa decoding": lambda c=clip: librosa.load(c, sr=None),
                "our decoding": lambda c=clip: our_sound(c),
                "librosa file": lambda c=clip: librosa_columns(*librosa.load(c, sr=None)),
                "our file": lambda c=clip: extract_file(c, FMA),
                "librosa log-mel": lambda s=low: librosa_log_mel(s),
                "our log-mel": lambda s=low: log_mel_spectrogram(s),
            }
            error = np.abs(log_mel_spectrogram(low) - librosa_log_mel(low)).max()
            worst_mel = max(worst_mel, float(error))
            for name, work in works.items():
                spent = seconds(work)
                if number:
                    took.setdefault(name, []).append(1000 * spent)
    result: dict[str, Any] = {name: round(statistics.median(t), 1) for name, t in took.items()}
    for what in ("features", "decoding", "file", "log-mel"):
        ratios = [a / b for a, b in zip(took[f"librosa {what}"], took[f"our {what}"], strict=True)]
        result[f"{what} ratio"] = round(statistics.median(ratios), 2)
    result["log-mel error dB"] = float(f"{worst_mel:.1e}")
    return result


def exact(data: Path) -> dict[str, Any]:
    """Errors of all columns on all clips, by feature; the oracle's table must be there."""
    theirs = load_table(data / "emotify")
    paths = list(theirs)
    rows = {
        row.path: row.columns
        for row in extract([str(data / "emotify" / path) for path in paths], FMA)
    }
    ours = np.array([rows[str(data / "emotify" / path)] for path in paths], float)
    reference = np.array([theirs[path] for path in paths], float)
    scale = np.maximum(np.abs(reference), reference.std(axis=0))
    error = np.abs(ours - reference) / np.maximum(scale, 1e-30)
    by_feature = {}
    for feature in FEATURE_SIZES:
        columns = error[:, [index for index, c in enumerate(COLUMNS) if c[0] == feature]]
        by_feature[feature] = {
            "max": float(f"{columns.max():.1e}"),
            "p99": float(f"{np.quantile(columns, 0.99):.1e}"),
            "clips beyond": int((columns.max(axis=1) > TOLERANCE).sum()),
        }
    return {
        "clips": len(paths),
        "features": by_feature,
        "features max": float(f"{error.max():.1e}"),
    }


def parallel(data: Path) -> dict[str, Any]:
    """Wall time of two processes against one, both warm."""
    clips = [str(path) for path in sorted((data / "emotify").rglob("*.mp3"))]

    def wall(paths: list[str], workers: int) -> float:
        rows = extract(paths, FMA, workers=workers)
        for _ in range(2 * workers):  # until processes are there and warm
            next(rows)
        began, left = time.perf_counter(), len(paths) - 2 * workers
        for _ in rows:
            pass
        return (time.perf_counter() - began) / left

    ratios, ones, twos = [], [], []
    for _ in range(3):
        ones.append(wall(clips[:60], 1))
        twos.append(wall(clips[:160], 2))
        ratios.append(ones[-1] / twos[-1])
    return {
        "one process, ms a clip": round(1000 * statistics.median(ones), 1),
        "two processes, ms a clip": round(1000 * statistics.median(twos), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


PEAK = """
import sys, time
began = time.perf_counter()
from deepmusic.features import RECIPES, extract_file
row = extract_file(sys.argv[1], RECIPES["fma"])
assert row.is_done, row.error
status = open("/proc/self/status").read().splitlines()
peak = next(line for line in status if line.startswith("VmHWM")).split()[1]
print(int(peak) / 1024, time.perf_counter() - began, time.process_time(), row.duration_s)
"""


def child(path: Path, **environment: str) -> dict[str, float]:
    """Peak memory and seconds of a new process that computes one file."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    peak, wall, cpu, sound = map(float, done.stdout.split())
    return {
        "peak MB": round(peak),
        "wall s": round(wall, 2),
        "cpu s": round(cpu, 2),
        "sound s": round(sound),
    }


def memory(data: Path) -> dict[str, Any]:
    """Peak memory for a clip, a track, and three hours of repeated clips."""
    import soundfile

    clips = sorted((data / "clips").rglob("*.mp3"))
    sounds = [soundfile.read(clip, dtype="int16")[0] for clip in clips]
    result = {"a clip of 30 s": child(clips[0])}
    with tempfile.TemporaryDirectory() as folder:
        for name, length, ending in (
            ("a track of FMA", FMA_FULL_S, "mp3"),
            ("three hours", 3 * 3600, "flac"),
        ):
            path = Path(folder) / f"{name}.{ending}"
            left = length * 44100
            with soundfile.SoundFile(path, "w", samplerate=44100, channels=2) as file:
                while left > 0:
                    for sound in sounds:
                        file.write(sound[:left])
                        left = max(0, left - len(sound))
            result[name] = child(path)
    return result


def exactness_table(measured: dict[str, Any]) -> str:
    lines = [
        f"| feature | largest | 99 % of values below | clips beyond {TOLERANCE:.0e} |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in measured["exact"]["features"].items():
        errors = [f"{row[key]:.0e}" if row[key] else "0" for key in ("max", "p99")]
        lines.append(f"| {name} | {' | '.join(errors)} | {row['clips beyond']} |")
    return "\n".join(lines) + "\n"


def speed_table(measured: dict[str, Any]) -> str:
    timing = measured["timed"]
    names = {
        "features": "features of sound in memory",
        "decoding": "decoding to mono",
        "file": "from the mp3 to the row",
        "log-mel": "log-mel alone (22,050 Hz)",
    }
    lines = [
        "| | librosa, ms | ours, ms | times faster |",
        "| --- | --- | --- | --- |",
    ]
    for key, name in names.items():
        ours, theirs = timing[f"our {key}"], timing[f"librosa {key}"]
        lines.append(f"| {name} | {theirs:.1f} | {ours:.1f} | {timing[f'{key} ratio']:.1f} |")
    both = measured["parallel"]["ratio"]
    first, later = (measured["start"][n]["wall s"] for n in ("first after installing", "later"))
    return (
        "\n".join(lines)
        + f"\n\nLog-mel differs from librosa's by at most {timing['log-mel error dB']:.0e} dB. A "
        f"new process has its first row after {later:.1f} s, the first after installation after "
        f"{first:.1f} s. Two processes do {both:.2f} times as much as one.\n"
    )


def scale_table(measured: dict[str, Any]) -> str:
    clip_s = measured["timed"]["our file"] / 1000
    track_s = measured["memory"]["a track of FMA"]["cpu s"]
    track_s -= measured["start"]["later"]["cpu s"] - clip_s  # starting is paid once
    lines = [
        "| cores | fma_large (30 s each): hours | cost | fma_full: hours | cost | reading, GB/s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for cores in (1, 8, 32, 128):
        large, full = (FMA_TRACKS * each / 3600 / cores for each in (clip_s, track_s))
        reading = FMA_FULL_GIB * 2**30 / 1e9 / (full * 3600)
        lines.append(
            f"| {cores} | {large:.2f} | {large * cores * A_CORE_HOUR:.2f} | {full:.1f} | "
            f"{full * cores * A_CORE_HOUR:.2f} | {reading:.2f} |"
        )
    memory = measured["memory"]
    table_mb = FMA_TRACKS * len(COLUMNS) * 4 / 1e6
    return (
        "\n".join(lines)
        + f"\n\nA clip takes {1000 * clip_s:.0f} ms, a track of {FMA_FULL_S} s (FMA's mean; an mp3 "
        f"made of clips) {track_s:.2f} s. The table has about {table_mb:.0f} MB, packed and "
        f"in memory; the store while it grows {FMA_TRACKS * 3.1e-3:.0f} MB. Peak memory of a "
        f"worker: {memory['a clip of 30 s']['peak MB']} MB for a clip, "
        f"{memory['a track of FMA']['peak MB']} MB for such a track, "
        f"{memory['three hours']['peak MB']} MB for three hours.\n"
    )


PAGES = {
    "features.md": {"exactness": exactness_table, "speed": speed_table},
    "scale.md": {"scale": scale_table},
}


def write_pages(measured: dict[str, Any]) -> None:
    """Insert the tables into the pages."""
    for page, tables in PAGES.items():
        parts = {name: table(measured) for name, table in tables.items()}
        write_parts(ROOT / "docs" / page, "benchmarks/features.py", parts)


def start(data: Path) -> dict[str, Any]:
    """The first file of a process, before and after the code is compiled."""
    clip = sorted((data / "clips").rglob("*.mp3"))[0]
    with tempfile.TemporaryDirectory() as folder:
        first = child(clip, NUMBA_CACHE_DIR=folder)
        return {"first after installing": first, "later": child(clip, NUMBA_CACHE_DIR=folder)}


SECTIONS = {
    "timed": timed,
    "exact": exact,
    "parallel": parallel,
    "memory": memory,
    "start": start,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sections", default=",".join(SECTIONS), help="comma-separated")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for name in options.sections.split(","):
        load = os.getloadavg()[0]
        measured[name] = {**SECTIONS[name](options.data), "load before": round(load, 1)}
        print(name, json.dumps(measured[name], indent=1))
        with write_atomically(MEASURED) as file:
            json.dump(measured, file, indent=1)
            file.write("\n")
    if set(SECTIONS) <= set(measured):
        write_pages(measured)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
