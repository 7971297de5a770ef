"""The evaluation of a classifier as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepmusic.cli.output import table_lines


def figures_summary(figures: Mapping[str, Any]) -> str:
    """Two lines: how accurate the model is, and what being unsure costs and gains.

    Args:
        figures: as `deepmusic.classifier.measure` gives them.
    """
    unsure = figures["unsure"]
    accuracy = (
        f"accuracy {figures['accuracy']:.1%}, macro-F1 {figures['macro_f1']:.3f}, "
        f"calibration error {figures['calibration_error']:.3f}.\n"
    )
    if unsure["coverage"] == 1 or "accuracy" not in unsure:
        count = "No" if unsure["coverage"] == 1 else "Every"
        return f"{accuracy}{count} track is called unsure (threshold {unsure['threshold']:.0%}).\n"
    return (
        f"{accuracy}Below {unsure['threshold']:.0%} a track is called unsure: "
        f"{unsure['coverage']:.1%} of the tracks get a genre, {unsure['accuracy']:.1%} of these "
        "correctly.\n"
    )


def figures_tables(figures: Mapping[str, Any]) -> Iterator[str]:
    """The confusion matrix with each genre's recall, and accuracy by coverage."""
    recall = figures["recall"]
    rows: list[list[object]] = [["true", "recall", "predicted:", *figures["genres"]]]
    for genre, counts in zip(figures["genres"], figures["confusion"], strict=True):
        rows.append([genre, f"{recall[genre]:.0%}" if genre in recall else "-", "", *counts])
    yield from table_lines(rows)
    yield ""
    rows = [["threshold", "coverage", "accuracy"]]
    for point in figures["coverage"]:
        accuracy = f"{point['accuracy']:.0%}" if "accuracy" in point else "-"
        rows.append([f"{point['threshold']:.0%}", f"{point['coverage']:.0%}", accuracy])
    yield from table_lines(rows)
