"""Explanations of a genre: which times and which bands of the sound spoke for it.

The sound is cut into patches, these into cells of time and frequency, and each cell gets its share
in the genre's log-odds (`deepmusic.classifier.evidence`). The background, from which they are
counted, is each mel's mean level over the track: sound in which nothing happens. The shipped model
finds no genre in it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, Source, mel_filters, wrap
from deepmusic.classifier.data import whole_spectrogram
from deepmusic.classifier.evidence import over_time, shapley_evidence
from deepmusic.errors import DeepMusicError
from deepmusic.plotting import new_figure, plain_text, save_png, thin_out, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from deepmusic.classifier.ear.classifier import EarClassifier
    from deepmusic.classifier.inference import Classifier

MAX_SECONDS = 600.0
"""Longer explanations would not fit into a plot."""
_MAX_PATCHES = 10  # spread evenly over a longer track, so that any takes seconds
_MAX_COLUMNS = 1500  # of a plot
_FOR, _AGAINST = (0.90, 0.42, 0.0), (0.10, 0.35, 0.75)  # red, green, blue


@dataclass(frozen=True)
class Explanation:
    """What made a model choose a genre (axes: m mels, f bands, t frames).

    Args:
        genre: the explained genre.
        image: ``(m, t)``, the spectrogram in dB; silent stretches are empty.
        evidence: ``(f, t)``, what each cell adds to the genre's log-odds, natural logarithm;
            negative against it. Its sum is ``score - background``. Zero where a long track was
            not analysed.
        score: log-odds of the genre in the sound.
        background: log-odds of the genre without any cell.
        log_mel: settings of the image's frames and mels.
    """

    genre: str
    image: NDArray[np.float32]
    evidence: NDArray[np.float64]
    score: float
    background: float
    log_mel: LogMelConfig

    @property
    def seconds(self) -> float:
        """Length of the explained part."""
        return float(self.image.shape[1] / self.log_mel.frames_per_second)

    @property
    def mel_hz(self) -> NDArray[np.float64]:
        """``(m,)``, centre frequency of each mel."""
        weights = mel_filters(self.log_mel).astype(np.float64)
        hz = np.linspace(0, self.log_mel.sample_rate / 2, weights.shape[1])
        centres: NDArray[np.float64] = weights @ hz / np.maximum(weights.sum(axis=1), 1e-12)
        return centres


def explain(
    classifier: Classifier | EarClassifier,
    source: Source,
    *,
    genre: str | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Explanation:
    """Explain a genre of a track.

    Args:
        classifier: any.
        source: a path, a seekable binary file object, or a pair ``(samples, sample_rate)``.
        genre: the genre to explain; None takes the most probable.
        max_seconds: length of the beginning of the track that is explained.

    Raises:
        AudioError: the track cannot be decoded, or is silent.
        DeepMusicError: the model does not know the genre.
    """
    genres, config = classifier.genres, classifier.log_mel
    if genre not in (None, *genres):
        known = ", ".join(genres)
        raise DeepMusicError(f"The model does not know the genre {genre!r}; it knows {known}.")
    log_mel, gate = whole_spectrogram(source, config, max_seconds=max_seconds)
    length, frames = classifier.patch_frames, log_mel.shape[1]
    whole = wrap(log_mel, length)
    count = min(math.ceil(whole.shape[1] / length), _MAX_PATCHES)
    starts = np.linspace(0, whole.shape[1] - length, count).round().astype(int)
    patches = np.stack([whole[:, start : start + length] for start in starts]).astype(np.float32)
    background = np.broadcast_to(log_mel.mean(axis=1, keepdims=True), patches.shape)
    score = classifier.patch_scores
    if genre is None:
        genre = genres[int(np.argmax(classifier.track_scores(score(patches))))]
    target = genres.index(genre)

    def log_odds(scores: NDArray[np.floating]) -> float:
        log_scores = classifier.track_scores(np.asarray(scores, np.float32))
        shares = classifier.calibration.probabilities(log_scores)
        return math.log(shares[target] / np.delete(shares, target).sum())

    bands, columns = classifier.explained_cells
    evidence = shapley_evidence(
        patches,
        background,
        score,
        log_odds,
        bands=math.gcd(config.n_mels, bands),
        columns=min(columns, length),
    )
    gaps = gate.gaps(config.frames_per_second)  # silence is seen, but speaks for nothing
    by_frame = over_time(evidence, starts, length=length, frames=frames)
    return Explanation(
        genre,
        np.insert(log_mel, gaps, config.floor_db, axis=1),
        np.insert(by_frame, gaps, 0.0, axis=1),
        score=log_odds(score(patches)),
        background=log_odds(score(background)),
        log_mel=config,
    )


def draw_explanation(
    explanation: Explanation, path: str | os.PathLike[str], title: str = ""
) -> None:
    """Plot an explanation as a PNG file.

    The spectrogram in grey; orange cells count for the genre, blue ones against it, in full colour
    at the strongest percent. Below and beside it, the sums of the evidence over time and by band.

    Args:
        explanation: as `explain` gives it.
        path: the file; an existing one is replaced.
        title: printed literally; the sum of the evidence follows.

    Raises:
        DeepMusicError: the plot cannot be written.
    """
    figure = new_figure(11, 7)
    (picture, by_band), (by_time, corner) = figure.subplots(
        2, 2, height_ratios=(4, 1.6), width_ratios=(7, 1), sharex="col", sharey="row"
    )
    corner.set_axis_off()
    genre = plain_text(explanation.genre, 24)
    total = explanation.score - explanation.background
    figure.suptitle(
        f"{plain_text(title, 90)}\nevidence for {genre}: {total:+.2f} in all, from log-odds of "
        f"{explanation.background:+.2f} to {explanation.score:+.2f}",
        fontsize="medium",
    )
    _draw_image(explanation, picture)
    picture.set_title(f"orange: for {genre}, blue: against", fontsize="small")
    evidence = explanation.evidence
    rows = len(explanation.image) / len(evidence)
    sums = evidence.sum(axis=1)
    centres = (np.arange(len(sums)) + 0.5) * rows - 0.5
    by_band.barh(centres, sums, height=0.9 * rows, color=_colors(sums))
    by_band.axvline(0, color="black", linewidth=0.8)
    by_band.set_xlabel("by band")
    by_band.xaxis.set_tick_params(labelbottom=True)
    seconds = round(explanation.log_mel.frames_per_second)
    edges = np.arange(0, evidence.shape[1], max(seconds, evidence.shape[1] // 120))
    sums = np.add.reduceat(evidence.sum(axis=0), edges)
    ends = np.append(edges, evidence.shape[1]) / explanation.log_mel.frames_per_second
    by_time.bar(ends[:-1], sums, np.diff(ends) * 0.9, align="edge", color=_colors(sums))
    by_time.axhline(0, color="black", linewidth=0.8)
    by_time.set_ylabel("over time")
    time_axis(by_time, 0, explanation.seconds)
    save_png(figure, path, dpi=110)


def _colors(values: NDArray[np.floating]) -> list[tuple[float, float, float]]:
    return [_FOR if value > 0 else _AGAINST for value in values]


def _draw_image(explanation: Explanation, axes: Axes) -> None:
    image = thin_out(explanation.image, _MAX_COLUMNS)
    extent = (0.0, explanation.seconds, -0.5, len(image) - 0.5)
    options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": extent}
    loudest = float(image.max())
    axes.imshow(image, cmap="gray_r", vmin=loudest - 70, vmax=loudest, alpha=0.6, **options)
    evidence = thin_out(explanation.evidence, _MAX_COLUMNS)
    strength = np.clip(evidence / max(float(np.percentile(np.abs(evidence), 99)), 1e-12), -1, 1)
    colors = np.where(strength[..., None] > 0, _FOR, _AGAINST)
    alpha = np.abs(strength)[..., None] * 0.85
    axes.imshow(np.concatenate([colors, alpha], axis=2), interpolation="nearest", **options)
    mel_hz = explanation.mel_hz
    ticks = [hz for hz in (125, 250, 500, 1000, 2000, 4000, 8000) if hz < mel_hz[-1]]
    axes.set_yticks(np.interp(ticks, mel_hz, np.arange(len(mel_hz))), map(str, ticks))
    axes.set_ylabel("frequency (Hz)")
