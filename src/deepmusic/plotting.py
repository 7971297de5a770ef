"""What every plot of this package shares: figures, time axes, labels, colours, saving as PNG.

Figures are made without pyplot, which would keep each one and choose a window system.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROUND_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, laid out so that labels do not overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 100) -> None:
    """Write a figure as a PNG file, atomically.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    with warnings.catch_warnings(), write_atomically(path, "wb") as file:
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks
        figure.savefig(file, format="png", dpi=dpi)


def genre_colors(count: int) -> list[Any]:
    """One colour per genre, the same in every plot."""
    from matplotlib import colormaps

    colors = colormaps["tab10" if count <= 10 else "tab20"]
    return [colors(index % colors.N) for index in range(count)]


def plain_text(text: str, max_length: int = 90) -> str:
    """Text for a title or label: printable, shortened, and never read as mathematics."""
    shown = "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")
    return shown if len(shown) <= max_length else shown[: max_length - 3] + "..."


def legend_label(text: str) -> str:
    """A label as matplotlib shows it; one with a leading underscore would be hidden."""
    return ("\u200b" if text.startswith("_") else "") + plain_text(text)


def format_time(seconds: float, decimals: int = 0) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``, such as ``3:07``; truncated, not rounded.

    Example:
        >>> format_time(187.4), format_time(3661), format_time(0.25, decimals=2)
        ('3:07', '1:01:01', '0:00.25')
    """
    scale = 10**decimals
    whole, fraction = divmod(int(seconds * scale + 1e-6), scale)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f".{fraction:0{decimals}d}" if decimals else ""
    return f"{hours}:{minutes:02d}:{rest:02d}{tail}" if hours else f"{minutes}:{rest:02d}{tail}"


def time_axis(axes: Axes, start_s: float, end_s: float) -> None:
    """Label a horizontal axis in seconds as time, with at most a dozen round ticks."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    length_s = max(end_s - start_s, 1e-3)
    step = next((step for step in _ROUND_STEPS_S if length_s <= 12 * step), None)
    decimals = 1 if step == 0.5 else 0
    axes.set_xlim(start_s, max(end_s, start_s + 1e-3))
    axes.set_xlabel("time (h:mm:ss)" if end_s >= 3600 else "time (m:ss)")
    axes.xaxis.set_major_locator(MultipleLocator(step or 3600 * math.ceil(length_s / 43200)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: format_time(max(s, 0), decimals)))


def thin_out(values: NDArray[Any], max_columns: int) -> NDArray[Any]:
    """Average neighbouring columns (the last axis) until at most ``max_columns`` are left."""
    columns = values.shape[-1]
    if columns <= max_columns:
        return values
    starts = np.arange(0, columns, math.ceil(columns / max_columns))
    sizes = np.diff(np.append(starts, columns))
    thinned: NDArray[Any] = np.add.reduceat(values, starts, axis=-1) / sizes
    return thinned


def draw_confusion(axes: Axes, counts: NDArray[Any], labels: Sequence[str]) -> None:
    """Draw a confusion matrix: true classes as rows, predicted ones as columns, counts inside.

    Args:
        axes: where to draw.
        counts: ``(classes, classes)``.
        labels: one per class.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [legend_label(plain_text(label, 24)) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for row, column in np.ndindex(counts.shape):
        value = counts[row, column]
        text = f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
