"""``deepmusic data build``: a data set of clips from a folder of full-length tracks."""

from __future__ import annotations

from typing import Any

import click

from deepmusic.cli.options import WORKERS, option, output_folder
from deepmusic.cli.output import printable, report, report_problems
from deepmusic.cli.progress import display, resumable
from deepmusic.errors import counted
from deepmusic.extras import need


def _start(ctx: click.Context, param: click.Parameter, value: str) -> float | str:
    try:
        return value if value in ("middle", "random") else float(value)
    except ValueError:
        message = f"{value!r} is not middle, random or a number of seconds."
        raise click.BadParameter(message, ctx, param) from None


@click.command(no_args_is_help=True)
@click.argument("folder", metavar="DIR")
@option("-o, --output OUT", "Folder: new, or to continue.", required=True, callback=output_folder)
@option("--table CSV", "path, genre, artist, album.  [default: tracks.csv]")
@option("--seconds N", "Seconds per clip.", default=30.0)
@option(
    "--start S",
    "middle, random (seeded by the track's content), or seconds.",
    callback=_start,
    default="middle",
)
@option("--clips K", "Clips per track, evenly spread.", default=1)
@option("--min-seconds N", "Drop tracks with fewer seconds of clips.", default=0.0)
@option(
    "--format [flac|wav|ogg|mp3|copy]",
    "Format of the clips; copy keeps the frames of an mp3.",
    default="flac",
)
@option("--mono", "Average all channels.")
@option("--sample-rate HZ", "Resample.  [default: the track's]", type=int)
@option(
    "--loudness LUFS",
    "Integrated loudness of each clip, such as -23, if its peaks allow it.",
    type=float,
)
@option("--zip", "Write OUT.zip, too.", name="archive")
@WORKERS
@click.pass_context
def build(
    ctx: click.Context,
    /,
    *,
    folder: str,
    output: str,
    table: str | None,
    archive: bool,
    workers: int,
    **options: Any,
) -> None:
    """Build a data set of clips from the full-length tracks in DIR/GENRE/* or DIR/*.

    Writes clips, a table with the tags of their tracks, a README and checksums. Run again after an
    interruption to continue. Exit status: 0 all well, 1 some tracks could not be used (see
    OUT/problems.csv), 2 wrong usage.
    """
    need("data")
    from deepmusic.datasets.build import archive_path, build_dataset, check_output
    from deepmusic.datasets.clips import BuildConfig
    from deepmusic.datasets.folder import scan_folder

    config = BuildConfig(**options)
    check_output(folder, output, config, archive=archive)
    with resumable():
        with display() as screen:
            dataset = scan_folder(folder, table=table, on_progress=screen.advance)
        report_problems(dataset.problems, dataset.notes)
        failed, dropped, clips = len(dataset.problems), 0, 0
        with display(len(dataset.tracks)) as screen:
            for track in build_dataset(dataset, output, config, workers=workers, archive=archive):
                clips += len(track.clips)
                dropped += track.code == "dropped_short"
                failed += track.code not in ("", "dropped_short")
                if track.error or track.warning:
                    screen.report(printable(track.error or f"{track.path}: {track.warning}"))
                screen.advance()
    used = len(dataset.tracks) + len(dataset.problems) - failed - dropped
    summary = f"{output}: {counted(clips, 'clip')} of {counted(used, 'track')}"
    if dropped:
        summary += f", {dropped} dropped as too short"
    if failed:
        summary += f", {failed} not usable (see problems.csv)"
    report(f"{summary}.")
    click.echo(printable(output))
    if archive:
        click.echo(printable(str(archive_path(output))))
    ctx.exit(1 if failed else 0)
