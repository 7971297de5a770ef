"""What spoke for a genre: which moments, which frequencies, which statistics of the sound.

All of it is read off the ensemble's own votes. A child capsule's vote for a genre is what it adds
to the length of that genre's pose before the squash: coupling times the child's prediction, taken
along the pose. Votes are means over the networks. Three things are shown:

*Over time*: the votes of the place capsules, moment by moment (16 columns of the image, 0.74 s with
the default settings), for every genre, as they are.

*Over time and frequency*: a place capsule sees all frequencies of its moment at once, so its votes
say nothing of frequency. The sum of the genre's votes is therefore followed back to the image:
gradient times input, input meaning the deviation from each band's mean in training (Shrikumar et
al., Not just a black box, 2016). It tells to first order what each cell contributed, not what would
happen if it were removed, and the picture smooths it.

*Parts*: how much of the sum comes from the place capsules and from each family of statistics. The
texture capsules are linear in the statistics, so their split is exact; what they would say of
average sound is the *offset*.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deepmusic.audio import LogMelConfig, segment_batches, wrap
from deepmusic.audio.mel import mel_filters
from deepmusic.classifier.inference import Classifier
from deepmusic.classifier.model import CapsuleClassifier, Views, views
from deepmusic.classifier.spectrograms import whole_spectrogram
from deepmusic.classifier.texture import TEXTURE_FAMILIES
from deepmusic.errors import AudioError, DeepMusicError
from deepmusic.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_S = 600.0
"""No more than this of a track is explained: a picture could not show it."""
_AT_ONCE = 8  # segments whose gradients are held together
_MOMENT_COLUMNS = 16  # of the image, which the stem folds into one moment
_COLUMNS = 1500  # of a picture
_FOR, _AGAINST = (0.90, 0.42, 0.0), (0.10, 0.35, 0.75)  # red, green, blue


@dataclass(frozen=True)
class Explanation:
    """What spoke for a genre in the explained part of a track (axes: f bands, t frames, o genres).

    Args:
        genre: the genre that is explained.
        genres: all genres of the model.
        image: ``(f, t)``, the spectrogram, neighbouring mels averaged, in dB.
        evidence: ``(f, t)``, what each cell adds to the sum of the genre's votes; below zero it
            spoke against. None for a model without place capsules.
        votes: ``(o, t)``, sum of the place capsules' votes at the moment around each frame; None
            likewise.
        parts: what adds up to the sum of the genre's votes, in the mean over segments and networks:
            ``"positions"`` and, for a model with texture capsules, ``"timbre"``, ``"correlation"``,
            ``"movement"`` and ``"offset"``.
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
        """``(f,)``, centre of each band."""
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
    max_seconds: float = LONGEST_S,
) -> Explanation:
    """Say what in a track spoke for a genre.

    Args:
        classifier: with capsules; other threads may use it meanwhile.
        source: a path, or a binary file object that can seek.
        genre: which genre to explain; None takes the likeliest.
        max_seconds: only the beginning of the track, this long, is explained.

    Raises:
        AudioError: no sound could be had from it, or it is silent.
        DeepMusicError: the model does not know the genre, or has no capsules.
    """
    config = classifier.config
    if config.routing == "none":
        raise DeepMusicError("This model is a plain CNN: it has no capsules that could explain it.")
    if genre is not None and genre not in config.genres:
        raise DeepMusicError(
            f"The model does not know the genre {genre!r}; it knows {', '.join(config.genres)}."
        )
    heard = whole_spectrogram(source, config.log_mel, max_seconds=max_seconds)
    if config.is_silent(float(heard.max())):
        raise AudioError("The explained part is silent.", code="silent")
    whole = wrap(heard, config.segment_frames)
    if genre is None:
        genre = config.genres[int(np.argmax(classifier.predict_spectrogram(whole)))]
    winner = config.genres.index(genre)

    frames, step = whole.shape[1], config.frame_step
    covered = np.zeros(frames, np.float32)
    evidence = np.zeros((config.bands, frames), np.float32)
    votes = np.zeros((len(config.genres), frames), np.float32)
    parts: dict[str, float] = {}
    count = 0
    for batch, segments in segment_batches(
        whole, length=config.segment_frames, hop=config.hop_frames, batch_size=_AT_ONCE
    ):
        seen = views(torch.from_numpy(segments).to(classifier.device), config)
        found = _of_segments(classifier, seen, winner)
        count += len(batch)
        for name, values in found.parts.items():
            parts[name] = parts.get(name, 0.0) + float(values.sum())
        for row, start in enumerate(batch):
            # an image may leave out the last frames of its segment, which make no column
            place = slice(start, start + step * seen.image.shape[2])
            covered[place] += 1
            evidence[:, place] += np.repeat(found.evidence[row] / step, step, axis=1)
            votes[:, place] += np.repeat(found.votes[row], step, axis=1)
    covered = covered.clip(min=1)
    kept = heard.shape[1]  # a track shorter than a segment was repeated
    has_places = config.position_types > 0
    return Explanation(
        genre,
        config.genres,
        heard.reshape(config.bands, -1, kept).mean(axis=1),
        (evidence / covered)[:, :kept] if has_places else None,
        (votes / covered)[:, :kept] if has_places else None,
        {name: value / count for name, value in parts.items()},
        config.log_mel,
    )


@dataclass(frozen=True)
class _Found:
    """Of each segment's image: evidence ``(b, f, t)``, votes ``(b, o, t)``, parts ``(b,)``."""

    evidence: NDArray[np.float32]
    votes: NDArray[np.float32]
    parts: dict[str, NDArray[np.float32]]


def _of_segments(classifier: Classifier, seen: Views, winner: int) -> _Found:
    """The means over the networks."""
    found = [
        _of_network(network, seen, winner)
        for network in classifier.ensemble.networks
        if isinstance(network, CapsuleClassifier)
    ]
    names = list(dict.fromkeys(name for f in found for name in f.parts))
    # a network without a part has nothing to say there
    parts = {name: [f.parts[name] for f in found if name in f.parts] for name in names}
    return _Found(
        np.mean([f.evidence for f in found], axis=0),
        np.mean([f.votes for f in found], axis=0),
        {name: np.sum(values, axis=0) / len(found) for name, values in parts.items()},
    )


def _of_network(network: CapsuleClassifier, seen: Views, winner: int) -> _Found:
    config = network.config
    deviation = seen.texture
    if config.texture_capsules:
        # the network cuts off at 8 deviations, and no gradient passes what is cut off
        deviation = ((seen.texture - network.texture_mean) / network.texture_std).clamp(
            -7.999, 7.999
        )
        seen = Views(seen.image, network.texture_mean + deviation * network.texture_std)
    # no parameter takes part: the gradients of a model that others use stay untouched
    with torch.enable_grad():
        inputs = Views(*(view.detach().requires_grad_() for view in seen))
        heard = network(inputs)
        assert heard.votes is not None
        direction = F.normalize(heard.poses[:, winner], dim=-1)  # (b, h)
        # With the bias this is the length of the pose before the squash. Turning the direction in
        # which a vector is measured does not change its length to first order, so the gradient is
        # the one with the direction held fast, as the couplings are.
        total = heard.votes[:, :, winner].sum() + (direction @ network.genres.bias[winner]).sum()
        to_image, to_texture = torch.autograd.grad(total, inputs, allow_unused=True)
    votes = heard.votes.detach()
    textures = config.texture_capsules
    places = votes[:, : votes.shape[1] - textures]  # (b, p * types, o)
    parts: dict[str, Tensor] = {}
    length = seen.image.shape[2]
    over_time = votes.new_zeros(len(votes), votes.shape[2], length)
    evidence = torch.zeros_like(seen.image)
    if config.position_types:
        parts["positions"] = places[:, :, winner].sum(dim=1)
        moments = places.unflatten(1, (-1, config.position_types)).sum(dim=2)  # (b, p, o)
        spread = moments.transpose(1, 2).repeat_interleave(_MOMENT_COLUMNS, dim=2)[..., :length]
        # columns that are too few for a moment of their own go with the last one
        over_time = F.pad(spread, (0, length - spread.shape[2]), mode="replicate")
        evidence = to_image * (seen.image - network.image_mean.unsqueeze(1))
    if textures:
        shares = to_texture * network.texture_std * deviation  # (b, statistics)
        families = torch.split(shares, list(TEXTURE_FAMILIES.values()), dim=1)
        for name, family in zip(TEXTURE_FAMILIES, families, strict=True):
            parts[name] = family.sum(dim=1)
        said = votes[:, votes.shape[1] - textures :, winner].sum(dim=1)
        parts["offset"] = said - shares.sum(dim=1)
    return _Found(
        evidence.cpu().numpy(),
        over_time.cpu().numpy(),
        {name: values.cpu().numpy() for name, values in parts.items()},
    )


def draw_explanation(
    explanation: Explanation, path: str | os.PathLike[str], title: str = ""
) -> None:
    """Draw an explanation as a PNG picture.

    Above, the spectrogram in grey; where it spoke for the genre it is orange, where against, blue
    (smoothed over some 3 bands and 0.2 s, full colour at the strongest percent of cells). Beneath,
    the votes of the moments for every genre, and the parts of the genre's votes as bars.

    Args:
        explanation: as :func:`explain` gives it.
        path: the picture to write; a file of that name is replaced.
        title: what stands above, as it is (no mathematics, no markup).

    Raises:
        DeepMusicError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    upper, middle, lower = figure.subplots(3, 1, height_ratios=(4, 2, 1.3))
    shown = "".join(c if c.isprintable() else "?" for c in title)
    figure.suptitle(shown if len(shown) <= 100 else shown[:97] + "...", parse_math=False)
    _draw_image(explanation, upper)
    _draw_votes(explanation, middle)
    names = list(explanation.parts)
    values = list(explanation.parts.values())
    lower.barh(names, values, color=[_FOR if value > 0 else _AGAINST for value in values])
    lower.invert_yaxis()
    lower.axvline(0, color="black", linewidth=0.8)
    lower.set_xlabel(f"adds to the votes for {explanation.genre}", parse_math=False)
    with warnings.catch_warnings(), write_atomically(path, "wb") as file:
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script the font lacks
        figure.savefig(file, format="png", dpi=110)


def _draw_image(explanation: Explanation, axes: Axes) -> None:
    from scipy.ndimage import gaussian_filter

    columns = -(-explanation.image.shape[1] // _COLUMNS)
    image = _thinned(explanation.image, columns)
    extent = (0.0, explanation.seconds, -0.5, len(image) - 0.5)
    where: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": extent}
    loudest = float(image.max())
    axes.imshow(image, cmap="gray_r", vmin=loudest - 70, vmax=loudest, alpha=0.6, **where)
    if explanation.evidence is not None:
        smooth = _thinned(gaussian_filter(explanation.evidence, sigma=(1.5, 4)), columns)
        strength = np.clip(smooth / max(float(np.percentile(np.abs(smooth), 99)), 1e-9), -1, 1)
        colours = np.where(strength[..., None] > 0, _FOR, _AGAINST)
        axes.imshow(np.concatenate([colours, np.abs(strength)[..., None] * 0.85], axis=2), **where)
    band_hz = explanation.band_hz
    ticks = [hz for hz in (100, 250, 500, 1000, 2000, 4000, 8000) if hz < band_hz[-1]]
    axes.set_yticks(np.interp(ticks, band_hz, np.arange(len(band_hz))), map(str, ticks))
    axes.set_ylabel("frequency (Hz)")
    axes.set_title(
        f"orange spoke for {explanation.genre}, blue against", fontsize="medium", parse_math=False
    )


def _draw_votes(explanation: Explanation, axes: Axes) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(0, explanation.seconds)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("votes of the moments")
    if explanation.votes is None:
        return
    votes = _thinned(explanation.votes, -(-explanation.votes.shape[1] // _COLUMNS))
    seconds = (np.arange(votes.shape[1]) + 0.5) * explanation.seconds / votes.shape[1]
    for genre, line in zip(explanation.genres, votes, strict=True):
        width = 2.5 if genre == explanation.genre else 1.2
        # a leading underscore would hide the entry
        label = ("\u200b" if genre.startswith("_") else "") + genre
        axes.plot(seconds, line, linewidth=width, label=label)
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _thinned(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Means of ``size`` neighbouring columns; the last has what is left."""
    edges = np.arange(0, values.shape[1], size)
    sums = np.add.reduceat(values, edges, axis=1)
    counts = np.diff([*edges, values.shape[1]])
    return (sums / counts).astype(np.float32)
