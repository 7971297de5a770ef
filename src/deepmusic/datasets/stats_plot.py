"""Pictures of what a data set is made of, as PNG files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmusic.datasets.stats import DatasetStatistics, GenreSummary
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE = "#3b6ea8", "#d9822b"
_DPI = 120
_MOST_BARS = 60
_LONGEST_NAME = 28
_WIDE_RANGE = 20  # longest to shortest beyond which lengths are drawn on a logarithmic scale
_TREE_ROWS = 56
_TREE_BARS = (0.44, 0.87)
"""Where bars begin, and where the longest ends, in widths of a column."""
_SOURCES = {
    "header": "by the files' headers",
    "decoded": "as decoded",
    "tables": "of the whole tracks, by FMA's tables",
}
# upper ends of the classes of tracks an artist
_CLASSES = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


def plot_statistics(description: DatasetStatistics, folder: str | os.PathLike[str]) -> list[Path]:
    """Draw what there is.

    The pictures are ``genres.png``, ``artists.png``, ``tracks-per-artist.png``, ``durations.png``
    and, where there is a tree of genres, ``tree.png``.

    Args:
        description: as :func:`~deepmusic.datasets.stats.dataset_statistics` gives it.
        folder: where the pictures go; made if need be. Pictures of these names are replaced.

    Returns:
        The pictures that were drawn; one without anything to show is left out.

    Raises:
        DeepMusicError: a picture cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draws: dict[str, tuple[bool, Callable[[DatasetStatistics], Figure]]] = {
        "genres": (bool(description.genres), _draw_genres),
        "artists": (bool(description.genres and description.artists), _draw_artists),
        "tracks-per-artist": (bool(description.artists), _draw_tracks_per_artist),
        "durations": (bool(description.durations_s), _draw_durations),
        "tree": (any(node.tracks for node in description.tree), _draw_tree),
    }
    drawn = []
    for name, (has_something, draw) in draws.items():
        if not has_something:
            continue
        path = folder / f"{name}.png"
        figure = draw(description)
        with warnings.catch_warnings(), write_atomically(path, "wb") as file:
            warnings.filterwarnings("ignore", message="Glyph")  # a name the font has no letters for
            figure.savefig(file, format="png", dpi=_DPI)
        drawn.append(path)
    return drawn


def _figure(width_in: float, height_in: float) -> Figure:
    # the object interface: pyplot would keep every figure and choose a window system
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _shown(name: str, longest: int = _LONGEST_NAME) -> str:
    clean = "".join(letter if letter.isprintable() else "?" for letter in name)
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"


def _bar_places(description: DatasetStatistics) -> tuple[tuple[GenreSummary, ...], Figure]:
    """The genres that get a bar, and a figure as tall as they need."""
    genres = description.genres[:_MOST_BARS]
    return genres, _figure(8, 1.3 + 0.26 * max(len(genres), 3))


def _finish_bars(
    axes: Axes, genres: Sequence[GenreSummary], description: DatasetStatistics
) -> None:
    names = axes.set_yticks(range(len(genres)), [_shown(genre.genre) for genre in genres])
    for tick in names:
        tick.label1.set_parse_math(False)
    axes.set_ylim(len(genres) - 0.4, -0.6)  # the largest above
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    more = len(description.genres) - len(genres)
    if more:
        axes.text(
            1, 0.01, f"and {more} smaller genres", ha="right", transform=axes.transAxes, color="0.4"
        )


def _title(axes: Axes, description: DatasetStatistics, what: str) -> None:
    axes.set_title(f"{_shown(description.name, 40)}: {what}", parse_math=False, fontsize=12)


def _draw_genres(description: DatasetStatistics) -> Figure:
    genres, figure = _bar_places(description)
    axes = figure.add_subplot()
    counts = [genre.tracks for genre in genres]
    bars = axes.barh(range(len(genres)), counts, color=_BLUE)
    total = sum(genre.tracks for genre in description.genres)
    labels = [f"{count:,}  ({count / total:.1%})" for count in counts]
    axes.bar_label(bars, labels, padding=4, fontsize=8.5)
    axes.set_xlim(0, 1.18 * max(counts))
    _finish_bars(axes, genres, description)
    axes.set_xlabel("tracks")
    _title(axes, description, f"{total:,} tracks by genre")
    return figure


def _draw_artists(description: DatasetStatistics) -> Figure:
    """Artists of each genre, and how much of it the largest of them has."""
    genres, figure = _bar_places(description)
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": (3, 2)})
    counts = [genre.artists for genre in genres]
    bars = left.barh(range(len(genres)), counts, color=_BLUE)
    left.bar_label(bars, [f"{count:,}" for count in counts], padding=4, fontsize=8.5)
    left.set_xlim(0, 1.15 * max(*counts, 1))
    left.set_xlabel("artists")
    shares = [100 * genre.largest_artist / genre.tracks for genre in genres]
    bars = right.barh(range(len(genres)), shares, color=_ORANGE)
    decimals = 0 if max(shares) > 10 else 1
    right.bar_label(bars, [f"{share:.{decimals}f}" for share in shares], padding=4, fontsize=8.5)
    right.set_xlim(0, max(1.15 * max(shares), 10))
    right.set_xlabel("% of its tracks by one artist")
    for axes in (left, right):
        _finish_bars(axes, genres, description)
    right.tick_params(left=False)
    figure.suptitle(
        f"{_shown(description.name, 40)}: {description.artists:,} artists",
        parse_math=False,
        fontsize=12,
    )
    return figure


def _draw_tracks_per_artist(description: DatasetStatistics) -> Figure:
    figure = _figure(8, 4.2)
    axes = figure.add_subplot()
    classes = list(_classes(description.tracks_per_artist))
    bars = axes.bar(range(len(classes)), [count for _, count in classes], color=_BLUE)
    axes.bar_label(bars, [f"{count:,}" for _, count in classes], padding=2, fontsize=8.5)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xticks(range(len(classes)), [name for name, _ in classes])
    axes.set(xlabel="tracks of an artist", ylabel="artists")
    axes.margins(y=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    _title(axes, description, f"{description.artists:,} artists by how many tracks they have")
    return figure


def _classes(counts: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Names of classes of numbers of tracks, and how many artists are in each."""
    ends = [end for end in _CLASSES if end < max(counts)] or [1]
    if ends[-1] < max(counts):
        larger = [end for end in _CLASSES if end > ends[-1]]
        ends.append(larger[0] if larger else max(counts))
    below = 0
    for end in ends:
        name = str(end) if end == below + 1 else f"{below + 1}–{end}"
        yield name, sum(below < count <= end for count in counts)
        below = end


def _draw_durations(description: DatasetStatistics) -> Figure:
    from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter

    figure = _figure(8, 4.2)
    axes = figure.add_subplot()
    seconds = np.asarray(description.durations_s)
    shortest, longest = max(float(seconds.min()), 1e-3), max(float(seconds.max()), 1e-3)
    is_wide = longest > _WIDE_RANGE * shortest
    count = min(60, max(10, round(2 * len(seconds) ** 0.5)))
    if is_wide:
        bins = np.geomspace(shortest, longest, count + 1)
    else:
        room = max(longest - shortest, 0.1 * longest)
        middle = (shortest + longest) / 2
        bins = np.linspace(max(middle - 0.55 * room, 0), middle + 0.55 * room, count + 1)
    counts, *_ = axes.hist(
        np.maximum(seconds, 1e-3), bins=bins.tolist(), color=_BLUE, edgecolor="white", linewidth=0.4
    )
    ylabel = "tracks"
    if np.max(counts) > 0.8 * len(seconds) > 8:  # the few others would be invisible
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        ylabel = "tracks (logarithmic)"
    axes.yaxis.set_major_formatter("{x:,.0f}")
    if is_wide:
        axes.set_xscale("log")
        places = [t for t in _ROUND_TIMES if 0.9 * shortest <= t <= 1.1 * longest]
        axes.set_xticks(places or [shortest, longest])
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif longest > 120:
        step = next((t for t in _ROUND_TIMES if t >= 60 and 7 * t >= longest), longest / 8)
        axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
    axes.set(xlabel=f"length, {_SOURCES[description.duration_source]}", ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    median = float(np.median(seconds))
    axes.axvline(median, color=_ORANGE, linewidth=1.2)
    what = f"lengths of {len(seconds):,} tracks; the line is the median, {_time(median)}"
    _title(axes, description, what)
    return figure


_ROUND_TIMES = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 3600, 7200, 18000)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _draw_tree(description: DatasetStatistics) -> Figure:
    """Indented bars, several columns of them, in which each genre has its line."""
    from matplotlib import colormaps

    nodes = [node for node in description.tree if node.tracks]
    columns = -(-len(nodes) // _TREE_ROWS)
    rows = -(-len(nodes) // columns)
    figure = _figure(max(5.2 * columns, 7), 0.9 + 0.175 * max(rows, 8))
    panels = figure.subplots(1, columns, squeeze=False)[0]
    palette = colormaps["tab20"]
    roots = [node.id for node in nodes if node.parent is None]
    colours: dict[int, Any] = {}
    largest = max(node.tracks for node in nodes)
    for place, node in enumerate(nodes):
        if node.parent is None:  # dark tones before light ones
            number = roots.index(node.id) % 20
            colours[node.id] = palette(2 * (number % 10) + number // 10)
        else:
            colours[node.id] = colours[node.parent]
        axes, row = panels[place // rows], place % rows
        length = (_TREE_BARS[1] - _TREE_BARS[0]) * node.tracks / largest
        axes.barh(row, length, left=_TREE_BARS[0], height=0.8, color=colours[node.id])
        text: dict[str, Any] = {"va": "center", "fontsize": 7.5, "parse_math": False}
        weight = "bold" if node.depth == 1 else "normal"
        axes.text(
            0.035 * (node.depth - 1), row, _shown(node.title), weight=weight, clip_on=True, **text
        )
        axes.text(_TREE_BARS[0] + length + 0.01, row, f"{node.tracks:,}", **text)
    for axes in panels:
        axes.set(xlim=(0, 1), ylim=(rows - 0.4, -0.6))
        axes.set_axis_off()
    figure.suptitle(
        f"{_shown(description.name, 40)}: tracks of {len(nodes)} genres, each with those below it",
        parse_math=False,
        fontsize=12,
    )
    return figure
