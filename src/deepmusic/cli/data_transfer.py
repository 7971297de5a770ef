"""Showing on standard error how many bytes are there, how fast they come, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from deepmusic.cli.progress import EVERY_S


@contextmanager
def show_bytes(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Give what takes the bytes that are there and how many it will be, and shows them."""
    if sys.stderr.isatty():
        yield from _bar(name)
    else:
        yield _lines(name)


def _lines(name: str) -> Callable[[int, int | None], None]:
    from deepmusic.datasets.web import byte_count

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
