"""``deepmusic features check``: two tables of features beside each other, and why they differ."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import click

from deepmusic.cli.output import printable

if TYPE_CHECKING:
    from deepmusic.features.comparing import ColumnComparison, Comparison
    from deepmusic.features.table import FeatureTable

_RECORD = (
    "feature",
    "statistic",
    "number",
    "tracks",
    "one_sided",
    "median",
    "p95",
    "maximum",
    "beyond",
    "correlation",
    "ratio",
    "offset",
    "agrees",
    "causes",
    "explanation",
)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
@click.option(
    "--tolerance",
    metavar="E",
    type=click.FloatRange(min=0),
    default=1e-4,
    show_default=True,
    help="Greatest error that counts as agreement.",
)
@click.option(
    "--all", "every", is_flag=True, help="Show all 518 columns; JSON and CSV always hold them."
)
@click.pass_context
def check(
    ctx: click.Context,
    a: str,
    b: str,
    *,
    form: Literal["text", "json", "csv"],
    tolerance: float,
    every: bool,
) -> None:
    """Compare the tables A and B of features, and say which known difference explains what.

    Both may be of 'features extract', or FMA's published features.csv. B is the reference: an
    error is |a - b| over |b| or over the column's standard deviation, whichever is greater. Tracks
    are matched by path, or if none is the same, by file name and FMA's number. Exit status: 0 all
    columns agree, 1 some do not or a table cannot be read, 2 wrong usage.
    """
    if math.isnan(tolerance):
        raise click.UsageError("--tolerance must be a number.")
    from deepmusic.features.comparing import compare
    from deepmusic.features.table import read_features

    table_a, table_b = read_features(a), read_features(b)
    found = compare(table_a, table_b, tolerance=tolerance)
    summary = _summary(found, (a, table_a), (b, table_b))
    if form == "text":
        click.echo(summary)
        for line in _column_table(found) if every else _feature_table(found):
            click.echo(line)
    else:
        click.echo(summary, err=True)
        records = [_record(found, column) for column in found.columns]
        click.echo(_json(records) if form == "json" else _csv(records), nl=False)
    ctx.exit(0 if found.agrees else 1)


def _summary(
    found: Comparison, named_a: tuple[str, FeatureTable], named_b: tuple[str, FeatureTable]
) -> str:
    """One paragraph: the tables, the tracks, how many columns agree, and what was expected."""
    said = [
        f"{letter} is {path!r}: {_count(len(table), 'track')}, {_recipe(table)}."
        for letter, (path, table) in (("A", named_a), ("B", named_b))
    ]
    matching = found.matching
    both = f"{_count(len(matching), 'track')} in both, matched by {matching.by}"
    said.append(f"{both}{_only('A', matching.only_a)}{_only('B', matching.only_b)}.")
    agreeing = sum(column.agrees for column in found.columns)
    said.append(
        f"{agreeing} of {len(found.columns)} columns agree within {found.tolerance:g} in every "
        "track."
    )
    if found.expectation is not None:
        codes = [cause.code for cause in found.causes]
        said.append(f"Expected {found.expectation.summary}")
        said.append(found.expectation.verdict(found.differing, codes))
    return printable(" ".join([*said, *found.notes]))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _recipe(table: FeatureTable) -> str:
    if not table.recipe:
        return "no recipe named"
    return f"recipe {table.recipe} {table.version}, {table.mode}"


def _only(letter: str, paths: tuple[str, ...]) -> str:
    return f", {len(paths):,} only in {letter} (such as {paths[0]!r})" if paths else ""


def _feature_table(found: Comparison) -> Iterator[str]:
    """A line a feature, with its worst column, and below it what the explanations mean."""
    yield f"\n{'feature':<19} differ  {'worst column':<12}  {_HEADS}  explanation"
    for feature in dict.fromkeys(column.feature for column in found.columns):
        columns = [column for column in found.columns if column.feature == feature]
        worst = max(columns, key=_badness)
        differing = [column for column in columns if not column.agrees]
        of = f"{len(differing)}/{len(columns)}"
        name = f"{worst.statistic} {worst.number}" if worst.beyond or worst.maximum else "-"
        yield f"{feature:<19} {of:>6}  {name:<12}  {_errors(worst)}  {_why(differing)}".rstrip()
    yield from _meanings(found)


def _column_table(found: Comparison) -> Iterator[str]:
    """A line a column, and below it what the explanations mean."""
    yield f"\n{'column':<32}  beyond  {_HEADS}  correl.  explanation"
    for column in found.columns:
        correlation = f"{_shown(column.correlation, '.4f'):>7}"
        why = ", ".join(column.causes) + _fitted(column)
        line = f"{column.name:<32}  {column.beyond:>6.1%}  {_errors(column)}  {correlation}  {why}"
        yield line.rstrip()
    yield from _meanings(found)


_HEADS = f"{'median':>8}  {'95 %':>8}  {'greatest':>8}"


def _errors(column: ColumnComparison) -> str:
    shown = (column.median, column.p95, column.maximum)
    return "  ".join(f"{_shown(value, '.2g'):>8}" for value in shown)


def _shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _badness(column: ColumnComparison) -> tuple[float, ...]:
    errors = (column.median, column.p95, column.maximum, column.beyond)
    return tuple(-1.0 if math.isnan(value) else value for value in errors)


def _why(differing: list[ColumnComparison]) -> str:
    """Explanations of some columns, the most frequent first, with counts if they are several."""
    counts = Counter(" + ".join(column.causes) for column in differing)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{causes} ({count})" for causes, count in counts.most_common())


def _fitted(column: ColumnComparison) -> str:
    if column.ratio is not None:
        return f" (A is {column.ratio:.4g} times B)"
    if column.offset is not None:
        return f" (A is B {column.offset:+.4g})"
    return ""


def _meanings(found: Comparison) -> Iterator[str]:
    from deepmusic.features.comparing import UNEXPLAINED

    if found.causes:
        yield ""
    for cause in found.causes:
        yield printable(f"{cause.code}: {cause.summary} ({cause.evidence}).")
    unexplained = sum(UNEXPLAINED in column.causes for column in found.columns)
    if unexplained:
        yield f"\n{_count(unexplained, 'column')} differ for no reason that is known here."


def _record(found: Comparison, column: ColumnComparison) -> dict[str, Any]:
    """One column as plain JSON types, with None for what is no number."""
    meaning = {cause.code: cause.summary for cause in found.causes}
    record = {name: getattr(column, name) for name in _RECORD if hasattr(column, name)}
    for name, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            record[name] = None
    record["causes"] = list(column.causes)
    record["explanation"] = "; ".join(meaning.get(code, code) for code in column.causes)
    return record


def _json(records: Iterable[dict[str, Any]]) -> str:
    return "[" + ",\n ".join(json.dumps(record) for record in records) + "]\n"


def _csv(records: Iterable[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(_RECORD)
    for record in records:
        plain = {
            **record,
            "causes": "; ".join(record["causes"]),
            "agrees": "true" if record["agrees"] else "false",
        }
        writer.writerow(["" if plain[name] is None else plain[name] for name in _RECORD])
    return buffer.getvalue()
