"""What every plot of this package shares: figures, time axes, labels, colours, saving as PNG.

Figures are made without pyplot, which would keep each one and choose a window system.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# as far from one another as colours that are readable on white can be (in OKLab)
_GENRE_COLORS = {
    "jazz": "#0061c2", "hiphop": "#ff8600", "folk": "#3d860c", "rock": "#ff0000",
    "soul": "#aa00c2", "electronic": "#00b6aa", "classical": "#9e5500", "pop": "#ff6d9e",
    "dance": "#619eff", "blues": "#243155", "reggae": "#00c200", "punk": "#c2006d",
    "rnb": "#7949ff", "country": "#aaaa3d", "metal": "#6d000c", "funk": "#ce86ff",
    "ambient": "#006d6d", "indie": "#866192", "disco": "#ff24ff", "world": "#003d00",
    "techno": "#0000ff", "alternative": "#6d0c6d", "house": "#3d00aa", "experimental": "#b69eaa",
}  # fmt: skip
_ALIASES = {"rb": "rnb", "hip": "hiphop", "rap": "hiphop", "international": "world"}
_ROUND_STEPS_S = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400),
)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, laid out so that labels do not overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 100) -> None:
    """Write a figure as a PNG file, atomically; letters may come from any installed font.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.text import Text

    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the fonts lack
        figure.savefig(content, format="png", dpi=dpi)
        texts = figure.findobj(Text)  # labels of ticks are made while drawing
        letters = {ord(c) for text in texts for c in text.get_text() if c.isprintable()}
        if letters := letters.difference(get_font(findfont(FontProperties())).get_charmap()):
            for text in texts:
                text.set_fontfamily([*text.get_fontfamily(), *_fonts_with(frozenset(letters))])
            content = io.BytesIO()
            figure.savefig(content, format="png", dpi=dpi)
    with write_atomically(path, "wb") as file:
        file.write(content.getvalue())


@cache
def _fonts_with(letters: frozenset[int]) -> list[str]:
    """Names of installed fonts that have some of the letters, plain ones first."""
    from matplotlib.font_manager import fontManager, get_font

    names: list[str] = []
    fonts = [font for font in fontManager.ttflist if "Last Resort" not in font.name]  # of boxes
    for font in sorted(fonts, key=lambda font: ("Sans" not in font.name, font.weight != 400)):
        with suppress(OSError, RuntimeError):  # damaged, or removed since
            if letters and (had := letters.intersection(get_font(font.fname).get_charmap())):
                names.append(font.name)
                letters -= had
    if letters:
        _warn_of_boxes()
    return names


@cache  # once
def _warn_of_boxes() -> None:
    lack = "No installed font has some letters of the plots, drawn as boxes: install Noto Sans CJK."
    logging.getLogger(__name__).warning(lack)


def genre_colors(genres: Sequence[str]) -> list[str]:
    """One colour per genre, as ``#rrggbb``.

    A well-known genre has the same colour in every plot, alone or under its longer name ("indie"
    and "Indie Rock"). Any other takes the next colour that is free; from the 25th name on, colours
    repeat.

    Example:
        >>> genre_colors(["Hip-Hop", "polka"])
        ['#ff8600', '#0061c2']
    """
    names = ["".join(filter(str.isalpha, genre.casefold())) for genre in genres]
    first_words = [re.split(r"[^a-z]+", genre.casefold())[0] for genre in genres]
    found: dict[int, str] = {}
    for keys in (names, first_words):
        for index, key in enumerate(keys):
            color = _GENRE_COLORS.get(_ALIASES.get(key, key))
            if index not in found and color is not None and color not in found.values():
                found[index] = color
    palette = list(_GENRE_COLORS.values())
    free = cycle([color for color in palette if color not in found.values()] or palette)
    return [found[index] if index in found else next(free) for index in range(len(genres))]


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


def round_step(length_s: float, most: int) -> float:
    """A round time in seconds that cuts a length into at most so many steps.

    Example:
        >>> round_step(187, 12), round_step(0.3, 8), round_step(5000, 8)
        (30, 0.05, 900)
    """
    step = next((step for step in _ROUND_STEPS_S if length_s <= most * step), None)
    return step or 86400 * math.ceil(length_s / (86400 * most))


def time_axis(axes: Axes, start_s: float, end_s: float) -> None:
    """Label a horizontal axis in seconds as time, with at most a dozen round ticks."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step = round_step(end_s - start_s, 12 if end_s < 3600 else 8)  # hours have long labels
    if step < 0.5:
        step = round_step(end_s - start_s, 8)
    decimals = max(0, -math.floor(math.log10(step)))
    axes.set_xlim(start_s, max(end_s, start_s + 1e-3))
    axes.set_xlabel("time (h:mm:ss)" if end_s >= 3600 else "time (m:ss)")
    axes.xaxis.set_major_locator(MultipleLocator(step))
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
