"""``deepmusic features extract``: the feature table of files and folders."""

from __future__ import annotations

import click

from deepmusic.cli.options import WORKERS_OR_DASK, max_minutes, option
from deepmusic.cli.output import printable
from deepmusic.cli.progress import display


@click.command(no_args_is_help=True)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@option(
    "-o, --output FILE",
    "The table: Parquet, or CSV if FILE ends in .csv.",
    default="features.parquet",
)
@option("--recipe NAME", "fma, fma-librosa or fma-corrected.", name="recipe_name", default="fma")
@WORKERS_OR_DASK
@max_minutes(360.0, "Read at most this much of a track.")
@click.pass_context
def extract(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    output: str,
    recipe_name: str,
    workers: int,
    dask: str | None,
    max_seconds: float,
) -> None:
    """Compute the 518 features of FMA of each PATH: sound files, videos, and folders of them.

    The table has one row per track, with a reason code where there are no values. Rows that FILE
    already has are kept; after an interruption, run the command again to compute the rest. Exit
    status: 0 all well, 1 some files have no values, 2 wrong usage.
    """
    from deepmusic.audio import find_audio
    from deepmusic.features import extract_library, recipe_named

    recipe = recipe_named(recipe_name)
    entries = list(find_audio(paths))
    failed = 0
    with display(len(entries)) as screen:
        for row in extract_library(
            entries, output, recipe, workers=workers, dask=dask, max_seconds=max_seconds
        ):
            failed += not row.is_done
            if row.code:
                screen.report(printable(row.error))
            if row.warning:
                screen.report(printable(f"{row.path}: {row.warning}"))
            screen.advance()
    done = len(entries) - failed
    click.echo(f"{output}: {done} of {len(entries)} tracks, recipe {recipe.name}.", err=True)
    ctx.exit(1 if failed else 0)
