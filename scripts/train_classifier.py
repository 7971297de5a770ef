"""Trains the classifier that ships with the package, and writes its card.

    python scripts/train_classifier.py --data ../shared/data/emotify

The model learns from all tracks; its accuracy on artists it has not learned from is measured by
cross-validation (``benchmarks/genres.py``), whose figures the card quotes from
``docs/measured/genres.jsonl``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same weights on any number of cores

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from deepmusic.classifier.evaluation import measure
from deepmusic.classifier.training import train_classifier
from deepmusic.files import write_atomically
from deepmusic.pretrained import MODELS

MODEL = "capsules"
MEASURED = Path("docs/measured/genres.jsonl")

CARD = """# The shipped genre classifier

An ensemble of {networks} capsule networks, {parameters:,} parameters, {size_mb:.1f} MB. It is a
hybrid: {full} with capsules on a convolutional image of each position in time and on statistics
of the segment's log-mel frames, routed together; {light} with capsules on the statistics alone.
It distinguishes {genres}, and is *unsure* below {threshold:.0%}.

## Trained on

{tracks} clips of 30 s by {artists} artists from the Emotify data set (Aljanaki,
Wiering and Veltkamp, 2015): excerpts of recordings published by Magnatune, here mono mp3 at about
72 kbit/s. Trained by `scripts/train_classifier.py` with seed {seed}; data digest
`{fingerprint:.16}`, model digest `{weights:.16}`.

## Accuracy on artists it has not learned from

Cross-validation with folds grouped by artist, {seeds} seeds of 5 folds (`benchmarks/genres.py`; the
shipped model has learned from all clips, so it cannot be tested on them):

| | |
|---|---|
| accuracy | {accuracy:.1%} ± {accuracy_sd:.1%} (standard deviation over seeds) |
| macro-F1 | {macro_f1:.1%} |
| recall | {recall} |
| calibration error | {calibration_error:.1%} |
| tracks that get a genre | {coverage:.1%}, of these {claimed:.1%} correct |

Each of these folds has a threshold of its own, {mean_threshold:.0%} on average. That of the shipped
model, {threshold:.0%}, was fitted on all clips, each scored by networks trained without its artist;
there it names a genre for {own_coverage:.0%}, of these {own_claimed:.0%} correctly.

## Limits

- It knows these {count} genres alone: jazz, folk, metal, hip hop and speech will be called
  one of them or *unsure*. For your own genres: `deepmusic train classifier --data DIR`.
- It confuses pop and rock: the source tags most of both "Alternative Rock".
- {tracks} clips of one label are a small and biased sample of music.
  The figures above hold for this label's artists; expect less elsewhere.
- The training data hold hardly any damaged, very quiet or very noisy recordings.

## Licence

The clips are Creative Commons non-commercial music, so they are not in the repository or the
package. The weights were learned from them; whether a model inherits the licence of
its data is not settled law. If your use is commercial and you need certainty, train on music
whose licence allows it with the command above; the code is Apache-2.0.
"""


def figures_of(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures on all test tracks of one seed, *unsure* by each fold's own threshold."""
    predicted = np.array([row for r in folds for row in r["probabilities"].values()])
    truth = np.array([r["genres"].index(genre) for r in folds for genre in r["truth"]])
    thresholds = [r["threshold"] for r in folds]
    is_named = predicted.max(axis=1) >= np.repeat(thresholds, [len(r["truth"]) for r in folds])
    is_correct = predicted.argmax(axis=1) == truth
    return measure(predicted, truth, folds[0]["genres"], threshold=0.0) | {
        "threshold": float(np.mean(thresholds)),
        "coverage": float(is_named.mean()),
        "claimed": float(is_correct[is_named].mean()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/emotify"))
    parser.add_argument("--run", type=Path, default=Path("runs/shipped"))
    parser.add_argument("--measured", type=Path, default=MEASURED)
    arguments = parser.parse_args()

    trained = train_classifier(
        arguments.data,
        arguments.run,
        test=0,
        cache=".cache/spectrograms",
        resume=arguments.run.exists(),
        on_progress=lambda network, networks, progress: (
            print(f"network {network}/{networks} {progress.record}", file=sys.stderr)
            if progress.record
            else None
        ),
    )
    weights = MODELS["small"]
    weights.parent.mkdir(exist_ok=True)
    shutil.copyfile(arguments.run / "model.safetensors", weights)

    results = [json.loads(line) for line in arguments.measured.read_text("utf-8").splitlines()]
    results = [r for r in results if r["model"] == MODEL]
    figures = [
        figures_of([r for r in results if r["seed"] == s]) for s in {r["seed"] for r in results}
    ]
    classifier = trained.classifier
    unsure = classifier.card["validation"]["unsure"]

    def mean(*keys: str) -> float:
        values = figures
        for key in keys:
            values = [value[key] for value in values]
        return float(np.mean(values))

    text = CARD.format(
        networks=len(classifier.config.network_configs),
        full=classifier.config.networks,
        light=classifier.config.texture_networks,
        parameters=sum(p.numel() for p in classifier.ensemble.parameters()),
        size_mb=weights.stat().st_size / 1e6,
        genres=", ".join(classifier.genres),
        count=len(classifier.genres),
        threshold=classifier.calibration.threshold,
        tracks=classifier.card["tracks"],
        artists=classifier.card["artists"],
        seed=classifier.card["training"]["seed"],
        fingerprint=classifier.card["data"],
        weights=classifier.digest,
        seeds=len(figures),
        accuracy=mean("accuracy"),
        accuracy_sd=np.std([f["accuracy"] for f in figures], ddof=1),
        macro_f1=mean("macro_f1"),
        recall=", ".join(f"{g} {mean('recall', g):.0%}" for g in classifier.genres),
        calibration_error=mean("calibration_error"),
        mean_threshold=mean("threshold"),
        coverage=mean("coverage"),
        claimed=mean("claimed"),
        own_coverage=unsure["coverage"],
        own_claimed=unsure["accuracy"],
    )
    with write_atomically(weights.with_suffix(".md")) as file:
        file.write(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
