"""The figures of a classifier as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepmusic.cli.output import printable


def figures_summary(figures: Mapping[str, Any]) -> str:
    """One sentence each on how often it is right, and on what *unsure* costs and brings.

    Args:
        figures: as :func:`deepmusic.classifier.evaluation.measure` gives them.
    """
    unsure = figures["unsure"]
    said = (
        f"accuracy {figures['accuracy']:.1%}, macro-F1 {figures['macro_f1']:.3f}, "
        f"calibration error {figures['calibration_error']:.3f}.\n"
    )
    if unsure["coverage"] == 1:
        return said + f"No track is called unsure (threshold {unsure['threshold']:.0%}).\n"
    if "accuracy" not in unsure:
        return said + f"Every track is called unsure (threshold {unsure['threshold']:.0%}).\n"
    return said + (
        f"Below {unsure['threshold']:.0%} a track is called unsure: {unsure['coverage']:.1%} of "
        f"the tracks get a genre, and {unsure['accuracy']:.1%} of these are right.\n"
    )


def figures_tables(figures: Mapping[str, Any]) -> Iterator[str]:
    """The confusion with each genre's recall, and coverage against accuracy, as aligned tables."""
    genres = [printable(genre) for genre in figures["genres"]]
    heads = [name if len(name) <= 12 else name[:11] + "." for name in genres]
    width = max(max(map(len, genres)), len("truth"))
    yield f"{'truth':<{width}}  recall  heard as: {'  '.join(heads)}\n"
    for name, genre, row in zip(genres, figures["genres"], figures["confusion"], strict=True):
        recall = figures["recall"].get(genre)
        share = "-" if recall is None else f"{recall:.0%}"
        counts = "  ".join(f"{n:>{len(head)}}" for n, head in zip(row, heads, strict=True))
        yield f"{name:<{width}}  {share:>6}            {counts}\n"
    yield "\nthreshold  coverage  accuracy\n"
    for point in figures["coverage"]:
        accuracy = f"{point['accuracy']:.0%}" if "accuracy" in point else "-"
        yield f"{point['threshold']:>9.0%}  {point['coverage']:>8.0%}  {accuracy:>8}\n"
