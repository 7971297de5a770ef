"""``deepmusic data stats``: the genres, artists, albums and durations of a data set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.data_options import dataset_options, has_failures, load_with_progress
from deepmusic.cli.options import WORKERS, format_option, option, output_file, output_folder
from deepmusic.cli.output import codings, csv_text, printable, report, report_problems, table_lines
from deepmusic.cli.progress import display
from deepmusic.errors import DataError, counted
from deepmusic.extras import need

if TYPE_CHECKING:
    from deepmusic.datasets.load import LoadedDataset
    from deepmusic.datasets.stats import DatasetStatistics

_COLUMNS = (
    *("genre", "tracks", "share", "artists", "albums", "unknown_artists", "largest_artist"),
    *("total_s", "median_s", "shortest_s", "longest_s"),
)


@click.command(no_args_is_help=True)
@click.argument("data", metavar="DATA")
@dataset_options
@option("--decode", "Decode every file instead of trusting its header.")
@option(
    "--cache FILE",
    "With --decode: store of scans, as of 'data check', to resume.",
    callback=output_file,
)
@WORKERS
@format_option("text", "json", "csv")
@option("--pictures DIR", "Also plot the statistics into this folder.", callback=output_folder)
@click.pass_context
def stats(
    ctx: click.Context,
    /,
    *,
    data: str,
    decode: bool,
    cache: str | None,
    workers: int,
    form: str,
    pictures: str | None,
    **options: Any,
) -> None:
    """Print the genres, artists, albums and durations of the data set in DATA.

    DATA is a folder DIR/GENRE/*, with or without tracks.csv, a CSV, GTZAN or FMA. FMA is counted
    from its tables, without its audio; its genres are printed as a tree. Exit status: 0 all well, 1
    some files could not be used, 2 wrong usage.
    """
    need("data")
    from deepmusic.datasets.table import find_fma

    if cache is not None and not decode:
        raise click.UsageError("--cache belongs to --decode; give both.")
    tables = find_fma(data) if options["kind"] in (None, "fma") else None
    if options["kind"] == "fma" or tables is not None:
        if decode or options["audio"] is not None or options["table"] is not None:
            raise click.UsageError(
                "FMA is counted from its tables; omit --decode, --audio and --table."
            )
        statistics, failures = _from_tables(data, tables, options["subset"]), 0
    else:
        loaded = load_with_progress(data, options)
        report_problems(loaded.dataset.problems, loaded.dataset.notes)
        statistics, failures = _from_files(loaded, decode=decode, cache=cache, workers=workers)
        failures += has_failures(loaded)
    if form == "json":
        click.echo(json.dumps(statistics.to_dict(), indent=1))
    elif form == "csv":
        click.echo(csv_text([_COLUMNS, *_csv_rows(statistics)]), nl=False)
    else:
        for line in _text(statistics):
            click.echo(printable(line))
    if pictures is not None:
        from deepmusic.datasets.stats_plot import plot_statistics

        for path in plot_statistics(statistics, pictures):
            report(f"plotted: {path}")
    ctx.exit(1 if failures else 0)


def _from_tables(data: str, tables: Path | None, subset: str) -> DatasetStatistics:
    """The statistics of FMA from its tables alone."""
    from deepmusic.datasets.fma import Fma, read_fma
    from deepmusic.datasets.stats import fma_statistics

    fma = read_fma(data) if tables is None else Fma(tables)
    report_problems((), fma.notes)
    report(f"{data} is read as FMA, subset {subset}.")
    return fma_statistics(fma.subset(subset), fma.tree, name=f"FMA {subset}")


def _from_files(
    loaded: LoadedDataset, *, decode: bool, cache: str | None, workers: int
) -> tuple[DatasetStatistics, int]:
    """The statistics of files, and how many have no duration."""
    from deepmusic.datasets.coding import coding_report
    from deepmusic.datasets.stats import dataset_statistics, measure_durations

    with display() as screen:
        scans = measure_durations(
            loaded.dataset, decode=decode, workers=workers, cache=cache, on_progress=screen.advance
        )
    failed = [scan for scan in scans if scan.code]
    for scan in failed:
        report(f"{scan.path}: {scan.error}")
    try:
        split = loaded.official_split()
    except DataError:  # there is none, or a part of it is missing
        split = None
    statistics = dataset_statistics(
        loaded.dataset,
        name="GTZAN" if loaded.kind == "gtzan" else None,
        durations={scan.path: scan.duration_s for scan in scans if not scan.code},
        duration_source="decoded" if decode else "header",
        split=split,
    )
    return replace(statistics, coding=coding_report(loaded.dataset.tracks, scans)), len(failed)


def _text(statistics: DatasetStatistics) -> Iterator[str]:
    from deepmusic.datasets.stats_plot import SOURCES

    yield f"{statistics.name}: {_totals(statistics)}"
    yield ""
    yield from table_lines(_text_rows(statistics))
    yield ""
    d = statistics.durations
    if d is not None:
        yield (
            f"Durations of {counted(d.tracks, 'track')}, {SOURCES[statistics.duration_source]}: "
            f"{d.total_s / 3600:,.1f} hours, mean {d.mean_s:.1f} s, median {d.median_s:.1f} s, "
            f"{d.shortest_s:.1f} to {d.longest_s:,.1f} s."
        )
    counts = statistics.tracks_per_artist
    if counts:
        mean = sum(counts) / len(counts)
        yield f"An artist has {mean:.1f} tracks on average, and at most {counts[0]:,}."
    if statistics.genres:
        part = "the official test tracks" if statistics.majority_part == "test" else "all tracks"
        yield (
            f"Always predicting {statistics.majority_genre!r} is right for "
            f"{statistics.majority_accuracy:.1%} of {part}."
        )
    if statistics.coding is not None:
        yield ""
        yield from codings(statistics.coding)
    if statistics.tree:
        yield ""
        yield "tracks  genre, with those of the genres below it"
        for node in statistics.tree:
            yield f"{node.tracks:>6,}  {'  ' * (node.depth - 1)}{node.title}"


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


def _text_rows(statistics: DatasetStatistics) -> Iterator[tuple[str, ...]]:
    heading = ("genre", "tracks", "share", "artists", "albums", "largest artist")
    has_durations = statistics.durations is not None
    yield (*heading, "hours", "median s", "shortest s", "longest s") if has_durations else heading
    total = sum(genre.tracks for genre in statistics.genres)
    for genre in statistics.genres:
        counts = (genre.artists, genre.albums, genre.largest_artist)
        row = (f"{genre.tracks:,}", f"{genre.tracks / total:.1%}", *(f"{n or '-'}" for n in counts))
        times: tuple[str, ...] = ("",) * 4 if has_durations else ()
        d = genre.durations
        if d is not None:
            seconds = (d.median_s, d.shortest_s, d.longest_s)
            times = (f"{d.total_s / 3600:,.1f}", *(f"{value:,.1f}" for value in seconds))
        yield (genre.genre, *row, *times)


def _csv_rows(statistics: DatasetStatistics) -> Iterator[list[object]]:
    """One row per genre."""
    total = sum(genre.tracks for genre in statistics.genres)
    for genre in statistics.genres:
        durations = asdict(genre.durations) if genre.durations else {}
        row = {**durations, **asdict(genre), "share": genre.tracks / total}
        row["genre"] = printable(genre.genre)
        yield [row.get(column) for column in _COLUMNS]
