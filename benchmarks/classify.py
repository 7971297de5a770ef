"""The cost of classifying a track: time, memory; and whether coding or silence changes a verdict.

    python benchmarks/classify.py [--model RUN] [--parts size,cpu,agreement,hearing,memory,...]

Only the named parts are measured; results of earlier calls are kept. ``start``, ``jobs`` and
``known`` are wall clock time: nothing else may run on the machine. Peak memory is read from
``/proc`` (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
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
import torch
from threadpoolctl import threadpool_limits

from deepmusic.audio import load, log_mel
from deepmusic.classifier.ear.classifier import PATCHES, EarClassifier
from deepmusic.classifier.ear.patches import patches_of
from deepmusic.classifier.files import MAX_SECONDS
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.verdict import Verdict
from deepmusic.classifier.verdict_store import VerdictStore
from deepmusic.files import write_atomically
from deepmusic.pretrained import MODELS, load as load_model

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
Figures = list[dict[str, Any]]
Work = Callable[[], object]

# runs the command, then prints its own peak memory, without that of the parent
PEAK = """
import sys
from deepmusic.cli import main
try:
    main()
finally:
    status = open("/proc/self/status").read()
    print(status.split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


def figure(
    what: str, value: float, unit: str, *, most: float | None = None, least: float | None = None
) -> dict[str, Any]:
    """One measured value and its target, an upper or a lower bound."""
    record: dict[str, Any] = {"what": what, "value": round(value, 3), "unit": unit}
    if most is not None:
        record |= {"target": f"at most {most:g}", "met": value <= most}
    if least is not None:
        record |= {"target": f"at least {least:g}", "met": value >= least}
    return record


def cpu_ms(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return 1000 * (time.process_time() - start)


def wall_s(arguments: list[str]) -> float:
    """Wall time of a command in seconds, start-up included."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "deepmusic", *arguments],
        env=environment,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


def stages_of(classifier: Classifier | EarClassifier, path: Path) -> dict[str, Work]:
    """What there is to do for one track: each step alone, and all of it."""
    rate = classifier.log_mel.sample_rate
    samples = load(path, sample_rate=rate).samples
    stages: dict[str, Work] = {"decoding": lambda: load(path, sample_rate=rate)}
    if isinstance(classifier, EarClassifier):
        patches = patches_of([samples], PATCHES)[1]
        stages["log-mel"] = lambda: patches_of([samples], PATCHES)
        stages["networks"] = lambda: classifier.track_scores(classifier.patch_scores(patches))
    else:
        spectrogram = log_mel(samples)
        stages["log-mel"] = lambda: log_mel(samples)
        stages["networks"] = lambda: classifier.predict_spectrogram(spectrogram)
    return stages | {"all": lambda: classifier.classify(path)}


def measure_cpu(model: str, data: Path, rounds: int = 5) -> Figures:
    """CPU time of one thread by stage, medians over clips and rounds, stages interleaved."""
    classifier = load_model(model, device="cpu")
    paths = sorted((data / "clips").glob("*.mp3"))
    spent: dict[str, list[float]] = {"decoding": [], "log-mel": [], "networks": [], "all": []}
    with threadpool_limits(1):
        for turn in range(rounds + 1):  # the first is a warm-up
            for path in paths:
                for stage, run in stages_of(classifier, path).items():
                    elapsed = cpu_ms(run)
                    if turn:
                        spent[stage].append(elapsed)
    title = "CPU time of a 30 s mp3 on one thread after start-up"
    medians = {stage: statistics.median(times) for stage, times in spent.items()}
    ratio = medians["all"] / medians["decoding"]
    figures = [figure(f"{title}: {stage}", median, "ms") for stage, median in medians.items()]
    return [*figures, figure(f"{title}: all, over decoding", ratio, "", most=8)]


def measure_long(model: str, data: Path, minutes: int = 4, rounds: int = 5) -> Figures:
    """CPU time of one thread for a track of minutes, over that of decoding it."""
    classifier = load_model(model, device="cpu")
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        path = Path(folder) / "long.mp3"
        repeat(min((data / "clips").glob("*.mp3")), path, seconds=60 * minutes)
        decoding = [cpu_ms(lambda: load(path)) for _ in range(rounds + 1)][1:]
        everything = [cpu_ms(lambda: classifier.classify(path)) for _ in range(rounds + 1)][1:]
    one, all_ = statistics.median(decoding), statistics.median(everything)
    title = f"CPU time of a {minutes}-minute mp3 on one thread after start-up"
    return [
        figure(f"{title}: decoding", one, "ms"),
        figure(f"{title}: all", all_, "ms"),
        figure(f"{title}: all, over decoding", all_ / one, "", most=2.5),
    ]


def measure_agreement(model: str, data: Path) -> Figures:
    """Whether verdicts agree for stereo at 128 kbit/s and mono at 72 kbit/s."""
    classifier = load_model(model, device="cpu")
    agree, shift, number = 0, 0.0, 0
    for path in sorted((data / "clips").glob("*.mp3")):
        genre, _, track = path.stem.rpartition("-")
        first = _probabilities(classifier, path)
        second = _probabilities(classifier, data / "emotify" / genre / f"{track}.mp3")
        agree += max(first, key=first.__getitem__) == max(second, key=second.__getitem__)
        shift = max(shift, max(abs(first[name] - second[name]) for name in first))
        number += 1
    what = "stereo at 128 kbit/s against mono at 72 kbit/s"
    return [
        figure(
            f"{what}: same most probable genre, of {number} clips", agree, "clips", least=number
        ),
        figure(f"{what}: largest change of a probability", shift, ""),
    ]


def measure_hearing(model: str, data: Path, tracks: int = 16, silence_s: int = 120) -> Figures:
    """Whether verdicts stay where a channel is inverted, and where there is silence."""
    classifier = load_model(model, device="cpu")
    stereo = [soundfile.read(path, dtype="float32") for path in sorted((data / "clips").iterdir())]
    same = [
        classifier.classify((sound, rate)).genre
        == classifier.classify((sound * [1, -1], rate)).genre
        for sound, rate in stereo
    ]
    what = f"one channel inverted: same verdict, of {len(same)} clips"
    figures = [figure(what, sum(same), "clips", least=len(same))]
    paths = sorted((data / "emotify").glob("*/*.mp3"))
    sounds = [load(path).samples for path in paths[:: len(paths) // tracks][:tracks]]
    verdicts = [classifier.classify((sound, 22050)).genre for sound in sounds]
    noise = np.random.default_rng(0).standard_normal(silence_s * 22050, np.float32)
    for name, gap in (("digital silence", 0 * noise), ("noise of -70 dBFS", 10**-3.5 * noise)):
        for where, position in (("before", 0.0), ("within", 0.5), ("after", 1.0)):
            padded = [np.insert(sound, round(position * len(sound)), gap) for sound in sounds]
            kept = [
                classifier.classify((sound, 22050)).genre == genre
                for sound, genre in zip(padded, verdicts, strict=True)
            ]
            what = f"{silence_s} s of {name} {where}: same verdict, of {tracks} tracks"
            figures.append(figure(what, sum(kept), "tracks", least=tracks))
    return figures


def _probabilities(classifier: Classifier | EarClassifier, path: Path) -> dict[str, float]:
    return {entry.genre: entry.probability for entry in classifier.classify(path).top}


def measure_memory(model: str, data: Path, hours: float = 3.0) -> Figures:
    """Peak memory and time of the command on a file of hours."""
    clip = min((data / "clips").glob("*.mp3"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp3"
        repeat(clip, path, seconds=3600 * hours)
        command = [sys.executable, "-c", PEAK, "classify", "--model", model, "--format", "json"]
        start = time.perf_counter()
        done = subprocess.run(
            [*command, os.fspath(path)], check=True, capture_output=True, text=True
        )
        elapsed = time.perf_counter() - start
    analysed_s = json.loads(done.stdout)[0]["duration_s"]
    if analysed_s < 3600 * hours - 1:
        raise SystemExit(f"only {analysed_s} s of {hours} h were analysed: {done.stderr}")
    peak = int(done.stderr.split()[-1]) * 1024 / 1e6
    what = f"a {hours:g}-hour mp3"
    return [
        figure(f"{what}: peak memory", peak, "MB", most=500),
        figure(f"{what}: whole command", elapsed, "s"),
    ]


def repeat(clip: Path, path: Path, *, seconds: float) -> None:
    """Repeat a clip's mp3 frames up to this length."""
    with av.open(os.fspath(clip)) as source, av.open(os.fspath(path), "w", format="mp3") as target:
        stream = source.streams.audio[0]
        copy = target.add_stream_from_template(stream)
        frames = [(bytes(p), p.duration, p.time_base) for p in source.demux(stream) if p.size]
        clock, end = 0, Fraction(seconds) / frames[0][2]
        while clock < end:
            for content, duration, base in frames:
                packet = av.Packet(content)
                packet.stream, packet.time_base = copy, base
                packet.pts = packet.dts = clock
                packet.duration = duration
                target.mux(packet)
                clock += duration


def measure_start(model: str, data: Path, rounds: int = 5) -> Figures:
    """Wall time of a whole command on one file."""
    clip = os.fspath(min((data / "clips").glob("*.mp3")))
    one = [wall_s(["classify", "--model", model, clip]) for _ in range(rounds)]
    helped = [wall_s(["--help"]) for _ in range(rounds)]
    return [
        figure(
            "deepmusic classify on one mp3, whole command", statistics.median(one), "s", most=1.2
        ),
        figure("deepmusic --help", statistics.median(helped), "s", most=0.3),
    ]


def measure_jobs(model: str, data: Path, rounds: int = 3, clips: int = 80) -> Figures:
    """Wall time for a library with one job and with two, alternating."""
    tracks = sorted(map(os.fspath, (data / "emotify").glob("*/*.mp3")))
    chosen = random.Random(0).sample(tracks, clips)
    taken: dict[int, list[float]] = {1: [], 2: []}
    wall_s(["classify", "--model", model, *chosen])  # from here on the files are in the page cache
    for _ in range(rounds):
        for jobs, times in taken.items():
            times.append(wall_s(["classify", "--model", model, "--jobs", str(jobs), *chosen]))
    one, two = (statistics.median(times) for times in taken.values())
    return [
        figure(f"{clips} mp3s of 30 s, --jobs 1, whole command", one, "s"),
        figure(f"{clips} mp3s of 30 s, --jobs 2, whole command", two, "s"),
        figure(f"{clips} mp3s of 30 s, speed-up by --jobs 2", one / two, "", least=1.7),
    ]


def measure_known(model: str, data: Path, files: int = 10_000) -> Figures:
    """Wall time for a library whose verdicts are all kept, and for one new file in it."""
    digest = load_model(model, device="cpu").digest
    with tempfile.TemporaryDirectory() as folder:
        library, results = Path(folder) / "library", Path(folder) / "results.db"
        library.mkdir()
        with VerdictStore(results, model=digest, max_seconds=MAX_SECONDS) as store:
            for number in range(files):
                path = library / f"{number}.wav"
                path.write_bytes(b"%d" % number)
                os.utime(path, (number, number))
                key = store.key(os.fspath(path))
                store.keep(key, Verdict(os.fspath(path), "rock", 0.9))
        command = ["classify", "--model", model, "--results", os.fspath(results)]
        all_s, many_s = (
            wall_s([*command, "--jobs", jobs, os.fspath(library)]) for jobs in ("1", "80")
        )
        shutil.copy(min((data / "clips").glob("*.mp3")), library)
        one_new_s = wall_s([*command, "--jobs", "80", os.fspath(library)])
    return [
        figure(f"{files:,} known files, whole command", all_s, "s"),
        figure(f"{files:,} known files, --jobs 80", many_s, "s"),
        figure(f"{files:,} known files and a new one, --jobs 80", one_new_s, "s"),
    ]


def measure_size(model: str, data: Path) -> Figures:
    """Size of the weights on disk."""
    path = MODELS.get(model, Path(model))
    path = path / "model.safetensors" if path.is_dir() else path
    return [figure("weights on disk", path.stat().st_size / 1e6, "MB", most=4)]


PARTS: dict[str, Callable[[str, Path], Figures]] = {
    "size": measure_size,
    "cpu": measure_cpu,
    "long": measure_long,
    "agreement": measure_agreement,
    "hearing": measure_hearing,
    "memory": measure_memory,
    "start": measure_start,
    "jobs": measure_jobs,
    "known": measure_known,
}


def machine() -> str:
    """The machine in words."""
    name = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = cpu_info.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def table(figures: Figures) -> str:
    """The figures as text for the terminal."""
    lines = []
    for f in figures:
        target = f.get("target", "")
        if target:
            target += " (met)" if f["met"] else " (MISSED)"
        lines.append(f"{f['what']:<74}{f['value']:>10.2f} {f['unit']:<6}{target}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="classifier")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with clips/ and emotify/")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated")
    parser.add_argument("--json", type=Path, default=ROOT / "docs/measured/classify.json")
    options = parser.parse_args()
    wanted = options.parts.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")

    earlier = json.loads(options.json.read_text()) if options.json.exists() else {"parts": {}}
    model = load_model(options.model, device="cpu")
    # figures of another model are dropped
    parts = earlier["parts"] if earlier.get("model") == model.digest else {}
    for name in (part for part in PARTS if part in wanted):
        load_before = os.getloadavg()[0]  # over the last minute: above 0.5 the machine is not idle
        figures = PARTS[name](options.model, options.data)
        parts[name] = {"figures": figures, "load_before": round(load_before, 2)}
        print(table(figures), flush=True)
    record = {
        "model": model.digest,
        "is_shipped": options.model in MODELS,
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "parts": {name: parts[name] for name in PARTS if name in parts},
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(options.json) as file:
        json.dump(record, file, indent=1)
        file.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
