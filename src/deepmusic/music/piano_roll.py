"""A score as a picture: notes as bars over time, coloured by part, sixteen bars per row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music.score import Bar, Score
from deepmusic.plotting import format_time, legend_label, new_figure, plain_text, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BARS = 256
"""No more bars are drawn; the picture says so."""

BARS_PER_ROW = 16

# the palette of Okabe and Ito, safe for colour blindness; yellow, faint on white, is last
COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip

_WIDTH_IN = 12.0
_SEMITONE_IN = 0.042
_LANE = 2.6  # height of a drum's lane in semitones, to fit its name
_MAX_LEGEND = 18  # parts
_LONGEST_NAME = 18

_DRUM_NAMES = {
    35: "kick", 36: "kick", 37: "stick", 38: "snare", 39: "clap", 40: "snare", 41: "low tom",
    42: "hi-hat", 43: "low tom", 44: "pedal hat", 45: "mid tom", 46: "open hat", 47: "mid tom",
    48: "high tom", 49: "crash", 50: "high tom", 51: "ride", 52: "china", 53: "bell",
    54: "tambourine", 55: "splash", 56: "cowbell", 57: "crash", 59: "ride",
}  # fmt: skip


class _Lanes(NamedTuple):
    """The vertical axis: pitches at their number, and a lane for each drum below them."""

    bottom: float
    top: float
    labels: dict[float, str]  # by height: every C, and every drum
    drums: dict[int, float]  # the middle of the lane of each drum
    line: float | None  # between pitches and drums, if there are both


def draw_piano_roll(score: Score, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw a score as a PNG picture.

    Notes are coloured by part, softer ones fainter. Bars are numbered below each row, with the
    time above it. Drums have their own lanes under the pitches. Up to 256 bars are drawn.

    Args:
        score: with or without notes.
        path: the picture to write; a file of that name is replaced.
        title: stands above; it is not read as mathematics.

    Raises:
        DeepMusicError: the picture cannot be written.
    """
    bars = list(islice(score.bars(), MAX_BARS + 1))
    rows = [bars[i : i + BARS_PER_ROW + 1] for i in range(0, len(bars) - 1, BARS_PER_ROW)]
    lanes = _lanes(score)
    row_in = 0.72 + max(0.9, (lanes.top - lanes.bottom) * _SEMITONE_IN)
    figure = new_figure(_WIDTH_IN, 0.6 + len(rows) * row_in)
    corners, colors = _rectangles(score, lanes)
    longest = max(float(row[-1].start - row[0].start) for row in rows)
    for index, (axes, row) in enumerate(
        zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True)
    ):
        axes.set_xlim(float(row[0].start), float(row[0].start) + longest)
        axes.set_ylim(lanes.bottom, lanes.top)
        _draw_axes(axes, score, row, index * BARS_PER_ROW + 1, lanes)
        _draw_notes(axes, row, corners, colors)
    if bars[-1].start < score.end:
        title = f"{title} (the first {MAX_BARS} bars)".strip()
    figure.suptitle(plain_text(title, 100))
    _draw_legend(figure, score)
    save_png(figure, path, dpi=110)


def _lanes(score: Score) -> _Lanes:
    """The pitches that sound, at least an octave and so one C, and the drums."""
    pitches = score.arrays.pitch[~score.is_drum]
    drums = sorted(set(score.arrays.pitch[score.is_drum].tolist()))
    if len(pitches):
        lowest, highest = int(pitches.min()) - 1, int(pitches.max()) + 1
        missing = max(0, 13 - (highest - lowest))
        lowest, highest = lowest - missing // 2, highest + missing - missing // 2
    else:
        lowest, highest = (0, -1) if drums else (55, 79)
    bottom = lowest - 0.5 - (_LANE * len(drums) + 1 if drums else 0)
    heights = {drum: bottom + _LANE * (0.5 + index) for index, drum in enumerate(drums)}
    octaves = range(lowest - lowest % -12, highest + 1, 12)
    labels = {float(pitch): f"C{pitch // 12 - 1}" for pitch in octaves}
    labels |= {heights[drum]: _DRUM_NAMES.get(drum, f"drum {drum}") for drum in drums}
    return _Lanes(
        bottom, highest + 0.5, labels, heights, lowest - 1 if drums and len(pitches) else None
    )


def _rectangles(score: Score, lanes: _Lanes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners ``(n, 4, 2)`` of the notes in ticks and pitches, and colours ``(n, 4)``."""
    from matplotlib.colors import to_rgb

    notes = score.arrays
    height = notes.pitch.astype(np.float64)
    is_drum = score.is_drum
    height[is_drum] = [lanes.drums[drum] for drum in notes.pitch[is_drum].tolist()]
    start = notes.onset.astype(np.float64)
    # drums have no duration
    stop = start + np.where(is_drum, score.ticks_per_beat / 6, notes.duration)
    half = np.where(is_drum, _LANE * 0.4, 0.5)
    low, high = height - half, height + half
    corners = np.array([[start, low], [start, high], [stop, high], [stop, low]])
    palette = np.array([to_rgb(color) for color in COLORS])
    opacity = 0.3 + 0.7 * notes.velocity / 127
    colors = np.column_stack([palette[notes.part % len(COLORS)], opacity])
    return corners.transpose(2, 0, 1), colors


def _draw_axes(axes: Axes, score: Score, row: Sequence[Bar], first: int, lanes: _Lanes) -> None:
    """Draw bar lines with their numbers, time signatures, times, and the names of pitches."""
    starts = [float(bar.start) for bar in row]
    labels = [
        f"{number}\n{bar.time_signature}".strip() for number, bar in enumerate(row[:-1], first)
    ]
    axes.set_xticks(starts, [*labels, ""], fontsize=8)
    axes.grid(axis="x", color="0.75", linewidth=0.8)
    times = axes.secondary_xaxis("top")
    every_fourth = starts[:-1:4]
    seconds = score.seconds_at(every_fourth)
    times.set_xticks(every_fourth, [format_time(round(s)) for s in seconds], fontsize=7)
    times.tick_params(colors="0.4", length=2)
    times.spines["top"].set_visible(False)
    axes.set_yticks(list(lanes.labels), list(lanes.labels.values()), fontsize=7)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    if lanes.line is not None:
        axes.axhline(lanes.line, color="0.4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_notes(
    axes: Axes, row: Sequence[Bar], corners: NDArray[np.float64], colors: NDArray[np.float64]
) -> None:
    """Draw the notes that sound within a row, cut at its ends."""
    from matplotlib.collections import PolyCollection

    left, right = float(row[0].start), float(row[-1].start)
    is_inside = (corners[:, 2, 0] > left) & (corners[:, 0, 0] < right)
    inside = corners[is_inside]
    inside[..., 0] = np.clip(inside[..., 0], left, right)
    axes.add_collection(
        PolyCollection(
            list(inside), facecolors=colors[is_inside], edgecolors="white", linewidths=0.35
        ),
        autolim=False,
    )


def _draw_legend(figure: Figure, score: Score) -> None:
    """Name the parts that have notes, if there are several; of very many the first."""
    from matplotlib.patches import Patch

    parts = sorted(set(score.arrays.part.tolist()))
    if len(parts) < 2:
        return
    handles = []
    for index in parts[:_MAX_LEGEND]:
        part = score.parts[index]
        name = part.name or ("drums" if part.is_drum else f"part {index + 1}")
        label = legend_label(plain_text(name, _LONGEST_NAME))
        handles.append(Patch(color=COLORS[index % len(COLORS)], label=label))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 6), fontsize=8,
        frameon=False,
    )  # fmt: skip
