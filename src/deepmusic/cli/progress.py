"""Showing how far a run over many files is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import click

EVERY_S = 10.0
"""Where there is no terminal, a line appears no more often than this."""


@dataclass(frozen=True)
class Display:
    """Where a command shows things.

    Args:
        echo: writes text to standard output, line ends included.
        tell: writes one line to standard error.
        advance: says that one file more is done.
    """

    echo: Callable[[str], None]
    tell: Callable[[str], None]
    advance: Callable[[], None]


@contextmanager
def display(total: int) -> Iterator[Display]:
    """Show the progress of a run over ``total`` files; one file alone needs no progress."""
    if total > 1 and sys.stderr.isatty():
        yield from _bar(total)
    else:
        yield Display(_echo, _tell, _lines(total))


def _echo(text: str) -> None:
    click.echo(text, nl=False)  # flushes: who reads along sees each verdict at once


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _lines(total: int) -> Callable[[], None]:
    started = shown = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, shown
        done += 1
        now = time.monotonic()
        if now - shown >= EVERY_S and done < total:
            shown = now
            rate = done / (now - started)
            left = timedelta(seconds=round((total - done) / rate))
            _tell(f"{done} of {total} files, {rate:.1f} a second, {left} left")

    return advance


def _bar(total: int) -> Iterator[Display]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    console = Console(stderr=True)
    bar = Progress(
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task("", total=total, rate="")
    started = time.monotonic()

    def advance() -> None:
        bar.advance(task)
        rate = bar.tasks[0].completed / max(time.monotonic() - started, 1e-6)
        bar.update(task, rate=f"{rate:.1f}/s")

    def above(text: str) -> None:
        # Text takes no markup and no emoji names: a track may be called "[bold].mp3"
        console.print(Text(text), end="", soft_wrap=True)

    with bar:
        yield Display(
            # on the same terminal, lines must be written around the bar
            echo=above if sys.stdout.isatty() else _echo,
            tell=lambda line: above(line + "\n"),
            advance=advance,
        )
