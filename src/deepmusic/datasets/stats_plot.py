"""Plots of the statistics of a data set, as PNG files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmusic.datasets.stats import DatasetStatistics
from deepmusic.errors import counted
from deepmusic.files import make_folder
from deepmusic.plotting import (
    format_time,
    genre_colors,
    new_figure,
    plain_text,
    round_step,
    save_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCES = {
    "header": "by the headers of the files",
    "decoded": "as decoded",
    "tables": "of the whole tracks, by FMA's tables",
}
"""Where durations come from, by `duration_source`."""

_BLUE, _ORANGE = "#3b6ea8", "#d9822b"
_MAX_BARS = 60
_WIDE_RANGE = 20  # of longest to shortest, above which durations have a logarithmic axis
_TREE_ROWS = 56
_BIN_STARTS = (1, 2, 3, 4, 6, 11, 21, 51, 101, 201, 501, 1001)  # tracks per artist
_ROUND_TIMES_S = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000, 36000, 86400)


def plot_statistics(statistics: DatasetStatistics, folder: str | os.PathLike[str]) -> list[Path]:
    """Plot genres, artists, tracks per artist, durations and the tree of genres.

    Args:
        statistics: by `dataset_statistics` or `fma_statistics`.
        folder: for `genres.png`, `artists.png`, `tracks-per-artist.png`, `durations.png` and
            `tree.png`; created if it does not exist. Existing plots are replaced.

    Returns:
        The files; plots without data are left out.
    """
    folder = make_folder(folder)
    paths = []
    for name, plot, data in (
        ("genres", _plot_genres, statistics.genres),
        ("artists", _plot_artists, statistics.genres and statistics.artists),
        ("tracks-per-artist", _plot_tracks_per_artist, statistics.artists),
        ("durations", _plot_durations, statistics.durations),
        ("tree", _plot_tree, any(node.tracks for node in statistics.tree)),
    ):
        if data:
            figure, title = plot(statistics)
            figure.suptitle(f"{plain_text(statistics.name, 40)}: {title}", fontsize=12)
            paths.append(folder / f"{name}.png")
            save_png(figure, paths[-1], dpi=120)
    return paths


def _genre_figure(statistics: DatasetStatistics) -> Figure:
    return new_figure(8, 1.3 + 0.26 * min(max(len(statistics.genres), 3), _MAX_BARS))


def _genre_bars(
    axes: Axes, statistics: DatasetStatistics, values: Sequence[float], labels: Sequence[str]
) -> None:
    """Labelled horizontal bars of the largest genres, the largest at the top."""
    from matplotlib.ticker import MaxNLocator

    count = min(len(values), _MAX_BARS)
    bars = axes.barh(range(count), values[:count], color=_BLUE)
    axes.bar_label(bars, labels[:count], padding=4, fontsize=8.5)
    names = [plain_text(genre.genre, 28) for genre in statistics.genres[:count]]
    axes.set_yticks(range(count), names)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * max(*values, 1))
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    if len(values) > count:
        text = f"and {len(values) - count} smaller genres"
        axes.text(1, 0.01, text, ha="right", transform=axes.transAxes, color="0.4")


def _plot_genres(statistics: DatasetStatistics) -> tuple[Figure, str]:
    figure = _genre_figure(statistics)
    axes = figure.add_subplot()
    counts = [genre.tracks for genre in statistics.genres]
    labels = [f"{count:,}  ({count / sum(counts):.1%})" for count in counts]
    _genre_bars(axes, statistics, counts, labels)
    axes.set_xlabel("tracks")
    return figure, f"{counted(sum(counts), 'track')} by genre"


def _plot_artists(statistics: DatasetStatistics) -> tuple[Figure, str]:
    """Artists of each genre, and the share of the one with most tracks."""
    figure = _genre_figure(statistics)
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": (3, 2)})
    counts = [genre.artists for genre in statistics.genres]
    shares = [100 * genre.largest_artist / genre.tracks for genre in statistics.genres]
    _genre_bars(left, statistics, counts, [f"{count:,}" for count in counts])
    _genre_bars(right, statistics, shares, [f"{share:.3g}" for share in shares])
    left.set_xlabel("artists")
    right.set_xlabel("% of the tracks by one artist")
    return figure, f"{statistics.artists:,} artists"


def _plot_tracks_per_artist(statistics: DatasetStatistics) -> tuple[Figure, str]:
    counts = np.asarray(statistics.tracks_per_artist)
    starts = [start for start in _BIN_STARTS if start <= counts.max()]
    ends = [*(start - 1 for start in starts[1:]), int(counts.max())]
    artists, _ = np.histogram(counts, [*starts, np.inf])
    pairs = zip(starts, ends, strict=True)
    names = [str(low) if low == high else f"{low}–{high}" for low, high in pairs]
    figure = new_figure(8, 4.2)
    axes = figure.add_subplot(xlabel="tracks per artist", ylabel="artists")
    axes.spines[["top", "right"]].set_visible(False)
    bars = axes.bar(names, artists, color=_BLUE)
    axes.bar_label(bars, [f"{count:,}" for count in artists], padding=2, fontsize=8.5)
    return figure, f"{statistics.artists:,} artists by their number of tracks"


def _plot_durations(statistics: DatasetStatistics) -> tuple[Figure, str]:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

    def time(seconds: float, _: object = None) -> str:
        return f"{seconds:.3g} s" if seconds < 60 else format_time(seconds)

    seconds = np.maximum(statistics.durations_s, 1e-3)
    low, high = 0.9 * float(seconds.min()), 1.1 * float(seconds.max())
    edges = min(60, max(10, round(2 * len(seconds) ** 0.5))) + 1
    figure = new_figure(8, 4.2)
    source = SOURCES[statistics.duration_source]
    axes = figure.add_subplot(xlabel=f"duration, {source}", ylabel="tracks")
    axes.spines[["top", "right"]].set_visible(False)
    if high > _WIDE_RANGE * low:
        bins = np.geomspace(low, high, edges)
        axes.set_xscale("log")
        ticks: list[float] = []
        for tick in _ROUND_TIMES_S:  # at distances that are nearly even
            far = not ticks or tick / ticks[-1] > (high / low) ** (1 / 9)
            ticks += [tick] if low <= tick <= high and far else []
        axes.set_xticks(ticks or [low, high])
        axes.minorticks_off()
    else:
        bins = np.linspace(low, high, edges)
        axes.xaxis.set_major_locator(MultipleLocator(round_step(high - low, 8)))
    axes.xaxis.set_major_formatter(FuncFormatter(time))
    counts, *_ = axes.hist(seconds, bins.tolist(), color=_BLUE, edgecolor="white", linewidth=0.4)
    if np.max(counts) > 0.8 * len(seconds) > 8:  # the other bars would be invisible
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    median = float(np.median(seconds))
    axes.axvline(median, color=_ORANGE, linewidth=1.2)
    tracks = counted(len(seconds), "track")
    return figure, f"durations of {tracks}; the line is the median, {time(median)}"


def _plot_tree(statistics: DatasetStatistics) -> tuple[Figure, str]:
    """Indented bars in several columns, one line per genre."""
    nodes = [node for node in statistics.tree if node.tracks]
    columns = -(-len(nodes) // _TREE_ROWS)
    rows = -(-len(nodes) // columns)
    figure = new_figure(max(5.2 * columns, 7), 0.9 + 0.175 * max(rows, 8))
    panels = figure.subplots(1, columns, squeeze=False)[0]
    roots = [node for node in nodes if node.parent is None]
    colors: dict[int | None, Any] = {
        node.id: color
        for node, color in zip(roots, genre_colors([n.title for n in roots]), strict=True)
    }
    largest = max(node.tracks for node in nodes)
    for index, node in enumerate(nodes):
        color = colors.setdefault(node.id, colors.get(node.parent))
        axes, row = panels[index // rows], index % rows
        length = 0.43 * node.tracks / largest  # in widths of a column
        axes.barh(row, length, left=0.44, height=0.8, color=color)
        weight = "bold" if node.depth == 1 else "normal"
        indent, title = 0.035 * (node.depth - 1), plain_text(node.title, 28)
        axes.text(indent, row, title, va="center", fontsize=7.5, weight=weight, clip_on=True)
        axes.text(0.45 + length, row, f"{node.tracks:,}", va="center", fontsize=7.5)
    for axes in panels:
        axes.set(xlim=(0, 1), ylim=(rows - 0.4, -0.6))
        axes.set_axis_off()
    return figure, f"tracks of {counted(len(nodes), 'genre')}, each with those below it"
