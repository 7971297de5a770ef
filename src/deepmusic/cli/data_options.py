"""The data set DATA: options that say how to read it, and reading it with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import combined
from deepmusic.cli.output import report
from deepmusic.cli.progress import display

if TYPE_CHECKING:
    from deepmusic.datasets.load import LoadedDataset

dataset_options = combined(
    click.option(
        "--as",
        "kind",
        type=click.Choice(["folder", "gtzan", "fma"]),
        help="Read DATA as this kind of data set instead of detecting it.",
    ),
    click.option(
        "--table",
        metavar="CSV",
        help="CSV with the columns path and, where known, genre, artist, album, source.  "
        "[default: DATA/tracks.csv, else folders and tags]",
    ),
    click.option(
        "--subset",
        type=click.Choice(["small", "medium", "large", "full"]),
        default="small",
        help="FMA only: the subset.",
    ),
    click.option("--audio", metavar="DIR", help="FMA only: the folder of the audio."),
)
"""How to read DATA; `deepmusic.datasets.load_dataset` takes these arguments."""


def load_with_progress(data: str, options: dict[str, Any]) -> LoadedDataset:
    """Load a data set, showing progress, and print how it was read.

    Args:
        data: the argument DATA.
        options: values of `dataset_options`.
    """
    from deepmusic.datasets.load import load_dataset

    with display() as screen:
        loaded = load_dataset(data, **options, on_progress=screen.advance)
    report(loaded.about)
    return loaded


def has_failures(loaded: LoadedDataset) -> bool:
    """Whether files could not be used, apart from those that FMA is documented to lack."""
    expected = set()
    if loaded.kind == "fma":
        from deepmusic.datasets.fma import BAD_CLIPS

        expected = {"no_genre", *(clip.code for clip in BAD_CLIPS.values())}
    return any(problem.code not in expected for problem in loaded.dataset.problems)
