"""``deepmusic data stats``: the genres, artists, albums and durations of a data set."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.data_options import (
    dataset_options,
    file_progress,
    has_failures,
    load_with_progress,
    report_problems,
)
from deepmusic.cli.options import WORKERS, format_option
from deepmusic.cli.output import printable
from deepmusic.errors import DataError

if TYPE_CHECKING:
    from deepmusic.datasets.load import LoadedDataset
    from deepmusic.datasets.stats import DatasetStatistics

_COLUMNS = (
    "genre", "tracks", "share", "artists", "albums", "unknown_artists", "largest_artist",
    "total_s", "median_s", "shortest_s", "longest_s",
)  # fmt: skip


@click.command(no_args_is_help=True)
@dataset_options
@click.option("--decode", is_flag=True, help="Decode every file instead of trusting its header.")
@click.option(
    "--cache", metavar="FILE", help="With --decode: store of scans, as of 'data check', to resume."
)
@WORKERS
@format_option("text", "json", "csv")
@click.option("--pictures", metavar="DIR", help="Also plot the statistics into this folder.")
@click.pass_context
def stats(
    ctx: click.Context,
    *,
    data: str,
    kind: str | None,
    table: str | None,
    subset: str,
    audio: str | None,
    decode: bool,
    cache: str | None,
    workers: int,
    form: str,
    pictures: str | None,
) -> None:
    """Print the genres, artists, albums and durations of the data set in DATA.

    DATA is a folder DIR/GENRE/*, with or without tracks.csv, a CSV, GTZAN or FMA. FMA is counted
    from its tables, without its audio; its genres are printed as a tree. Exit status: 0 all well, 1
    some files could not be used, 2 wrong usage.
    """
    from deepmusic.datasets.table import find_fma

    if cache is not None and not decode:
        raise click.UsageError("--cache belongs to --decode; give both.")
    tables = find_fma(data) if kind in (None, "fma") else None
    if kind == "fma" or tables is not None:
        if decode or audio is not None or table is not None:
            raise click.UsageError(
                "FMA is counted from its tables; omit --decode, --audio and --table."
            )
        statistics, failures = _from_tables(data, tables, subset), 0
    else:
        loaded = load_with_progress(data, kind, table, subset, audio)
        report_problems(loaded.dataset)
        statistics, failures = _from_files(loaded, decode=decode, cache=cache, workers=workers)
        failures += has_failures(loaded)
    if form == "json":
        click.echo(json.dumps(statistics.to_dict(), indent=1))
    else:
        lines = _text(statistics) if form == "text" else _csv(statistics)
        click.echo("".join(lines), nl=False)
    if pictures is not None:
        from deepmusic.datasets.stats_plot import plot_statistics

        for path in plot_statistics(statistics, pictures):
            click.echo(printable(f"plotted: {path}"), err=True)
    ctx.exit(1 if failures else 0)


def _from_tables(data: str, tables: Path | None, subset: str) -> DatasetStatistics:
    """The statistics of FMA from its tables alone."""
    from deepmusic.datasets.fma import Fma, read_fma
    from deepmusic.datasets.stats import fma_statistics

    fma = read_fma(data) if tables is None else Fma(tables)
    for note in fma.notes:
        click.echo(printable(note), err=True)
    click.echo(printable(f"{data} is read as FMA, subset {subset}."), err=True)
    return fma_statistics(fma.subset(subset), fma.tree, name=f"FMA {subset}")


def _from_files(
    loaded: LoadedDataset, *, decode: bool, cache: str | None, workers: int
) -> tuple[DatasetStatistics, int]:
    """The statistics of files, and how many have no duration."""
    from deepmusic.datasets.stats import dataset_statistics, measure_durations

    dataset = loaded.dataset
    with file_progress() as on_progress:
        scans = measure_durations(
            dataset, decode=decode, workers=workers, cache=cache, on_progress=on_progress
        )
    failed = [scan for scan in scans if scan.code]
    for scan in failed:
        click.echo(printable(f"{scan.path}: {scan.error}"), err=True)
    try:
        split = loaded.official_split()
    except DataError:  # there is none, or a part of it is missing
        split = None
    statistics = dataset_statistics(
        dataset,
        name="GTZAN" if loaded.kind == "gtzan" else None,
        durations={scan.path: scan.duration_s for scan in scans if not scan.code},
        duration_source="decoded" if decode else "header",
        split=split,
    )
    return statistics, len(failed)


def _text(statistics: DatasetStatistics) -> Iterator[str]:
    from deepmusic.datasets.stats_plot import SOURCES

    yield f"{printable(statistics.name)}: {_totals(statistics)}\n\n"
    names = [printable(genre.genre) for genre in statistics.genres]
    width = min(max([len("genre"), *map(len, names)]), 32)
    yield f"{'genre':<{width}}   tracks   share  artists  albums  largest artist"
    yield "    hours   median  shortest   longest\n" if statistics.durations else "\n"
    total = sum(genre.tracks for genre in statistics.genres)
    for name, genre in zip(names, statistics.genres, strict=True):
        yield f"{name:<{width}}  {genre.tracks:>7,}  {genre.tracks / total:>6.1%}"
        for count, columns in ((genre.artists, 7), (genre.albums, 6), (genre.largest_artist, 14)):
            yield f"  {f'{count:,}' if count else '-':>{columns}}"
        d = genre.durations
        if d is not None:
            yield f"  {d.total_s / 3600:>7,.1f}  {d.median_s:>7.1f}  {d.shortest_s:>8.1f}"
            yield f"  {d.longest_s:>8,.1f}"
        yield "\n"
    yield "\n"
    d = statistics.durations
    if d is not None:
        yield (
            f"Durations of {d.tracks:,} tracks, {SOURCES[statistics.duration_source]}: "
            f"{d.total_s / 3600:,.1f} hours, mean {d.mean_s:.1f} s, median {d.median_s:.1f} s, "
            f"{d.shortest_s:.1f} to {d.longest_s:,.1f} s.\n"
        )
    if statistics.tracks_per_artist:
        counts = statistics.tracks_per_artist
        mean = sum(counts) / len(counts)
        yield f"An artist has {mean:.1f} tracks on average, and at most {counts[0]:,}.\n"
    if statistics.genres:
        where = "the official test tracks" if statistics.majority_part == "test" else "all tracks"
        yield (
            f"Always predicting {printable(statistics.majority_genre)!r} is right for "
            f"{statistics.majority_accuracy:.1%} of {where}.\n"
        )
    if statistics.tree:
        yield "\ntracks  genre, with those of the genres below it\n"
        for node in statistics.tree:
            yield f"{node.tracks:>6,}  {'  ' * (node.depth - 1)}{printable(node.title)}\n"


def _totals(statistics: DatasetStatistics) -> str:
    counts = {
        "tracks": statistics.tracks,
        "genres": len(statistics.genres),
        "artists": statistics.artists,
        "albums": statistics.albums,
        "tracks without a single genre": statistics.without_genre,
        "tracks of unknown artists": statistics.unknown_artists if statistics.artists else 0,
        "exact copies": statistics.copies,
    }
    parts = [f"{count:,} {name}" for name, count in counts.items() if count]
    return ", ".join(parts if statistics.artists else [*parts, "no known artists"])


def _csv(statistics: DatasetStatistics) -> Iterator[str]:
    """One row per genre."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, _COLUMNS, extrasaction="ignore")
    table.writeheader()
    total = sum(genre.tracks for genre in statistics.genres)
    for genre in statistics.genres:
        durations = asdict(genre.durations) if genre.durations else {}
        row = {**durations, **asdict(genre), "share": genre.tracks / total}
        table.writerow({**row, "genre": printable(genre.genre)})
    yield buffer.getvalue()
