"""``deepmusic study fma-baselines``: FMA's table of baselines beside the published figures."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from deepmusic.cli.output import printable

if TYPE_CHECKING:
    from deepmusic.studies.fma_baselines import Cell, Task


@click.command("fma-baselines", no_args_is_help=True)
@click.option(
    "--data",
    metavar="FMA_DIR",
    required=True,
    help="The folder that holds fma_metadata or fma_metadata.zip, or either of them.",
)
@click.option(
    "--subset",
    type=click.Choice(["small", "medium", "large"]),
    default="medium",
    show_default=True,
    help="Published figures are of medium.",
)
@click.option(
    "--out",
    metavar="DIR",
    default="fma-baselines",
    show_default=True,
    help="Keeps what is done, and the tables; made if need be.",
)
@click.option(
    "--models",
    metavar="NAMES",
    default="lr,knn,svm,mlp",
    show_default=True,
    help="Which, with commas between.",
)
@click.option(
    "--sets",
    metavar="NAMES",
    help="Feature sets, with commas between: a family (mfcc), a combination (mfcc/contrast), all, "
    "families of your own choice (mfcc+zcr), or Echonest's (echonest_audio). By default the 18 of "
    "the notebook.",
)
@click.option(
    "--task",
    type=click.Choice(["single", "multi", "both"]),
    default="single",
    show_default=True,
    help="The top genre of each track, or all its genres.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the perceptron's starting weights.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many processes of this machine compute.",
)
@click.option("--dask", metavar="ADDRESS", help="Compute on the Dask cluster of this scheduler.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "csv"]),
    default="text",
    show_default=True,
    help="What goes to standard output.",
)
@click.pass_context
def fma_baselines(
    ctx: click.Context,
    *,
    data: str,
    subset: str,
    out: str,
    models: str,
    sets: str | None,
    task: Literal["single", "multi", "both"],
    seed: int,
    workers: int,
    dask: str | None,
    form: Literal["text", "markdown", "csv"],
) -> None:
    """Compute FMA's table of baselines, each accuracy beside the published one.

    Needs the tables of fma_metadata, no sound. Each pair of a feature set and a classifier is kept
    in DIR when it is done; run again after a stop, only the rest is done. DIR gets table.md and
    table.csv. Exit status: 0 all well, 1 some pairs failed, 2 wrong usage.
    """
    if dask is not None and workers != 1:
        raise click.UsageError("--workers is for this machine, --dask for a cluster; choose one.")

    from deepmusic.datasets.fma import read_fma
    from deepmusic.files import write_atomically
    from deepmusic.studies.feature_sets import FEATURE_SETS
    from deepmusic.studies.fma_baselines import reproduce
    from deepmusic.studies.fma_table import csv_table, markdown, plain_text

    tasks: tuple[Task, ...] = ("single", "multi") if task == "both" else (task,)
    fma = read_fma(data)
    found = reproduce(
        fma,
        out,
        subset=subset,
        sets=tuple(FEATURE_SETS) if sets is None else _names(sets),
        models=_names(models),
        tasks=tasks,
        seed=seed,
        workers=workers,
        dask=dask,
        on_cell=_Progress(),
    )
    for note in fma.notes:
        click.echo(printable(note), err=True)
    for name, text in (("table.md", markdown(found)), ("table.csv", csv_table(found))):
        with write_atomically(Path(out) / name) as file:
            file.write(text)
    write = {"text": plain_text, "markdown": markdown, "csv": csv_table}[form]
    click.echo(write(found), nl=False)
    failed = sum(bool(cell.error) for cell in found.cells)
    if failed:
        click.echo(f"{failed} of {len(found.cells)} cells of the table failed.", err=True)
    ctx.exit(1 if failed else 0)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


class _Progress:
    """Tells on standard error of each cell that is done, with the time left."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._computed = 0
        self._kept = 0

    def __call__(self, cell: Cell, done: int, total: int, was_kept: bool) -> None:
        if was_kept:
            self._kept += 1
            return
        if self._kept and not self._computed:
            click.echo(f"{self._kept} of {total} cells are there from before", err=True)
        self._computed += 1
        each_s = (time.monotonic() - self._started) / self._computed
        left = timedelta(seconds=round(each_s * (total - done)))
        if cell.accuracy is None:
            said = cell.error
        else:
            said = f"{cell.features} {cell.model}: {cell.accuracy:.1%}"
            if cell.published is not None:
                said += f", published {cell.published:.1%}"
            said += f", {cell.seconds:.0f} s"
        tail = f"; about {left} left" if done < total else ""
        click.echo(printable(f"{done} of {total}  {said}{tail}"), err=True)
