"""FMA's table of baselines, as computed and as published, written for people and for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator

from deepmusic.studies.fma_baselines import (
    MODELS,
    PUBLISHED_COUNTS,
    PUBLISHED_SUBSET_ACCURACY,
    Cell,
    Reproduction,
    Task,
)

_TITLES: dict[Task, str] = {
    "single": "Test accuracy in percent, one top genre a track",
    "multi": "Test subset accuracy in percent, all genres of a track",
}
_FIGURES = {
    "macro_average_precision": "macro AP",
    "micro_average_precision": "micro AP",
    "macro_roc_auc": "macro AUC",
    "micro_roc_auc": "micro AUC",
    "hierarchical_precision": "hier. P",
    "hierarchical_recall": "hier. R",
    "hierarchical_f": "hier. F",
}
_CSV_COLUMNS = (
    "task", "features", "columns", "model", "accuracy", "published", "difference", "seconds",
    "training", "test", *_FIGURES, "labels", "labels_left_out", "note", "error",
)  # fmt: skip


def markdown(found: Reproduction) -> str:
    """The tables and what there is to say of them, in Markdown; ends in a line end."""
    return "\n".join(_lines(found, _markdown_rows))


def plain_text(found: Reproduction) -> str:
    """The same for a terminal."""
    return "\n".join(_lines(found, _aligned_rows))


def csv_table(found: Reproduction) -> str:
    """One row a cell; accuracies in [0, 1], seconds, counts of tracks."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\r\n")
    rows.writerow(_CSV_COLUMNS)
    for cell in found.cells:
        more = [cell.scores.get(name, "") for name in (*_FIGURES, "labels", "labels_left_out")]
        numbers = ("" if n is None else n for n in (cell.accuracy, cell.published, cell.difference))
        rows.writerow(
            (
                *(cell.task, cell.features, cell.size, cell.model, *numbers, cell.seconds),
                *(cell.training, cell.test, *more, cell.note, cell.error),
            )
        )
    return buffer.getvalue()


def _lines(found: Reproduction, write: Callable[[list[list[str]]], Iterator[str]]) -> Iterator[str]:
    training, validation, test = found.counts
    yield (
        f"FMA {found.subset}, the makers' split: {training:,} training, {validation:,} validation "
        f"and {test:,} test tracks."
    )
    if found.subset == "medium" and found.counts != PUBLISHED_COUNTS:
        published = " / ".join(f"{count:,}" for count in PUBLISHED_COUNTS)
        yield (
            f"The published medium subset has {published}: these are other tracks, so a difference "
            "to the published figures says nothing."
        )
    for task, title in _TITLES.items():
        cells = [cell for cell in found.cells if cell.task == task]
        if not cells:
            continue
        has_published = any(cell.published is not None for cell in cells)
        yield ""
        yield f"{title}{'; in brackets as published, and the difference' * has_published}:"
        yield ""
        yield from write(_main_rows(cells))
        if task == "multi":
            yield ""
            yield from write(_figure_rows(cells))
        yield ""
        yield from _remarks(found, task, cells)
    yield ""


def _main_rows(cells: list[Cell]) -> list[list[str]]:
    models = [model for model in MODELS if any(cell.model == model for cell in cells)]
    place = {(cell.features, cell.model): cell for cell in cells}
    rows = [["features", "columns", *models]]
    for name, size in dict.fromkeys((cell.features, cell.size) for cell in cells):
        rows.append([name, str(size), *(_shown(place.get((name, model))) for model in models)])
    return rows


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    published = "" if cell.published is None else f"{100 * cell.published:.1f}"
    if cell.accuracy is None:
        return f"failed ({published})" if published else "failed"
    mine = f"{100 * cell.accuracy:.1f}"
    if cell.difference is None:
        return mine
    return f"{mine} ({published}, {100 * cell.difference:+.1f})"


def _figure_rows(cells: list[Cell]) -> list[list[str]]:
    rows = [["features", "model", *_FIGURES.values()]]
    for cell in cells:
        numbers = [
            f"{100 * cell.scores[name]:.1f}" if name in cell.scores else "-" for name in _FIGURES
        ]
        rows.append([cell.features, cell.model, *numbers])
    return rows


def _remarks(found: Reproduction, task: Task, cells: list[Cell]) -> Iterator[str]:
    done = [cell for cell in cells if cell.accuracy is not None]
    if task == "single" and found.majority_genre:
        yield (
            f"- Always saying {found.majority_genre!r} is right for "
            f"{100 * found.majority_accuracy:.1f} %."
        )
    if done and task == "single":
        widest = max(_standard_error(cell) for cell in done)
        yield (
            f"- The standard error of one accuracy is up to {100 * widest:.1f} points; smaller "
            "differences say little."
        )
    if task == "multi":
        low, high = PUBLISHED_SUBSET_ACCURACY
        if found.subset == "medium":
            yield (f"- Published for these sets and models: {100 * low:.1f} to {100 * high:.1f} %.")
        counted = next((cell.scores for cell in done if "labels" in cell.scores), None)
        if counted:
            yield (
                f"- Of {counted['labels']:.0f} genres, {counted['labels_left_out']:.0f} have no "
                "test track and are left out of the macro averages."
            )
    for note in dict.fromkeys(cell.note for cell in cells if cell.note):
        these = [f"{cell.features} {cell.model}" for cell in cells if cell.note == note]
        yield f"- {', '.join(these)}: {note}."
    for cell in cells:
        if cell.error:
            yield f"- {cell.error}"


def _standard_error(cell: Cell) -> float:
    accuracy = cell.accuracy or 0.0
    return math.sqrt(accuracy * (1 - accuracy) / max(cell.test, 1))


def _markdown_rows(rows: list[list[str]]) -> Iterator[str]:
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in body:
        yield f"| {' | '.join(row)} |"


def _aligned_rows(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
