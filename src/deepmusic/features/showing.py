"""One track as a person looks at it first: a tall picture of what is told from it, over time.

The track is read once and what is drawn is thinned to a thousand columns, so that ten minutes draw
as quickly as ten seconds.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, LogMelStream, mel_filters, open_audio
from deepmusic.audio.sources import Source, name_of
from deepmusic.errors import AudioError
from deepmusic.features.recipe import Recipe, recipe_named
from deepmusic.features.rhythm import (
    HIGHEST_BPM,
    likeliest_bpm,
    onset_strength,
    tempo_window,
    tempogram_blocks,
)
from deepmusic.features.spectra import FFT_SIZE, HOP
from deepmusic.features.track import Rows, families_of, feature_columns
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_S = 600.0
"""No more is read and drawn, unless asked for."""

PITCH_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

_ASSUMED_RATE = 22050.0
_TEMPO_FROM_S = 3.0  # in less there is no tempo
_LOWEST_BPM = 30.0
_RANGE_DB = 80.0
_COLUMNS = 1000
_BLOCK_SAMPLES = 2**16
_KEPT_SAMPLES = 2**23  # of longer sound no spectra are kept, which take 9 bytes a sample
_WIDTH_IN, _HEIGHT_IN, _DPI = 11.0, 14.0, 110
_BLUE, _ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's


@dataclass(frozen=True)
class Excerpt:
    """Sound of a file at its own rate.

    Args:
        samples: ``(n,)`` float32, mono.
        sample_rate: samples per second.
        start_s: where in the file it begins, in seconds.
        is_cut: whether it ends for no other reason than that more would be too long.
        warning: how much was heard and why not more, when sound was lost; None as a rule.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    start_s: float = 0.0
    is_cut: bool = False
    warning: str | None = None


@dataclass(frozen=True)
class Portrait:
    """What is told from an excerpt, the pictures of it thinned to be drawn.

    Args:
        sample_rate, start_s: of the :class:`Excerpt`.
        duration_s: seconds of it.
        recipe: by which the features were made.
        rows: features over time, ``(rows, frames)`` each; what the rate is too low for is missing.
        columns: ``(518,)`` float32, NaN where there is no value.
        tempo_bpm: beats a minute; None without onsets, or in less than 3 s.
        waveform: ``(2, k)``, the lowest and the highest sample of neighbours.
        log_mel: ``(128, k)`` in dB, means of neighbouring frames.
        tempogram: ``(lags, k)``, as :func:`~deepmusic.features.rhythm.tempogram` gives it for
            windows of 8 s, means of neighbouring frames.
    """

    sample_rate: int
    start_s: float
    duration_s: float
    recipe: Recipe
    rows: Rows
    columns: NDArray[np.float32]
    tempo_bpm: float | None
    waveform: NDArray[np.float32]
    log_mel: NDArray[np.floating]
    tempogram: NDArray[np.floating]


def read_excerpt(
    source: Source,
    *,
    start_s: float = 0.0,
    seconds: float | None = None,
    most_s: float = LONGEST_S,
) -> Excerpt:
    """Read a part of a sound file into memory.

    Args:
        source: a path, or a binary file object that can seek.
        start_s: seconds to leave out at the start.
        seconds: seconds to read; None reads to the end.
        most_s: read no more than this in any case.

    Raises:
        AudioError: as in :func:`deepmusic.audio.open_audio`; ``too_short`` when nothing is left
            after ``start_s``.
        ValueError: a number is out of range.
    """
    wanted_s = most_s if seconds is None else min(seconds, most_s)
    if not (0 <= start_s < math.inf and 0 < wanted_s < math.inf):
        raise ValueError(
            "start_s is at least 0, seconds and most_s are above 0; "
            f"got {start_s}, {seconds}, {most_s}"
        )
    kept: list[NDArray[np.float32]] = []
    position = 0
    # a second more than is wanted tells whether there is more
    with open_audio(source, sample_rate=None, max_seconds=start_s + wanted_s + 1) as stream:
        first = round(start_s * stream.sample_rate)
        last = first + max(1, round(wanted_s * stream.sample_rate))
        for block in stream:
            part = block[max(0, first - position) : max(0, last - position)]
            if len(part):
                kept.append(part)
            position += len(block)
            if position > last:
                break
        if not kept:
            raise AudioError(
                f"{name_of(source)} ends before {start_s:g} s: only {stream.duration_s:.1f} s of "
                "sound are in it.",
                code="too_short",
            )
        is_cut = position > last and (seconds is None or seconds > most_s)
        warning = None if position > last else stream.warning
        return Excerpt(np.concatenate(kept), stream.sample_rate, start_s, is_cut, warning)


def portray(excerpt: Excerpt, recipe: Recipe | str = "fma") -> Portrait:
    """Tell all features of an excerpt.

    Args:
        excerpt: of at least one sample, all finite.
        recipe: a version of the recipe, or its name.

    Raises:
        RequestError: there is no such recipe.
    """
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    samples, sample_rate = excerpt.samples, excerpt.sample_rate
    is_short = len(samples) <= _KEPT_SAMPLES
    rows = dict(families_of(lambda: _blocks(samples), sample_rate, recipe, keeps=is_short))
    mel_db = _log_mel(samples, sample_rate)
    repeats, bpm = _repeats(onset_strength(mel_db), sample_rate)
    has_tempo = math.isfinite(bpm) and len(samples) >= _TEMPO_FROM_S * sample_rate
    return Portrait(
        sample_rate=sample_rate,
        start_s=excerpt.start_s,
        duration_s=len(samples) / sample_rate,
        recipe=recipe,
        rows=rows,
        columns=feature_columns(rows),
        tempo_bpm=bpm if has_tempo else None,
        waveform=_waveform(samples),
        log_mel=_thinned(mel_db),
        tempogram=repeats,
    )


def assumed_share(portrait: Portrait) -> float:
    """What share of the true frequencies a portrait's features give; 1 for a corrected recipe."""
    return 1.0 if portrait.recipe.is_corrected else _ASSUMED_RATE / portrait.sample_rate


def _blocks(samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(samples), _BLOCK_SAMPLES):
        yield samples[start : start + _BLOCK_SAMPLES]


def _log_mel(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    stream = LogMelStream(LogMelConfig(sample_rate=sample_rate, n_fft=FFT_SIZE, hop_length=HOP))
    parts = [stream.push(block) for block in _blocks(samples)]
    return np.concatenate([*parts, stream.flush()], axis=1)


def _repeats(onsets: NDArray[np.floating], sample_rate: int) -> tuple[NDArray[np.floating], float]:
    """A thinned tempogram, and the tempo of all of it."""
    window = max(2, tempo_window(sample_rate))
    together = _together(len(onsets))
    total = np.zeros(window)
    parts = []
    # whole groups a block, so that no group is torn
    size = max(1, 256 // together) * together
    for block in tempogram_blocks(onsets, window_frames=window, block_frames=size):
        total += block.sum(axis=1)
        parts.append(_means(block, together))
    return np.concatenate(parts, axis=1), likeliest_bpm(total / len(onsets), sample_rate)


def _waveform(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    starts = np.arange(0, len(samples), -(-len(samples) // (2 * _COLUMNS)))
    ends = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    return np.stack(ends)


def _together(frames: int) -> int:
    """How many neighbouring frames make a column."""
    return -(-frames // _COLUMNS)


def _thinned(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """``(rows, frames)`` as at most a thousand columns."""
    return _means(values, _together(values.shape[1]))


def _means(values: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """Means of ``size`` neighbouring columns; the last has what is left."""
    starts = np.arange(0, values.shape[1], size)
    sums = np.add.reduceat(values, starts, axis=1, dtype=np.float64)
    return np.asarray(sums / np.diff([*starts, values.shape[1]]))


def draw_portrait(
    portrait: Portrait, path: str | os.PathLike[str], *, title: str = "", note: str = ""
) -> None:
    """Draw a portrait as a PNG picture: seven panels over one axis of time.

    Frequencies are true ones, also for a recipe that takes all sound for 22,050 Hz. A panel whose
    feature is missing says why.

    Args:
        portrait: as :func:`portray` gives it.
        path: the picture to write; a file of that name is replaced.
        title: what stands above, as it is (no mathematics, no markup).
        note: what stands below the title, in smaller letters.

    Raises:
        DeepMusicError: the picture cannot be written.
    """
    # the object interface: pyplot would keep every figure and choose a window system
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN))
    FigureCanvasAgg(figure)
    panels = _panels(figure)
    draws = (
        _draw_waveform,
        _draw_log_mel,
        _draw_chroma,
        _draw_mfcc,
        _draw_tempogram,
        _draw_shape,
        _draw_contrast,
    )
    for draw, (axes, bar) in zip(draws, panels, strict=True):
        draw(portrait, axes, bar)
        if not bar.has_data():
            bar.set_axis_off()
        axes.tick_params(labelsize=8, labelbottom=axes is panels[-1][0])
    _draw_time(portrait, panels[-1][0])
    head: dict[str, Any] = {"ha": "center", "parse_math": False}
    figure.text(0.5, 1 - 0.28 / _HEIGHT_IN, _shown(title, 90), fontsize=13, **head)
    figure.text(0.5, 1 - 0.5 / _HEIGHT_IN, _shown(note, 140), fontsize=9, color="0.35", **head)
    with warnings.catch_warnings(), write_atomically(path, "wb") as file:
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure.savefig(file, format="png", dpi=_DPI)


def _panels(figure: Figure) -> list[tuple[Axes, Axes]]:
    """Panels one below the other, with places for colour bars beside them."""
    grid = figure.add_gridspec(
        7,
        2,
        width_ratios=(60, 1),
        height_ratios=(0.9, 1.5, 1.3, 1.3, 1.3, 1.1, 1.0),
        left=0.085,
        right=0.925,
        top=1 - 0.85 / _HEIGHT_IN,
        bottom=0.6 / _HEIGHT_IN,
        wspace=0.03,
        hspace=0.3,
    )
    first = figure.add_subplot(grid[0, 0])
    lower = [figure.add_subplot(grid[row, 0], sharex=first) for row in range(1, 7)]
    bars = [figure.add_subplot(grid[row, 1]) for row in range(7)]
    return list(zip([first, *lower], bars, strict=True))


def _draw_waveform(portrait: Portrait, axes: Axes, bar: Axes) -> None:
    _head(axes, "Waveform", "amplitude")
    columns = portrait.waveform.shape[1]
    seconds = portrait.start_s + np.arange(columns) * portrait.duration_s / columns
    # from the lowest to the highest and on: a plain line where a column is one sample
    axes.plot(np.repeat(seconds, 2), portrait.waveform.T.ravel(), color=_BLUE, linewidth=0.6)
    peak = float(np.abs(portrait.waveform).max())
    height = 1.05 * peak if peak else 1.0
    axes.set_ylim(-height, height)
    axes.grid(alpha=0.25)


def _draw_log_mel(portrait: Portrait, axes: Axes, bar: Axes) -> None:
    _head(axes, "Log-mel spectrogram, 128 bands", "frequency (kHz)")
    config = LogMelConfig(sample_rate=portrait.sample_rate)
    # silence is dark, and not as bright as its loudest
    top = max(float(portrait.log_mel.max()), config.floor_db + _RANGE_DB)
    image = _draw_image(portrait, axes, portrait.log_mel, "magma", top - _RANGE_DB, top)
    _draw_bar(axes, image, bar, "power (dB)")
    filters = mel_filters(config)
    centres = filters @ np.fft.rfftfreq(FFT_SIZE, 1 / config.sample_rate)
    # at high rates the lowest filters fall between two bins and are empty
    centres = np.maximum.accumulate(centres / np.maximum(filters.sum(axis=1), 1e-12))
    hz = [hz for hz in (32000, 16000, 8000, 4000, 2000, 1000, 500, 250) if hz < centres[-1]]
    places = np.interp(hz, centres, np.arange(len(centres)))
    apart = np.diff(places, prepend=np.inf) < -8  # or their names overlap
    names = [f"{f / 1000:g}" for f, is_apart in zip(hz, apart, strict=True) if is_apart]
    axes.set_yticks(places[apart], names)


def _draw_chroma(portrait: Portrait, axes: Axes, bar: Axes) -> None:
    _head(axes, "Chroma of the constant-Q transform", "pitch class")
    if "chroma_cqt" not in portrait.rows:
        _say(
            axes,
            f"none: it needs some 16,780 samples per second, and here are {portrait.sample_rate:,}",
        )
        return
    chroma = _thinned(portrait.rows["chroma_cqt"])
    image = _draw_image(portrait, axes, chroma, "cividis", 0, 1)
    _draw_bar(axes, image, bar, "strongest = 1")
    axes.set_yticks(range(12), PITCH_NAMES, fontsize=7)


def _draw_mfcc(portrait: Portrait, axes: Axes, bar: Axes) -> None:
    _head(axes, "MFCC, each about its mean; the first, which is loudness, left out", "coefficient")
    mfcc = _thinned(portrait.rows["mfcc"])[1:]
    # about zero, or the second alone would have all the colour
    mfcc = mfcc - mfcc.mean(axis=1, keepdims=True)
    # a few large values must not pale all others
    most = max(float(np.percentile(np.abs(mfcc), 99)), 1.0)
    image = _draw_image(portrait, axes, mfcc, "RdBu_r", -most, most)
    _draw_bar(axes, image, bar, "dB")
    axes.set_yticks(np.array([2, 5, 10, 15, 20]) - 2, ["2", "5", "10", "15", "20"])


def _draw_tempogram(portrait: Portrait, axes: Axes, bar: Axes) -> None:
    unit = "beats a minute"
    _head(axes, "Tempogram", unit)
    if portrait.tempo_bpm is None:
        is_short = portrait.duration_s < _TEMPO_FROM_S
        _say(axes, "none: under 3 s there is no tempo" if is_short else "none: there are no onsets")
        return
    # even steps of a logarithmic scale, between whole lags
    octaves = np.linspace(np.log2(_LOWEST_BPM), np.log2(HIGHEST_BPM), 160)
    lags = 60 * portrait.sample_rate / HOP / 2**octaves
    below = np.clip(lags.astype(int), 0, len(portrait.tempogram) - 2)
    part = np.clip(lags - below, 0, 1)[:, None]
    shown = (1 - part) * portrait.tempogram[below] + part * portrait.tempogram[below + 1]
    most = max(float(np.percentile(shown, 99.5)), 0.05)
    image = _draw_image(portrait, axes, shown, "magma", 0, most)
    _draw_bar(axes, image, bar, "autocorrelation")
    bpm = np.array([30, 60, 120, 240])
    axes.set_yticks(np.interp(np.log2(bpm), octaves, np.arange(160)), map(str, bpm))
    at = np.interp(np.log2(portrait.tempo_bpm), octaves, np.arange(160))
    # beside the panel: a line would hide what it points at
    where = axes.get_yaxis_transform()
    axes.plot(1.004, at, "<", color="black", markersize=6, transform=where, clip_on=False)
    _head(axes, f"Tempogram; the mark at the right is at {portrait.tempo_bpm:.0f}", unit)


def _draw_shape(portrait: Portrait, axes: Axes, bar: Axes) -> None:
    _head(axes, "Shape of the spectrum", "frequency (kHz)")
    names = ("spectral_centroid", "spectral_bandwidth", "spectral_rolloff")
    shape = np.concatenate([portrait.rows[name] for name in names])
    if not shape.any():
        _say(axes, "none: all is silent")
        return
    # from edge to edge: a frame stands at its middle
    shown = np.pad(_thinned(shape), ((0, 0), (1, 1)), mode="edge")
    seconds = _column_times(portrait, shape.shape[1])
    centre, width, rolloff = np.where(shown[0] > 0, shown, np.nan) / (
        1000 * assumed_share(portrait)
    )
    low, high = np.maximum(centre - width, 0), centre + width
    axes.fill_between(seconds, low, high, color=_BLUE, alpha=0.2, linewidth=0, label="± bandwidth")
    axes.plot(seconds, rolloff, color=_ORANGE, linewidth=1, alpha=0.7, label="85 % lie below")
    axes.plot(seconds, centre, color=_BLUE, linewidth=1, label="centroid")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.01, 0.96), ncols=3, frameon=False, fontsize=8.5
    )


def _draw_contrast(portrait: Portrait, axes: Axes, bar: Axes) -> None:
    _head(axes, "Spectral contrast: peaks above valleys, band by band", "frequency (kHz)")
    if "spectral_contrast" not in portrait.rows:
        _say(
            axes,
            f"none: it needs more than 12,800 samples per second, not {portrait.sample_rate:,}",
        )
        return
    contrast = _thinned(portrait.rows["spectral_contrast"])
    image = _draw_image(portrait, axes, contrast, "viridis", 0, max(float(contrast.max()), 1.0))
    _draw_bar(axes, image, bar, "dB")
    khz = np.array([0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]) / assumed_share(portrait)
    edges = [*khz, portrait.sample_rate / 2000]
    axes.set_yticks(np.arange(8) - 0.5, [f"{f:.2g}" if f < 1 else f"{f:.3g}" for f in edges])


def _head(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, pad=4)
    axes.set_ylabel(unit, fontsize=8.5)
    axes.yaxis.set_label_coords(-0.055, 0.5)


def _say(axes: Axes, text: str) -> None:
    """Say in a panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.35")
    axes.set_yticks([])
    axes.set_facecolor("0.95")


def _column_times(portrait: Portrait, frames: int) -> NDArray[np.float64]:
    """Seconds of the start, of the middles of the columns of so many frames, and of the end."""
    together = _together(frames)
    first = np.arange(0, frames, together)
    middle = (np.minimum(first + together, frames) - 1 + first) / 2 * HOP / portrait.sample_rate
    return portrait.start_s + np.concatenate([[0], middle, [portrait.duration_s]])


def _draw_image(
    portrait: Portrait,
    axes: Axes,
    values: NDArray[np.floating],
    colours: str,
    least: float,
    most: float,
) -> Any:
    """Rows from below, columns from the start; a frame stands in the middle of its hop."""
    frames = 1 + round(portrait.duration_s * portrait.sample_rate) // HOP
    hop_s = HOP / portrait.sample_rate
    # the last window hears what comes after its hop: up to the end nothing stays white
    shown = np.pad(values, ((0, 0), (0, 1)), mode="edge")
    left = portrait.start_s - hop_s / 2
    right = left + shown.shape[1] * _together(frames) * hop_s
    return axes.imshow(
        shown,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(left, right, -0.5, len(values) - 0.5),
        cmap=colours,
        vmin=least,
        vmax=most,
    )


def _draw_bar(axes: Axes, image: Any, bar: Axes, unit: str) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    drawn = figure.colorbar(image, cax=bar)
    drawn.set_label(unit, fontsize=8)
    drawn.outline.set_visible(False)
    bar.tick_params(labelsize=7)


def _draw_time(portrait: Portrait, axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    start, stop = portrait.start_s, portrait.start_s + portrait.duration_s
    step = _tick_s(portrait.duration_s)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    axes.set_xlim(start, stop)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _clock(seconds, decimals)))
    axes.set_xlabel("time (h:mm:ss)" if stop >= 3600 else "time (m:ss)", fontsize=9)


def _tick_s(length_s: float) -> float:
    """A round distance between labels that gives at most a dozen of them."""
    below = [digit / 10**power for power in (4, 3, 2, 1) for digit in (1, 2, 5)]
    above = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]
    hours = 3600.0 * math.ceil(length_s / (12 * 3600))
    return next((step for step in (*below, *above) if length_s <= 12 * step), hours)


def _clock(seconds: float, decimals: int = 0) -> str:
    """Such as "1:05", "1:00:05" or "0:00.25"."""
    minutes, rest = divmod(round(seconds, decimals), 60)
    width = 3 + decimals if decimals else 2
    tail = f"{rest:0{width}.{decimals}f}"
    if minutes >= 60:
        return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{tail}"
    return f"{int(minutes)}:{tail}"


def _shown(text: str, most: int) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= most else shown[: most - 3] + "..."
