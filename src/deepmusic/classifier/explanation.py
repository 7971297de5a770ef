"""Explanations of a genre: at which times, in which bands, by which statistics of the sound.

Everything is derived from the votes of the ensemble's capsules. A child capsule's vote for a genre
is its share in the length of that genre's pose before the squash: coupling times the child's
prediction, projected on the pose. Votes are means over the networks.

*Over time*: the votes of the position capsules (one per 16 columns of the image, 0.74 s with the
default settings), for every genre.

*Over time and frequency*: a position capsule reads all bands at once, so its votes do not depend on
frequency. The sum of the genre's votes is therefore traced back to the image by gradient times
input, where input is the deviation from each band's mean in training (Shrikumar et al., Not just a
black box, 2016). To first order this is the contribution of each cell; it is not the effect of
removing it. The plot smooths it.

*Parts*: the shares of the position capsules and of each family of statistics in the sum. Texture
capsules are linear in the statistics, so this split is exact; their votes for average sound are the
*offset*.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig, mel_filters, segment_batches, wrap
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.data import whole_spectrogram
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import TEXTURE_FAMILIES, CapsuleClassifier, Views, views
from deepmusic.errors import AudioError, DeepMusicError
from deepmusic.plotting import (
    legend_label,
    new_figure,
    plain_text,
    save_png,
    thin_out,
    time_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_SECONDS = 600.0
"""Longer explanations would not fit into a plot."""
_BATCH_SIZE = 8  # segments whose gradients are held together
_POSITION_COLUMNS = 16  # of the image, per position of the stem
_MAX_COLUMNS = 1500  # of a plot
_FOR, _AGAINST = (0.90, 0.42, 0.0), (0.10, 0.35, 0.75)  # red, green, blue


@dataclass(frozen=True)
class Explanation:
    """What made a model choose a genre (axes: f bands, t frames, o genres).

    Args:
        genre: the explained genre.
        genres: all genres of the model.
        image: ``(f, t)``, the spectrogram in dB, neighbouring mels averaged.
        evidence: ``(f, t)``, contribution of each cell to the sum of the genre's votes; negative
            against it. None for a model without position capsules.
        votes: ``(o, t)``, sum of the votes of the position capsules around each frame; None
            likewise.
        parts: the summands of the genre's votes, averaged over segments and networks:
            ``"positions"`` and, for a model with texture capsules, ``"timbre"``,
            ``"correlation"``, ``"movement"`` and ``"offset"``.
        log_mel: settings of the image's frames and mels.
    """

    genre: str
    genres: tuple[str, ...]
    image: NDArray[np.float32]
    evidence: NDArray[np.float32] | None
    votes: NDArray[np.float32] | None
    parts: Mapping[str, float]
    log_mel: LogMelConfig

    @property
    def seconds(self) -> float:
        """Length of the explained part."""
        return float(self.image.shape[1] / self.log_mel.frames_per_second)

    @property
    def band_hz(self) -> NDArray[np.float64]:
        """``(f,)``, centre frequency of each band."""
        weights = mel_filters(self.log_mel).astype(np.float64)
        hz = np.linspace(0, self.log_mel.sample_rate / 2, weights.shape[1])
        centres = weights @ hz / np.maximum(weights.sum(axis=1), 1e-12)
        result: NDArray[np.float64] = centres.reshape(len(self.image), -1).mean(axis=1)
        return result


def explain(
    classifier: Classifier,
    source: str | os.PathLike[str] | BinaryIO,
    *,
    genre: str | None = None,
    max_seconds: float = MAX_SECONDS,
) -> Explanation:
    """Explain a genre of a track.

    Args:
        classifier: with capsules.
        source: a path, or a seekable binary file object.
        genre: the genre to explain; None takes the most probable.
        max_seconds: length of the beginning of the track that is explained.

    Raises:
        AudioError: the track cannot be decoded, or is silent.
        DeepMusicError: the model does not know the genre, or has no capsules.
    """
    config = classifier.config
    _check(config, genre)
    log_mel = whole_spectrogram(source, config.log_mel, max_seconds=max_seconds)
    if config.is_silent(float(log_mel.max())):
        raise AudioError("The explained part is silent.", code="silent")
    whole = wrap(log_mel, config.segment_frames)
    if genre is None:
        genre = config.genres[int(np.argmax(classifier.predict_spectrogram(whole)))]
    target = config.genres.index(genre)
    networks = [n for n in classifier.ensemble.networks if isinstance(n, CapsuleClassifier)]
    frames, step = whole.shape[1], config.frame_step
    coverage = np.zeros(frames, np.float32)
    evidence = np.zeros((config.bands, frames), np.float32)
    votes = np.zeros((len(config.genres), frames), np.float32)
    count, parts = 0, defaultdict[str, float](float)
    for starts, segments in segment_batches(
        whole, length=config.segment_frames, hop=config.hop_frames, batch_size=_BATCH_SIZE
    ):
        inputs = views(torch.from_numpy(segments).to(classifier.device), config)
        for network in networks:
            one = _contributions(network, inputs, target)
            count += len(starts)
            for name, value in one.parts.items():
                parts[name] += value
            for row, start in enumerate(starts):
                # an image may lack the last frames of its segment, too few for a column
                span = slice(start, start + step * inputs.image.shape[2])
                coverage[span] += 1
                evidence[:, span] += np.repeat(one.evidence[row] / step, step, axis=1)
                votes[:, span] += np.repeat(one.votes[row], step, axis=1)
    length = log_mel.shape[1]  # a track shorter than a segment was repeated
    evidence, votes = ((v / coverage.clip(min=1))[:, :length] for v in (evidence, votes))
    return Explanation(
        genre,
        config.genres,
        log_mel.reshape(config.bands, -1, length).mean(axis=1),
        evidence if config.position_types else None,
        votes if config.position_types else None,
        {name: value / count for name, value in parts.items()},
        config.log_mel,
    )


def _check(config: ClassifierConfig, genre: str | None) -> None:
    if config.routing == "none":
        raise DeepMusicError("This model is a plain CNN: it has no capsules to explain it.")
    if genre not in (None, *config.genres):
        genres = ", ".join(config.genres)
        raise DeepMusicError(f"The model does not know the genre {genre!r}; it knows {genres}.")


class _Contributions(NamedTuple):
    """Per segment evidence ``(b, f, t)`` and votes ``(b, o, t)``; parts summed over segments."""

    evidence: NDArray[np.float32]
    votes: NDArray[np.float32]
    parts: dict[str, float]


def _contributions(network: CapsuleClassifier, inputs: Views, target: int) -> _Contributions:
    config = network.config
    deviation = inputs.texture
    if config.texture_capsules:
        # the network clips at 8 deviations, where the gradient is zero
        deviation = (inputs.texture - network.texture_mean) / network.texture_std
        deviation = deviation.clamp(-7.999, 7.999)
        inputs = Views(inputs.image, network.texture_mean + deviation * network.texture_std)
    # no parameter takes part: the gradients of a shared model stay untouched
    with torch.enable_grad():
        inputs = Views(*(view.detach().requires_grad_() for view in inputs))
        output = network(inputs)
        assert output.votes is not None
        direction = F.normalize(output.poses[:, target], dim=-1)  # (b, h)
        # With the bias this is the length of the pose before the squash. To first order a length
        # does not change with the direction along which it is measured, so this is the gradient
        # for fixed direction and couplings.
        total = output.votes[:, :, target].sum() + (direction @ network.genres.bias[target]).sum()
        to_image, to_texture = torch.autograd.grad(total, inputs, allow_unused=True)
    votes = output.votes.detach()
    position_votes, texture_votes = votes.split(
        [votes.shape[1] - config.texture_capsules, config.texture_capsules], dim=1
    )
    parts = {}
    length = inputs.image.shape[2]
    over_time = votes.new_zeros(len(votes), votes.shape[2], length)
    evidence = torch.zeros_like(inputs.image)
    if config.position_types:
        parts["positions"] = float(position_votes[:, :, target].sum())
        by_position = position_votes.unflatten(1, (-1, config.position_types)).sum(dim=2)
        spread = by_position.transpose(1, 2).repeat_interleave(_POSITION_COLUMNS, dim=2)
        spread = spread[..., :length]
        # columns too few for a position of their own belong to the last one
        over_time = F.pad(spread, (0, length - spread.shape[2]), mode="replicate")
        evidence = to_image * (inputs.image.detach() - network.image_mean.unsqueeze(1))
    if config.texture_capsules:
        shares = to_texture * network.texture_std * deviation  # (b, statistics)
        families = torch.split(shares, list(TEXTURE_FAMILIES.values()), dim=1)
        for name, family in zip(TEXTURE_FAMILIES, families, strict=True):
            parts[name] = float(family.sum())
        parts["offset"] = float(texture_votes[:, :, target].sum() - shares.sum())
    return _Contributions(evidence.cpu().numpy(), over_time.cpu().numpy(), parts)


def draw_explanation(
    explanation: Explanation, path: str | os.PathLike[str], title: str = ""
) -> None:
    """Plot an explanation as a PNG file.

    Top: the spectrogram in grey; orange cells count for the genre, blue ones against it (smoothed
    over about 3 bands and 0.2 s, full colour at the strongest percent of cells). Middle: the votes
    over time for every genre. Bottom: the parts of the genre's votes.

    Args:
        explanation: as `explain` gives it.
        path: the file; an existing one is replaced.
        title: printed literally.

    Raises:
        DeepMusicError: the plot cannot be written.
    """
    figure = new_figure(11, 8)
    upper, middle, lower = figure.subplots(3, 1, height_ratios=(4, 2, 1.3))
    figure.suptitle(plain_text(title, 100))
    _draw_image(explanation, upper)
    _draw_votes(explanation, middle)
    values = list(explanation.parts.values())
    colors = [_FOR if value > 0 else _AGAINST for value in values]
    lower.barh(list(explanation.parts), values, color=colors)
    lower.invert_yaxis()
    lower.axvline(0, color="black", linewidth=0.8)
    lower.set_xlabel(f"part of the votes for {plain_text(explanation.genre)}")
    save_png(figure, path, dpi=110)


def _draw_image(explanation: Explanation, axes: Axes) -> None:
    from scipy.ndimage import gaussian_filter

    image = thin_out(explanation.image, _MAX_COLUMNS)
    extent = (0.0, explanation.seconds, -0.5, len(image) - 0.5)
    options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": extent}
    loudest = float(image.max())
    axes.imshow(image, cmap="gray_r", vmin=loudest - 70, vmax=loudest, alpha=0.6, **options)
    if explanation.evidence is not None:
        smooth = gaussian_filter(explanation.evidence, sigma=(1.5, 4))
        smooth = thin_out(smooth, _MAX_COLUMNS)
        strength = np.clip(smooth / max(float(np.percentile(np.abs(smooth), 99)), 1e-9), -1, 1)
        colors = np.where(strength[..., None] > 0, _FOR, _AGAINST)
        alpha = np.abs(strength)[..., None] * 0.85
        axes.imshow(np.concatenate([colors, alpha], axis=2), **options)
    band_hz = explanation.band_hz
    ticks = [hz for hz in (100, 250, 500, 1000, 2000, 4000, 8000) if hz < band_hz[-1]]
    axes.set_yticks(np.interp(ticks, band_hz, np.arange(len(band_hz))), map(str, ticks))
    axes.set_ylabel("frequency (Hz)")
    axes.set_title(f"orange: for {plain_text(explanation.genre)}, blue: against", fontsize="medium")


def _draw_votes(explanation: Explanation, axes: Axes) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("votes over time")
    time_axis(axes, 0, explanation.seconds)
    if explanation.votes is None:
        return
    votes = thin_out(explanation.votes, _MAX_COLUMNS)
    seconds = (np.arange(votes.shape[1]) + 0.5) * explanation.seconds / votes.shape[1]
    for genre, line in zip(explanation.genres, votes, strict=True):
        width = 2.5 if genre == explanation.genre else 1.2
        axes.plot(seconds, line, linewidth=width, label=legend_label(genre))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
