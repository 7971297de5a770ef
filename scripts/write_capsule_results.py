"""Write docs/capsule-results.md from the results of the capsule benchmarks.

python benchmarks/capsule_routing.py      # -> docs/measured/capsule_routing.json
python benchmarks/capsule_digits.py       # -> docs/measured/capsule_digits.json
python scripts/write_capsule_results.py
"""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from deepmusic.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
MISSING = "Not measured yet.\n"
DEVICES = {"cpu": "CPU, one thread", "cuda": "GPU"}
SCALES = {
    "children": "children",
    "parents": "parents",
    "batch": "batch",
    "side": "rows and columns of the grid",
}
Row = dict[str, Any]


def read_json(path: Path) -> Row:
    """The record of a JSON file, or an empty one if it is missing."""
    record: Row = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return record


def rendered(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def wrapped(text: str) -> str:
    """A paragraph in lines of at most a hundred characters."""
    lines = textwrap.wrap(
        " ".join(text.split()), 100, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines) + "\n"


def short(value: float | None) -> str:
    """About three digits, never an exponent; a dash for None."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def display_name(row: Row) -> str:
    """The name of a variant in the tables."""
    text = {
        "broadcast": "usual layer",
        "products": "matrix products alone",
        "plain": f"`{row['method']}`, votes built",
    }.get(row["form"], f"`{row['method']}`")
    return f"{text}, gradient stopped" if row["stopped"] else text


def parts_of(record: Row, part: str) -> dict[str, Row]:
    """The measurements of a part, by the name of the device."""
    return {
        words: record[device][part]
        for device, words in DEVICES.items()
        if part in record.get(device, {})
    }


def by_device(record: Row, part: str, write: Callable[[Row], str]) -> str:
    """A section for each device on which a part was measured."""
    parts = parts_of(record, part)
    texts = [
        (f"On the {words}:\n\n" if len(parts) > 1 else "") + write(measured)
        for words, measured in parts.items()
    ]
    return "\n".join(texts) or MISSING


TESTS = {"accuracy_percent": "digits", "affine_accuracy_percent": "distorted digits"}
BASELINES = "uniform", "cnn"


def digits_section(record: Row) -> str:
    """Each routing on handwritten digits, and the differences."""
    if not record:
        return MISSING
    variants = record["variants"]
    rows = [
        [
            f"`{name}`",
            one["loss"],
            *(spread(one[test]) for test in TESTS),
            f"{one['parameters']:,}",
            short(one["cpu_s"]),
            *(
                f"{one[key]:.2f}" if key in one else ""
                for key in ("coupling_entropy", "dead_share")
            ),
        ]
        for name, one in variants.items()
    ]
    head = ["network", "loss", *TESTS.values(), "parameters", "CPU s", "coupling entropy", "dead"]
    seeds = len(record["seeds"])
    notes = f"""{record["data"]}; {record["learnt_from"]} for training and {record["tested"]} for
    testing, drawn anew for each of {seeds} seeds. Accuracy in percent, mean and standard deviation
    over seeds. Distorted digits: each test image rotated, sheared, scaled and shifted further than
    any in training, {record["test_distortions"]} times. CPU s: median time of a training of
    {record["recipe"]["epochs"]} epochs. `cnn`: a plain convolutional network with the same stem and
    about as many parameters. Coupling entropy: 1 is plain averaging, 0 is every child coupled to
    one parent. Dead: share of class capsules that no test image activates.
    {record["machine"]}."""
    return f"""{rendered(head, rows)}
{wrapped(notes)}
### Differences

{comparison(record)}"""


def spread(value: Row) -> str:
    return f"{value['mean']:.2f} ± {value['sd']:.2f}"


def comparison(record: Row) -> str:
    """Each network compared with uniform couplings and with a CNN."""
    variants, seeds = record["variants"], len(record["seeds"])
    beside = [name for name in BASELINES if name in variants]
    if seeds < 2 or not beside:
        return "A comparison needs two seeds and a baseline.\n"
    overlap = record["tested"] / record["learnt_from"]
    rows, sure = [], []
    for name, one in variants.items():
        cells = []
        for baseline in beside:
            for test, words in TESTS.items():
                if name == baseline:
                    cells.append("")
                    continue
                gain, width = difference(one[test], variants[baseline][test], seeds, overlap)
                cells.append(f"{gain:+.2f} ± {width:.2f}")
                if abs(gain) > width:
                    than = "better" if gain > 0 else "worse"
                    sure.append(f"- `{name}` is {than} than `{baseline}` on {words}.\n")
        rows.append([f"`{name}`", *cells])
    head = [f"{words}, against `{b}`" for b in beside for words in TESTS.values()]
    summary = "No difference is larger than its interval.\n"
    if sure:
        summary = "Larger than their interval:\n\n" + "".join(sure)
    return f"""{rendered(["network", *head], rows)}
Points of accuracy, with the 95 % interval of a t-test on the means over seeds, widened because the
splits share images (Nadeau and Bengio 2003); unpaired, so conservative.

{summary}"""


def difference(ours: Row, theirs: Row, seeds: int, overlap: float) -> tuple[float, float]:
    """The difference of two means over seeds, and half the width of its 95 % interval."""
    variance = (1 / seeds + overlap) * (ours["sd"] ** 2 + theirs["sd"] ** 2)
    width = float(stats.t.ppf(0.975, seeds - 1)) * math.sqrt(variance)
    return ours["mean"] - theirs["mean"], width


def together_section(routing: Row, digits: Row) -> str:
    """One row per method: accuracy and cost."""
    rows = routing.get("cpu", {}).get("main", {}).get("rows", [])
    accuracies = digits.get("variants", {})
    lines = []
    for row in rows:
        if row["form"] != "folded" and (row["form"] != "broadcast" or row["stopped"]):
            continue
        # the stopped gradient and the usual layer were not trained
        one = (
            {}
            if row["stopped"] or row["form"] == "broadcast"
            else accuracies.get(row["method"], {})
        )
        reached = [spread(one[test]) if one else "" for test in TESTS]
        cost = [short(row[key]) for key in ("ms", "faster", "mib", "leaner")]
        lines.append([display_name(row), *reached, *cost])
    if not lines:
        return MISSING
    head = ["method", *TESTS.values(), "ms", "times faster", "MiB", "times less memory"]
    notes = f"""Accuracy in percent, from the table above; time and memory of a larger layer:
    {sizes(routing["cpu"]["main"]["case"])}, forward and backward on the CPU.
    {"" if accuracies else "Accuracy is not measured yet."}"""
    return f"{rendered(head, lines)}\n{wrapped(notes)}"


def targets_section(part: Row) -> str:
    """The targets set before the measurements, and whether they were met."""
    rows = [
        [t["what"], short(t["value"]), t["target"], verdict(t["met"])]
        for t in part.get("targets", [])
    ]
    return rendered(["what", "measured", "target", ""], rows) if rows else "No targets were set.\n"


def cost_section(part: Row) -> str:
    """Every variant at the size of the paper."""
    rows = [
        [display_name(r), *(short(r[key]) for key in ("ms", "faster", "mib", "leaner"))]
        for r in part["rows"]
    ]
    head = ["variant", "ms", "times faster", "MiB", "times less memory"]
    notes = f"""{sizes(part["case"])}, forward and backward; the usual layer and `dynamic`
    run 3 iterations with the full gradient, the other methods their default number. Poses and
    gradients of the usual layer and of the folded form differ by at most
    {part["agreement"]:.0e}."""
    return f"{rendered(head, rows)}\n{wrapped(notes)}"


def sizes(case: Row) -> str:
    if "side" in case:
        return (
            f"A grid of {case['side']} by {case['side']}, {case['types']} children of "
            f"{case['in_dim']} numbers at each position, windows of {case['kernel']} by "
            f"{case['kernel']} at a stride of {case['stride']}, {case['parents']} parents of "
            f"{case['out_dim']} numbers, batch {case['batch']}"
        )
    return (
        f"{case['children']} children of {case['in_dim']} numbers to {case['parents']} parents of "
        f"{case['out_dim']}, batch {case['batch']}"
    )


def growth_tables(rows: Sequence[Row]) -> str:
    """For each size that is varied, a table of milliseconds and MiB."""
    text = ""
    for scale in dict.fromkeys(row["scale"] for row in rows):
        chosen = [row for row in rows if row["scale"] == scale]
        names = list(dict.fromkeys(map(display_name, chosen)))
        lines = []
        for size in dict.fromkeys(row["size"] for row in chosen):
            here = {display_name(row): row for row in chosen if row["size"] == size}
            cells = [f"{short(here[name]['ms'])} / {short(here[name]['mib'])}" for name in names]
            lines.append([str(size), *cells, short(next(iter(here.values()))["votes_mib"])])
        text += rendered([SCALES[scale], *names, "all votes, MiB"], lines) + "\n"
    text += "Each cell: milliseconds / MiB, forward and backward.\n"
    if any(row["ms"] is None for row in rows):
        text += "A dash: not run, since it needs more than 8 GiB or half of the free memory.\n"
    return text


def scaling_section(part: Row) -> str:
    return f"{sizes(part['case'])}, unless stated otherwise.\n\n{growth_tables(part['rows'])}"


def convolution_section(part: Row) -> str:
    """Methods on a grid, windows competing or alone, then by size."""
    forms = ("competing", "alone")
    by_method: dict[str, dict[str, Row]] = {}
    for row in part["rows"]:
        by_method.setdefault(display_name(row), {})[row["form"]] = row
    rows = [
        [name, *(short(by_form[form][key]) for key in ("ms", "mib") for form in forms)]
        for name, by_form in by_method.items()
    ]
    head = ["method", "ms, competing", "ms, alone", "MiB, competing", "MiB, alone"]
    notes = f"""{sizes(part["case"])}; all votes would be {short(part["rows"][0]["votes_mib"])} MiB.
    *Competing*: the parents of all positions whose window holds a child compete for it. *Alone*:
    each window routes by itself."""
    return f"""{wrapped(notes)}
{rendered(head, rows)}
By size, windows competing:

{growth_tables(part["growth"])}"""


def depth_section(part: Row) -> str:
    """How much of the gradient reaches the first layer of a stack."""
    rows = []
    for row in part["rows"]:
        if "error" in row:
            rows.append([f"`{row['routing']}`", row["start"], "not available", "", "", "", ""])
            continue
        rows.append(
            [
                f"`{row['routing']}`",
                row["start"],
                *(power(row[key]) for key in ("ratio", "plain_ratio", "first")),
                *(" ".join(f"{v:.2f}" for v in row[key]) for key in ("lengths", "entropies")),
            ]
        )
    starts = "".join(f"- *{name}*: {what}.\n" for name, what in part["starts"].items())
    head = [
        "routing",
        "start",
        "first to last, relative",
        "first to last",
        "first, relative",
        "mean length by layer",
        "coupling entropy by layer",
    ]
    setting = f"""{part["layers"]} layers of {part["capsules"]} capsules of {part["dim"]} numbers,
    batch {part["batch"]}, margin loss on ten capsules of the last layer, before any training."""
    notes = f"""*First to last*: norm of the gradient to the weights of the first layer, divided by
    that to the weights of the last; *relative*: each divided by the norm of its weights, as a step
    of gradient descent changes them. Near 1, both layers learn at the same rate; *first, relative*
    shows whether the first layer gets a gradient at all. A dash: the gradient of the last layer
    is zero. Medians over {part["seeds"]} seeds, means for lengths and entropies. Coupling entropy:
    1 is plain averaging, 0 is every child with one parent. Starts:"""
    return f"{wrapped(setting)}\n{rendered(head, rows)}\n{wrapped(notes)}\n{starts}"


def power(value: float | None) -> str:
    """As :func:`short`, but with an exponent where it is tiny or huge."""
    if value is not None and value != 0 and not 0.01 <= value < 10000:
        return f"{value:.0e}"
    return short(value)


def measured_section(record: Row) -> str:
    """Machines, rounds, and the load of the machine before the measurement."""
    text = ""
    for device, words in DEVICES.items():
        parts = record.get(device, {})
        for machine in dict.fromkeys(part["machine"] for part in parts.values()):
            those = {n: p for n, p in parts.items() if p["machine"] == machine}
            rounds = ", ".join(f"`{name}` {part['rounds']}" for name, part in those.items())
            seeds = ", ".join(dict.fromkeys(str(part["seed"]) for part in those.values()))
            text += f"- {words}: {machine}. Rounds: {rounds}. Seed {seeds}.\n"
            busy = [f"`{n}` {p['load_before']}" for n, p in those.items() if p["load_before"] > 0.5]
            if busy and device == "cpu":
                text += (
                    f"  The machine was not idle before these parts (load): {', '.join(busy)}.\n"
                )
    return text or MISSING


def page(measured: Path) -> str:
    """The text of docs/capsule-results.md."""
    routing = read_json(measured / "capsule_routing.json")
    digits = read_json(measured / "capsule_digits.json")
    return f"""# Capsule results

This page is written by `scripts/write_capsule_results.py` from what `benchmarks/capsule_routing.py`
and `benchmarks/capsule_digits.py` write to `docs/measured/`; a test checks that it is up to date.

## Digits

{digits_section(digits)}
## Accuracy, speed and memory

{together_section(routing, digits)}
## Speed and memory targets

{targets_section(routing["cpu"]["main"]) if "main" in routing.get("cpu", {}) else MISSING}
## All variants against the usual layer

{by_device(routing, "main", cost_section)}
## Time and memory by size

{by_device(routing, "scaling", scaling_section)}
## Convolution

{by_device(routing, "convolution", convolution_section)}
## Depth

{by_device(routing, "depth", depth_section)}
## How it was measured

- The *usual layer* is the design of most public code: a broadcast matrix product computes the vote
  of every child for every parent, and copies the weights for each item of the batch. It is in the
  benchmark.
- Time is process CPU time of one thread in float32, the median over rounds, variants alternating.
  On a GPU it is the time between CUDA events.
- Memory is the growth of the peak resident size over one forward and backward pass, gradients
  included, in a separate process that has run the same at a tiny size before. The C library is
  set to return freed memory; by default it keeps varying amounts, and the targets also show the
  median of five such runs. On a GPU it is the growth of torch's peak allocation.

{measured_section(routing)}"""


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with write_atomically(ROOT / "docs" / "capsule-results.md") as file:
        file.write(page(ROOT / "docs" / "measured"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
