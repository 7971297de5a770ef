"""``deepmusic data download``: public data sets, downloaded and checked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.output import printable
from deepmusic.cli.progress import EVERY_S
from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from deepmusic.datasets.registry import DatasetInfo


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--to", "root", metavar="DIR", required=True, help="The data folder; made if needed.")
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    help="Use this file, folder or address instead; the address of a folder ends in /.",
)
@click.option("--no-unpack", is_flag=True, help="Leave audio archives packed.")
@click.option("--keep", is_flag=True, help="Keep a downloaded archive once it is unpacked.")
@click.pass_context
def download(
    ctx: click.Context,
    names: tuple[str, ...],
    root: str,
    source: str | None,
    no_unpack: bool,
    keep: bool,
) -> None:
    """Download data sets by NAME into DIR, where the other commands look for them.

    Interrupted downloads resume; what is already there and correct is not downloaded again.
    Archives of audio are unpacked and then deleted if they were downloaded for it. `deepmusic data
    list` shows names and sizes. Exit status: 0 all are there, 1 some failed, 2 wrong usage.
    """
    from deepmusic.datasets.fetch import fetch_dataset

    datasets = _find_datasets(names)
    if source is not None and not _is_folder(source) and len(datasets) > 1:
        raise click.UsageError(
            "--from names one file for several data sets; give a folder, an address that ends in "
            "/, or one NAME."
        )
    failures = 0
    for info in datasets:
        try:
            with show_bytes(info.name) as on_progress:
                is_new = fetch_dataset(
                    info,
                    root,
                    source=source,
                    unpack=not no_unpack,
                    keep_archive=keep,
                    on_progress=on_progress,
                )
        except DeepMusicError as error:
            failures += 1
            click.echo(printable(f"{info.name}: {error}"), err=True)
            continue
        except KeyboardInterrupt:
            click.echo("Stopped; run the same command again to resume.", err=True)
            ctx.exit(130)
        if is_new:
            click.echo(f"{info.name}: licence: {info.licence}", err=True)
        is_unpacked = info.layout == "archive" and not no_unpack
        report_file(Path(root) / (info.folder if is_unpacked else info.path), is_new)
    ctx.exit(1 if failures else 0)


def report_file(path: Path, is_new: bool) -> None:
    """Print whether a file or folder was downloaded or already existed."""
    click.echo(f"{'downloaded' if is_new else 'exists':<10}  {printable(str(path))}")


def check_source(source: str) -> None:
    """Refuse an address that is never downloaded from as wrong usage."""
    from deepmusic.datasets.download import is_url

    try:
        is_url(source)
    except DeepMusicError as error:
        raise click.UsageError(str(error)) from error


def _is_folder(source: str) -> bool:
    check_source(source)
    return source.endswith("/") or Path(source).is_dir()


def _find_datasets(names: tuple[str, ...]) -> list[DatasetInfo]:
    """The data sets of these names, each once; FMA's may be spelled like its archives."""
    from deepmusic.datasets.registry import REGISTRY

    datasets = {}
    for name in names:
        spelled = name.lower().replace("_", "-").removesuffix(".zip")
        if spelled not in REGISTRY:
            raise click.UsageError(
                f"There is no data set called {name!r}; choose from {', '.join(REGISTRY)}."
            )
        datasets[spelled] = REGISTRY[spelled]
    return list(datasets.values())


@contextmanager
def show_bytes(name: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a callback for stage, bytes done and total that shows them on standard error."""
    if not sys.stderr.isatty():
        yield _line_writer(name)
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    text, bar, *_ = Progress.get_default_columns()
    progress = Progress(
        text,
        bar,
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False),
        transient=True,
    )
    stages: dict[str, object] = {}

    def update(stage: str, done: int, total: int | None) -> None:
        if stage not in stages:
            stages[stage] = progress.add_task(f"{name}: {stage}", total=total)
        progress.update(stages[stage], completed=done, total=total)  # type: ignore[arg-type]

    with progress:
        yield update


def _line_writer(name: str) -> Callable[[str, int, int | None], None]:
    """A callback that writes a line every ten seconds."""
    from rich.filesize import decimal as format_bytes

    previous = time.monotonic()

    def update(stage: str, done: int, total: int | None) -> None:
        nonlocal previous
        if time.monotonic() - previous >= EVERY_S:
            previous = time.monotonic()
            of_total = "" if total is None else f" of {format_bytes(total)}"
            click.echo(f"{name}: {stage}, {format_bytes(done)}{of_total}", err=True)

    return update
