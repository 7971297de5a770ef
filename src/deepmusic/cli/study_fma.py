"""``deepmusic study fma-baselines``: FMA's table of baselines beside the published scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from deepmusic.cli.options import DASK, WORKERS
from deepmusic.cli.output import printable
from deepmusic.cli.progress import display

if TYPE_CHECKING:
    from deepmusic.studies.fma_table import Cell, Task


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
    help="Published scores are of medium.",
)
@click.option(
    "--out",
    metavar="DIR",
    default="fma-baselines",
    show_default=True,
    help="Where finished cells and the tables are kept; made if need be.",
)
@click.option(
    "--models",
    metavar="NAMES",
    default="lr,knn,svm,mlp",
    show_default=True,
    help="Classifiers, separated by commas.",
)
@click.option(
    "--sets",
    metavar="NAMES",
    help="Feature sets, separated by commas: a family (mfcc), a combination (mfcc/contrast), all, "
    "families of your choice (mfcc+zcr), or Echonest's (echonest_audio).  [default: the 18 of the "
    "notebook]",
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
    help="Seed of the perceptron's initial weights.",
)
@WORKERS
@DASK
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "csv"]),
    default="text",
    show_default=True,
    help="Format of standard output.",
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

    Needs the tables of fma_metadata, no audio. Each pair of a feature set and a classifier is kept
    in DIR when it is finished; run again after a stop, and only the rest is computed. DIR gets
    table.md and table.csv. Exit status: 0 success, 1 some pairs failed, 2 wrong usage.
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
    with display(unit="cells") as progress:

        def on_cell(cell: Cell, done: int, total: int, was_done: bool) -> None:
            if not was_done:
                progress.report(printable(f"{done} of {total}  {_summary(cell)}"))
            progress.advance(done, total=total)

        table = reproduce(
            fma,
            out,
            subset=subset,
            sets=tuple(FEATURE_SETS) if sets is None else _names(sets),
            models=_names(models),
            tasks=tasks,
            seed=seed,
            workers=workers,
            dask=dask,
            on_cell=on_cell,
        )
    for note in fma.notes:
        click.echo(printable(note), err=True)
    for name, text in (("table.md", markdown(table)), ("table.csv", csv_table(table))):
        with write_atomically(Path(out) / name) as file:
            file.write(text)
    write = {"text": plain_text, "markdown": markdown, "csv": csv_table}[form]
    click.echo(write(table), nl=False)
    failed = sum(bool(cell.error) for cell in table.cells)
    if failed:
        click.echo(f"{failed} of {len(table.cells)} cells of the table failed.", err=True)
    ctx.exit(1 if failed else 0)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _summary(cell: Cell) -> str:
    if cell.accuracy is None:
        return cell.error
    published = "" if cell.published is None else f", published {cell.published:.1%}"
    return f"{cell.features} {cell.model}: {cell.accuracy:.1%}{published}, {cell.seconds:.0f} s"
