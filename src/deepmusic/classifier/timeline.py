"""The genre of a track over time: as lines of text, and as a plot."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from deepmusic.classifier.verdict import SegmentVerdict
from deepmusic.plotting import (
    format_time,
    genre_colors,
    legend_label,
    new_figure,
    plain_text,
    save_png,
    thin_out,
    time_axis,
)

Span = tuple[float, float]
_MAX_COLUMNS = 1000  # of the plot; three hours have more segments


@dataclass(frozen=True)
class Passage:
    """A stretch of time in which one genre is the most probable.

    Args:
        start_s, end_s: where it lies in the track, in seconds; passages do not overlap.
        genre: the most probable genre.
        probability: mean probability of that genre over the segments, in [0, 1].
    """

    start_s: float
    end_s: float
    genre: str
    probability: float


def passages(segments: Sequence[SegmentVerdict], silences: Sequence[Span] = ()) -> list[Passage]:
    """Merge neighbouring segments of the same genre.

    Segments may overlap: each counts from its start to the start of the next.

    Args:
        segments: in order of time.
        silences: start and end of each, in seconds; segments on either side are not merged.

    Returns:
        Passages in order, from the start of the first segment to the end of the last.
    """
    following = [*(segment.start_s for segment in segments[1:]), math.inf]
    rows = [
        (
            s.start_s,
            min(s.end_s, end_s),
            max(s.probabilities, key=lambda entry: entry.probability),
            sum(start_s <= s.start_s for start_s, _ in silences),
        )
        for s, end_s in zip(segments, following, strict=False)
    ]
    merged = []
    for (genre, _), group in groupby(rows, key=lambda row: (row[2].genre, row[3])):
        starts, ends, entries, _ = zip(*group, strict=True)
        mean = sum(entry.probability for entry in entries) / len(entries)
        merged.append(Passage(starts[0], ends[-1], genre, mean))
    return merged


def text_timeline(segments: Sequence[SegmentVerdict], silences: Sequence[Span] = ()) -> list[str]:
    """The genre over time as aligned lines, such as ``0:00-0:12  rock  71%``.

    Args:
        segments: in order of time; none give no lines.
        silences: start and end of each, in seconds; they get lines of their own.
    """
    from rich.cells import cell_len, set_cell_size

    times = [
        *(
            (p.start_s, p.end_s, p.genre, f"{p.probability:>4.0%}")
            for p in passages(segments, silences)
        ),
        *((start_s, end_s, "(silence)", "") for start_s, end_s in silences),
    ]
    rows = [
        (
            f"{format_time(start_s)}-{format_time(end_s)}",
            name if name.isprintable() else ascii(name)[1:-1],
            share,
        )
        for start_s, end_s, name, share in sorted(times)
    ]
    width = max((len(span) for span, _, _ in rows), default=0)
    name_width = max((cell_len(name) for _, name, _ in rows), default=0)
    lines = (
        f"{span:>{width}}  {set_cell_size(name, name_width)}  {share}" for span, name, share in rows
    )
    return [line.rstrip() for line in lines]


def draw_timeline(
    segments: Sequence[SegmentVerdict],
    path: str | os.PathLike[str],
    *,
    silences: Sequence[Span] = (),
    title: str = "",
) -> None:
    """Plot the probabilities over time, stacked, as a PNG file.

    Args:
        segments: in order of time, at least one.
        path: the file; an existing one is replaced.
        silences: start and end of each, in seconds; they are blank.
        title: printed literally.

    Raises:
        ValueError: there are no segments.
        DeepMusicError: the plot cannot be written.
    """
    if not segments:
        raise ValueError("a timeline needs at least one segment")
    import numpy as np
    from matplotlib.patches import Patch

    figure = new_figure(10, 4)
    axes = figure.add_subplot()
    genres = [entry.genre for entry in segments[0].probabilities]
    values = np.array([[e.probability for e in segment.probabilities] for segment in segments])
    values = thin_out(values.T, _MAX_COLUMNS)  # (genres, columns)
    step = -(-len(segments) // _MAX_COLUMNS)
    edges = [segment.start_s for segment in segments[::step]] + [segments[-1].end_s]
    tops = np.cumsum(values, axis=0)
    colors = genre_colors(genres)
    for bottom, top, color in zip(tops - values, tops, colors, strict=True):
        axes.stairs(top, edges, baseline=bottom, fill=True, color=color, linewidth=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    for start_s, end_s in silences:
        axes.axvspan(start_s, end_s, color="white", linewidth=0)
    ends = [time for span in silences for time in span]
    time_axis(axes, min([edges[0], *ends]), max([edges[-1], *ends]))
    axes.set_title(plain_text(title))
    axes.legend(
        [Patch(color=color) for color in reversed(colors)],
        [legend_label(genre) for genre in reversed(genres)],
        loc="upper left",
        bbox_to_anchor=(1.02, 1.02),
        fontsize="small",
        frameon=False,
    )
    save_png(figure, path)
