"""The argument DATA and its options, shared by the commands that read a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from deepmusic.cli.options import combined
from deepmusic.cli.output import printable
from deepmusic.cli.progress import Display, display

if TYPE_CHECKING:
    from deepmusic.datasets.folder import FolderDataset
    from deepmusic.datasets.load import LoadedDataset

_MAX_LINES = 10
"""Problems printed per reason; a subset of FMA may have fifty thousand."""

dataset_options = combined(
    click.argument("data", metavar="DATA"),
    click.option(
        "--as",
        "kind",
        type=click.Choice(["folder", "gtzan", "fma"]),
        help="Read DATA as this kind of data set instead of guessing.",
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
        show_default=True,
        help="FMA only: the subset.",
    ),
    click.option("--audio", metavar="DIR", help="FMA only: the folder of the audio."),
)
"""The argument DATA and the options that say what it is."""


def load_with_progress(
    data: str, kind: Any, table: str | None, subset: str, audio: str | None
) -> LoadedDataset:
    """Load a data set, showing progress, and print how it was read."""
    from deepmusic.datasets.load import load_dataset

    with file_progress() as on_progress:
        loaded = load_dataset(
            data, kind=kind, table=table, subset=subset, audio=audio, on_progress=on_progress
        )
    click.echo(printable(loaded.about), err=True)
    return loaded


def report_problems(dataset: FolderDataset) -> None:
    """Print which files were skipped and why, and the notes on the data set."""
    counts: Counter[str] = Counter()
    for problem in dataset.problems:
        counts[problem.code] += 1
        if counts[problem.code] <= _MAX_LINES:
            click.echo(printable(f"{problem.path}: {problem.message}"), err=True)
    for code, count in counts.items():
        if count > _MAX_LINES:
            click.echo(f"{count - _MAX_LINES} more were skipped for the reason {code!r}.", err=True)
    for note in dataset.notes:
        click.echo(printable(note), err=True)


def has_failures(loaded: LoadedDataset) -> bool:
    """Whether files could not be used, apart from those that FMA is documented to lack."""
    expected = set()
    if loaded.kind == "fma":
        from deepmusic.datasets.fma import BAD_CLIPS

        expected = {"no_genre", *(clip.code for clip in BAD_CLIPS.values())}
    return any(problem.code not in expected for problem in loaded.dataset.problems)


@contextmanager
def file_progress() -> Iterator[Callable[[int, int], None]]:
    """Yield a callback that takes the files done and the total, and shows the progress."""
    with ExitStack() as stack:
        shown: Display | None = None

        def update(done: int, total: int) -> None:
            nonlocal shown
            if shown is None:  # one display at a time
                shown = stack.enter_context(display(total))
            shown.advance(done, total=total)

        yield update
