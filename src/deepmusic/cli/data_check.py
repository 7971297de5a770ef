"""``deepmusic data check``: what files really hold, which are copies, what a split leaks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import WORKERS_OR_DASK, max_minutes, option, output_file
from deepmusic.cli.output import codings, named_line, printable, report, report_problems
from deepmusic.cli.progress import display
from deepmusic.errors import counted

if TYPE_CHECKING:
    from deepmusic.datasets.check import CheckReport
    from deepmusic.datasets.folder import FolderDataset


@click.command(no_args_is_help=True)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@option("-o, --output FILE", "Write a report, too: .json, .csv or .parquet.", callback=output_file)
@option("--all", "List every file, also those without faults.", name="show_all")
@option(
    "--dataset",
    "PATH is a data set DIR/GENRE/*: also look for one sound under two genres.  Implied by "
    "--splits, --table and a tracks.csv in DIR.",
    name="is_dataset",
)
@option("--table CSV", "Genres and artists, instead of DIR/tracks.csv.")
@option(
    "--splits JSON",
    "Of 'data split': also look for artists, albums and sounds in two parts of a fold.",
)
@option("--checksums FILE", "Lines CHECKSUM  PATH to compare, such as FMA's checksums.")
@option(
    "--cache FILE",
    "Store of scans: run again, only new and changed files are decoded.  "
    "[default: with -o, FILE.db]",
    callback=output_file,
)
@WORKERS_OR_DASK
@max_minutes(360.0, "Decode at most this much of a file.")
@click.pass_context
def check(
    ctx: click.Context,
    /,
    *,
    paths: tuple[str, ...],
    output: str | None,
    show_all: bool,
    is_dataset: bool,
    table: str | None,
    splits: str | None,
    cache: str | None,
    **options: Any,
) -> None:
    """Decode each PATH (sound files, videos, folders, playlists) and report what is wrong.

    Duration, sample rate, channels, silence, clipping, damage, and copies: of the bytes, and of the
    sound in other bytes. Prints a line per finding and a summary. Exit status: 0 no faults, 1
    faults, 2 wrong usage.
    """
    from deepmusic.audio import find_audio
    from deepmusic.datasets.check import check_files, report_extension
    from deepmusic.datasets.folder import scan_folder
    from deepmusic.datasets.table import TABLE_NAME

    if output is not None:
        report_extension(output)
        cache = cache or f"{output}.db"
    dataset: FolderDataset | None = None
    has_table = len(paths) == 1 and (Path(paths[0]) / TABLE_NAME).is_file()
    if is_dataset or splits or table or has_table:
        if len(paths) != 1:
            raise click.UsageError("A data set is one PATH, a folder DIR/GENRE/*.")
        dataset = scan_folder(paths[0], table=table)
    entries = [] if dataset is not None else list(find_audio(paths, on_note=report))
    total = sum(isinstance(entry, str) for entry in entries)
    with display(total if dataset is None else len(dataset.tracks)) as screen:
        checked = check_files(
            entries,
            dataset=dataset,
            splits=splits,
            cache=cache,
            on_scan=lambda _: screen.advance(),
            **options,
        )
    report_problems((), checked.notes)
    _print(checked, show_all)
    if output is not None:
        checked.write(output)
        click.echo(f"{output}: {counted(len(checked.files), 'file')}.", err=True)
    ctx.exit(1 if checked.has_faults else 0)


def _print(report: CheckReport, show_all: bool) -> None:
    """Print a line per finding, and a summary."""
    codes = [finding.code for file in report.files for finding in file.findings]
    width = max(map(len, codes), default=2)
    for file in report.files:
        scan = file.scan
        if show_all:
            channels = {1: "mono", 2: "stereo"}.get(scan.channels, f"{scan.channels} channels")
            coding = " ".join(dict.fromkeys([scan.container, scan.codec]))
            facts = f"{scan.duration_s:.2f} s, {scan.sample_rate:,} Hz, {channels}, {coding}"
            facts = facts if scan.duration_s else "no sound"
            click.echo(f"{file.status:<{width}}  {printable(file.path)}  {facts}")
        for finding in file.findings:
            line = named_line(file.path, finding.message)
            click.echo(f"{finding.code:<{width}}  {line}")
    for line in codings(report.coding) if report.coding else ():
        click.echo(printable(line))
    summary = report.summary()
    duration = timedelta(seconds=round(summary["duration_s"]))
    click.echo(
        f"{counted(summary['files'], 'file')}, {duration} of sound: {summary['ok']} ok, "
        f"{summary['note']} with notes, {summary['fault']} with faults."
    )
    for code, number in summary["codes"].items():
        click.echo(f"{number:>8}  {code}")
