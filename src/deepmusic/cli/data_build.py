"""``deepmusic data build``: a data set from a folder of full-length tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from deepmusic.cli.output import printable

if TYPE_CHECKING:
    from deepmusic.datasets.building_track import BuildConfig, BuildFormat


def _start(ctx: click.Context, param: click.Parameter, value: str) -> float | str:
    if value in ("middle", "random"):
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not middle, random or a number of seconds.", ctx, param
        ) from None


@click.command(no_args_is_help=True)
@click.argument("folder", metavar="DIR")
@click.option(
    "-o", "--output", metavar="OUT", required=True, help="The data set's folder: new, or begun."
)
@click.option("--table", metavar="CSV", help="path, genre, artist, album.  [default: tracks.csv]")
@click.option(
    "--seconds", metavar="N", type=float, default=30.0, show_default=True, help="Of each clip."
)
@click.option(
    "--start",
    metavar="S",
    callback=_start,
    default="middle",
    show_default=True,
    help="middle, random (the same each time), or a second.",
)
@click.option(
    "--clips",
    metavar="K",
    type=int,
    default=1,
    show_default=True,
    help="Clips of each track, evenly spread, none over another.",
)
@click.option(
    "--min-seconds",
    metavar="N",
    type=float,
    default=0.0,
    help="Drop tracks that give less; without it, short tracks are taken whole.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["flac", "wav", "ogg", "mp3", "copy"]),
    default="flac",
    show_default=True,
    help="copy: the frames of an mp3, not coded anew.",
)
@click.option("--mono", is_flag=True, help="Mix all channels into one.")
@click.option(
    "--sample-rate", metavar="HZ", type=int, help="Samples a second.  [default: the track's]"
)
@click.option(
    "--loudness",
    metavar="LUFS",
    type=float,
    help="Make all clips as loud as this, such as -23, if their peaks allow it.",
)
@click.option("--zip", "archive", is_flag=True, help="Write OUT.zip, too.")
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many processes of this machine work.",
)
@click.pass_context
def build(
    ctx: click.Context,
    folder: str,
    *,
    output: str,
    table: str | None,
    archive: bool,
    workers: int,
    form: BuildFormat,
    seconds: float,
    start: float | Literal["middle", "random"],
    clips: int,
    min_seconds: float,
    mono: bool,
    sample_rate: int | None,
    loudness: float | None,
) -> None:
    """Make a data set from the full-length tracks in DIR/GENRE/* or DIR/*.

    Clips, a table of what the tags say, a README and checksums: the same tracks and options give
    the same bytes. After a stop, the same command makes what is missing. Exit status: 0 all well,
    1 some tracks could not be used (see OUT/problems.csv), 2 wrong usage.
    """
    from deepmusic.datasets.building_track import BuildConfig

    config = BuildConfig(
        seconds=seconds,
        start=start,
        clips=clips,
        min_seconds=min_seconds,
        format=form,
        mono=mono,
        sample_rate=sample_rate,
        loudness=loudness,
    )
    try:
        failed = _build(folder, output, config, table=table, archive=archive, workers=workers)
    except KeyboardInterrupt:
        click.echo("Stopped; to go on, give the same command again.", err=True)
        ctx.exit(130)
    ctx.exit(1 if failed else 0)


def _build(
    folder: str,
    output: str,
    config: BuildConfig,
    *,
    table: str | None,
    archive: bool,
    workers: int,
) -> int:
    """Build, tell what happens, and give the number of failures."""
    from deepmusic.cli.progress import display
    from deepmusic.datasets.building import archive_of, build_dataset, check_output
    from deepmusic.datasets.building_sources import find_sources

    check_output(folder, output, config, archive=archive)
    sources = find_sources(folder, table=table)
    for problem in sources.problems:
        click.echo(printable(problem.message), err=True)
    failed, dropped, clips = len(sources.problems), 0, 0
    with display(len(sources.tracks)) as shown:
        for track in build_dataset(sources, output, config, workers=workers, archive=archive):
            clips += len(track.clips)
            if track.code:
                is_wanted = track.code == "dropped_short"
                dropped += is_wanted
                failed += not is_wanted
                shown.report(printable(track.error))
            elif track.warning:
                shown.report(printable(f"{track.path}: {track.warning}"))
            shown.advance()
    used = len(sources.tracks) + len(sources.problems) - failed - dropped
    said = f"{output}: {clips} clips of {used} tracks"
    if dropped:
        said += f", {dropped} dropped as too short"
    if failed:
        said += f", {failed} left out (see problems.csv)"
    click.echo(printable(said + "."), err=True)
    click.echo(printable(output))
    if archive:
        click.echo(printable(str(archive_of(output))))
    return failed
