"""The PLACE of a data set: the options that say what lies there, and its loading with progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deepmusic.cli.output import printable
from deepmusic.cli.progress import display

if TYPE_CHECKING:
    from deepmusic.datasets.folder import FolderDataset
    from deepmusic.datasets.loading import LoadedDataset

_MOST_TOLD = 10
"""Of problems with one reason; a subset of FMA may have fifty thousand."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def place_options(command: _Command) -> _Command:
    """Add the argument PLACE and the options on what it is."""
    options = (
        click.argument("place", metavar="PLACE"),
        click.option(
            "--as",
            "kind",
            type=click.Choice(["folder", "gtzan", "fma"]),
            help="Take PLACE for this, whatever it looks like.",
        ),
        click.option(
            "--table",
            metavar="CSV",
            help="Table with the columns path and, as far as known, genre, artist, album, source.  "
            "[default: PLACE/tracks.csv, else folders and tags]",
        ),
        click.option(
            "--subset",
            type=click.Choice(["small", "medium", "large", "full"]),
            default="small",
            show_default=True,
            help="Of FMA.",
        ),
        click.option("--audio", metavar="DIR", help="Of FMA: where its audio is."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def load_place(
    place: str, kind: Any, table: str | None, subset: str, audio: str | None
) -> LoadedDataset:
    """Load a data set with progress, and say what it was taken for."""
    from deepmusic.datasets.loading import load_dataset

    with counted() as on_progress:
        loaded = load_dataset(
            place, kind=kind, table=table, subset=subset, audio=audio, on_progress=on_progress
        )
    click.echo(printable(loaded.about), err=True)
    return loaded


def tell_troubles(dataset: FolderDataset) -> None:
    """Say what was left out of a data set, and what may not be as it should."""
    told: Counter[str] = Counter()
    for problem in dataset.problems:
        told[problem.code] += 1
        if told[problem.code] <= _MOST_TOLD:
            click.echo(printable(f"{problem.path}: {problem.message}"), err=True)
    for code, count in told.items():
        if count > _MOST_TOLD:
            more = count - _MOST_TOLD
            click.echo(f"{more} more were left out for the reason {code!r}.", err=True)
    for note in dataset.notes:
        click.echo(printable(note), err=True)


def has_failures(loaded: LoadedDataset) -> bool:
    """Whether files could not be used, beside those of FMA that are known to be of no use."""
    known = set()
    if loaded.kind == "fma":
        from deepmusic.datasets.fma_clips import BAD_CLIPS

        known = {"no_genre", *(clip.code for clip in BAD_CLIPS.values())}
    return any(problem.code not in known for problem in loaded.dataset.problems)


@contextmanager
def counted() -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes how many files are done, and of how many, and shows it."""
    with ExitStack() as stack:
        advance: Callable[[], None] | None = None
        before = 0

        def tell(done: int, total: int) -> None:
            nonlocal advance, before
            if advance is None:
                advance = stack.enter_context(display(total)).advance
            for _ in range(done - before):
                advance()
            before = done

        yield tell
