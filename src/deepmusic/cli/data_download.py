"""``deepmusic data download``: public data sets, fetched and checked."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.data_transfer import show_bytes
from deepmusic.cli.output import printable
from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from deepmusic.datasets.audio_archives import AudioArchive
    from deepmusic.datasets.catalogue import DataFile
    from deepmusic.datasets.download import Progress


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--to", "root", metavar="DIR", required=True, help="The folder of data; made if need be."
)
@click.option(
    "--from",
    "source",
    metavar="PLACE",
    help="Take it from there instead: a file, a folder, or an address; one of a folder ends in /.",
)
@click.option("--no-unpack", is_flag=True, help="Fetch the archives of sound, and leave them so.")
@click.option("--keep", is_flag=True, help="Keep an archive when it has been unpacked.")
@click.pass_context
def download(
    ctx: click.Context,
    names: tuple[str, ...],
    root: str,
    source: str | None,
    no_unpack: bool,
    keep: bool,
) -> None:
    """Fetch data sets by NAME into DIR, where the other commands look for them.

    What was cut off goes on where it was; what is there and right is not fetched again. Archives
    of sound are unpacked, and then removed if they were fetched for it. `deepmusic data list` has
    the names, and what each costs. Exit status: 0 all are there, 1 some could not be had, 2 wrong
    usage.
    """
    entries = _entries(names)
    _refuse_one_file_for_many(len(entries), source)
    failures = 0
    for entry in entries:
        try:
            _fetch(entry, Path(root), source, is_unpacked=not no_unpack, is_kept=keep)
        except DeepMusicError as error:
            failures += 1
            click.echo(printable(f"{entry.name}: {error}"), err=True)
        except KeyboardInterrupt:
            click.echo("Stopped; to go on, give the same command again.", err=True)
            ctx.exit(130)
    ctx.exit(1 if failures else 0)


def _entries(names: tuple[str, ...]) -> list[DataFile | AudioArchive]:
    """The data sets of these names, each once; FMA's may be spelled as its archives."""
    from deepmusic.datasets.audio_archives import AUDIO_ARCHIVES
    from deepmusic.datasets.catalogue import CATALOGUE

    known: dict[str, DataFile | AudioArchive] = {**AUDIO_ARCHIVES, **CATALOGUE}
    found = {}
    for name in names:
        spelled = name.lower().replace("_", "-").removesuffix(".zip")
        if spelled not in known:
            raise click.UsageError(f"No data set is called {name!r}; there are {', '.join(known)}.")
        found[spelled] = known[spelled]
    return list(found.values())


def one_place(source: str) -> bool:
    """Whether a source is one file, not a folder of them.

    Raises:
        UsageError: it is an address that is never fetched.
    """
    from deepmusic.datasets.web import DownloadError, local_path

    try:
        path = local_path(source)
    except DownloadError as error:
        raise click.UsageError(str(error)) from error
    return not (source.endswith("/") if path is None else path.is_dir())


def _refuse_one_file_for_many(count: int, source: str | None) -> None:
    if source is not None and one_place(source) and count > 1:
        raise click.UsageError(
            "--from names one file for several data sets; give a folder, an address that ends in "
            "/, or one NAME."
        )


def _fetch(
    entry: DataFile | AudioArchive,
    root: Path,
    source: str | None,
    *,
    is_unpacked: bool,
    is_kept: bool,
) -> None:
    """Fetch one data set, and say where it is."""
    from deepmusic.datasets.audio_archives import AudioArchive, fetch_archive
    from deepmusic.datasets.catalogue import fetch

    if isinstance(entry, AudioArchive):
        archive = root / entry.file
        target = root / entry.folder if is_unpacked else archive
        was_there = archive.exists()
        with ExitStack() as stack:
            on_progress = stack.enter_context(show_bytes(entry.name))
            show_next: list[Progress] = []

            def on_unpacking(done: int, total: int | None) -> None:
                if not show_next:  # one bar at a time
                    stack.close()
                    show_next.append(stack.enter_context(show_bytes(f"{entry.name}, unpacking")))
                show_next[0](done, total)

            is_fetched = fetch_archive(
                entry,
                root,
                source=source,
                is_unpacked=is_unpacked,
                is_kept=is_kept,
                on_progress=on_progress,
                on_unpacking=on_unpacking,
            )
        if is_fetched and is_unpacked and was_there and not is_kept:
            stays = f"{entry.name}: {archive} was there before, and stays"
            click.echo(printable(stays), err=True)
    else:
        target = root / entry.file
        with show_bytes(entry.name) as on_progress:
            is_fetched = fetch(entry, root, source=source, on_progress=on_progress)
    if is_fetched:
        click.echo(f"{entry.name}: licence: {entry.licence}", err=True)
    word = "fetched" if is_fetched else "there"
    click.echo(f"{word:<7}  {printable(str(target))}")
