"""One track at a glance: its features over time as seven panels of one picture."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, log_mel, mel_filters, open_audio
from deepmusic.audio.sources import Source, name_of
from deepmusic.errors import AudioError
from deepmusic.features.recipe import RECIPES, Recipe
from deepmusic.features.rhythm import (
    MAX_BPM,
    most_likely_bpm,
    onset_strength,
    tempo_window,
    tempogram_blocks,
)
from deepmusic.features.stft import HOP_LENGTH, N_FFT
from deepmusic.features.track import ASSUMED_RATE, FrameFeatures, feature_columns, track_features
from deepmusic.plotting import new_figure, plain_text, save_png, thin_out, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_S = 600.0
"""No more is read and drawn, unless asked for."""
PITCH_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

_MIN_TEMPO_S = 3.0  # shorter sound has no tempo
_MIN_BPM = 30.0
_RANGE_DB = 80.0
_MAX_COLUMNS = 1000
_IN_MEMORY_SAMPLES = 2**23  # the spectra of longer sound are computed twice; they take 9 B a sample
_BLUE, _ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito


@dataclass(frozen=True)
class Excerpt:
    """Sound of a file at its own sample rate.

    Args:
        samples: ``(n,)`` float32, mono.
        sample_rate: samples per second.
        start_s: where in the file it begins, in seconds.
        is_cut: whether the file goes on, but more would be too long.
        warning: one sentence about sound that was lost; usually None.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    start_s: float = 0.0
    is_cut: bool = False
    warning: str | None = None

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True)
class TrackAnalysis:
    """Features of an excerpt.

    Args:
        excerpt: the sound.
        recipe: of the features.
        features: over time, ``(n, frames)`` by name; those that need a higher sample rate are
            missing.
        columns: ``(518,)`` float32, NaN where there is no value.
        tempo_bpm: beats per minute; None without onsets, or in less than 3 s.
        log_mel: ``(128, k)`` in dB, thinned out to at most 1,000 columns.
        tempogram: ``(lags, k)``, of windows of 8 s, thinned out as well.
    """

    excerpt: Excerpt
    recipe: Recipe
    features: FrameFeatures
    columns: NDArray[np.float32]
    tempo_bpm: float | None
    log_mel: NDArray[np.floating]
    tempogram: NDArray[np.floating]

    @property
    def frequency_scale(self) -> float:
        """Frequencies of the features divided by the true ones; 1 for a corrected recipe."""
        return 1.0 if self.recipe.is_corrected else ASSUMED_RATE / self.excerpt.sample_rate


def read_excerpt(
    source: Source, *, start_s: float = 0.0, seconds: float | None = None, max_s: float = MAX_S
) -> Excerpt:
    """Read a part of a sound file into memory.

    Args:
        source: a path, or a binary file object that can seek.
        start_s: seconds to skip at the start, not negative.
        seconds: seconds to read; None reads to the end.
        max_s: read no more than this in any case.

    Raises:
        AudioError: as in ``deepmusic.audio.open_audio``; ``too_short`` when nothing is left
            after ``start_s``.
    """
    length_s = max_s if seconds is None else min(seconds, max_s)
    parts: list[NDArray[np.float32]] = []
    position = 0
    # one second more, to see whether the file goes on
    with open_audio(source, sample_rate=None, max_seconds=start_s + length_s + 1) as stream:
        first = round(start_s * stream.sample_rate)
        last = first + max(1, round(length_s * stream.sample_rate))
        for block in stream:
            part = block[max(0, first - position) : max(0, last - position)]
            if len(part):
                parts.append(part)
            position += len(block)
            if position > last:
                break
        if not parts:
            raise AudioError(
                f"{name_of(source)} ends before {start_s:g} s: it has only "
                f"{stream.duration_s:.1f} s of sound.",
                code="too_short",
            )
        is_cut = position > last and (seconds is None or seconds > max_s)
        return Excerpt(np.concatenate(parts), stream.sample_rate, start_s, is_cut, stream.warning)


def analyze(excerpt: Excerpt, recipe: Recipe = RECIPES["fma"]) -> TrackAnalysis:
    """Compute all features of an excerpt of at least one sample."""
    samples, sample_rate = excerpt.samples, excerpt.sample_rate
    in_memory = len(samples) <= _IN_MEMORY_SAMPLES
    features = dict(track_features(lambda: [samples], sample_rate, recipe, in_memory=in_memory))
    mel_db = log_mel(samples, LogMelConfig(sample_rate=sample_rate))
    tempogram, bpm = _thin_tempogram(onset_strength(mel_db), sample_rate)
    has_tempo = math.isfinite(bpm) and excerpt.duration_s >= _MIN_TEMPO_S
    return TrackAnalysis(
        excerpt=excerpt,
        recipe=recipe,
        features=features,
        columns=feature_columns(features),
        tempo_bpm=bpm if has_tempo else None,
        log_mel=thin_out(mel_db, _MAX_COLUMNS),
        tempogram=tempogram,
    )


def _thin_tempogram(
    onsets: NDArray[np.floating], sample_rate: int
) -> tuple[NDArray[np.floating], float]:
    """A tempogram of few columns, and the tempo of the whole."""
    window = max(2, tempo_window(sample_rate))
    group = math.ceil(len(onsets) / _MAX_COLUMNS)
    block_columns = max(1, 256 // group)
    total, parts = np.zeros(window), []
    for block in tempogram_blocks(onsets, window_frames=window, block_frames=group * block_columns):
        total += block.sum(axis=1)
        parts.append(thin_out(block, block_columns))
    return np.concatenate(parts, axis=1), most_likely_bpm(total / len(onsets), sample_rate)


def draw_analysis(
    analysis: TrackAnalysis, path: str | os.PathLike[str], *, title: str = "", note: str = ""
) -> None:
    """Draw an analysis as a PNG picture: seven panels over one time axis.

    Frequencies are the true ones, also for a recipe that assumes 22,050 Hz. A panel whose feature
    is missing says why.

    Args:
        analysis: as ``analyze`` returns it.
        path: the picture; a file of that name is replaced.
        title: above the panels.
        note: below the title.

    Raises:
        DeepMusicError: the picture cannot be written.
    """
    figure = new_figure(11, 14)
    heights = (0.9, 1.5, 1.3, 1.3, 1.3, 1.1, 1.0)
    layout = {"width_ratios": (60, 1), "height_ratios": heights}
    panels = figure.subplots(7, 2, sharex="col", gridspec_kw=layout)
    for draw, (axes, bar) in zip(_PANELS, panels, strict=True):
        content = draw(analysis, axes)
        if content is None:
            bar.set_axis_off()
            continue
        image, unit = content
        figure.colorbar(image, cax=bar, label=unit)
    start_s = analysis.excerpt.start_s
    time_axis(panels[-1, 0], start_s, start_s + analysis.excerpt.duration_s)
    figure.suptitle(f"{plain_text(title)}\n{plain_text(note, 140)}", fontsize=11)
    save_png(figure, path, dpi=110)


_Content = tuple[Any, str] | None
"""The image of a panel and the unit of its values; None where it has no image."""


def _draw_waveform(analysis: TrackAnalysis, axes: Axes) -> _Content:
    axes.set(title="Waveform", ylabel="amplitude")
    samples = analysis.excerpt.samples
    starts = np.arange(0, len(samples), math.ceil(len(samples) / (2 * _MAX_COLUMNS)))
    extremes = [np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)]
    seconds = analysis.excerpt.start_s + starts / analysis.excerpt.sample_rate
    axes.plot(np.repeat(seconds, 2), np.stack(extremes).T.ravel(), color=_BLUE, linewidth=0.6)
    limit = 1.05 * float(np.abs(extremes).max()) or 1.0
    axes.set_ylim(-limit, limit)
    return None


def _draw_log_mel(analysis: TrackAnalysis, axes: Axes) -> _Content:
    axes.set(title="Log-mel spectrogram, 128 bands", ylabel="frequency (kHz)")
    config = LogMelConfig(sample_rate=analysis.excerpt.sample_rate)
    top = max(float(analysis.log_mel.max()), config.floor_db + _RANGE_DB)  # silence is dark
    image = _draw_image(analysis, axes, analysis.log_mel, "magma", top - _RANGE_DB, top)
    filters = mel_filters(config)
    centres = filters @ np.fft.rfftfreq(N_FFT, 1 / config.sample_rate)
    # at high sample rates the lowest filters lie between two bins and are empty
    centres = np.maximum.accumulate(centres / np.maximum(filters.sum(axis=1), 1e-12))
    hz = [hz for hz in (500, 1000, 2000, 4000, 8000, 16000, 32000) if hz < centres[-1]]
    rows = np.interp(hz, centres, np.arange(len(centres)))
    axes.set_yticks(rows, [f"{value / 1000:g}" for value in hz])
    return image, "power (dB)"


def _draw_chroma(analysis: TrackAnalysis, axes: Axes) -> _Content:
    axes.set(title="Chroma of the constant-Q transform", ylabel="pitch class")
    if "chroma_cqt" not in analysis.features:
        return _say(axes, "none: the sample rate is too low")
    axes.set_yticks(range(12), PITCH_NAMES, fontsize=7)
    return _draw_image(analysis, axes, analysis.features["chroma_cqt"], "cividis", 0, 1), "max = 1"


def _draw_mfcc(analysis: TrackAnalysis, axes: Axes) -> _Content:
    axes.set(title="MFCC minus their means, without the first (loudness)", ylabel="coefficient")
    mfcc = analysis.features["mfcc"][1:]
    mfcc = mfcc - mfcc.mean(axis=1, keepdims=True)
    limit = max(float(np.percentile(np.abs(mfcc), 99)), 1.0)
    axes.set_yticks(np.array([4, 8, 12, 16, 20]) - 2, ["4", "8", "12", "16", "20"])
    return _draw_image(analysis, axes, mfcc, "RdBu_r", -limit, limit), "dB"


def _draw_tempogram(analysis: TrackAnalysis, axes: Axes) -> _Content:
    axes.set(title="Tempogram", ylabel="beats per minute")
    if analysis.tempo_bpm is None:
        is_short = analysis.excerpt.duration_s < _MIN_TEMPO_S
        return _say(axes, "none: less than 3 s have no tempo" if is_short else "none: no onsets")
    # even steps of a logarithmic scale, interpolated between lags
    octaves = np.linspace(np.log2(_MIN_BPM), np.log2(MAX_BPM), 160)
    lags = 60 * analysis.excerpt.sample_rate / HOP_LENGTH / 2**octaves
    below = np.clip(lags.astype(int), 0, len(analysis.tempogram) - 2)
    weight = np.clip(lags - below, 0, 1)[:, None]
    values = (1 - weight) * analysis.tempogram[below] + weight * analysis.tempogram[below + 1]
    limit = max(float(np.percentile(values, 99.5)), 0.05)
    bpm = np.array([30, 60, 120, 240, analysis.tempo_bpm])
    rows = np.interp(np.log2(bpm), octaves, np.arange(160))
    axes.set_yticks(rows[:-1], ["30", "60", "120", "240"])
    axes.plot(  # beside the panel, where it hides nothing
        1.004, rows[-1], "<", color="black", transform=axes.get_yaxis_transform(), clip_on=False
    )
    axes.set_title(f"Tempogram; the mark at the right is at {analysis.tempo_bpm:.0f}")
    return _draw_image(analysis, axes, values, "magma", 0, limit), "autocorrelation"


def _draw_shape(analysis: TrackAnalysis, axes: Axes) -> _Content:
    axes.set(title="Spectral shape", ylabel="frequency (kHz)")
    names = ("spectral_centroid", "spectral_bandwidth", "spectral_rolloff")
    shape = np.concatenate([analysis.features[name] for name in names])
    if not shape.any():
        return _say(axes, "none: silence")
    thinned = thin_out(shape, _MAX_COLUMNS)
    left, right = _extent(analysis)
    seconds = left + (np.arange(thinned.shape[1]) + 0.5) * (right - left) / thinned.shape[1]
    khz = np.where(thinned[0] > 0, thinned, np.nan) / (1000 * analysis.frequency_scale)
    centroid, bandwidth, rolloff = khz
    low, high = np.maximum(centroid - bandwidth, 0), centroid + bandwidth
    axes.fill_between(seconds, low, high, color=_BLUE, alpha=0.2, linewidth=0, label="± bandwidth")
    axes.plot(seconds, rolloff, color=_ORANGE, linewidth=1, alpha=0.7, label="85 % roll-off")
    axes.plot(seconds, centroid, color=_BLUE, linewidth=1, label="centroid")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", ncols=3, frameon=False, fontsize=8)
    return None


def _draw_contrast(analysis: TrackAnalysis, axes: Axes) -> _Content:
    axes.set(title="Spectral contrast: peaks above valleys", ylabel="frequency (kHz)")
    contrast = analysis.features.get("spectral_contrast")
    if contrast is None:
        return _say(axes, "none: the sample rate is too low")
    khz = np.array([0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]) / analysis.frequency_scale
    edges = [*khz, analysis.excerpt.sample_rate / 2000]
    axes.set_yticks(np.arange(8) - 0.5, [f"{edge:.2g}" for edge in edges])
    limit = max(float(contrast.max()), 1.0)
    return _draw_image(analysis, axes, contrast, "viridis", 0, limit), "dB"


_PANELS = (
    _draw_waveform,
    _draw_log_mel,
    _draw_chroma,
    _draw_mfcc,
    _draw_tempogram,
    _draw_shape,
    _draw_contrast,
)


def _say(axes: Axes, text: str) -> _Content:
    """Write into a panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.35")
    axes.set_yticks([])
    return None


def _extent(analysis: TrackAnalysis) -> tuple[float, float]:
    """Start and end of all frames in seconds; a frame is in the middle of its hop."""
    hop_s = HOP_LENGTH / analysis.excerpt.sample_rate
    frames = 1 + len(analysis.excerpt.samples) // HOP_LENGTH
    left = analysis.excerpt.start_s - hop_s / 2
    return left, left + frames * hop_s


def _draw_image(
    analysis: TrackAnalysis, axes: Axes, values: NDArray[Any], cmap: str, low: float, high: float
) -> Any:
    """Draw ``(n, frames)``, thinned out or not yet, with the first row at the bottom."""
    return axes.imshow(
        thin_out(values, _MAX_COLUMNS),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(*_extent(analysis), -0.5, len(values) - 0.5),
        cmap=cmap,
        vmin=low,
        vmax=high,
    )
