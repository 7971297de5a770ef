"""The pages of a report: ``report.html``, ``report.md`` and ``table.csv``."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepmusic.files import write_atomically
from deepmusic.studies.comparison import Difference
from deepmusic.studies.report import ModelRow, Report, spread
from deepmusic.version import __version__

if TYPE_CHECKING:
    from deepmusic.studies.occlusion import Occlusion
    from deepmusic.studies.report_pictures import Picture


class Table(NamedTuple):
    """Cells as people read them."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """A section of the report."""

    title: str
    texts: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()


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
    environment.filters["markdown"] = lambda text: text.replace("|", "\\|").replace("<", "&lt;")
    environment.filters["base64"] = lambda file: base64.b64encode(
        (study / "pictures" / file).read_bytes()
    ).decode()
    notes = environment.get_template("notes.txt.j2").render(report=report, version=__version__)
    for name in ("report.html", "report.md"):
        text = environment.get_template(f"{name}.j2").render(
            report=report,
            headline=headline(report),
            sections=sections(report, notes.splitlines(), pictures),
        )
        with write_atomically(study / name) as file:
            file.write(text)
    rows = [row_figures(report, row) for row in report.rows]
    rows += [
        {
            "model": leak.name,
            "kind": "features",
            "protocol": "random",
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
    report: Report, notes: Sequence[str] = (), pictures: Sequence[Picture] = ()
) -> list[Section]:
    """The sections of the report that have content, in order."""
    leakage = (
        "The same models on folds drawn at random: artists, albums and copies are on both sides, "
        "and the difference is the leakage."
    )
    occlusion = () if report.occlusion is None else (occlusion_sentence(report.occlusion),)
    models = tuple(f"{row.name}: {row.summary}" for row in report.rows)
    all_sections = [
        Section("Models", merged_sentences(report), table=model_table(report)),
        Section("What is missing", items=report.missing),
        Section("Leakage", (leakage,) if report.leaks else (), table=leak_table(report)),
        Section("Genres", table=genre_table(report)),
        Section("Calibration"),
        Section("Learning"),
        Section("Number of tracks", table=size_table(report)),
        Section("Map of the tracks"),
        Section("What the capsules use", occlusion),
        Section("How it was measured", tuple(notes), models),
    ]
    filled = [
        section._replace(
            table=section.table if section.table and section.table.rows else None,
            pictures=tuple(picture for picture in pictures if picture.section == section.title),
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
        "kind": row.kind,
        "protocol": report.protocol,
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


def headline(report: Report) -> str:
    """The main result, in two sentences."""
    if not report.rows:
        return "No model has a result."
    best, reference = report.rows[0], report.row(report.reference)
    correct = f"{percent(best.accuracy)} % of the tracks correctly"
    if not best.is_complete:
        return (
            f"No model has done all its jobs; so far {best.name} classifies {correct}, in "
            f"{best.jobs} of {best.wanted} jobs."
        )
    among = "" if report.rows[-1].is_complete else " among those that are done"
    text = f"The best model{among} is {best.name}, which classifies {correct}."
    if reference is not None and not reference.is_complete:
        done = f"{reference.jobs} of its {reference.wanted} jobs"
        return f"{text} {reference.name} has done only {done}."
    if reference is None or best.difference is None:
        return text
    if math.isnan(best.difference.p):
        verdict = "from too few folds for a test"
    else:
        verdict = "which is significant" if best.difference.p < 0.05 else "not significant"
    return (
        f"{text} {reference.name} reaches {percent(reference.accuracy)} %; the difference is "
        f"{difference_cells(best.difference)[0]} points, {verdict}."
    )


def merged_sentences(report: Report) -> tuple[str, ...]:
    """The accuracy with pop and rock as one genre, if the data have both."""
    best = next((row for row in report.rows if row.score.merged is not None), None)
    if best is None:
        return ()
    return (
        f"With pop and rock counted as one genre, {best.name} reaches "
        f"{percent(best.score.merged)} % instead of {percent(best.accuracy)} %: the difference is "
        "confusion between these two.",
    )


def occlusion_sentence(occlusion: Occlusion) -> str:
    """Whether what the capsules mark matters, in figures."""
    low, high = 100 * occlusion.difference.low, 100 * occlusion.difference.high
    if math.isnan(low):
        verdict = "there are too few artists for an interval"
    elif low <= 0 <= high:
        verdict = "the marks do not differ from random ones"
    else:
        verdict = "the marked cells matter" if low > 0 else "the marks mislead"
    return (
        f"On {occlusion.tracks} test tracks, hiding the tenth of the cells that the capsules mark "
        f"lowers the probability of the genre by {100 * occlusion.marked:.1f} points, hiding the "
        f"same pattern elsewhere by {100 * occlusion.random:.1f}: "
        f"{100 * occlusion.difference.mean:+.1f} points [{low:+.1f}, {high:+.1f}], and more in "
        f"{100 * occlusion.share:.0f} % of the tracks; {verdict}."
    )


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
        return mean, ""
    interval = f" [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return mean + interval, "< 0.01" if difference.p < 0.01 else f"{difference.p:.2f}"


def printable(text: str) -> str:
    """Text for any file and any font: characters that cannot be printed become ``?``."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _difference_figures(difference: Difference | None) -> dict[str, float | None]:
    names = ("difference", "difference_low", "difference_high", "p")
    return dict(zip(names, difference or (None,) * 4, strict=True))
