"""``deepmusic features``: extract a table of features, show those of a track, compare tables."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.data_options import load_with_progress
from deepmusic.cli.options import (
    POSITIVE,
    WORKERS_OR_DASK,
    Number,
    format_option,
    max_minutes,
    option,
    output_file,
)
from deepmusic.cli.output import csv_text, printable, report, report_problems, table_lines
from deepmusic.cli.progress import display
from deepmusic.errors import DataError, counted
from deepmusic.extras import need
from deepmusic.features.recipe import COLUMNS, FEATURE_SIZES, RECIPES
from deepmusic.features.statistics import STATISTICS

if TYPE_CHECKING:
    from deepmusic.audio import NotAudio
    from deepmusic.features.compare import ColumnDifference, Comparison
    from deepmusic.features.plot import TrackAnalysis
    from deepmusic.features.table import FeatureTable


@click.command(no_args_is_help=True)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@option(
    "-o, --output FILE",
    "The table: Parquet, or CSV if FILE ends in .csv.",
    default="features.parquet",
    callback=output_file,
)
@option("--recipe NAME", "fma, fma-librosa or fma-corrected.", name="recipe_name", default="fma")
@option(
    "--split",
    "PATH is one data set, as for `data split`; also write its official split, or one without "
    "leaks, as FILE.splits.json.",
    name="is_split",
)
@WORKERS_OR_DASK
@max_minutes(360.0, "Read at most this much of a track.")
@click.pass_context
def extract(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    output: str,
    recipe_name: str,
    is_split: bool,
    workers: int,
    dask: str | None,
    max_seconds: float,
) -> None:
    """Compute the 518 features of FMA of each PATH: sound files, videos, folders, playlists.

    The table has one row per track, with a reason code where there are no values. Rows that FILE
    already has are kept; after an interruption, run the command again to compute the rest. Exit
    status: 0 all well, 1 some files have no values, 2 wrong usage.
    """
    need("features")
    from deepmusic.audio import find_audio
    from deepmusic.features import extract_library, recipe_named

    recipe = recipe_named(recipe_name)
    if is_split:
        entries = _divided(paths, f"{os.path.splitext(output)[0]}.splits.json")
    else:
        entries = list(find_audio(paths, on_note=report))
    failed = 0
    with display(len(entries)) as screen:
        for row in extract_library(
            entries, output, recipe, workers=workers, dask=dask, max_seconds=max_seconds
        ):
            failed += not row.is_done
            if row.code:
                screen.report(printable(row.error))
            if row.warning:
                screen.report(printable(f"{row.path}: {row.warning}"))
            screen.advance()
    done = len(entries) - failed
    click.echo(f"{output}: {done} of {len(entries)} tracks, recipe {recipe.name}.", err=True)
    ctx.exit(1 if failed else 0)


def _divided(paths: tuple[str, ...], splits: str) -> list[str | NotAudio]:
    """The tracks of one data set, and its split, official or without known leaks, in a file."""
    if len(paths) != 1:
        raise click.UsageError("--split takes one PATH, a data set.")
    need("data")
    from deepmusic.datasets import Folds, make_split, write_splits

    loaded = load_with_progress(paths[0], {})
    dataset = loaded.dataset
    try:
        made = Folds((loaded.official_split(),), 0, "official")
    except DataError:  # there is none, or a part of it is missing
        made = Folds((make_split(dataset),), 0)
    write_splits(splits, made, dataset)
    report(f"{splits}: one split, protocol {made.protocol}.")
    report_problems((), dataset.notes)
    return dataset.entries()


_UNITS = {
    "chroma_cens": "norm 1",
    "chroma_cqt": "maximum 1",
    "chroma_stft": "maximum 1",
    "mfcc": "dB",
    "rmse": "full scale 1",
    "spectral_bandwidth": "Hz",
    "spectral_centroid": "Hz",
    "spectral_contrast": "dB",
    "spectral_rolloff": "Hz",
    "tonnetz": "radius 1",
    "zcr": "per sample",
}
_TONNETZ = ("fifths x", "fifths y", "minor x", "minor y", "major x", "major y")


@click.command(no_args_is_help=True)
@click.argument("file", metavar="FILE")
@option(
    "-o, --out PICTURE.png",
    "Where to draw; by default FILE-features.png in the current folder.",
    name="picture",
)
@option(f"--recipe [{'|'.join(RECIPES)}]", "Version of the recipe of the features.", default="fma")
@format_option("text", "json", "csv")
@option("--from S", "Skip the first S seconds.", name="start_s", type=Number(min=0), default=0.0)
@option("--seconds N", "Analyze only N seconds.", type=POSITIVE)
@max_minutes(10.0, "Analyze at most this much of a long track.")
def show(
    file: str,
    *,
    picture: str | None,
    recipe: str,
    form: str,
    start_s: float,
    seconds: float | None,
    max_seconds: float,
) -> None:
    """Draw the features of the track FILE over time, and list its 518 columns.

    The table goes to standard output. Exit status: 0 all well, 1 FILE cannot be decoded or the
    picture cannot be written, 2 wrong usage.
    """
    need("features")
    target = _picture_path(file, picture)
    from deepmusic.features.plot import analyze, draw_analysis, read_excerpt

    excerpt = read_excerpt(file, start_s=start_s, seconds=seconds, max_s=max_seconds)
    analysis = analyze(excerpt, RECIPES[recipe])
    notes = _track_notes(analysis)
    title = os.path.basename(os.path.abspath(file))
    draw_analysis(analysis, target, title=title, note="; ".join(notes))
    if form == "json":
        click.echo(json.dumps(_track_record(file, analysis), indent=1))
    elif form == "csv":
        click.echo(csv_text([("name", "value"), *_track_values(analysis)]), nl=False)
    else:
        for line in (printable(file), "; ".join(notes), *_track_lines(analysis)):
            click.echo(line)
    if excerpt.is_cut:
        click.echo(f"Only {notes[0]} is analyzed; --max-minutes M takes more.", err=True)
    if excerpt.warning is not None:
        report(f"{file}: {excerpt.warning}")
    report(f"The picture is {os.fspath(target)!r}.")


def _picture_path(file: str, picture: str | None) -> Path:
    """Where to draw: a PNG file that is not the track itself."""
    if picture is None:
        stem = os.fsdecode(os.fsencode(Path(file).stem)[:200])  # file systems allow 255 bytes
        return Path(f"{stem}-features.png")
    path = Path(picture)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise click.UsageError("-o: the picture is a PNG file; name PICTURE.png.")
    output_file(None, None, picture, "-o")
    if path.exists() and os.path.exists(file) and path.samefile(file):
        raise click.UsageError("-o: that is FILE itself; name another file for the picture.")
    return path


def _track_notes(analysis: TrackAnalysis) -> list[str]:
    """What is analyzed and how, for the line under the title."""
    excerpt = analysis.excerpt
    which = "the first " if excerpt.is_cut and not excerpt.start_s else ""
    start = f" from {excerpt.start_s:g} s on" if excerpt.start_s else ""
    notes = [f"{which}{excerpt.duration_s:.4g} s{start}", f"{excerpt.sample_rate:,} Hz"]
    if analysis.tempo_bpm is not None:
        notes.append(f"about {analysis.tempo_bpm:.0f} beats per minute")
    if not excerpt.samples.any():
        notes.append("silence")
    return [*notes, f"recipe {analysis.recipe.name}, version {analysis.recipe.version}"]


def _track_lines(analysis: TrackAnalysis) -> Iterator[str]:
    """The table for people: a block per feature, with a row per column and its statistics."""
    from deepmusic.features.plot import PITCH_NAMES

    if analysis.frequency_scale != 1:
        yield (
            "This recipe assumes a sample rate of 22,050 Hz: true frequencies are "
            f"{1 / analysis.frequency_scale:.3g} times those listed."
        )
    values = dict(zip(COLUMNS, analysis.columns.tolist(), strict=True))
    for feature, size in FEATURE_SIZES.items():
        heading = f"{feature} ({_UNITS[feature]})"
        yield f"\n{heading:<26}{''.join(f'{name:>11}' for name in STATISTICS)}"
        labels = _TONNETZ if feature == "tonnetz" else ("",) * size
        for index, label in enumerate(PITCH_NAMES if feature.startswith("chroma") else labels):
            number = f"{index + 1:02d}"
            cells = [values[feature, name, number] for name in STATISTICS]
            texts = ["-" if math.isnan(value) else f"{value:.4g}" for value in cells]
            yield f"{f'  {number} {label}':<26}{''.join(f'{text:>11}' for text in texts)}"


def _track_record(file: str, analysis: TrackAnalysis) -> dict[str, object]:
    """The analysis as JSON types."""
    return {
        "path": file,
        "recipe": analysis.recipe.name,
        "version": analysis.recipe.version,
        "from_s": analysis.excerpt.start_s,
        "duration_s": analysis.excerpt.duration_s,
        "sample_rate": analysis.excerpt.sample_rate,
        "tempo_bpm": analysis.tempo_bpm,
        "warning": analysis.excerpt.warning,
        "values": {name: float(v) if v else None for name, v in _track_values(analysis)},
    }


def _track_values(analysis: TrackAnalysis) -> Iterator[tuple[str, str]]:
    """Names and values, with all digits of a float32; empty where there is no value."""
    for column, value in zip(COLUMNS, analysis.columns, strict=True):
        yield "/".join(column), "" if math.isnan(value) else str(value)


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
    need("features")
    from deepmusic.features import read_features
    from deepmusic.features.compare import compare

    table_a, table_b = read_features(a), read_features(b)
    comparison = compare(table_a, table_b, tolerance=tolerance)
    summary = _comparison_summary(comparison, {"A": (a, table_a), "B": (b, table_b)})
    click.echo(summary, err=form != "text")
    if form == "text":
        rows = _column_rows(comparison) if every else _feature_rows(comparison)
        click.echo("\n".join(["", *table_lines(rows)]))
    else:
        records = [_column_record(column) for column in comparison.columns]
        if form == "json":
            click.echo(json.dumps(records, indent=1))
        else:
            click.echo(csv_text([records[0], *(record.values() for record in records)]), nl=False)
    ctx.exit(0 if comparison.agrees else 1)


def _comparison_summary(comparison: Comparison, tables: dict[str, tuple[str, FeatureTable]]) -> str:
    """One paragraph: the tables, the tracks, how many columns agree, and what was expected."""
    sentences = []
    for letter, (path, table) in tables.items():
        recipe = f"recipe {table.recipe} {table.version}" if table.recipe else "no recipe named"
        sentences.append(f"{letter} is {path!r}: {counted(len(table), 'track')}, {recipe}.")
    matching = comparison.matching
    only = [
        f", {len(paths):,} only in {letter} (such as {paths[0]!r})"
        for letter, paths in (("A", matching.only_a), ("B", matching.only_b))
        if paths
    ]
    sentences.append(
        f"{counted(len(matching), 'track')} in both, matched by {matching.by}{''.join(only)}."
    )
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


def _column_record(column: ColumnDifference) -> dict[str, Any]:
    """One column as JSON types, with None in place of NaN."""
    record = {**asdict(column), "agrees": column.agrees}
    return {name: None if value != value else value for name, value in record.items()}
