"""``deepmusic features extract``: the feature table of files, folders and data sets."""

from __future__ import annotations

from dataclasses import replace
from os.path import normpath
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.output import printable

if TYPE_CHECKING:
    from deepmusic.datasets import FolderDataset


@click.command(no_args_is_help=True)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="features.parquet",
    show_default=True,
    help="The table: Parquet, or CSV if FILE ends in .csv.",
)
@click.option(
    "--recipe",
    "recipe_name",
    default="fma",
    show_default=True,
    help="fma, fma-librosa, fma-corrected.",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Chroma by a constant-Q transform in single precision: nearly the same values, sooner.",
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
    "--split",
    is_flag=True,
    help="PATH is a data set DIR/GENRE/*: write the tables of training, validation and test, too.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --split."
)
@click.option(
    "--spectrograms",
    metavar="DIR",
    help="PATH is a data set: keep its spectrograms in DIR, for train classifier --cache DIR.",
)
@click.option(
    "--max-minutes",
    metavar="M",
    type=click.FloatRange(min=0, min_open=True),
    default=360.0,
    show_default=True,
    help="Hear no more than this of a track.",
)
@click.pass_context
def extract(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    output: str,
    recipe_name: str,
    fast: bool,
    workers: int,
    dask: str | None,
    split: bool,
    seed: int,
    spectrograms: str | None,
    max_minutes: float,
) -> None:
    """Compute the 518 features of FMA of each PATH: sound files, videos, and folders of them.

    One row a track, with a reason code where there are no values. Rows that are in FILE already are
    kept; run again after a stop, only the rest is done. Exit status: 0 all well, 1 some files gave
    no values, 2 wrong usage.
    """
    if dask is not None and workers != 1:
        raise click.UsageError("--workers is for this machine, --dask for a cluster; choose one.")
    if (split or spectrograms) and len(paths) != 1:
        option = "--split" if split else "--spectrograms"
        raise click.UsageError(f"{option} takes one PATH, a data set DIR/GENRE/*.")

    from deepmusic.audio import find_audio
    from deepmusic.cli.progress import display
    from deepmusic.features import extract_library, recipe_named

    recipe = recipe_named(recipe_name, is_fast=fast)
    dataset = _data_set(paths[0]) if split or spectrograms else None
    entries = list(find_audio(paths))
    failed = 0
    with display(len(entries)) as shown:
        rows = extract_library(
            entries,
            output,
            recipe,
            workers=workers,
            dask=dask,
            max_seconds=60 * max_minutes,
        )
        for row in rows:
            failed += not row.is_done
            if row.code:
                shown.report(printable(row.error))
            if row.warning:
                shown.report(printable(f"{row.path}: {row.warning}"))
            shown.advance()
    done = len(entries) - failed
    click.echo(
        f"{output}: {done} of {len(entries)} tracks, recipe {recipe.name}, {recipe.mode}.", err=True
    )
    if dataset is not None and split:
        _write_parts(dataset, output, seed)
    if dataset is not None and spectrograms is not None:
        failed += _keep_spectrograms(dataset, spectrograms, workers)
    ctx.exit(1 if failed else 0)


def _data_set(root: str) -> FolderDataset:
    """The data set of a folder; what is wrong with it goes to standard error."""
    from deepmusic.datasets import scan_folder

    dataset = scan_folder(root)
    for note in dataset.notes:
        click.echo(printable(note), err=True)
    return dataset


def _write_parts(dataset: FolderDataset, output: str, seed: int) -> None:
    """Write the rows of training, validation and test tracks, and who is where."""
    from deepmusic.datasets import Folds, make_split, write_splits
    from deepmusic.features import read_features, write_features

    path = Path(output)
    table = read_features(path)
    # "./music" and "music" are the same folder
    place = {normpath(name): number for number, name in enumerate(table.paths)}
    divided = make_split(dataset, seed=seed)
    write_splits(path.with_name(f"{path.stem}.splits.json"), Folds((divided,), seed), dataset)
    for part in ("train", "validation", "test"):
        tracks = [dataset.tracks[number] for number in getattr(divided, part)]
        found = [(track, place.get(normpath(dataset.file(track)))) for track in tracks]
        known = [(track, number) for track, number in found if number is not None]
        rows = table.rows([number for _, number in known])
        extra = {
            "genre": [track.genre for track, _ in known],
            "artist": [track.artist or "" for track, _ in known],
        }
        name = path.with_name(f"{path.stem}.{part}{path.suffix}")
        write_features(name, replace(rows, extra=extra))
        click.echo(f"{name}: {len(known)} tracks", err=True)


def _keep_spectrograms(dataset: FolderDataset, folder: str, workers: int) -> int:
    """Keep log-mel spectrograms, float16 and mapped from disk; how many tracks have none."""
    from deepmusic.classifier.config import ClassifierConfig
    from deepmusic.classifier.spectrograms import SpectrogramStore
    from deepmusic.cli.progress import display

    store = SpectrogramStore(Path(folder), ClassifierConfig(genres=dataset.genres))
    with display(len(dataset.tracks)) as shown:
        problems = store.fill(
            dataset, workers=workers, on_progress=lambda done, total: shown.advance()
        )
    for problem in problems:
        click.echo(printable(problem.message), err=True)
    kept = len(dataset.tracks) - len(problems)
    click.echo(f"{folder}: spectrograms of {kept} of {len(dataset.tracks)} tracks.", err=True)
    return len(problems)
