"""``deepmusic data get``: single tracks out of an archive that is not downloaded."""

from __future__ import annotations

from pathlib import Path

import click

from deepmusic.cli.data_download import check_source, report_file
from deepmusic.cli.output import printable
from deepmusic.errors import DeepMusicError


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
    help="The archive to take it from: full has full-length tracks, the others clips of 30 s.",
)
@click.option("--to", "root", metavar="DIR", required=True, help="Output folder; made if needed.")
@click.option(
    "--from",
    "source",
    metavar="SOURCE",
    help="Use this archive, or a folder or address (ending in /) that holds it, instead.",
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
    """Download single tracks of fma into DIR, without the archive of many GB that holds them.

    The archive's directory (a few MB) is read first, then one request per track. Track 2 becomes
    DIR/000/000002.mp3. Exit status: 0 all are there, 1 some failed, 2 wrong usage.
    """
    from deepmusic.datasets.fetch import resolve_source
    from deepmusic.datasets.fma_files import track_path
    from deepmusic.datasets.registry import REGISTRY
    from deepmusic.datasets.remote_zip import ZipReader

    info, failures = REGISTRY[f"{name}-{subset}"], 0
    if source is not None:
        check_source(source)
    try:
        with ZipReader(info.urls[0] if source is None else resolve_source(info, source)) as archive:
            for track in dict.fromkeys(tracks):
                path = track_path(track)
                target = Path(root) / path
                try:
                    is_new = archive.save(f"{info.archive_folder}/{path}", target)
                except DeepMusicError as error:
                    failures += 1
                    click.echo(printable(f"track {track}: {error}"), err=True)
                else:
                    report_file(target, is_new)
    except DeepMusicError as error:
        click.echo(printable(str(error)), err=True)
        ctx.exit(1)
    except KeyboardInterrupt:
        click.echo("Stopped; run the same command again to resume.", err=True)
        ctx.exit(130)
    ctx.exit(1 if failures else 0)
