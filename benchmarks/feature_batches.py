"""Features of batches in torch beside one clip after the other in NumPy: clips a second.

    python benchmarks/feature_batches.py [--device cuda] [--batch 16] [--data DIR]

Medians of rounds, the two in turn, each with one thread; decoding is not counted. What a GPU does
is timed by the clock, what the CPU does by the time of the process. With ``--keep`` the figures go
to ``docs/measured/feature_batches.json`` and into ``docs/features.md``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from deepmusic import features
from deepmusic.audio import load, log_mel
from deepmusic.features import batches
from deepmusic.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ROOT.parent / "shared" / "data" / "clips"
MEASURED = ROOT / "docs" / "measured" / "feature_batches.json"
PAGE = ROOT / "docs" / "features.md"
START = "<!-- batches by benchmarks/feature_batches.py -->"
END = "<!-- end of batches -->"
RATE, SECONDS = 22050, 30
OF_SOUNDS = ("log_mel_spectrogram", "mfcc", "chroma_stft", "estimate_tuning", "cqt", "chroma_cqt")
OF_ONSETS = ("tempogram", "tempo")


def seconds(work: Callable[[], object], device: str) -> float:
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def apart(found: torch.Tensor, expected: list[object]) -> float:
    """The greatest difference, as a share of the greatest value of its clip."""
    worst = 0.0
    for one, alone in zip(found.cpu().numpy(), expected, strict=True):
        alone = np.asarray(alone)
        scale = max(float(np.abs(alone).max()), np.finfo(np.float32).tiny)
        worst = max(worst, float(np.abs(one - alone).max()) / scale)
    return worst


def measure(clips: list[np.ndarray], device: torch.device, rounds: int) -> dict[str, object]:
    """Clips a second of both ways, by function, and how far their results are apart."""
    mel_db = [log_mel(clip) for clip in clips]
    onsets = [features.onset_strength(one) for one in mel_db]
    given = dict.fromkeys(OF_SOUNDS, clips) | dict.fromkeys(OF_ONSETS, onsets)
    found: dict[str, object] = {}
    for name, arrays in (given | {"onset_strength": mel_db}).items():
        options = (RATE,) if name == "tempo" else ()
        batch = torch.from_numpy(np.stack(arrays)).to(device)
        ours, alone = getattr(batches, name), getattr(features, name)
        together = lambda: ours(batch, *options)  # noqa: E731, B023
        in_turn = lambda: [alone(one, *options) for one in arrays]  # noqa: E731, B023
        difference = apart(together(), in_turn())  # and warms up
        took = [(seconds(together, device.type), seconds(in_turn, "cpu")) for _ in range(rounds)]
        torch_s, numpy_s = (statistics.median(times) for times in zip(*took, strict=True))
        found[name] = {
            "numpy": round(len(clips) / numpy_s, 1),
            "torch": round(len(clips) / torch_s, 1),
            "apart": float(f"{difference:.1e}"),
        }
        print(f"{name:<22}", *(f"{key} {value:<10g}" for key, value in found[name].items()))
    if device.type == "cuda":
        found["memory"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return found


def table(measured: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = []
    for where, found in measured.items():
        lines += [
            f"On {where}:",
            "",
            "| function | NumPy, clips a second | torch, clips a second |",
        ]
        lines.append("| --- | --- | --- |")
        lines += [
            f"| `{name}` | {one['numpy']:,.0f} | {one['torch']:,.0f} |"
            for name, one in found.items()
            if name != "memory"
        ]
        if "memory" in found:
            lines += ["", f"It took {found['memory']} GiB of the GPU's memory at most."]
        lines.append("")
    return "\n".join(lines).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=8, help="clips in a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=CLIPS, help="folder of mp3 files")
    parser.add_argument("--keep", action="store_true", help="write the figures into docs")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    paths = sorted(options.data.rglob("*.mp3"))
    if not paths:
        raise SystemExit(f"no mp3 file in {options.data}")
    heard = [
        load(path, sample_rate=RATE, seconds=SECONDS).samples for path in paths[: options.batch]
    ]
    least = min(map(len, heard))
    clips = [heard[number % len(heard)][:least] for number in range(options.batch)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "one thread of a CPU"
    print(f"{len(clips)} clips of {len(clips[0]) / RATE:.0f} s, {RATE} Hz; torch on {name}")
    found = measure(clips, device, options.rounds)
    if options.keep:
        measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
        measured[f"{name}, {len(clips)} clips of {len(clips[0]) / RATE:.0f} s"] = found
        with write_atomically(MEASURED) as file:
            file.write(json.dumps(measured, indent=1) + "\n")
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        with write_atomically(PAGE) as file:
            file.write(f"{before}{START}\n{table(measured)}\n{END}{after}")


if __name__ == "__main__":
    main()
