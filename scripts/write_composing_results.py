"""Write ``docs/composing-results.md`` from the results of ``benchmarks/composing.py``.

python scripts/write_composing_results.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from docs_page import write_parts  # noqa: E402

MEASURED = ROOT / "docs" / "measured" / "composing.json"
PAGE = ROOT / "docs" / "composing-results.md"


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def likelihood(result: dict[str, Any]) -> str:
    styles = list(result["nats_per_step"]["none"])
    rows = [
        [pose, *(f"{nats[style]:.3f}" for style in styles)]
        for pose, nats in result["nats_per_step"].items()
    ]
    for name, nats in result.get("compared", {}).items():
        rows.append([name, *(f"{nats[style]:.3f}" for style in styles)])
    return (
        "## The value of the pose\n\nTest nats per step, exact, given the length of the piece; of "
        f"{result['pieces']} test pieces. *Causal*: routed every bar from the past alone; "
        "*shuffled*: from the past of another piece of the style.\n\n"
        + table(["pose", *styles], rows)
    )


def recognition(result: dict[str, Any]) -> str:
    rows = [
        [label, *(f"{result[key][style]:.1f}" for style in result[key])]
        for label, key in (
            ("tunes, first candidate", "without_choice"),
            ("best of 4", "best_of_4"),
            ("real test pieces, 16 bars", "real_test_excerpts"),
        )
    ]
    text = (
        "## Recognition of the style\n\nPercentage that the style critic classifies as the "
        f"requested style; {result['of']['tunes']} tunes of 16 bars per style.\n\n"
        + table(["", *result["without_choice"]], rows)
    )
    rows = []
    for style, figures in result["copying"].items():
        for name, f in figures.items():
            rows.append(
                [
                    style,
                    name,
                    f["p50"],
                    f"{f['p95']:.0f}",
                    f["people_p50"],
                    f"{f['people_p95']:.0f}",
                ]
            )
    text += (
        "\n## Copying\n\nLongest passage shared with the training music in any transposition, in "
        "sixteenths, and chords in the shared passage with the most; upper bounds from the same "
        "index for tunes (first candidates, none refused) and for equally long excerpts of pieces "
        "by people, outside the training data.\n\n"
        + table(["style", "", "tunes, median", "95 %", "human pieces, median", "95 %"], rows)
    )
    measures = list(next(iter(result["distance"].values()))["tunes"])
    styles = list(result["distance"])
    rows = []
    for name in measures:
        row: list[Any] = [name.replace("_", " ")]
        for style in styles:
            row += [
                f"{result['distance'][style][kind][name][0]:+.2f}, "
                f"{result['distance'][style][kind][name][1]:.2f}"
                for kind in ("tunes", "train")
            ]
        rows.append(row)
    head = ["", *(f"{style}, {kind}" for style in styles for kind in ("tunes", "real"))]
    text += (
        "\n## Distance from real music\n\nDifference of means to real test excerpts, in their "
        "deviations, and overlap of the distributions (1 is the same); *tunes* are the best of 4, "
        "*real* are training excerpts, for the difference between two samples of real music.\n\n"
        + table(head, rows)
    )
    return text


def confidence(result: dict[str, Any]) -> str:
    styles = list(result["tunes"])
    rows = [
        [label, *(f"{result[key][style]:.2f}" for style in styles)]
        for label, key in (("tunes, first candidate", "tunes"), ("real test pieces", "people"))
    ]
    return (
        "## Confidence of the critic\n\nMean probability of the correct style; 0.25 for corrupted "
        "music. "
        f"{result['of']['tunes']} tunes of 16 bars per style.\n\n" + table(["", *styles], rows)
    )


def steering(result: dict[str, Any]) -> str:
    text = (
        "## The effect of poses\n\nEach row moves the mean pose of the style from two standard "
        f"deviations below to two above; {result['of']['tunes']} tunes of 8 bars either way. "
        "Difference of means, and in brackets in pooled standard deviations (above 1 it is "
        "audible in most tunes). "
        "Of single dimensions, numbered from 0, only effects of 1 or more are listed; all are in "
        "`docs/measured/composing.json`.\n"
    )
    for style, rows in result.items():
        if style == "of":
            continue
        measures = list(next(iter(rows.values())))
        attributes = [name for name in rows if not name.isdigit()]
        body = [
            [name, *(f"{rows[name][m][0]:+.2f} ({rows[name][m][1]:+.1f})" for m in measures)]
            for name in attributes
        ]
        strong = [
            f"{name} {m.replace('_', ' ')} {effects[m][1]:+.1f}"
            for name, effects in rows.items()
            for m in measures
            if name.isdigit() and abs(effects[m][1]) >= 1
        ]
        text += f"\n### {style}\n\n" + table(
            ["moved", *(m.replace("_", " ") for m in measures)], body
        )
        text += f"\nDimensions: {', '.join(strong) or 'none'}.\n"
    return text


def controls(result: dict[str, Any]) -> str:
    endings = result["ends_on_tonic_percent"]
    return (
        "## Controls\n\n"
        f"- Key: a key estimator finds the requested key in {result['key_recovered_percent']} % of "
        "tunes (of real music too it often names the relative or the dominant).\n"
        "- Ending: the last chord is that of the tonic, its root below, in "
        f"{endings['with_ending']} % of "
        f"folk tunes with an ending, and in {endings['without']} % of those without.\n"
        "- Temperature, nats per step of the tunes: "
        + ", ".join(f"{t}: {n:.2f}" for t, n in result["nats_per_step_by_temperature"].items())
        + ".\n- Mixing, the critic's mean probability of chorale and folk by the share of chorale: "
        + ", ".join(
            f"{share}: {p['chorale']:.2f} and {p['folk']:.2f}"
            for share, p in result["critic_by_share_of_chorale"].items()
        )
        + ".\n"
    )


def cost(result: dict[str, Any]) -> str:
    bars = result["cpu_seconds_by_bars"]
    return (
        "## Cost\n\nCPU seconds of one core for four voices, written as MIDI, one candidate:\n\n"
        + table(["bars", *bars], [["seconds", *bars.values()]])
        + "\nSound of 32 bars, times real time: "
        + ", ".join(f"{style} {times}" for style, times in result["wav_times_real_time"].items())
        + ".\n"
    )


SECTIONS = {
    "likelihood": likelihood,
    "recognition": recognition,
    "confidence": confidence,
    "steering": steering,
    "controls": controls,
    "cost": cost,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measured", type=Path, default=MEASURED)
    options = parser.parse_args()
    results = json.loads(options.measured.read_text(encoding="utf-8"))
    text = "\n".join(write(results[name]) for name, write in SECTIONS.items() if name in results)
    write_parts(PAGE, "scripts/write_composing_results.py", {"tables": text})
    print(text, file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
