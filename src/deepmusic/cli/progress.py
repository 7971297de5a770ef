"""Progress on standard error: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deepmusic.training import Progress

EVERY_S = 10.0
"""Without a terminal, lines are at least this far apart."""


class Display:
    """Where a command writes while it works: its output, its messages and its progress.

    Args:
        total: files, bytes or steps in all; None if unknown.
        unit: what is counted, such as ``"files"``; ``"bytes"`` are scaled.
        label: stands before the progress.
    """

    def __init__(self, total: float | None, unit: str, label: str) -> None:
        self.unit = unit
        self._total, self._label = total, label
        self._done = 0.0
        self._started = self._reported = time.monotonic()

    def echo(self, text: str) -> None:
        """Write text, line ends included, to standard output."""
        click.echo(text, nl=False)  # flushes: readers of a pipe see each line at once

    def report(self, line: str) -> None:
        """Write a line to standard error."""
        click.echo(line, err=True)

    def advance(
        self, done: float | None = None, total: float | None = None, note: str = ""
    ) -> None:
        """Show progress.

        Args:
            done: how much is done; None is one more than before.
            total: of how much, where that was unknown or has changed.
            note: words to show beside it.
        """
        done = self._done + 1 if done is None else done
        if done < self._done:  # a new pass
            self._started = time.monotonic()
        self._done, self._total = done, self._total if total is None else total
        self._show(note)

    def _show(self, note: str) -> None:
        now = time.monotonic()
        if now - self._reported >= EVERY_S and self._done != self._total:
            self._reported = now
            label = f"{self._label}: " if self._label else ""
            self.report(f"{label}{self._status(note)}")

    def _status(self, note: str) -> str:
        """Such as ``3 of 20 files, 1.5 per second, 0:00:11 left``."""
        rate = self._done / max(time.monotonic() - self._started, 1e-6)
        counts = [self._done] if self._total is None else [self._done, self._total]
        if self.unit == "bytes":
            from rich.filesize import decimal

            text = f"{' of '.join(decimal(int(n)) for n in counts)}, {decimal(int(rate))}/s"
        else:
            amount = " of ".join(f"{n:.0f}" for n in counts)
            text = f"{amount} {self.unit}, {rate:.1f} per second"
        if self._total is not None and rate > 0:
            text += f", {timedelta(seconds=round((self._total - self._done) / rate))} left"
        return f"{text}  {note}" if note else text


class _Bar(Display):
    """A display with a bar, which appears with the first progress."""

    def __init__(self, total: float | None, unit: str, label: str) -> None:
        super().__init__(total, unit, label)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self.bar.add_task(label, total=total, status="")

    def echo(self, text: str) -> None:
        # on the same terminal lines must go above the bar
        self._above(text) if sys.stdout.isatty() else super().echo(text)

    def report(self, line: str) -> None:
        self._above(line + "\n")

    def _above(self, text: str) -> None:
        from rich.text import Text  # no markup: a track may be called "[bold].mp3"

        self._console.print(Text(text), end="", soft_wrap=True)

    def _show(self, note: str) -> None:
        self.bar.start()
        self.bar.update(
            self._task, completed=self._done, total=self._total, status=self._status(note)
        )


@contextmanager
def resumable(advice: str = "run the same command again") -> Iterator[None]:
    """After Ctrl-C, say how to continue, and exit with status 130."""
    try:
        yield
    except KeyboardInterrupt as stop:
        from deepmusic.parallel import is_main_process

        if is_main_process():
            where = str(stop).partition(";")[0] or "Interrupted"
            click.echo(f"{where}; to continue, {advice}.", err=True)
        raise click.exceptions.Exit(130) from stop


@contextmanager
def display(
    total: float | None = None, *, unit: str = "files", label: str = ""
) -> Iterator[Display]:
    """Show progress until the block is left; the arguments are those of `Display`."""
    if sys.stderr.isatty() and total != 1:  # one file needs no bar
        screen = _Bar(total, unit, label)
        try:
            yield screen
        finally:
            screen.bar.stop()
    else:
        yield Display(total, unit, label)


def training_progress(screen: Display) -> Callable[[Progress], None]:
    """An ``on_progress`` for `deepmusic.training.fit`: a line per epoch, and a bar."""
    device = ""

    def show(progress: Progress) -> None:
        nonlocal device
        screen.unit = "steps"
        if device != progress.setting:
            device = progress.setting
            screen.report(f"Training on {device}.")
        left = f"{timedelta(seconds=round(progress.seconds_left))} left"
        train = (progress.record or {}).get("train", progress.train)
        epoch = f"epoch {progress.epoch}/{progress.epochs}  {_measures(train)}"
        screen.advance(progress.step, progress.steps, f"{epoch}  {left}")
        if progress.record is not None:
            validation = _measures(progress.record["validation"])
            seconds = progress.record["seconds"]
            screen.report(f"{epoch}  validation: {validation}  {seconds:.1f} s  {left}")

    return show


def _measures(measures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in measures.items())
