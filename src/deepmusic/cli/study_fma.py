"""``deepmusic study fma-baselines``: FMA's table of baselines beside the published scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from deepmusic.cli.options import WORKERS_OR_DASK, at_least, format_option, option
from deepmusic.cli.output import printable, report_problems
from deepmusic.cli.progress import display

if TYPE_CHECKING:
    from deepmusic.studies.fma_table import Cell, Task


@click.command("fma-baselines", no_args_is_help=True)
@option(
    "--data FMA_DIR",
    "The folder that holds fma_metadata or fma_metadata.zip, or either of them.",
    required=True,
)
@option("--subset [small|medium|large]", "Published scores are of medium.", default="medium")
@option(
    "--out DIR",
    "Where finished cells and the tables are kept; made if needed.",
    default="fma-baselines",
)
@option("--models NAMES", "Classifiers, comma-separated.", default="lr,knn,svm,mlp")
@option(
    "--sets NAMES",
    "Feature sets, comma-separated: a family (mfcc), a combination (mfcc/contrast), all, "
    "families of your choice (mfcc+zcr), or Echonest's (echonest_audio).  [default: the 18 of the "
    "notebook]",
)
@option(
    "--task [single|multi|both]",
    "The top genre of each track, or all its genres.",
    default="single",
)
@option("--seed N", "Seed of the perceptron's initial weights.", type=at_least(0), default=0)
@WORKERS_OR_DASK
@format_option("text", "markdown", "csv")
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
    form: str,
) -> None:
    """Compute FMA's table of baselines, each accuracy beside the published one.

    Needs the tables of fma_metadata, no audio. Each pair of a feature set and a classifier is kept
    in DIR when it is finished; run again after an interruption to compute the rest. DIR gets
    table.md and table.csv. Exit status: 0 success, 1 some pairs failed, 2 wrong usage.
    """
    from deepmusic.datasets.fma import read_fma
    from deepmusic.files import write_atomically
    from deepmusic.studies.feature_sets import FEATURE_SETS
    from deepmusic.studies.fma_baselines import reproduce
    from deepmusic.studies.fma_table import csv_table, markdown, plain_text

    tasks: tuple[Task, ...] = ("single", "multi") if task == "both" else (task,)
    fma = read_fma(data)
    with display(unit="cells") as screen:

        def on_cell(cell: Cell, done: int, total: int, was_done: bool) -> None:
            if not was_done:
                screen.report(printable(f"{done} of {total}  {_summary(cell)}"))
            screen.advance(done, total)

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
    report_problems((), fma.notes)
    texts = {"text": plain_text(table), "markdown": markdown(table), "csv": csv_table(table)}
    for name, text in {"table.md": texts["markdown"], "table.csv": texts["csv"]}.items():
        with write_atomically(Path(out) / name) as file:
            file.write(text)
    click.echo(texts[form], nl=False)
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
