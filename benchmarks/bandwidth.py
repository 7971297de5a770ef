"""What is left of right verdicts when the treble of a recording is cut off.

    python benchmarks/bandwidth.py --data EMOTIFY [--every 4]

Every fourth clip is classified as it is, and resampled to twice each bandwidth, by both shipped
models. Of the clips that are right as they are, it is counted how many still are, and how sure the
models are of what is wrong. A label stands for the genres that scripts/train_genres.py names.
Writes docs/measured/bandwidth.json and the table of docs/classify.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from deepmusic.audio import load  # noqa: E402
from deepmusic.audio.bandwidth import BandwidthMeter  # noqa: E402
from deepmusic.classifier.verdict import Verdict  # noqa: E402
from deepmusic.datasets import scan_folder  # noqa: E402
from deepmusic.files import write_json  # noqa: E402
from deepmusic.pretrained import load as load_model  # noqa: E402
from docs_page import write_parts  # noqa: E402
from train_genres import LABELS  # noqa: E402

PAGE, RECORD = ROOT / "docs" / "classify.md", ROOT / "docs" / "measured" / "bandwidth.json"
MODELS = {"classifier": "the ear", "small": "small model"}
BANDWIDTHS_HZ = (11_025, 8_000, 6_500, 5_512, 4_000, 3_000, 2_000)
RATE = 44_100


def is_right(verdict: Verdict, label: str) -> bool:
    """Whether the most probable genre is one of the label's; classical clips need their own."""
    genre = verdict.top[0].genre
    return genre == label or (genre in LABELS[label] and genre != "jazz")


def summarize(rows: Sequence[dict[str, Any]], model: str) -> dict[str, float]:
    """Percent of the clips that were right, and of those that are wrong now."""
    kept = [row for row in rows if row[model]["was_right"]]
    wrong = [row for row in kept if not row[model]["right"]]
    return {
        "clips": len(kept),
        "right": 100 * (1 - len(wrong) / len(kept)),
        "classical": 100 * sum(row[model]["genre"] == "classical" for row in wrong) / len(kept),
        "wrong_confidence": float(np.mean([row[model]["confidence"] for row in wrong] or [0])),
    }


def write_page(record: dict[str, Any]) -> None:
    """Replace the table between the markers of the page."""
    head = ["nothing above", *(f"right, {title}, %" for title in MODELS.values())]
    head += [f"called classical, {title}, %" for title in MODELS.values()] + ["measured, Hz"]
    lines = [head, ["---"] * len(head)]
    for hz, figures in record["bandwidths"].items():
        columns = [f"{figures[m][key]:.0f}" for key in ("right", "classical") for m in MODELS]
        lines.append([f"{int(hz):,} Hz", *columns, "{:,} to {:,}".format(*figures["measured_hz"])])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    clips = " and ".join(str(record["right_at_first"][model]) for model in MODELS)
    text = f"Of {record['clips']} clips of emotify, {clips} are right as they are.\n\n{table}"
    write_parts(PAGE, "benchmarks/bandwidth.py", {"bandwidth": text})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--every", type=int, default=4)
    options = parser.parse_args()
    dataset = scan_folder(options.data)
    models = {name: load_model(name) for name in MODELS}
    rows: dict[int, list[dict[str, Any]]] = {hz: [] for hz in BANDWIDTHS_HZ}
    tracks = dataset.tracks[:: options.every]
    for number, track in enumerate(tracks, start=1):
        whole = load(dataset.file(track), sample_rate=RATE).samples
        before = {
            name: is_right(m.classify((whole, RATE)), track.genre) for name, m in models.items()
        }
        for hz, of_bandwidth in rows.items():
            cut = soxr.resample(soxr.resample(whole, RATE, 2 * hz), 2 * hz, RATE)
            meter = BandwidthMeter()
            meter.add(cut[:, None], RATE)
            row: dict[str, Any] = {"hz": meter.bandwidth_hz()}
            for name, model in models.items():
                verdict = model.classify((cut, RATE))
                row[name] = {
                    "was_right": before[name],
                    "right": is_right(verdict, track.genre),
                    "genre": verdict.top[0].genre,
                    "confidence": verdict.confidence,
                }
            of_bandwidth.append(row)
        print(number, track.path, flush=True)
    record = {
        "clips": len(tracks),
        "right_at_first": {
            name: sum(row[name]["was_right"] for row in rows[BANDWIDTHS_HZ[0]]) for name in MODELS
        },
        "bandwidths": {
            str(hz): {
                **{name: summarize(of_bandwidth, name) for name in MODELS},
                "measured_hz": [pick(row["hz"] for row in of_bandwidth) for pick in (min, max)],
            }
            for hz, of_bandwidth in rows.items()
        },
    }
    write_json(RECORD, record)
    write_page(record)


if __name__ == "__main__":
    main()
