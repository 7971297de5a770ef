"""The data set DATA: options that say how to read it, and reading it with progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import combined, option
from deepmusic.cli.output import report
from deepmusic.cli.progress import display

if TYPE_CHECKING:
    from deepmusic.datasets.folder import Problem
    from deepmusic.datasets.load import LoadedDataset

fma_options = combined(
    option("--subset [small|medium|large|full]", "FMA only: the subset.", default="small"),
    option(
        "--level N",
        "FMA only: level of the genre tree, 1 for the top genres, to 5.",
        type=click.IntRange(1, 5),
        default=1,
    ),
    option("--audio DIR", "FMA only: the folder of the audio."),
)
"""How to read FMA; part of `dataset_options`."""

dataset_options = combined(
    option(
        "--as [folder|gtzan|fma]",
        "Read DATA as this kind of data set instead of detecting it.",
        name="kind",
    ),
    option(
        "--table CSV",
        "CSV with the columns path and, where known, genre, artist, album, source.  "
        "[default: DATA/tracks.csv, else folders and tags]",
    ),
    fma_options,
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


def has_failures(loaded: LoadedDataset, problems: Sequence[Problem] | None = None) -> bool:
    """Whether files could not be used, apart from those that FMA is documented to lack.

    Args:
        loaded: the data set.
        problems: those of its files, if not only those known when it was loaded.
    """
    expected = set()
    if loaded.kind == "fma":
        from deepmusic.datasets.fma import BAD_CLIPS

        expected = {"no_genre", *(clip.code for clip in BAD_CLIPS.values())}
    problems = loaded.dataset.problems if problems is None else problems
    return any(problem.code not in expected for problem in problems)
