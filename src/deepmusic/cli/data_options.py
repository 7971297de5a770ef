"""The data set DATA: options that say how to read it, and reading it with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepmusic.cli.options import combined, option
from deepmusic.cli.output import report
from deepmusic.cli.progress import display

if TYPE_CHECKING:
    from deepmusic.datasets.load import LoadedDataset

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
    option("--subset [small|medium|large|full]", "FMA only: the subset.", default="small"),
    option("--audio DIR", "FMA only: the folder of the audio."),
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
