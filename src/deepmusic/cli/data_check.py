"""``deepmusic data check``: what files really hold, which are copies, what a split leaks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.output import printable

if TYPE_CHECKING:
    from deepmusic.datasets import FolderDataset
    from deepmusic.datasets.check import CheckedFile, CheckReport


@click.command(no_args_is_help=True)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write a report as well: .json, .csv or .parquet, one row a file with its codes.",
)
@click.option("--all", "show_all", is_flag=True, help="List every file, also where all is well.")
@click.option(
    "--dataset",
    "is_dataset",
    is_flag=True,
    help="PATH is a data set DIR/GENRE/*: look for one sound under two genres, too.  Taken for "
    "granted with --splits and --table, and where DIR holds a tracks.csv.",
)
@click.option(
    "--table", metavar="CSV", help="Genres and artists of the data set, instead of tracks.csv."
)
@click.option(
    "--splits",
    metavar="JSON",
    help="Of 'data split': look for artists, albums and sounds in two parts of a fold, too.",
)
@click.option(
    "--checksums",
    metavar="FILE",
    help="Lines CHECKSUM  PATH that the files must agree with, such as FMA's checksums.",
)
@click.option(
    "--cache",
    metavar="FILE",
    help="Where what was heard is kept; with -o by default FILE.journal.  Run again after a stop, "
    "only new and changed files are heard.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many processes of this machine work.",
)
@click.option("--dask", metavar="ADDRESS", help="Work on the Dask cluster of this scheduler.")
@click.option(
    "--max-minutes",
    metavar="M",
    type=click.FloatRange(min=0, min_open=True),
    default=360.0,
    show_default=True,
    help="Hear no more than this of a file.",
)
@click.pass_context
def check(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    output: str | None,
    show_all: bool,
    is_dataset: bool,
    table: str | None,
    splits: str | None,
    checksums: str | None,
    cache: str | None,
    workers: int,
    dask: str | None,
    max_minutes: float,
) -> None:
    """Decode each PATH (sound files, videos, folders of them) and report what is wrong.

    Length, rate, channels, silence, clipping, damage, and copies: of the bytes, and of the sound in
    other bytes.  A line on standard output for each finding, a summary at the end.  Exit status: 0
    nothing is wrong beyond notes, 1 there are faults, 2 wrong usage.
    """
    if dask is not None and workers != 1:
        raise click.UsageError("--workers is for this machine, --dask for a cluster; choose one.")

    from deepmusic.audio import find_audio
    from deepmusic.cli.progress import display
    from deepmusic.datasets.check import check_files, report_ending, write_report
    from deepmusic.datasets.table import TABLE_NAME

    if output is not None:
        report_ending(output)
        cache = cache or f"{output}.journal"
    dataset: FolderDataset | None = None
    has_table = len(paths) == 1 and (Path(paths[0]) / TABLE_NAME).is_file()
    if is_dataset or splits or table or has_table:
        if len(paths) != 1:
            raise click.UsageError("A data set is one PATH, a folder DIR/GENRE/*.")
        from deepmusic.datasets import scan_folder

        dataset = scan_folder(paths[0], table=table)
    entries = [] if dataset is not None else list(find_audio(paths))
    count = len(entries) if dataset is None else len(dataset.tracks) + len(dataset.problems)
    with display(count) as shown:
        report = check_files(
            entries,
            dataset=dataset,
            splits=splits,
            checksums=checksums,
            cache=cache,
            workers=workers,
            dask=dask,
            max_seconds=60 * max_minutes,
            on_heard=lambda heard: shown.advance(),
        )
    for note in report.notes:
        click.echo(printable(note), err=True)
    _tell(report, show_all)
    if output is not None:
        write_report(output, report)
        click.echo(f"{output}: {len(report.files)} files.", err=True)
    ctx.exit(1 if report.has_faults else 0)


def _tell(report: CheckReport, show_all: bool) -> None:
    """Write the table for people."""
    lines = [
        (finding.code, finding.message, file) for file in report.files for finding in file.findings
    ]
    width = max((len(code) for code, _, _ in lines), default=2)
    for file in report.files:
        if show_all:
            click.echo(f"{file.status:<{width}}  {printable(file.path)}  {_facts(file)}")
        for finding in file.findings:
            names_it = finding.message.startswith(repr(file.path))
            where = "" if names_it else f"{file.path}: "
            click.echo(f"{finding.code:<{width}}  {printable(where + finding.message)}")
    summary = report.summary()
    length = timedelta(seconds=round(summary["duration_s"]))
    click.echo(
        f"{summary['files']} files, {length} of sound: {summary['ok']} well, "
        f"{summary['note']} with notes, {summary['fault']} with faults."
    )
    for code, number in summary["codes"].items():
        click.echo(f"{number:>8}  {code}")


def _facts(file: CheckedFile) -> str:
    heard = file.heard
    if not heard.duration_s:
        return "no sound"
    channels = {1: "mono", 2: "stereo"}.get(heard.channels, f"{heard.channels} channels")
    coding = heard.codec if heard.codec == heard.container else f"{heard.container} {heard.codec}"
    return f"{heard.duration_s:.2f} s, {heard.sample_rate:,} Hz, {channels}, {coding}"
