"""``data check``: its cost compared with decoding alone, and which copies it finds.

    python benchmarks/data_check.py --data ../shared/data
    python benchmarks/data_check.py --sections ratio memory

The ratio is of wall times of whole processes with two workers, in turn, medians over the rounds.
Copies are modified recordings of every eighth clip, each compared with all clips of the data set.
The figures go to ``docs/measured/data_check.json`` and into ``docs/check.md``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from deepmusic.audio import open_audio
from deepmusic.audio.fingerprint import acoustic_fingerprint
from deepmusic.datasets import scan_folder
from deepmusic.datasets.near_duplicates import sound_matches
from deepmusic.files import write_atomically
from docs_page import write_parts

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "measured" / "data_check.json"
PAGE = ROOT / "docs" / "check.md"
Sound = NDArray[np.float32]
Change = Callable[[Sound, int], tuple[Sound, int]]

DECODE = """
import sys
from dataclasses import dataclass
from deepmusic.audio import find_audio, open_audio
from deepmusic.parallel import map_files

@dataclass
class Decoded:
    path: str
    samples: int

def decode(path):
    with open_audio(path, sample_rate=None) as stream:
        return Decoded(path, sum(len(block) for block in stream))

rows = list(map_files(decode, find_audio(sys.argv[1:]), lambda path: Decoded(path, 0), workers=2))
print(len(rows))
"""


def decoded(path: Path | io.BytesIO) -> tuple[Sound, int]:
    with open_audio(path, sample_rate=None) as stream:
        return np.concatenate(list(stream)), stream.sample_rate


def spent_by(command: list[str]) -> tuple[float, float]:
    """Wall time of a command, and the CPU time of all its processes, in s."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(data: Path, rounds: int) -> dict[str, Any]:
    """Wall time of a first and of a second check of all clips, against decoding them."""
    clips = data / "emotify"
    times: dict[str, list[float]] = {"decoding alone": [], "check": [], "check again": []}
    cpu: dict[str, list[float]] = {name: [] for name in times}
    with tempfile.TemporaryDirectory() as folder:
        decode = Path(folder) / "decode.py"
        decode.write_text(DECODE)
        for number in range(rounds + 1):  # the first round warms up
            report = Path(folder) / f"{number}.json"
            check = [sys.executable, "-m", "deepmusic", "data", "check", str(clips)]
            check += ["--workers", "2", "-o", str(report)]
            works = {
                "decoding alone": [sys.executable, str(decode), str(clips)],
                "check": check,
                "check again": check,
            }
            for name, command in works.items():
                wall_s, cpu_s = spent_by(command)
                if number:
                    times[name].append(wall_s)
                    cpu[name].append(cpu_s)
    ratios, cpu_ratios = (
        [a / b for a, b in zip(kind["check"], kind["decoding alone"], strict=True)]
        for kind in (times, cpu)
    )
    return {
        "clips": len(list(clips.rglob("*.mp3"))),
        "rounds": rounds,
        **{f"{name}, s": round(statistics.median(spent), 2) for name, spent in times.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(one, 2) for one in ratios],
        "of CPU time": round(statistics.median(cpu_ratios), 2),
        "ratios of CPU time": [round(one, 2) for one in cpu_ratios],
        "load of the machine": round(os.getloadavg()[0], 1),
    }


def as_mp3(sound: Sound, sample_rate: int, bit_rate: int) -> tuple[Sound, int]:
    """Samples encoded by LAME and decoded again."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", sample_rate=sample_rate, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound[None]), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        resampler = av.AudioResampler(
            format=stream.format,
            layout="mono",
            sample_rate=sample_rate,
            frame_size=stream.frame_size or 1152,
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    buffer.seek(0)
    return decoded(buffer)


def with_noise(sound: Sound, decibels: float) -> Sound:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(len(sound)).astype(np.float32)
    return sound + noise * np.sqrt(np.mean(sound**2)) * np.float32(10 ** (-decibels / 20))


def cut(sound: Sound, sample_rate: int, start_s: float, end_s: float | None = None) -> Sound:
    return sound[
        round(start_s * sample_rate) : None if end_s is None else round(end_s * sample_rate)
    ]


def everything(sound: Sound, sample_rate: int) -> tuple[Sound, int]:
    piece = soxr.resample(cut(sound, sample_rate, 7.77, 25.0) * np.float32(0.3), sample_rate, 32000)
    return as_mp3(with_noise(piece, 20), 32000, 64_000)


CHANGES: dict[str, Change] = {
    "20 dB softer": lambda x, r: (x * np.float32(0.1), r),
    "mp3, 64 kbit/s": lambda x, r: as_mp3(x, r, 64_000),
    "22,050 Hz, then mp3 of 32 kbit/s": lambda x, r: as_mp3(
        soxr.resample(x, r, 22050), 22050, 32_000
    ),
    "48,000 Hz": lambda x, r: (soxr.resample(x, r, 48000), 48000),
    "16,000 Hz": lambda x, r: (soxr.resample(x, r, 16000), 16000),
    "8,000 Hz": lambda x, r: (soxr.resample(x, r, 8000), 8000),
    "1/16 s cut off (the worst shift)": lambda x, r: (cut(x, r, 1 / 16), r),
    "3.33 s cut off": lambda x, r: (cut(x, r, 3.33), r),
    "10.01 s cut off": lambda x, r: (cut(x, r, 10.01), r),
    "the middle 10 s": lambda x, r: (cut(x, r, 10.0, 20.0), r),
    "4 s cut out of the middle": lambda x, r: (
        np.concatenate([cut(x, r, 0, 13.0), cut(x, r, 17.0)]),
        r,
    ),
    "noise 20 dB below": lambda x, r: (with_noise(x, 20), r),
    "noise 10 dB below": lambda x, r: (with_noise(x, 10), r),
    "17 s from 7.77 s on, 32,000 Hz, softer, noise, mp3 of 64 kbit/s": everything,
    "1 % faster (not intended)": lambda x, r: (soxr.resample(x, r, r / 1.01), r),
    "4 s alone (not intended)": lambda x, r: (cut(x, r, 10.0, 14.0), r),
}


def copies(data: Path) -> dict[str, Any]:
    """Which modified recordings are found, and false positives."""
    dataset = scan_folder(data / "emotify")
    sounds = [decoded(dataset.file(track)) for track in dataset.tracks]
    prints = [acoustic_fingerprint(*sound) for sound in sounds]
    with (data / "emotify" / "tracks.csv").open(encoding="utf-8") as file:
        import csv

        titles = {row["path"]: (row["artist"], row["title"]) for row in csv.DictReader(file)}
    own = {(match.first, match.second) for match in sound_matches(prints)}
    alike = {index: {index} for index in range(len(prints))}
    for first, second in own:
        alike[first].add(second)
        alike[second].add(first)
    same_title = {
        (first, second)
        for second in range(len(prints))
        for first in range(second)
        if titles[dataset.tracks[first].path] == titles[dataset.tracks[second].path]
    }
    changed = range(0, len(prints), 8)
    table = {}
    for name, change in CHANGES.items():
        made = [acoustic_fingerprint(*change(*sounds[index])) for index in changed]
        found = {
            (match.first, match.second - len(prints))
            for match in sound_matches([*prints, *made])
            if match.second >= len(prints) > match.first
        }
        right = sum((index, number) in found for number, index in enumerate(changed))
        false = sum(index not in alike[changed[number]] for index, number in found)
        table[name] = {"found": right, "of": len(changed), "false": false}
        print(name, table[name], flush=True)
    paths = sorted((data / "clips").rglob("*.mp3"))
    originals = [acoustic_fingerprint(*decoded(path)) for path in paths]
    matched = {
        match.second
        for match in sound_matches([*prints, *originals])
        if match.second >= len(prints) > match.first
    }
    return {
        "changes": table,
        "clips": len(prints),
        "pairs in the data": len(own),
        "of one title and artist": len(own & same_title),
        "of one title and artist, not found": [
            [dataset.tracks[index].path for index in pair] for pair in sorted(same_title - own)
        ],
        "originals found": len(matched),
        "originals": len(originals),
    }


def scale(data: Path) -> dict[str, Any]:
    """Seconds for comparing many fingerprints that are as varied as those of the clips."""
    dataset = scan_folder(data / "emotify")
    pieces = np.concatenate(
        [acoustic_fingerprint(*decoded(dataset.file(track))) for track in dataset.tracks]
    )
    rng = np.random.default_rng(0)
    found = {}
    for count in (1000, 2000, 4000, 8000, 16000):
        prints = []
        for _ in range(count):
            starts = rng.integers(0, len(pieces) - 8, 30)
            flipped = np.uint32(rng.integers(0, 1 << 32))
            prints.append(np.concatenate([pieces[start : start + 8] for start in starts]) ^ flipped)
        began = time.process_time()
        matches = sound_matches(prints)
        found[str(count)] = {
            "s": round(time.process_time() - began, 2),
            "false": len(matches),
        }
    return found


PEAK = """
import sys
from deepmusic.audio.scan import scan_file
scan = scan_file(sys.argv[1])
assert not scan.code, scan.error
status = open("/proc/self/status").read().splitlines()
peak = next(line for line in status if line.startswith("VmHWM")).split()[1]
print(int(peak) / 1024, scan.duration_s, scan.channels)
"""


def memory(data: Path) -> dict[str, Any]:
    """Peak memory of a process that scans one file."""
    clip = sorted((data / "clips").rglob("*.mp3"))[0]
    sound = soundfile.read(clip, dtype="int16")[0]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, length, channels in (
            ("3 hours, stereo", 3 * 3600, 2),
            ("20 min, 8 channels", 1200, 8),
        ):
            path = Path(folder) / "long.flac"
            block = np.repeat(sound[:, :1], channels, axis=1)
            with soundfile.SoundFile(path, "w", samplerate=44100, channels=channels) as file:
                for _ in range(length * 44100 // len(block)):
                    file.write(block)
            for label, source in (("a clip of 30 s", clip), (name, path)):
                done = subprocess.run(
                    [sys.executable, "-c", PEAK, source], capture_output=True, text=True, check=True
                )
                peak, seconds, _ = map(float, done.stdout.split())
                found[label] = {"peak MB": round(peak), "s": round(seconds)}
    return found


def tables(measured: dict[str, Any]) -> dict[str, str]:
    cost, found = measured["ratio"], measured["copies"]
    speed = (
        f"{cost['clips']} clips of 30 s, two processes, whole runs of the command, median of "
        f"{cost['rounds']}: decoding alone {cost['decoding alone, s']:.1f} s, the check "
        f"{cost['check, s']:.1f} s, **{cost['ratio']:.2f} times** as long ("
        f"{cost['of CPU time']:.2f} "
        f"times the CPU time; the machine's load was {cost['load of the machine']:.1f}); a second "
        f"check {cost['check again, s']:.1f} s.\n\n"
    )
    speed += "| recordings of 30 s | comparing all fingerprints, s | false pairs |\n"
    speed += "| --- | --- | --- |\n"
    for count, row in measured["scale"].items():
        speed += f"| {int(count):,} | {row['s']:.1f} | {row['false']} |\n"
    speed += "\n| scanned in one process | peak memory, MB |\n| --- | --- |\n"
    for name, row in measured["memory"].items():
        speed += f"| {name} | {row['peak MB']} |\n"
    recall = "| change | found | false pairs |\n| --- | --- | --- |\n"
    for name, row in found["changes"].items():
        recall += f"| {name} | {row['found']} of {row['of']} | {row['false']} |\n"
    missed = found["of one title and artist, not found"]
    recall += (
        f"\nAmong the {found['clips']} clips as they are, {found['pairs in the data']} pairs are "
        f"reported as copies; {found['of one title and artist']} of them have the same title and "
        f"artist. Pairs of one title and artist that are not reported: {len(missed)}. Of "
        f"{found['originals']} clips in another coding (stereo, 128 kbit/s), "
        f"{found['originals found']} are found.\n"
    )
    return {"cost": speed, "copies": recall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=5)
    names = ("ratio", "copies", "scale", "memory")
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    measured: dict[str, Any] = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    works = {
        "ratio": lambda: ratio(options.data, options.rounds),
        "copies": lambda: copies(options.data),
        "scale": lambda: scale(options.data),
        "memory": lambda: memory(options.data),
    }
    for name in options.sections:
        measured[name] = works[name]()
        print(name, json.dumps(measured[name], indent=1), flush=True)
        with write_atomically(MEASURED) as file:
            file.write(json.dumps(measured, indent=1) + "\n")
    if all(name in measured for name in names):
        write_parts(PAGE, "benchmarks/data_check.py", tables(measured))


if __name__ == "__main__":
    main()
