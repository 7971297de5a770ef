"""A study's report as text: tables, sentences, Markdown, and the table as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deepmusic.files import write_atomically
from deepmusic.studies.report import Report, spread

if TYPE_CHECKING:
    from deepmusic.studies.explanations import Occlusion
    from deepmusic.studies.significance import Difference


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Args:
        file: its name in the folder of pictures.
        title: what it shows.
        says: how to read it.
        section: which part of the report it belongs to.
        is_folded: whether a page shows it only when asked.
    """

    file: str
    title: str
    says: str
    section: str
    is_folded: bool = False


class Table(NamedTuple):
    """Cells as people read them.

    Attributes:
        head: names of the columns.
        rows: as many cells each.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def model_table(report: Report) -> Table:
    """The table of models: figures, differences, costs."""
    merged = {"pop", "rock"} <= set(report.genres)
    head = ["model", "accuracy", "± seeds", "± folds", "macro-F1"]
    head += ["pop+rock merged"] if merged else []
    head += [f"difference to {report.reference}", "p", "calibration error"]
    head += ["parameters", "training", "per track", "memory", "jobs"]
    rows = []
    for row in report.rows:
        f1 = row.score.macro_f1
        cells = [
            row.name,
            _percent(row.accuracy),
            _percent(row.over_seeds),
            _percent(row.over_folds),
            _percent(float(np.mean(f1))) + (f" ± {_percent(spread(f1))}" if len(f1) > 1 else ""),
        ]
        if merged:
            cells.append("" if row.score.merged is None else _percent(row.score.merged))
        cells += difference_cells(row.difference)
        cells += [
            _percent(row.score.calibration),
            f"{row.score.parameters:,.0f}",
            seconds(row.score.seconds),
            seconds(row.score.seconds_per_track),
            _megabytes(row.score.peak_memory_bytes),
            str(len(row.results))
            if len(row.results) == row.wanted
            else f"{len(row.results)} of {row.wanted}",
        ]
        rows.append(tuple(cells))
    return Table(tuple(head), tuple(rows))


def genre_table(report: Report) -> Table:
    """The recall of each genre."""
    rows = [
        (row.name, *(f"{100 * value:.0f}" for value in row.score.recall)) for row in report.rows
    ]
    return Table(("model", *report.genres), tuple(rows))


def leak_table(report: Report) -> Table:
    """What random folds would have said."""
    rows = [
        (
            f"{leak.name}, random folds (leaks)",
            _percent(leak.random),
            _percent(leak.grouped),
            *difference_cells(leak.difference),
        )
        for leak in report.leaks
    ]
    return Table(("model", "accuracy", "artists apart", "difference", "p"), tuple(rows))


def size_table(report: Report) -> Table:
    """How accuracy grows."""
    rows = [
        (size.name, f"{size.tracks:,.0f}", _percent(size.accuracy), _percent(size.spread))
        for size in report.sizes
    ]
    return Table(("model", "tracks learned from", "accuracy", "± seeds"), tuple(rows))


def difference_cells(difference: Difference | None) -> tuple[str, str]:
    """A difference in points with its interval, and its p."""
    if difference is None or math.isnan(difference.mean):
        return "", ""
    mean = f"{100 * difference.mean:+.1f}"
    if math.isnan(difference.p):
        return mean, ""
    interval = f" [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return mean + interval, "< 0.01" if difference.p < 0.01 else f"{difference.p:.2f}"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def seconds(value: float | None) -> str:
    """A time with its unit, as short as can be."""
    if value is None:
        return ""
    if value < 0.0995e-3:
        return f"{1e6 * value:.0f} µs"
    if value < 0.995:
        return f"{1e3 * value:.{0 if value >= 0.01 else 2}f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def _megabytes(value: float | None) -> str:
    return "" if value is None else f"{value / 2**20:,.0f} MB"


def headline(report: Report) -> str:
    """What came out, in two sentences."""
    if not report.rows:
        return "No model has a result."
    best = report.rows[0]
    if not best.is_whole:
        return (
            f"No model has done all its jobs; so far {best.name} has {_percent(best.accuracy)} % "
            f"of the tracks right, in {len(best.results)} of {best.wanted} jobs."
        )
    among = "" if report.rows[-1].is_whole else " among those that are done"
    right = f"{_percent(best.accuracy)} % of the tracks right"
    said = f"The best model{among} is {best.name} with {right}."
    reference = report.row(report.reference or "")
    if reference is not None and not reference.is_whole:
        done = f"{len(reference.results)} of its {reference.wanted} jobs"
        return f"{said} {reference.name} has done {done} only."
    if reference is None or best.difference is None:
        return said
    if math.isnan(best.difference.p):
        verdict = "from too few folds to tell whether by chance"
    else:
        is_chance = best.difference.p >= 0.05
        verdict = "which cannot be told from chance" if is_chance else "beyond chance"
    return (
        f"{said} {reference.name} has {_percent(reference.accuracy)} %; the difference is "
        f"{difference_cells(best.difference)[0]} points, {verdict}."
    )


def merged_sentence(report: Report) -> str | None:
    """What becomes of the accuracy where pop and rock are one genre."""
    scored = [row for row in report.rows if row.score.merged is not None]
    if not scored:
        return None
    best = scored[0]
    assert best.score.merged is not None
    return (
        f"Where pop and rock count as one genre, {best.name} has {_percent(best.score.merged)} % "
        f"in place of {_percent(best.accuracy)} %: so much of the error lies between these two."
    )


def occlusion_sentence(found: Occlusion) -> str:
    """Whether what the capsules mark matters, in figures."""
    low, high = 100 * found.difference.low, 100 * found.difference.high
    if math.isnan(low):
        verdict = "there are too few artists for an interval"
    elif low > 0:
        verdict = "the marks mean something"
    elif high < 0:
        verdict = "the marks mislead"
    else:
        verdict = "the marks cannot be told from chance"
    return (
        f"On {found.tracks} test tracks, hiding the tenth of the cells that the capsules mark "
        f"lowers the probability of the genre by {100 * found.marked:.1f} points, hiding the "
        f"same pattern elsewhere by {100 * found.random:.1f}: {100 * found.difference.mean:+.1f} "
        f"points [{low:+.1f}, {high:+.1f}], and more in {100 * found.share:.0f} % of the tracks; "
        f"{verdict}."
    )


def write_table(report: Report, path: Path) -> None:
    """Write ``table.csv``: a row a model, numbers as they are (shares, seconds, bytes).

    Raises:
        DeepMusicError: the file cannot be written.
    """
    head = ["model", "kind", "protocol", "jobs", "wanted", "accuracy", "accuracy_sd_seeds"]
    head += ["accuracy_sd_folds", "macro_f1", "macro_f1_sd_seeds", "pop_rock_merged"]
    head += ["reference", "difference", "difference_low", "difference_high", "p"]
    head += ["calibration_error", "parameters", "training_s", "s_per_track", "peak_memory_bytes"]
    head += [f"recall_{genre}" for genre in report.genres]
    with write_atomically(path) as file:
        writer = csv.writer(file)
        writer.writerow(clean(name) for name in head)
        for row in report.rows:
            found = row.score
            writer.writerow(
                _cell(value)
                for value in (
                    row.name,
                    row.kind,
                    row.results[0]["protocol"],
                    len(row.results),
                    row.wanted,
                    row.accuracy,
                    row.over_seeds,
                    row.over_folds,
                    float(np.mean(found.macro_f1)),
                    spread(found.macro_f1),
                    found.merged,
                    report.reference,
                    *(row.difference or (None,) * 4),
                    found.calibration,
                    found.parameters,
                    found.seconds,
                    found.seconds_per_track,
                    found.peak_memory_bytes,
                    *found.recall,
                )
            )
        for leak in report.leaks:
            cells: dict[str, object] = {
                "model": leak.name,
                "kind": "features",
                "protocol": "random",
                "accuracy": leak.random,
                "reference": f"{leak.name}, grouped",
                "difference": leak.difference.mean,
                "difference_low": leak.difference.low,
                "difference_high": leak.difference.high,
                "p": leak.difference.p,
            }
            writer.writerow(_cell(cells.get(name)) for name in head)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return clean(str(value))


def clean(text: str) -> str:
    """Text that any file and any font can hold: what cannot be printed becomes ``?``."""
    return "".join(c if c.isprintable() else "?" for c in text)


def markdown(report: Report, pictures: Sequence[Picture]) -> str:
    """The report as Markdown; pictures are links into ``pictures/``."""
    parts = ["# Study of genres", *map(_escaped, (headline(report), *report.about))]
    parts += [f"**{_escaped(warning)}**" for warning in report.warnings]
    for section in sections(report, pictures):
        parts.append(f"## {section.title}")
        parts += [_escaped(text) for text in section.texts]
        for items in section.lists:
            parts.append("\n".join(f"- {_escaped(item)}" for item in items))
        parts += [_markdown_table(table) for table in section.tables if table.rows]
        folded = [picture for picture in section.pictures if picture.is_folded]
        for picture in section.pictures:
            if picture.is_folded:
                continue
            parts.append(f"![{_escaped(picture.title)}](pictures/{picture.file})")
            parts.append(f"*{_escaped(picture.title)}.* {_escaped(picture.says)}".strip())
        if folded:
            links = (f"[{_escaped(p.title)}](pictures/{p.file})" for p in folded)
            parts.append(f"More pictures: {', '.join(links)}.")
    return "\n\n".join(parts) + "\n"


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        title: of the part.
        texts: paragraphs.
        tables: below them.
        pictures: below these.
        lists: of sentences, between the paragraphs and the tables.
    """

    title: str
    texts: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    lists: tuple[tuple[str, ...], ...] = ()


def sections(report: Report, pictures: Sequence[Picture]) -> list[Section]:
    """The parts of the report, in order; those without content are left out."""

    def of(name: str) -> tuple[Picture, ...]:
        return tuple(picture for picture in pictures if picture.section == name)

    merged = merged_sentence(report)
    occlusion = () if report.occlusion is None else (occlusion_sentence(report.occlusion),)
    missing = (report.missing,) if report.missing else ()
    leaks = (
        "The same models, learned and tested on folds that are drawn at random: artists, albums "
        "and copies stand on both sides. The difference is what leaks.",
    )
    found = [
        Section(
            "Models",
            (merged,) if merged else (),
            (model_table(report),) if report.rows else (),
            of("models"),
        ),
        Section("What is missing", lists=missing),
        Section("Leakage", leaks if report.leaks else (), (leak_table(report),)),
        Section("Genres", (), (genre_table(report),) if report.rows else (), of("genres")),
        Section("Calibration", (), (), of("calibration")),
        Section("Learning", (), (), of("learning")),
        Section("Number of tracks", (), (size_table(report),), of("sizes")),
        Section("Map of the tracks", (), (), of("map")),
        Section("What the capsules hear", occlusion, (), of("hearing")),
        Section(
            "How it was measured",
            report.notes,
            lists=(tuple(f"{row.name}: {row.summary}" for row in report.rows),),
        ),
    ]
    return [
        section
        for section in found
        if section.texts
        or section.pictures
        or any(section.lists)
        or any(table.rows for table in section.tables)
    ]


def _markdown_table(table: Table) -> str:
    lines = [table.head, ("---",) * len(table.head), *table.rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(text: str) -> str:
    return clean(text).replace("|", "\\|").replace("<", "&lt;")
