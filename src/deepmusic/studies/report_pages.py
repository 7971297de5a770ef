"""The pages of a report: ``report.html``, ``report.md`` and ``table.csv``."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepmusic.files import write_atomically
from deepmusic.studies.comparison import Difference
from deepmusic.studies.report import ModelRow, Report, spread
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.studies.report_pictures import Picture


class Table(NamedTuple):
    """Cells as people read them."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """A section of the report."""

    title: str
    texts: Sequence[str] = ()
    items: Sequence[str] = ()
    table: Table | None = None
    pictures: Sequence[Picture] = ()


def write_pages(report: Report, pictures: Sequence[Picture], study: Path) -> None:
    """Write ``report.html`` (with its pictures in it), ``report.md`` and ``table.csv``.

    Args:
        report: the figures.
        pictures: whose files are in ``pictures/`` already.
        study: the folder.

    Raises:
        DeepMusicError: a file cannot be written.
    """
    import pandas as pd
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("deepmusic.studies"),
        autoescape=lambda name: name is not None and ".html" in name,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,  # no markup
    )
    environment.filters |= {
        "percent": percent,
        "cells": difference_cells,
        "markdown": lambda text: text.replace("|", "\\|").replace("<", "&lt;"),
        "base64": lambda file: b64encode((study / "pictures" / file).read_bytes()).decode(),
    }
    prose = environment.get_template("texts.txt.j2")

    def texts(block: str, **values: Any) -> list[str]:
        context = prose.new_context({"report": report, "version": __version__, **values})
        paragraphs = "".join(prose.blocks[block](context)).split("\n\n")
        return [" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip()]

    content = {"report": report, "sections": sections(report, pictures, texts), "texts": texts}
    for name in ("report.html", "report.md"):
        with write_atomically(study / name) as file:
            file.write(environment.get_template(f"{name}.j2").render(content))
    rows = [row_figures(report, row) for row in report.rows]
    rows += [
        {
            "model": leak.name,
            "kind": "features",
            "protocol": "random",
            "leaks": True,
            "accuracy": leak.random,
            "reference": f"{leak.name}, grouped",
            **_difference_figures(leak.difference),
        }
        for leak in report.leaks
    ]
    table = pd.DataFrame(rows, columns=None if rows else ["model"])
    with write_atomically(study / "table.csv") as file:
        table.to_csv(file, index=False, float_format="%.6g")


def sections(
    report: Report, pictures: Sequence[Picture], texts: Callable[[str], list[str]]
) -> list[Section]:
    """The sections of the report that have content, in order."""
    models = [f"{row.name}: {row.model.summary}" for row in report.rows]
    all_sections = [
        Section("Models", texts("models"), table=model_table(report)),
        Section("What is missing", items=report.missing),
        Section("Leakage", texts("leakage"), table=leak_table(report)),
        Section("Genres", table=genre_table(report)),
        Section("Calibration"),
        Section("Learning"),
        Section("Number of tracks", table=size_table(report)),
        Section("Map of the tracks"),
        Section("What the capsules use", texts("capsules")),
        Section("How it was measured", texts("notes"), models),
    ]
    filled = [
        section._replace(
            table=section.table if section.table and section.table.rows else None,
            pictures=[picture for picture in pictures if picture.section == section.title],
        )
        for section in all_sections
    ]
    return [section for section in filled if any(section[1:])]


def row_figures(report: Report, row: ModelRow) -> dict[str, Any]:
    """The figures of a model as numbers: shares, seconds, bytes; a row of ``table.csv``."""
    score = row.score
    recall = zip(report.genres, score.recall.tolist(), strict=True)
    return {
        "model": row.name,
        "kind": row.model.kind,
        "protocol": report.config.protocol,
        "leaks": report.has_leaks,
        "jobs": row.jobs,
        "wanted": row.wanted,
        "accuracy": row.accuracy,
        "accuracy_sd_seeds": row.seed_spread,
        "accuracy_sd_folds": spread(score.folds.values()),
        "macro_f1": float(np.mean(score.macro_f1)),
        "macro_f1_sd_seeds": spread(score.macro_f1),
        "pop_rock_merged": score.merged,
        "reference": report.reference,
        **_difference_figures(row.difference),
        "calibration_error": score.calibration,
        "parameters": score.parameters,
        "training_s": score.seconds,
        "s_per_track": score.seconds_per_track,
        "peak_memory_bytes": score.peak_memory_bytes,
        **{f"recall_{printable(genre)}": share for genre, share in recall},
    }


def model_table(report: Report) -> Table:
    """The table of models: figures, differences, costs."""
    merged = {"pop", "rock"} <= set(report.genres)
    head = ["model", "accuracy", "± seeds", "± folds", "macro-F1"]
    head += ["pop+rock merged"] if merged else []
    head += [f"difference to {report.reference}", "p", "calibration error"]
    head += ["parameters", "training", "per track", "memory", "jobs"]
    rows = []
    for row in report.rows:
        figures = row_figures(report, row)
        f1, f1_spread = percent(figures["macro_f1"]), percent(figures["macro_f1_sd_seeds"])
        memory = figures["peak_memory_bytes"]
        cells = [
            row.name,
            percent(row.accuracy),
            percent(row.seed_spread),
            percent(figures["accuracy_sd_folds"]),
            f"{f1} ± {f1_spread}" if f1_spread else f1,
            *([percent(figures["pop_rock_merged"])] if merged else []),
            *difference_cells(row.difference),
            percent(figures["calibration_error"]),
            f"{figures['parameters']:,.0f}",
            format_seconds(figures["training_s"]),
            format_seconds(figures["s_per_track"]),
            "" if memory is None else f"{memory / 2**20:,.0f} MB",
            str(row.jobs) if row.is_complete else f"{row.jobs} of {row.wanted}",
        ]
        rows.append(tuple(cells))
    return Table(tuple(head), tuple(rows))


def genre_table(report: Report) -> Table:
    """The recall of each genre, in per cent."""
    rows = ((row.name, *(f"{100 * r:.0f}" for r in row.score.recall)) for row in report.rows)
    return Table(("model", *report.genres), tuple(rows))


def leak_table(report: Report) -> Table:
    """Accuracy on random folds."""
    rows = (
        (
            f"{leak.name}, random folds (leaks)",
            percent(leak.random),
            percent(leak.grouped),
            *difference_cells(leak.difference),
        )
        for leak in report.leaks
    )
    return Table(("model", "accuracy", "artists apart", "difference", "p"), tuple(rows))


def size_table(report: Report) -> Table:
    """The learning curves."""
    rows = (
        (size.name, f"{size.tracks:,.0f}", percent(size.accuracy), percent(size.spread))
        for size in report.sizes
    )
    return Table(("model", "training tracks", "accuracy", "± seeds"), tuple(rows))


def percent(value: float | None) -> str:
    """A share in per cent; empty where there is none."""
    return "" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def format_seconds(value: float | None) -> str:
    """A time with its unit; empty where there is none.

    Example:
        >>> format_seconds(2e-5), format_seconds(0.25), format_seconds(600)
        ('20 µs', '250 ms', '10.0 min')
    """
    if value is None:
        return ""
    if value < 0.0995e-3:
        return f"{1e6 * value:.0f} µs"
    if value < 0.995:
        return f"{1e3 * value:.{0 if value >= 0.01 else 2}f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def difference_cells(difference: Difference | None) -> tuple[str, str]:
    """A difference in points with its interval, and its p."""
    if difference is None or math.isnan(difference.mean):
        return "", ""
    mean = f"{100 * difference.mean:+.1f}"
    if math.isnan(difference.p):
        return mean, "too few"
    interval = f" [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return mean + interval, "< 0.01" if difference.p < 0.01 else f"{difference.p:.2f}"


def printable(text: str) -> str:
    """Text for any file and any font: characters that cannot be printed become ``?``."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _difference_figures(difference: Difference | None) -> dict[str, float | None]:
    names = ("difference", "difference_low", "difference_high", "p")
    return dict(zip(names, difference or (None,) * 4, strict=True))
