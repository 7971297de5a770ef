"""Train the shipped classifier of seventeen genres: capsules over the pretrained ear.

python scripts/train_genres.py --data EMOTIFY --cache DIR

Labels: the four genres of emotify (Aljanaki, Wiering and Veltkamp, 2015). A label stands for any of
the genres in `LABELS`; the tags of the ear teach all others. Writes genres.safetensors beside the
other shipped models, and prints the figures of its card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import deepmusic
from deepmusic.classifier.data import calibration_folds
from deepmusic.classifier.ear.fitting import FitOptions, fit_head, made_anchor, predict_log_scores
from deepmusic.classifier.ear.genres import GENRES, broad_config
from deepmusic.classifier.ear.head import EarHead
from deepmusic.classifier.ear.install import ear_weights
from deepmusic.classifier.ear.training import EarStore, exported_classifier
from deepmusic.classifier.evaluation import fit_calibration
from deepmusic.datasets import load_dataset

# Classical music has no tag of its own, and the tags call much of it jazz. If jazz were wrong for
# it, the head would learn to call acoustic jazz classical, with none to tell it better.
LABELS = {
    "classical": ("classical", "jazz"),
    "electronic": ("electronic", "dance", "ambient"),
    "pop": ("pop", "indie", "folk"),
    "rock": ("rock", "metal", "punk", "indie"),
}
ANCHOR = 3.0
"""Weight of the ear's tags on made features, beside the labels."""
GENRES_LISTED = list(GENRES)
WEIGHTS = Path(deepmusic.__file__).parent / "pretrained" / "weights" / "genres.safetensors"


def fit(outputs: list, targets: np.ndarray, routing: str, seed: int) -> EarHead:
    """The head for the broad set."""
    ear = ear_weights()
    anchor = made_anchor(ear["tags.weight"], ear["tags.bias"], weight=ANCHOR, seed=seed)
    config = broad_config(routing)
    return fit_head(outputs, targets, config, FitOptions(seed=seed), anchor=anchor)


def targets_of(genres: tuple[str, ...], labels: tuple[int, ...]) -> np.ndarray:
    """``(tracks, 17)``: which genres the label of each track stands for."""
    sets = np.array([[genre in LABELS[label] for genre in GENRES] for label in genres], float)
    return sets[list(labels)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", required=True)
    options = parser.parse_args()
    dataset = load_dataset(options.data).dataset
    store = EarStore(options.cache)
    store.fill(dataset)
    outputs = [store.load(track) for track in dataset.tracks]
    targets = targets_of(dataset.genres, dataset.labels)
    scores = np.zeros(targets.shape)
    for fold in calibration_folds(dataset, range(len(outputs)), networks=1, seed=0):
        train, test = list(fold.train), list(fold.validation)
        head = fit([outputs[i] for i in train], targets[train], "self_attention", 0)
        scores[test] = predict_log_scores(head, [outputs[i] for i in test])
    right = targets.copy()
    right[:, GENRES_LISTED.index("jazz")] = 0  # learning may take it for classical, a verdict not
    calibration = fit_calibration(scores, right)
    predicted = calibration.probabilities(scores)
    is_right = right[np.arange(len(targets)), predicted.argmax(axis=1)] > 0
    is_sure = predicted.max(axis=1) >= calibration.threshold
    figures = {
        "accuracy": round(float(is_right.mean()), 4),
        "coverage": round(float(is_sure.mean()), 4),
        "accuracy_where_sure": round(float(is_right[is_sure].mean()), 4),
    }
    print(calibration, figures)
    card = {"tracks": len(outputs), "validation": figures}
    head = fit(outputs, targets, "self_attention", 0)
    exported_classifier(head, calibration, card).save(WEIGHTS)


if __name__ == "__main__":
    main()
