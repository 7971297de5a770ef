"""The broad set of genres on music with four known genres, and how many patches are enough.

    python benchmarks/ear.py --data EMOTIFY --cache DIR [--seeds 3]

Folds are grouped by artist. A label stands for the genres that scripts/train_genres.py names; it
is also counted how often the genre of the very name of the label comes first, and is in the first
three. Writes docs/measured/ear.json as results come, and the tables of docs/ear.md from it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from deepmusic.classifier.ear.config import HeadConfig  # noqa: E402
from deepmusic.classifier.ear.fitting import (  # noqa: E402
    FitOptions,
    fit_head,
    predict_log_scores,
    stacked,
)
from deepmusic.classifier.ear.genres import GENRES, broad_config  # noqa: E402
from deepmusic.classifier.ear.head import EarHead  # noqa: E402
from deepmusic.classifier.ear.training import EarStore  # noqa: E402
from deepmusic.datasets import FolderDataset, load_dataset, make_folds  # noqa: E402
from deepmusic.files import write_json  # noqa: E402
from docs_page import write_parts  # noqa: E402
from train_genres import LABELS, fit, targets_of  # noqa: E402

PAGE, RECORD = ROOT / "docs" / "ear.md", ROOT / "docs" / "measured" / "ear.json"
HEADS = {
    "the tags alone": None,
    "linear head": "none",
    "capsules, uniform coupling": "uniform",
    "capsules, self-attention (shipped)": "self_attention",
}
PATCHES = (1, 2, 3, 4, 6, 10)


def tag_scores(outputs: Sequence[Any]) -> np.ndarray:
    """What the tags say without a head, as log scores."""
    with torch.no_grad():
        evidence = EarHead(broad_config("none")).evidence(stacked(outputs)[1])
    return evidence.log_softmax(dim=1).numpy()


def folds_of(dataset: FolderDataset, seed: int) -> list[tuple[list[int], list[int]]]:
    """Training and test tracks of five folds."""
    folds = make_folds(dataset, folds=5, seed=seed)
    return [([*fold.train, *fold.validation], list(fold.test)) for fold in folds]


def shares(scores: np.ndarray, dataset: FolderDataset) -> dict[str, float]:
    """Percent of tracks with a right genre by the label's set, first, and in three."""
    labels = np.array(dataset.labels)
    sets = np.array([[genre in LABELS[label] for genre in GENRES] for label in dataset.genres])
    sets[:, list(GENRES).index("jazz")] = False  # right to learn, not to say
    name = np.array([list(GENRES).index(label) for label in dataset.genres])[labels]
    order = np.argsort(-scores, axis=1)
    return {
        "set": 100 * float((np.argmax(np.exp(scores) @ sets.T, axis=1) == labels).mean()),
        "first": 100 * float((order[:, 0] == name).mean()),
        "in_three": 100 * float((order[:, :3] == name[:, None]).any(axis=1).mean()),
    }


def measure_broad(dataset: FolderDataset, outputs: list, seed: int) -> dict[str, dict[str, float]]:
    """Each head of `HEADS` on all folds of a seed."""
    targets, result = targets_of(dataset.genres, dataset.labels), {}
    for title, routing in HEADS.items():
        scores = tag_scores(outputs).astype(float)
        for train, test in folds_of(dataset, seed) if routing else ():
            head = fit([outputs[i] for i in train], targets[train], routing, seed)
            scores[test] = predict_log_scores(head, [outputs[i] for i in test])
        result[title] = shares(scores, dataset)
        print(seed, title, result[title], flush=True)
    return result


def measure_patches(dataset: FolderDataset, outputs: list, seed: int) -> dict[str, float]:
    """Accuracy of a head of four genres that hears fewer patches of each test track."""
    labels, right = np.array(dataset.labels), dict.fromkeys(PATCHES, 0)
    targets = np.eye(len(dataset.genres))[labels]
    for train, test in folds_of(dataset, seed):
        config = HeadConfig(dataset.genres)
        head = fit_head([outputs[i] for i in train], targets[train], config, FitOptions(seed=seed))
        for count in PATCHES:
            fewer = []
            for features, tags in (outputs[i] for i in test):
                # evenly spread, each in the middle of its share
                chosen = ((np.arange(count) + 0.5) / count * len(features)).astype(int)
                fewer.append((features[chosen], tags[chosen]))
            predicted = predict_log_scores(head, fewer).argmax(axis=1)
            right[count] += int((predicted == labels[test]).sum())
    accuracy = {str(count): 100 * hits / len(labels) for count, hits in right.items()}
    print(seed, accuracy, flush=True)
    return accuracy


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{np.mean(values):.1f} ± {np.std(values):.1f}"


def write_page(record: dict[str, Any]) -> None:
    """Replace the tables between the markers of the page."""
    seeds = list(record["seeds"].values())
    broad = [
        [title, *(spread([s["broad"][title][key] for s in seeds]) for key in BROAD_COLUMNS)]
        for title in HEADS
    ]
    patches = [[count, spread([s["patches"][count] for s in seeds])] for count in map(str, PATCHES)]
    parts = {
        "broad": table(["", *BROAD_COLUMNS.values()], broad),
        "patches": table(["patches of a 30 s clip", "accuracy, %"], patches),
    }
    write_parts(PAGE, "benchmarks/ear.py", parts)


BROAD_COLUMNS = {
    "set": "a genre of the label's set, %",
    "first": "the label itself first, %",
    "in_three": "in the first three, %",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    dataset = load_dataset(options.data).dataset
    store = EarStore(options.cache)
    store.fill(dataset)
    outputs = [store.load(track) for track in dataset.tracks]
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"seeds": {}}
    for seed in map(str, range(options.seeds)):
        done = record["seeds"].setdefault(seed, {})
        for name, measure in (("broad", measure_broad), ("patches", measure_patches)):
            if name not in done:
                done[name] = measure(dataset, outputs, int(seed))
                write_json(RECORD, record)
    write_page(record)


if __name__ == "__main__":
    main()
