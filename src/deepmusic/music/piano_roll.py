"""A score as a picture: notes as bars over time, coloured by part, some bars a row."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.files import write_atomically
from deepmusic.music.metre import Bar, bars
from deepmusic.music.score import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 256
"""No more bars are drawn; the picture says so."""

BARS_A_ROW = 16
"""So many bars stand beside each other; the next ones go below."""

# Okabe and Ito's colours, which colour-blind people tell apart; yellow, faint on white, is last
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip

_WIDTH_IN = 12.0
_LEFT_IN, _RIGHT_IN = 1.0, 0.25
_ROW_GAP_IN = 0.75  # seconds above a row, bars below it
_PITCH_IN = 0.042  # height of a semitone
_LANE = 2.6  # semitones that the lane of a drum takes: its name must fit
_TITLE_IN, _LEGEND_LINE_IN = 0.45, 0.24
_LEGEND_COLUMNS = 6
_MOST_NAMED = 18  # parts in the legend
_LONGEST_NAME, _LONGEST_TITLE = 18, 100  # characters
_DPI = 110

_DRUM_NAMES = {
    35: "kick", 36: "kick", 37: "stick", 38: "snare", 39: "clap", 40: "snare", 41: "low tom",
    42: "hi-hat", 43: "low tom", 44: "pedal hat", 45: "mid tom", 46: "open hat", 47: "mid tom",
    48: "high tom", 49: "crash", 50: "high tom", 51: "ride", 52: "china", 53: "bell",
    54: "tambourine", 55: "splash", 56: "cowbell", 57: "crash", 59: "ride",
}  # fmt: skip


@dataclass(frozen=True)
class _Lanes:
    """Heights of notes: pitches stand for themselves, drums have lanes below them.

    Args:
        lowest, highest: pitches that are shown; ``highest < lowest`` when all notes are drums.
        drums: drum pitches, from the lowest lane up.
    """

    lowest: int
    highest: int
    drums: tuple[int, ...]

    @property
    def bottom(self) -> float:
        return self.lowest - 0.5 - (_LANE * len(self.drums) + 1 if self.drums else 0)

    @property
    def top(self) -> float:
        return self.highest + 0.5

    def height(self, drum: int) -> float:
        """The middle of the lane of a drum."""
        return self.bottom + _LANE * (0.5 + self.drums.index(drum))

    def ticks(self) -> tuple[list[float], list[str]]:
        """Heights and names: every C, and every drum."""
        octaves = [pitch for pitch in range(self.lowest, self.highest + 1) if pitch % 12 == 0]
        heights = [float(pitch) for pitch in octaves] + [self.height(drum) for drum in self.drums]
        names = [f"C{pitch // 12 - 1}" for pitch in octaves]
        return heights, names + [_DRUM_NAMES.get(drum, f"drum {drum}") for drum in self.drums]


def draw_piano_roll(score: Score, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Draw a score as a PNG picture.

    Notes are coloured by part, and fainter the softer they are. Sixteen bars make a row, numbered
    below; above stands the time in minutes and seconds. Drums have lanes of their own under the
    pitches. Up to 256 bars are drawn; where there are more, the title says so.

    Args:
        score: with or without notes.
        path: the picture to write; a file of that name is replaced.
        title: what stands above, as it is (no mathematics, no markup).

    Raises:
        DeepMusicError: the picture cannot be written.
    """
    # the object interface: pyplot would keep every figure and choose a window system
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(islice(bars(score), MOST_BARS + 1))
    is_cut = shown[-1].start < score.end
    rows = [shown[first : first + BARS_A_ROW + 1] for first in range(0, len(shown) - 1, BARS_A_ROW)]
    lanes = _lanes(score)
    row_in = max(0.9, (lanes.top - lanes.bottom) * _PITCH_IN)
    names = _part_names(score)
    legend_in = _LEGEND_LINE_IN * math.ceil(len(names) / _LEGEND_COLUMNS) if len(names) > 1 else 0
    height_in = _TITLE_IN + len(rows) * (row_in + _ROW_GAP_IN) + legend_in + 0.1
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    FigureCanvasAgg(figure)
    rectangles, colours = _rectangles(score, lanes)
    longest = max(float(row[-1].start - row[0].start) for row in rows)
    for index, row in enumerate(rows):
        top_in = _TITLE_IN + index * (row_in + _ROW_GAP_IN) + 0.25
        axes = figure.add_axes(
            (
                _LEFT_IN / _WIDTH_IN,
                1 - (top_in + row_in) / height_in,
                1 - (_LEFT_IN + _RIGHT_IN) / _WIDTH_IN,
                row_in / height_in,
            )
        )
        axes.set_xlim(float(row[0].start), float(row[0].start) + longest)
        axes.set_ylim(lanes.bottom, lanes.top)
        _draw_frame(axes, score, row, index * BARS_A_ROW + 1, lanes)
        _draw_notes(axes, row, rectangles, colours)
    heading = _shortened(title, _LONGEST_TITLE)
    if is_cut:
        heading = f"{heading} (the first {MOST_BARS} bars)".strip()
    figure.suptitle(heading, y=1 - 0.12 / height_in, va="top", parse_math=False)
    if len(names) > 1:
        _draw_legend(figure, names)
    with warnings.catch_warnings(), write_atomically(path, "wb") as file:
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure.savefig(file, format="png", dpi=_DPI)


def _lanes(score: Score) -> _Lanes:
    """The pitches that sound, to whole octaves almost, and the drums."""
    is_drum = np.array([part.is_drum for part in score.parts], bool)[score.arrays.part]
    pitches = score.arrays.pitch[~is_drum]
    drums = tuple(sorted(set(score.arrays.pitch[is_drum].tolist())))
    if not len(pitches):
        return _Lanes(0, -1, drums) if drums else _Lanes(55, 79, ())
    lowest, highest = int(pitches.min()) - 1, int(pitches.max()) + 1
    missing = max(0, 13 - (highest - lowest))  # an octave at least, and so one C
    return _Lanes(lowest - missing // 2, highest + missing - missing // 2, drums)


def _rectangles(score: Score, lanes: _Lanes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners ``(n, 4, 2)`` of the notes in ticks and pitches, and colours ``(n, 4)``."""
    from matplotlib.colors import to_rgb

    notes = score.arrays
    heights = notes.pitch.astype(np.float64)
    is_drum = np.array([part.is_drum for part in score.parts], bool)[notes.part]
    heights[is_drum] = [lanes.height(drum) for drum in notes.pitch[is_drum].tolist()]
    start, stop = notes.onset.astype(np.float64), (notes.onset + notes.duration).astype(np.float64)
    # drums have no length: a tick to be seen by
    stop[is_drum] = start[is_drum] + score.ticks_per_beat / 6
    half = np.where(is_drum, _LANE * 0.4, 0.5)
    low, high = heights - half, heights + half
    corners = np.stack(
        [
            np.stack(pair, axis=-1)
            for pair in ((start, low), (start, high), (stop, high), (stop, low))
        ],
        axis=1,
    )
    palette = np.array([to_rgb(colour) for colour in COLOURS])
    colours = np.empty((len(heights), 4))
    colours[:, :3] = palette[notes.part % len(COLOURS)]
    colours[:, 3] = 0.3 + 0.7 * notes.velocity / 127
    return corners, colours


def _draw_frame(axes: Axes, score: Score, row: Sequence[Bar], first: int, lanes: _Lanes) -> None:
    """Draw bar lines with their numbers, metres, times, and the names of pitches."""
    starts = [float(bar.start) for bar in row]
    labels = [
        f"{number}\n{bar.metre}" if bar.metre else str(number)
        for number, bar in enumerate(row[:-1], start=first)
    ]
    axes.set_xticks(starts, [*labels, ""], fontsize=8)
    axes.grid(axis="x", color="0.75", linewidth=0.8)
    seconds = axes.secondary_xaxis("top")
    marked = starts[:-1:4]
    seconds.set_xticks(marked, [_clock(t) for t in score.seconds_at(marked)], fontsize=7)
    seconds.tick_params(colors="0.4", length=2)
    seconds.spines["top"].set_visible(False)
    heights, names = lanes.ticks()
    axes.set_yticks(heights, names, fontsize=7)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    if lanes.drums and lanes.highest >= lanes.lowest:
        axes.axhline(lanes.lowest - 1, color="0.4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_notes(
    axes: Axes,
    row: Sequence[Bar],
    corners: NDArray[np.float64],
    colours: NDArray[np.float64],
) -> None:
    """Draw the notes that sound within a row, as far as they do."""
    from matplotlib.collections import PolyCollection

    left, right = float(row[0].start), float(row[-1].start)
    seen = (corners[:, 2, 0] > left) & (corners[:, 0, 0] < right)
    inside = corners[seen]
    inside[..., 0] = np.clip(inside[..., 0], left, right)
    axes.add_collection(
        PolyCollection(list(inside), facecolors=colours[seen], edgecolors="white", linewidths=0.35),
        autolim=False,
    )


def _part_names(score: Score) -> list[tuple[int, str]]:
    """Indices and names of the parts that have notes; of very many the first."""
    found = sorted(set(score.arrays.part.tolist()))
    named = []
    for index in found[:_MOST_NAMED]:
        part = score.parts[index]
        name = part.name or ("drums" if part.is_drum else f"part {index + 1}")
        named.append((index, _shortened(name, _LONGEST_NAME)))
    return named


def _draw_legend(figure: Figure, names: Sequence[tuple[int, str]]) -> None:
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=COLOURS[index % len(COLOURS)]) for index, _ in names]
    legend = figure.legend(
        handles,
        # a leading underscore would hide the entry
        [("\u200b" if name.startswith("_") else "") + name for _, name in names],
        loc="lower center",
        ncols=min(len(names), _LEGEND_COLUMNS),
        frameon=False,
        fontsize=8,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _clock(seconds: float) -> str:
    """Such as "1:05"."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
