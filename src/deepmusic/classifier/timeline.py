"""The genre of a track over time: as lines of text, and as a picture."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from deepmusic.classifier.verdict import SegmentVerdict
from deepmusic.files import write_atomically


@dataclass(frozen=True)
class Passage:
    """A stretch of time in which one genre is the likeliest.

    Args:
        start_s, end_s: its place in the track, in seconds; passages do not overlap.
        genre: the likeliest genre throughout.
        probability: mean probability of that genre over the passage, in [0, 1].
    """

    start_s: float
    end_s: float
    genre: str
    probability: float


def passages(segments: Sequence[SegmentVerdict]) -> list[Passage]:
    """Merge neighbouring segments of the same likeliest genre.

    Segments may overlap: each counts from its start to the start of the next.

    Args:
        segments: in order of time.

    Returns:
        Passages in order, from the first segment's start to the last one's end.
    """
    merged: list[tuple[float, float, str, list[float]]] = []
    for segment, (start_s, end_s) in zip(segments, _places(segments), strict=True):
        best = max(segment.probabilities, key=lambda entry: entry.probability)
        if merged and merged[-1][2] == best.genre:
            first_s, _, genre, probabilities = merged.pop()
            merged.append((first_s, end_s, genre, [*probabilities, best.probability]))
        else:
            merged.append((start_s, end_s, best.genre, [best.probability]))
    return [
        Passage(start_s, end_s, genre, sum(probabilities) / len(probabilities))
        for start_s, end_s, genre, probabilities in merged
    ]


def text_timeline(segments: Sequence[SegmentVerdict]) -> list[str]:
    """The genre over time as aligned lines, such as ``0:00-0:12  rock  71%``.

    Args:
        segments: in order of time; none give no lines.
    """
    found = passages(segments)
    ranges = [f"{_clock(p.start_s)}-{_clock(p.end_s)}" for p in found]
    width = max(map(len, ranges), default=0)
    names = [p.genre if p.genre.isprintable() else ascii(p.genre)[1:-1] for p in found]
    name_width = max(map(len, names), default=0)
    return [
        f"{span:>{width}}  {name:<{name_width}}  {passage.probability:>4.0%}"
        for span, name, passage in zip(ranges, names, found, strict=True)
    ]


def draw_timeline(
    segments: Sequence[SegmentVerdict], path: str | os.PathLike[str], *, title: str = ""
) -> None:
    """Draw the probabilities over time, stacked, as a PNG picture.

    Args:
        segments: in order of time, at least one.
        path: the picture to write; a file of that name is replaced.
        title: what stands above, as it is (no mathematics, no markup).

    Raises:
        ValueError: there are no segments.
        DeepMusicError: the picture cannot be written.
    """
    if not segments:
        raise ValueError("a timeline needs at least one segment")
    # the object interface: pyplot would keep every figure and choose a window system
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    genres = [entry.genre for entry in segments[0].probabilities]
    colours = [colormaps["tab20"](index % 20) for index in range(len(genres))]
    # one step a segment; a 3 h track has thousands, more than the picture has dots
    bars = _thinned(segments, most=1000)
    edges = [start_s for start_s, _, _ in bars] + [bars[-1][1]]
    lower = [0.0] * len(bars)
    for index, colour in enumerate(colours):
        upper = [low + values[index] for low, (_, _, values) in zip(lower, bars, strict=True)]
        axes.stairs(upper, edges, baseline=lower, fill=True, color=colour, linewidth=0)
        lower = upper
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    axes.set_xlabel("time (h:mm:ss)" if edges[-1] >= 3600 else "time (m:ss)")
    axes.xaxis.set_major_locator(MultipleLocator(_tick_s(edges[-1] - edges[0])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _clock(seconds)))
    axes.set_title(_shortened(title), parse_math=False)
    legend = axes.legend(
        [Patch(color=colour) for colour in reversed(colours)],
        # a leading underscore would hide the entry
        [("\u200b" if genre.startswith("_") else "") + genre for genre in reversed(genres)],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    with warnings.catch_warnings(), write_atomically(path, "wb") as file:
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure.savefig(file, format="png")


def _places(segments: Sequence[SegmentVerdict]) -> list[tuple[float, float]]:
    """Start and end of each segment without the overlap, in seconds."""
    starts = [segment.start_s for segment in segments]
    ends = [*starts[1:], segments[-1].end_s] if segments else []
    return [
        (start, min(end, segment.end_s) if end > start else segment.end_s)
        for start, end, segment in zip(starts, ends, segments, strict=True)
    ]


def _thinned(
    segments: Sequence[SegmentVerdict], *, most: int
) -> list[tuple[float, float, list[float]]]:
    """Start, end and mean probabilities of at most ``most`` groups of neighbours."""
    size = math.ceil(len(segments) / most)
    groups = []
    for first in range(0, len(segments), size):
        group = segments[first : first + size]
        columns = zip(*([e.probability for e in s.probabilities] for s in group), strict=True)
        means = [sum(column) / len(group) for column in columns]
        groups.append((group[0].start_s, group[-1].end_s, means))
    return groups


def _tick_s(length_s: float) -> float:
    """A round distance between labels that gives at most a dozen of them."""
    for step in (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600):
        if length_s <= 12 * step:
            return step
    return 3600 * math.ceil(length_s / (12 * 3600))


def _clock(seconds: float) -> str:
    total = int(seconds)
    hours, minutes = divmod(total // 60, 60)
    tail = f"{minutes:02d}:{total % 60:02d}" if hours else f"{minutes}:{total % 60:02d}"
    return f"{hours}:{tail}" if hours else tail


def _shortened(title: str, *, most: int = 90) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in title)
    return shown if len(shown) <= most else shown[: most - 3] + "..."
