"""``deepmusic data download``: public data sets, fetched and checked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from deepmusic.cli.output import printable
from deepmusic.cli.progress import EVERY_S
from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from deepmusic.datasets import DataFile

__all__ = ["download"]


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--to", "root", metavar="DIR", required=True, help="The folder of data; made if need be."
)
@click.option(
    "--from",
    "source",
    metavar="PLACE",
    help="Take it from there instead: a file, a folder, or an address; one of a folder ends in /.",
)
@click.pass_context
def download(ctx: click.Context, names: tuple[str, ...], root: str, source: str | None) -> None:
    """Fetch data sets by NAME into DIR, where benchmark and train look for them.

    What was cut off goes on where it was; what is there and right is not fetched again. Exit
    status: 0 all are there, 1 some could not be had, 2 wrong usage.
    """
    entries = _entries(names)
    _refuse_one_file_for_many(entries, source)
    failures = 0
    for entry in entries:
        try:
            _fetch(entry, root, source)
        except DeepMusicError as error:
            failures += 1
            click.echo(printable(f"{entry.name}: {error}"), err=True)
        except KeyboardInterrupt:
            click.echo("Stopped; to go on, give the same command again.", err=True)
            ctx.exit(130)
    ctx.exit(1 if failures else 0)


def _entries(names: tuple[str, ...]) -> list[DataFile]:
    """The data sets of these names, each once."""
    from deepmusic.datasets import CATALOGUE

    for name in names:
        if name not in CATALOGUE:
            raise click.UsageError(
                f"No data set is called {name!r}; there are {', '.join(CATALOGUE)}."
            )
    return [CATALOGUE[name] for name in dict.fromkeys(names)]


def _refuse_one_file_for_many(entries: list[DataFile], source: str | None) -> None:
    from deepmusic.datasets.download import DownloadError, local_path

    if source is None:
        return
    try:
        path = local_path(source)
    except DownloadError as error:
        raise click.UsageError(str(error)) from error
    is_folder = source.endswith("/") if path is None else path.is_dir()
    if len(entries) > 1 and not is_folder:
        raise click.UsageError(
            "--from names one file for several data sets; give a folder, an address that ends in "
            "/, or one NAME."
        )


def _fetch(entry: DataFile, root: str, source: str | None) -> None:
    """Fetch one data set, and say where it is."""
    from pathlib import Path

    from deepmusic.datasets import fetch

    with _show_bytes(entry.name) as on_progress:
        is_fetched = fetch(entry, root, source=source, on_progress=on_progress)
    if is_fetched:
        click.echo(f"{entry.name}: licence: {entry.licence}", err=True)
    word = "fetched" if is_fetched else "there"
    click.echo(f"{word:<7}  {printable(str(Path(root) / entry.file))}")


@contextmanager
def _show_bytes(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show on standard error how many bytes are there, how fast they come, and the time left."""
    if sys.stderr.isatty():
        yield from _bar(name)
    else:
        yield _lines(name)


def _lines(name: str) -> Callable[[int, int | None], None]:
    from deepmusic.datasets.download import byte_count

    shown, before = time.monotonic(), 0

    def tell(done: int, total: int | None) -> None:
        nonlocal shown, before
        now = time.monotonic()
        if now - shown < EVERY_S or done == total:
            return
        rate = max(done - before, 0) / (now - shown)
        shown, before = now, done
        line = f"{name}: {byte_count(done)}"
        if total is not None:
            line += f" of {byte_count(total)}"
        line += f", {byte_count(rate)}/s"
        if total is not None and rate > 0:
            line += f", {timedelta(seconds=round((total - done) / rate))} left"
        click.echo(line, err=True)

    return tell


def _bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task(name, total=None)
    with bar:
        yield lambda done, total: bar.update(task, completed=done, total=total)
