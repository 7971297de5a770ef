"""``deepmusic data get``: single tracks out of an archive that stays where it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.data_download import one_place
from deepmusic.cli.data_transfer import show_bytes
from deepmusic.cli.output import printable
from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from deepmusic.datasets.remote_zip import RemoteZip


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(["fma"]))
@click.option(
    "--track",
    "tracks",
    metavar="NUMBER",
    type=click.IntRange(0, 999_999),
    multiple=True,
    required=True,
    help="The track, such as 2; may be given more than once.",
)
@click.option(
    "--subset",
    type=click.Choice(["small", "medium", "large", "full"]),
    default="large",
    show_default=True,
    help="Out of which archive: full has whole tracks, the others clips of 30 s.",
)
@click.option(
    "--to", "root", metavar="DIR", required=True, help="Where to put them; made if need be."
)
@click.option(
    "--from",
    "source",
    metavar="PLACE",
    help="Take them from there instead: an archive, a folder that holds it, or an address of "
    "either; one of a folder ends in /.",
)
@click.pass_context
def get(
    ctx: click.Context,
    name: str,
    tracks: tuple[int, ...],
    subset: str,
    root: str,
    source: str | None,
) -> None:
    """Fetch single tracks of fma into DIR, without the archive of many GB that they are in.

    The list of what is in the archive is fetched first, and kept in DIR; then each track costs one
    request. Track 2 becomes DIR/000/000002.mp3. Exit status: 0 all are there, 1 some could not be
    had, 2 wrong usage.
    """
    if source is not None:
        one_place(source)  # an address of another kind is wrong usage
    try:
        archive = _open(f"{name}-{subset}", Path(root), source)
        failures = sum(
            not _save(archive, f"{name}_{subset}", track, Path(root))
            for track in dict.fromkeys(tracks)
        )
    except DeepMusicError as error:
        click.echo(printable(str(error)), err=True)
        ctx.exit(1)
    except KeyboardInterrupt:
        click.echo("Stopped; to go on, give the same command again.", err=True)
        ctx.exit(130)
    ctx.exit(1 if failures else 0)


def _open(name: str, root: Path, source: str | None) -> RemoteZip:
    from deepmusic.datasets.audio_archives import AUDIO_ARCHIVES, archive_source
    from deepmusic.datasets.remote_zip import RemoteZip

    entry = AUDIO_ARCHIVES[name]
    place = entry.urls[0] if source is None else archive_source(entry, source)
    with show_bytes(f"{name}, list of contents") as on_progress:
        return RemoteZip(place, cache=root, on_progress=on_progress)


def _save(archive: RemoteZip, top: str, track: int, root: Path) -> bool:
    """Fetch one track; whether that went well."""
    from deepmusic.datasets.fma_files import track_path

    place = track_path(track)
    member, target = f"{top}/{place}", root / place
    if member not in archive.members:
        click.echo(
            printable(f"There is no track {track} in {archive.origin}."),
            err=True,
        )
        return False
    try:
        with show_bytes(f"track {track}") as on_progress:
            is_fetched = archive.save(member, target, on_progress=on_progress)
    except DeepMusicError as error:
        click.echo(printable(f"track {track}: {error}"), err=True)
        return False
    word = "fetched" if is_fetched else "there"
    click.echo(f"{word:<7}  {printable(str(target))}")
    return True
