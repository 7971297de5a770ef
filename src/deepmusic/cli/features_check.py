"""``deepmusic features check``: compare two tables of features."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import Number, format_option, option
from deepmusic.cli.output import csv_text, printable, table_lines

if TYPE_CHECKING:
    from deepmusic.features.compare import ColumnDifference, Comparison
    from deepmusic.features.table import FeatureTable


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@format_option("text", "json", "csv")
@option(
    "--tolerance E", "Greatest error that counts as agreement.", type=Number(min=0), default=1e-4
)
@option("--all", "Show all 518 columns; JSON and CSV always contain them.", name="every")
@click.pass_context
def check(ctx: click.Context, a: str, b: str, *, form: str, tolerance: float, every: bool) -> None:
    """Compare the feature tables A and B, and say whether their recipes explain the differences.

    Each is a table that 'features extract' wrote, or FMA's published features.csv. B is the
    reference: an error is |a - b| divided by |b| or by the standard deviation of the column,
    whichever is greater. Tracks are matched by path or, if no path is the same, by file name and
    FMA's number. Exit status: 0 all columns agree, 1 some do not or a table cannot be read, 2 wrong
    usage.
    """
    from deepmusic.features import read_features
    from deepmusic.features.compare import compare

    table_a, table_b = read_features(a), read_features(b)
    comparison = compare(table_a, table_b, tolerance=tolerance)
    summary = _summary(comparison, {"A": (a, table_a), "B": (b, table_b)})
    click.echo(summary, err=form != "text")
    if form == "text":
        rows = _column_rows(comparison) if every else _feature_rows(comparison)
        click.echo("\n".join(["", *table_lines(rows)]))
    else:
        records = [_record(column) for column in comparison.columns]
        if form == "json":
            click.echo(json.dumps(records, indent=1))
        else:
            click.echo(csv_text([records[0], *(record.values() for record in records)]), nl=False)
    ctx.exit(0 if comparison.agrees else 1)


def _summary(comparison: Comparison, tables: dict[str, tuple[str, FeatureTable]]) -> str:
    """One paragraph: the tables, the tracks, how many columns agree, and what was expected."""
    sentences = []
    for letter, (path, table) in tables.items():
        recipe = f"recipe {table.recipe} {table.version}" if table.recipe else "no recipe named"
        sentences.append(f"{letter} is {path!r}: {_tracks(len(table))}, {recipe}.")
    matching = comparison.matching
    only = [
        f", {len(paths):,} only in {letter} (such as {paths[0]!r})"
        for letter, paths in (("A", matching.only_a), ("B", matching.only_b))
        if paths
    ]
    sentences.append(f"{_tracks(len(matching))} in both, matched by {matching.by}{''.join(only)}.")
    agreeing = sum(column.agrees for column in comparison.columns)
    sentences.append(
        f"{agreeing} of {len(comparison.columns)} columns agree within {comparison.tolerance:g} in "
        "every track."
    )
    if comparison.expectation is not None:
        sentences += [comparison.expectation.summary, comparison.verdict]
    if len(matching) == 1:
        sentences.append("One track has no standard deviation: errors are relative to |b| alone.")
    return printable(" ".join(sentences))


def _tracks(number: int) -> str:
    return f"{number:,} track" + ("" if number == 1 else "s")


def _feature_rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """One row per feature, with its worst column."""
    yield ("feature", "differ", "worst column", *_ERRORS)
    for feature in dict.fromkeys(column.feature for column in comparison.columns):
        columns = [column for column in comparison.columns if column.feature == feature]
        worst = max(columns, key=lambda column: (column.beyond, column.maximum))
        differ = f"{sum(not column.agrees for column in columns)}/{len(columns)}"
        yield (feature, differ, "-" if worst.agrees else worst.name, *_errors(comparison, worst))


def _column_rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """One row per column."""
    yield ("column", "beyond", *_ERRORS)
    for column in comparison.columns:
        yield (column.name, f"{column.beyond:.1%}", *_errors(comparison, column))


_ERRORS = ("median", "95 %", "maximum", "")


def _errors(comparison: Comparison, column: ColumnDifference) -> Iterator[str]:
    for value in (column.median, column.p95, column.maximum):
        yield "-" if math.isnan(value) else f"{value:.2g}"
    if comparison.expectation is None or column.agrees:
        yield ""
    else:
        is_expected = column.feature in comparison.expectation.may_differ
        yield "expected" if is_expected else "unexpected"


def _record(column: ColumnDifference) -> dict[str, Any]:
    """One column as JSON types, with None in place of NaN."""
    record = {**asdict(column), "agrees": column.agrees}
    return {name: None if value != value else value for name, value in record.items()}
