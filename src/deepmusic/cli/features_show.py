"""``deepmusic features show``: what a person looks at first of one track."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.output import Format, printable
from deepmusic.features.recipe import COLUMNS, RECIPES, ROWS
from deepmusic.features.statistics import STATISTICS

if TYPE_CHECKING:
    from deepmusic.features.showing import Excerpt, Portrait

_ENDLESS = 1e9  # seconds or minutes
_LONGEST_STEM = 200  # bytes; file systems take 255
_UNITS = {
    "chroma_cens": ("length 1", 4),
    "chroma_cqt": ("strongest 1", 4),
    "chroma_stft": ("strongest 1", 4),
    "mfcc": ("dB", 2),
    "rmse": ("full scale 1", 5),
    "spectral_bandwidth": ("Hz", 1),
    "spectral_centroid": ("Hz", 1),
    "spectral_contrast": ("dB", 2),
    "spectral_rolloff": ("Hz", 1),
    "tonnetz": ("radius 1", 4),
    "zcr": ("a sample", 4),
}
"""Unit and decimals of each feature."""
_PURE_DECIMALS = {"kurtosis": 3, "skew": 3}  # these have no unit
_TONNETZ = ("fifths x", "fifths y", "minor x", "minor y", "major x", "major y")
_HEAD_WIDTH, _WIDTH = 26, 11


def _duration(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not value < _ENDLESS:  # true for NaN
        raise click.BadParameter(f"{value} is no length of time.", ctx, parameter)
    return value


@click.command(no_args_is_help=True)
@click.argument("file", metavar="FILE")
@click.option(
    "-o",
    "--out",
    "picture",
    metavar="PICTURE.png",
    help="Where the picture goes; FILE-features.png in this folder by default.",
)
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default="fma",
    show_default=True,
    help="By which version of the recipe the features are made.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="The table for people or for programs.",
)
@click.option(
    "--from",
    "from_s",
    metavar="S",
    type=click.FloatRange(min=0),
    callback=_duration,
    default=0.0,
    help="Leave out the first S seconds.",
)
@click.option(
    "--seconds",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    callback=_duration,
    help="Take N seconds and no more.",
)
@click.option(
    "--max-minutes",
    metavar="M",
    type=click.FloatRange(min=0, min_open=True),
    callback=_duration,
    default=10.0,
    show_default=True,
    help="Take no more than this of a long track.",
)
def show(
    file: str,
    *,
    picture: str | None,
    recipe: str,
    form: Format,
    from_s: float,
    seconds: float | None,
    max_minutes: float,
) -> None:
    """Draw what is told from the track FILE over time, and list its 518 features.

    The table goes to standard output. Exit status: 0 all well, 1 FILE cannot be heard or the
    picture not be written, 2 wrong usage.
    """
    target = _picture_path(file, picture)
    from deepmusic.features.showing import draw_portrait, portray, read_excerpt

    excerpt = read_excerpt(file, start_s=from_s, seconds=seconds, most_s=60 * max_minutes)
    portrait = portray(excerpt, recipe)
    notes = _notes(excerpt, portrait)
    title = os.path.basename(os.path.abspath(file))
    draw_portrait(portrait, target, title=title, note="; ".join(notes))
    for line in _LISTS[form](file, excerpt, portrait):
        click.echo(line, nl=False)
    if excerpt.is_cut:
        click.echo(f"Only {notes[0]} is shown; --max-minutes M shows more.", err=True)
    if excerpt.warning is not None:
        click.echo(printable(f"{file}: {excerpt.warning}"), err=True)
    click.echo(printable(f"The picture is {os.fspath(target)!r}."), err=True)


def _picture_path(file: str, picture: str | None) -> Path:
    """Where the picture goes.

    Raises:
        click.UsageError: that is no ``.png``, or the track itself.
    """
    if picture is None:
        stem = os.fsdecode(os.fsencode(Path(file).stem)[:_LONGEST_STEM])
        return Path(f"{stem}-features.png")
    path = Path(picture)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise click.UsageError("-o: the picture is a PNG file; name PICTURE.png.")
    if path.exists() and os.path.exists(file) and path.samefile(file):
        raise click.UsageError("-o: that is FILE itself; name another file for the picture.")
    return path


def _notes(excerpt: Excerpt, portrait: Portrait) -> list[str]:
    """What is shown of the track and how, for the line under the title."""
    which = "the first " if excerpt.is_cut and not excerpt.start_s else ""
    start = f" from {_time(excerpt.start_s)} on" if excerpt.start_s else ""
    notes = [
        f"{which}{_time(portrait.duration_s)}{start}",
        f"{portrait.sample_rate:,} samples per second",
    ]
    if portrait.tempo_bpm is not None:
        notes.append(f"about {portrait.tempo_bpm:.0f} beats a minute")
    if not portrait.waveform.any():
        notes.append("silence")
    return [*notes, f"recipe {portrait.recipe.name}, version {portrait.recipe.version}"]


def _time(seconds: float) -> str:
    """Such as "0.1 s", "30 s" or "10:05 min"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _text(file: str, excerpt: Excerpt, portrait: Portrait) -> Iterator[str]:
    """The table for people."""
    from deepmusic.features.showing import assumed_share

    yield printable(file) + "\n"
    yield "; ".join(_notes(excerpt, portrait)) + "\n"
    share = assumed_share(portrait)
    if share != 1:
        yield (
            "This recipe takes all sound for 22,050 samples per second: true frequencies are "
            f"{1 / share:.3g} times what the Hz below say.\n"
        )
    values = dict(zip(COLUMNS, portrait.columns.tolist(), strict=True))
    for feature, rows in ROWS.items():
        unit, decimals = _UNITS[feature]
        heads = "".join(f"{name:>{_WIDTH}}" for name in STATISTICS)
        yield f"\n{f'{feature} ({unit})':<{_HEAD_WIDTH}}{heads}\n"
        for row in range(rows):
            number = f"{row + 1:02d}"
            cells = (
                _cell(values[feature, name, number], _PURE_DECIMALS.get(name, decimals))
                for name in STATISTICS
            )
            yield f"{f'  {number} {_row_name(feature, row)}':<{_HEAD_WIDTH}}{''.join(cells)}\n"


def _row_name(feature: str, row: int) -> str:
    from deepmusic.features.showing import PITCH_NAMES

    if feature.startswith("chroma"):
        return PITCH_NAMES[row]
    return _TONNETZ[row] if feature == "tonnetz" else ""


def _cell(value: float, decimals: int) -> str:
    """A number that fills its column; a dash where there is none."""
    if math.isnan(value):
        shown = "-"
    elif abs(value) >= 1e7 or 0 < abs(value) < 0.5 * 10**-decimals:
        shown = f"{value:.2e}"
    else:
        shown = f"{value:.{decimals}f}"
    return f"{shown:>{_WIDTH}}"


def _json(file: str, excerpt: Excerpt, portrait: Portrait) -> Iterator[str]:
    told = {
        "path": file,
        "recipe": portrait.recipe.name,
        "version": portrait.recipe.version,
        "from_s": excerpt.start_s,
        "duration_s": portrait.duration_s,
        "sample_rate": portrait.sample_rate,
        "tempo_bpm": portrait.tempo_bpm,
        "warning": excerpt.warning,
        "values": {name: float(v) if v else None for name, v in _values(portrait)},
    }
    yield json.dumps(told, indent=1) + "\n"


def _csv(file: str, excerpt: Excerpt, portrait: Portrait) -> Iterator[str]:
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\r\n")
    table.writerow(("name", "value"))
    table.writerows(_values(portrait))
    yield buffer.getvalue()


def _values(portrait: Portrait) -> Iterator[tuple[str, str]]:
    """Names and values, with as many digits as tell a float32; nothing where there is none."""
    for column, value in zip(COLUMNS, portrait.columns, strict=True):
        yield "/".join(column), "" if math.isnan(value) else str(value)


_LISTS = {"text": _text, "json": _json, "csv": _csv}
