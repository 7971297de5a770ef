"""Likelihood on the four piano-roll sets: nats per test step, with published figures.

    python benchmarks/piano_rolls.py --data ../shared/data/symbolic --sets jsb --seeds 3

A job is one model on one set with one seed; its result is appended to ``results.jsonl`` in
``--work``, and a later run does only what is missing. Networks stop by validation
pieces. The table is written to ``docs/measured/piano_rolls.json`` and into ``docs/likelihood.md``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from deepmusic.datasets.symbolic import SymbolicDataset, load_symbolic
from deepmusic.files import write_atomically
from deepmusic.studies.likelihood import (
    CHORALES,
    PUBLISHED,
    PUBLISHED_CHORALES,
    SETS,
    measure_composer,
)
from deepmusic.studies.piano_rolls import KEY_MODELS, Rolls
from deepmusic.training import TrainingConfig, fit
from docs_page import write_parts
from job_results import append_result, read_results
from roll_networks import PianoRollTask, nats_per_step

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "measured" / "piano_rolls.json"
PAGE = ROOT / "docs" / "likelihood.md"

NETWORKS = {"lstm, independent keys": "keys", "lstm, note sets": "sets"}
COMPOSERS = {"composer, no capsules": False, "composer, capsule memory": True}
EPOCHS = {"jsb": 100, "nottingham": 20, "musedata": 30, "piano-midi": 280}  # ten minutes at most


def rolls_of(dataset: SymbolicDataset, side: str) -> Rolls:
    return [piece.grid.roll() for piece in getattr(dataset, side)]


def run_network(head: str, name: str, sides: dict[str, Rolls], seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    task = PianoRollTask(sides["train"], sides["validation"], seed=seed, head=head)
    config = TrainingConfig(
        epochs=EPOCHS[name],
        batch_size=16,
        learning_rate=2e-3,
        weight_decay=0.0,
        patience=max(EPOCHS[name] // 5, 3),
        seed=seed,
        device="cpu",
    )
    with tempfile.TemporaryDirectory() as run:
        history = fit(task, config, run)
    model = task.model.eval()
    return {
        "validation": nats_per_step(model, sides["validation"]),
        "test": nats_per_step(model, sides["test"]),
        "epochs": len(history),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, by model and set."""
    rows: dict[str, dict[str, Any]] = {}
    for model in [*KEY_MODELS, *NETWORKS, *COMPOSERS]:
        for name in (*SETS, CHORALES):
            found = [r for r in results if r["model"] == model and r["set"] == name]
            if not found:
                continue
            tests = [r["test"] for r in found]
            rows.setdefault(model, {})[name] = {
                "test": round(statistics.mean(tests), 3),
                "sd": round(statistics.stdev(tests), 3) if len(tests) > 1 else None,
                "validation": round(statistics.mean(r["validation"] for r in found), 3)
                if all("validation" in r for r in found)
                else None,
                "seeds": len(tests),
                "cpu_s": round(statistics.median(r["cpu_s"] for r in found), 1),
            }
    return rows


def table(rows: dict[str, Any]) -> str:
    lines = ["| model | " + " | ".join(SETS) + " |", "| --- |" + " --- |" * len(SETS)]
    for model, by_set in rows.items():
        if not any(name in by_set for name in SETS):
            continue
        cells = []
        for name in SETS:
            cell = by_set.get(name)
            spread = ""
            if cell and cell["sd"] is not None:
                spread = f" ± {cell['sd']:.2f} ({cell['seeds']})"
            cells.append(f"{cell['test']:.2f}{spread}" if cell else "–")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    for model, values in PUBLISHED.items():
        cells = ["–" if value is None else f"{value:.2f}" for value in values]
        lines.append(f"| *{model}* | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def chorale_table(rows: dict[str, Any]) -> str:
    lines = [
        "| model | validation, nats per step | validation, per token | test, nats per step "
        "| test, per token |",
        "| --- | --- | --- | --- | --- |",
    ]
    for model, by_set in rows.items():
        if CHORALES in by_set and by_set[CHORALES]["validation"] is not None:
            figures = [by_set[CHORALES][side] for side in ("validation", "test")]
            cells = [f"{nats:.2f} | {nats / 4:.3f}" for nats in figures]
            lines.append(f"| {model} | {' | '.join(cells)} |")
    for model, token in PUBLISHED_CHORALES.items():
        lines.append(f"| *{model}* | {4 * token:.2f} | {token:.3f} | – | – |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/symbolic"))
    parser.add_argument("--sets", default=",".join(SETS), help="comma-separated")
    parser.add_argument("--models", default=",".join([*KEY_MODELS, "networks", "composers"]))
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to this less one")
    parser.add_argument("--work", type=Path, default=Path("runs/piano_rolls"))
    options = parser.parse_args()
    asked = options.models.split(";" if ";" in options.models else ",")
    models = [*(m for m in KEY_MODELS if m in asked), *(NETWORKS if "networks" in asked else ())]
    models += COMPOSERS if "composers" in asked else [m for m in COMPOSERS if m in asked]

    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "results.jsonl"
    done = {(r["model"], r["set"], r["seed"]): r for r in read_results(path)}
    for name in options.sets.split(","):
        dataset = load_symbolic(name, options.data)
        sides = {}
        if name != CHORALES:
            sides = {side: rolls_of(dataset, side) for side in ("train", "validation", "test")}
        for seed in range(options.seeds):
            for model in models:
                key = (model, name, 0 if model in KEY_MODELS else seed)
                if key in done or (name == CHORALES and model not in COMPOSERS):
                    continue
                began = time.process_time()
                if model in KEY_MODELS:
                    figures = {"test": KEY_MODELS[model](sides["train"], sides["test"])}
                elif model in COMPOSERS:
                    torch.set_num_threads(1)
                    figures = measure_composer(dataset, seed, capsules=COMPOSERS[model])
                else:
                    figures = run_network(NETWORKS[model], name, sides, seed)
                seconds = round(time.process_time() - began, 2)
                done[key] = {
                    "model": model,
                    "set": name,
                    "seed": key[2],
                    "cpu_s": seconds,
                    **figures,
                }
                append_result(path, done[key])
                print(f"{name}, {model}, seed {key[2]}: {figures} in {seconds} s", file=sys.stderr)

    rows = summarise(list(done.values()))
    with write_atomically(MEASURED) as file:
        json.dump(rows, file, indent=1)
        file.write("\n")
    text = f"{table(rows)}\nChorales on sixteenths, four voices, in their own keys:\n\n"
    text += chorale_table(rows)
    write_parts(PAGE, "benchmarks/piano_rolls.py", {"table": text})
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
