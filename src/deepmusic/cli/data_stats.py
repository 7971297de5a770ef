"""``deepmusic data stats``: what a data set is made of."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import click

from deepmusic.cli.data_options import (
    dataset_options,
    file_progress,
    has_failures,
    load_with_progress,
    report_problems,
)
from deepmusic.cli.output import printable
from deepmusic.errors import DataError

if TYPE_CHECKING:
    from deepmusic.datasets.load import LoadedDataset
    from deepmusic.datasets.stats import DatasetStatistics, DurationSummary

_COLUMNS = (
    "genre", "tracks", "share", "artists", "albums", "unknown_artists", "largest_artist",
    "total_s", "median_s", "shortest_s", "longest_s",
)  # fmt: skip
_SOURCES = {
    "header": "by the files' headers; --decode measures",
    "decoded": "as decoded",
    "tables": "of the whole tracks, by FMA's tables",
}


@click.command(no_args_is_help=True)
@dataset_options
@click.option(
    "--decode",
    is_flag=True,
    help="Decode every file for its true length instead of trusting its header.",
)
@click.option(
    "--cache",
    metavar="FILE",
    help="Of --decode: keeps lengths, to go on after a stop and for the next time.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that read.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="For people or for programs.",
)
@click.option("--pictures", metavar="DIR", help="Draw it, too; DIR is made if need be.")
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
    form: Literal["text", "json", "csv"],
    pictures: str | None,
) -> None:
    """Say what the data set in DATA is made of: genres, artists, albums, lengths.

    DATA is a folder DIR/GENRE/*, with or without tracks.csv, a CSV, GTZAN or FMA. FMA is counted
    from its tables, so that its sound need not be there; its genres are shown as a tree. Exit
    status: 0 all well, 1 some files could not be used, 2 wrong usage.
    """
    if cache is not None and not decode:
        raise click.UsageError("--cache keeps the lengths that --decode measures; give both.")
    if _is_fma(data, kind):
        if decode or audio is not None or table is not None:
            raise click.UsageError(
                "FMA is counted from its tables; leave --decode, --audio and --table out."
            )
        found, failures = _of_tables(data, subset), 0
    else:
        loaded = load_with_progress(data, kind, table, subset, audio)
        report_problems(loaded.dataset)
        found, failures = _of_files(loaded, decode=decode, cache=cache, workers=workers)
        failures += has_failures(loaded)
    for text in {"text": _text, "json": _json, "csv": _csv}[form](found):
        click.echo(text, nl=False)
    if pictures is not None:
        from deepmusic.datasets.stats_plot import plot_statistics

        for path in plot_statistics(found, pictures):
            click.echo(printable(f"drawn: {path}"), err=True)
    ctx.exit(1 if failures else 0)


def _is_fma(data: str, kind: str | None) -> bool:
    from deepmusic.datasets.load import detect_kind

    return kind == "fma" or (kind is None and detect_kind(data) == "fma")


def _of_tables(data: str, subset: str) -> DatasetStatistics:
    """FMA by its tables alone."""
    from deepmusic.datasets.fma import read_fma
    from deepmusic.datasets.stats import fma_statistics

    fma = read_fma(data)
    found = fma_statistics(fma.subset(subset), fma.tree, name=f"FMA {subset}")
    for note in fma.notes:
        click.echo(printable(note), err=True)
    click.echo(printable(f"{data} is taken for FMA; its subset {subset} is counted."), err=True)
    return found


def _of_files(
    loaded: LoadedDataset, *, decode: bool, cache: str | None, workers: int
) -> tuple[DatasetStatistics, int]:
    """What files are made of, and how many have no length."""
    from deepmusic.datasets.stats import dataset_statistics, measure_durations

    dataset = loaded.dataset
    with file_progress() as on_progress:
        measured = measure_durations(
            dataset, decode=decode, workers=workers, cache=cache, on_progress=on_progress
        )
    failed = [duration for duration in measured if duration.seconds is None]
    for duration in failed:
        click.echo(printable(f"{duration.path}: {duration.error}"), err=True)
    try:
        split = loaded.official_split()
    except DataError:  # there is none, or a part of it is not here
        split = None
    found = dataset_statistics(
        dataset,
        name="GTZAN" if loaded.kind == "gtzan" else None,
        durations={d.path: d.seconds for d in measured if d.seconds is not None},
        duration_source="decoded" if decode else "header",
        split=split,
    )
    return found, len(failed)


def _text(found: DatasetStatistics) -> Iterator[str]:
    yield f"{printable(found.name)}: {_counted(found)}\n\n"
    width = max([len("genre"), *(len(printable(genre.genre)) for genre in found.genres)])
    width = min(width, 32)
    has_lengths = bool(found.durations_s)
    yield f"{'genre':<{width}}   tracks   share  artists  albums  largest artist"
    yield "    hours   median  shortest   longest\n" if has_lengths else "\n"
    total = sum(genre.tracks for genre in found.genres)
    for genre in found.genres:
        name = printable(genre.genre)
        cells = (
            f"{genre.tracks:,}".rjust(7),
            f"{genre.tracks / total:.1%}".rjust(6),
            f"{genre.artists:,}".rjust(7) if genre.artists else "-".rjust(7),
            f"{genre.albums:,}".rjust(6) if genre.albums else "-".rjust(6),
            f"{genre.largest_artist:,}".rjust(14) if genre.artists else "-".rjust(14),
        )
        yield "  ".join((f"{name:<{width}}", *cells))
        yield f"  {_lengths(genre.durations)}\n" if has_lengths else "\n"
    yield "\n"
    if found.durations is not None:
        lengths = found.durations
        yield (
            f"Lengths of {lengths.tracks:,} tracks, {_SOURCES[found.duration_source]}: "
            f"{lengths.total_s / 3600:,.1f} hours, mean {lengths.mean_s:.1f} s, median "
            f"{lengths.median_s:.1f} s, {lengths.shortest_s:.1f} to {lengths.longest_s:,.1f} s.\n"
        )
    if found.tracks_per_artist:
        counts = found.tracks_per_artist
        yield (
            f"An artist has {sum(counts) / len(counts):.1f} tracks on average, and at most "
            f"{counts[0]:,}.\n"
        )
    if found.genres:
        where = "the official test tracks" if found.majority_part == "test" else "all"
        yield (
            f"Always saying {printable(found.majority_genre)!r} is right for "
            f"{found.majority_accuracy:.1%} of {where}.\n"
        )
    if found.tree:
        yield "\ntracks  genre, with those of the genres below it\n"
        for node in found.tree:
            yield f"{node.tracks:>6,}  {'  ' * (node.depth - 1)}{printable(node.title)}\n"


def _counted(found: DatasetStatistics) -> str:
    said = [f"{found.tracks:,} tracks", f"{len(found.genres)} genres"]
    said.append(f"{found.artists:,} artists" if found.artists else "no artist known")
    if found.albums:
        said.append(f"{found.albums:,} albums")
    if found.without_genre:
        said.append(f"{found.without_genre:,} tracks without a single genre")
    if found.unknown_artists and found.artists:
        said.append(f"{found.unknown_artists:,} tracks of unknown artists")
    if found.copies:
        said.append(f"{found.copies:,} exact copies")
    return ", ".join(said)


def _lengths(found: DurationSummary | None) -> str:
    if found is None:
        return f"{'-':>7}  {'-':>7}  {'-':>8}  {'-':>8}"
    return (
        f"{found.total_s / 3600:>7,.1f}  {found.median_s:>7.1f}  {found.shortest_s:>8.1f}  "
        f"{found.longest_s:>8,.1f}"
    )


def _json(found: DatasetStatistics) -> Iterator[str]:
    yield json.dumps(found.to_dict(), indent=1) + "\n"


def _csv(found: DatasetStatistics) -> Iterator[str]:
    """One row a genre."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\r\n")
    rows.writerow(_COLUMNS)
    total = sum(genre.tracks for genre in found.genres)
    for genre in found.genres:
        known = genre.durations
        lengths: tuple[float | str, ...] = ("", "", "", "")
        if known is not None:
            lengths = (known.total_s, known.median_s, known.shortest_s, known.longest_s)
        rows.writerow(
            (
                printable(genre.genre),
                genre.tracks,
                genre.tracks / total,
                genre.artists,
                genre.albums,
                genre.unknown_artists,
                genre.largest_artist,
                *lengths,
            )
        )
    yield buffer.getvalue()
