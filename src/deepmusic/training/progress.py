"""Showing how a training goes: a bar on a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TextColumn

from deepmusic.training.loop import Progress


@contextmanager
def show_progress(file: TextIO | None = None) -> Iterator[Callable[[Progress], None]]:
    """Give what `deepmusic.training.fit` takes as ``on_progress``.

    Args:
        file: where to show; standard error by default.
    """
    console = Console(file=file, stderr=file is None, highlight=False, soft_wrap=True)
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}  {task.fields[values]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    line = bar.add_task("", total=None, values="")
    told = False

    def show(progress: Progress) -> None:
        nonlocal told
        if not told:
            console.print(f"Training on {progress.setting}.", markup=False)
            told = True
        left = f"{timedelta(seconds=round(progress.seconds_left))} left"
        bar.update(
            line,
            description=f"epoch {progress.epoch}/{progress.epochs}",
            completed=progress.step,
            total=progress.steps,
            values=f"{_words(progress.train)}  {left}",
        )
        if progress.record is not None:
            validation = _words(progress.record["validation"])
            console.print(
                f"epoch {progress.epoch}/{progress.epochs}  {_words(progress.train)}  "
                f"validation: {validation}  {progress.record['seconds']:.1f} s  {left}",
                markup=False,
            )

    with bar:
        yield show


def _words(measures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in measures.items())
