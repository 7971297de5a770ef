"""``deepmusic features show``: the features of one track, as a picture and a table."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deepmusic.cli.options import POSITIVE, Number, format_option, max_minutes, option
from deepmusic.cli.output import csv_text, printable, report
from deepmusic.features.recipe import COLUMNS, FEATURE_SIZES, RECIPES
from deepmusic.features.statistics import STATISTICS

if TYPE_CHECKING:
    from deepmusic.features.plot import TrackAnalysis

_UNITS = {
    "chroma_cens": "norm 1",
    "chroma_cqt": "maximum 1",
    "chroma_stft": "maximum 1",
    "mfcc": "dB",
    "rmse": "full scale 1",
    "spectral_bandwidth": "Hz",
    "spectral_centroid": "Hz",
    "spectral_contrast": "dB",
    "spectral_rolloff": "Hz",
    "tonnetz": "radius 1",
    "zcr": "per sample",
}
_TONNETZ = ("fifths x", "fifths y", "minor x", "minor y", "major x", "major y")


@click.command(no_args_is_help=True)
@click.argument("file", metavar="FILE")
@option(
    "-o, --out PICTURE.png",
    "Where to draw; by default FILE-features.png in the current folder.",
    name="picture",
)
@option(f"--recipe [{'|'.join(RECIPES)}]", "Version of the recipe of the features.", default="fma")
@format_option("text", "json", "csv")
@option("--from S", "Skip the first S seconds.", name="start_s", type=Number(min=0), default=0.0)
@option("--seconds N", "Analyze only N seconds.", type=POSITIVE)
@max_minutes(10.0, "Analyze at most this much of a long track.")
def show(
    file: str,
    *,
    picture: str | None,
    recipe: str,
    form: str,
    start_s: float,
    seconds: float | None,
    max_seconds: float,
) -> None:
    """Draw the features of the track FILE over time, and list its 518 columns.

    The table goes to standard output. Exit status: 0 all well, 1 FILE cannot be decoded or the
    picture cannot be written, 2 wrong usage.
    """
    target = _picture_path(file, picture)
    from deepmusic.features.plot import analyze, draw_analysis, read_excerpt

    excerpt = read_excerpt(file, start_s=start_s, seconds=seconds, max_s=max_seconds)
    analysis = analyze(excerpt, RECIPES[recipe])
    notes = _notes(analysis)
    title = os.path.basename(os.path.abspath(file))
    draw_analysis(analysis, target, title=title, note="; ".join(notes))
    if form == "json":
        click.echo(json.dumps(_record(file, analysis), indent=1))
    elif form == "csv":
        click.echo(csv_text([("name", "value"), *_values(analysis)]), nl=False)
    else:
        for line in (printable(file), "; ".join(notes), *_text(analysis)):
            click.echo(line)
    if excerpt.is_cut:
        click.echo(f"Only {notes[0]} is analyzed; --max-minutes M takes more.", err=True)
    if excerpt.warning is not None:
        report(f"{file}: {excerpt.warning}")
    report(f"The picture is {os.fspath(target)!r}.")


def _picture_path(file: str, picture: str | None) -> Path:
    """Where to draw: a PNG file that is not the track itself."""
    if picture is None:
        stem = os.fsdecode(os.fsencode(Path(file).stem)[:200])  # file systems allow 255 bytes
        return Path(f"{stem}-features.png")
    path = Path(picture)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise click.UsageError("-o: the picture is a PNG file; name PICTURE.png.")
    if path.exists() and os.path.exists(file) and path.samefile(file):
        raise click.UsageError("-o: that is FILE itself; name another file for the picture.")
    return path


def _notes(analysis: TrackAnalysis) -> list[str]:
    """What is analyzed and how, for the line under the title."""
    excerpt = analysis.excerpt
    which = "the first " if excerpt.is_cut and not excerpt.start_s else ""
    start = f" from {excerpt.start_s:g} s on" if excerpt.start_s else ""
    notes = [f"{which}{excerpt.duration_s:.4g} s{start}", f"{excerpt.sample_rate:,} Hz"]
    if analysis.tempo_bpm is not None:
        notes.append(f"about {analysis.tempo_bpm:.0f} beats per minute")
    if not excerpt.samples.any():
        notes.append("silence")
    return [*notes, f"recipe {analysis.recipe.name}, version {analysis.recipe.version}"]


def _text(analysis: TrackAnalysis) -> Iterator[str]:
    """The table for people: a block per feature, with a row per column and its statistics."""
    from deepmusic.features.plot import PITCH_NAMES

    if analysis.frequency_scale != 1:
        yield (
            "This recipe assumes a sample rate of 22,050 Hz: true frequencies are "
            f"{1 / analysis.frequency_scale:.3g} times those listed."
        )
    values = dict(zip(COLUMNS, analysis.columns.tolist(), strict=True))
    for feature, size in FEATURE_SIZES.items():
        heading = f"{feature} ({_UNITS[feature]})"
        yield f"\n{heading:<26}{''.join(f'{name:>11}' for name in STATISTICS)}"
        labels = _TONNETZ if feature == "tonnetz" else ("",) * size
        for index, label in enumerate(PITCH_NAMES if feature.startswith("chroma") else labels):
            number = f"{index + 1:02d}"
            cells = [values[feature, name, number] for name in STATISTICS]
            texts = ["-" if math.isnan(value) else f"{value:.4g}" for value in cells]
            yield f"{f'  {number} {label}':<26}{''.join(f'{text:>11}' for text in texts)}"


def _record(file: str, analysis: TrackAnalysis) -> dict[str, object]:
    """The analysis as JSON types."""
    return {
        "path": file,
        "recipe": analysis.recipe.name,
        "version": analysis.recipe.version,
        "from_s": analysis.excerpt.start_s,
        "duration_s": analysis.excerpt.duration_s,
        "sample_rate": analysis.excerpt.sample_rate,
        "tempo_bpm": analysis.tempo_bpm,
        "warning": analysis.excerpt.warning,
        "values": {name: float(v) if v else None for name, v in _values(analysis)},
    }


def _values(analysis: TrackAnalysis) -> Iterator[tuple[str, str]]:
    """Names and values, with all digits of a float32; empty where there is no value."""
    for column, value in zip(COLUMNS, analysis.columns, strict=True):
        yield "/".join(column), "" if math.isnan(value) else str(value)
