r"""The capsule classifier: convolutions and statistics become capsules, routed to genre capsules.

::

    log-mel segment -> image    -> stem -> position capsules \
                    -> texture  -> texture capsules           > routing -> genre capsules

Axes: b segments, m mels, f bands, t frames, p positions in time, i children, d their pose,
o genres, h their pose.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from deepmusic.capsules import (
    ROUTING,
    MaskedDecoder,
    PrimaryCapsules,
    RoutingRecord,
    capsule_length,
)
from deepmusic.capsules.routing.method import Sizes
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.errors import ShapeError

COEFFICIENTS = 20
"""Cepstral coefficients of the texture."""
BANDS = 32
"""Bands of its structure function."""
LAGS = (1, 2, 4, 8, 16, 32, 64)
"""Lags of the structure function, in frames: 23 ms to 1.5 s at the default hop."""
RANGE_DB = 80.0
"""Cells further below the loudest one count as this far below."""
TEXTURE_SIZE = 7 * COEFFICIENTS + COEFFICIENTS * (COEFFICIENTS - 1) // 2 + BANDS * len(LAGS)
SKETCH_FRAMES = 16
"""Columns of the coarse image that is reconstructed."""
_MIN_LENGTH = 1e-3  # so that one segment of length zero does not decide a track


class Views(NamedTuple):
    """The two inputs of a network.

    Attributes:
        image: ``(b, f, t)``, dB, neighbouring mels and frames averaged.
        texture: ``(b, s)`` statistics of the segment.
    """

    image: Tensor
    texture: Tensor


class NetworkOutput(NamedTuple):
    """The output of a network for a batch of segments; a plain CNN has the first two alone.

    Attributes:
        log_scores: ``(b, o)``, logarithm of the lengths' shares (a plain CNN: of the softmax).
        lengths: ``(b, o)`` of the genre capsules, in [0, 1).
        poses: ``(b, o, h)``.
        coupling: ``(b, i, o)``, first the position capsules in order of time, then the textures.
        children: ``(b, i)``, length of each child's pose.
        rebuilt: ``(b, f, 16)`` coarse image in standard deviations, if asked for.
    """

    log_scores: Tensor
    lengths: Tensor
    poses: Tensor | None = None
    coupling: Tensor | None = None
    children: Tensor | None = None
    rebuilt: Tensor | None = None


def views(log_mel: Tensor, config: ClassifierConfig) -> Views:
    """The inputs of the networks for log-mel segments ``(b, m, t)`` in dB.

    Raises:
        ShapeError: segments of another shape.
    """
    n_mels = config.log_mel.n_mels
    if log_mel.ndim != 3 or log_mel.shape[1] != n_mels or log_mel.shape[2] < 96:
        raise ShapeError(
            f"segments have shape (batch, {n_mels}, 96 frames or more); got {tuple(log_mel.shape)}"
        )
    window = (n_mels // config.bands, config.frame_step)
    image = F.avg_pool2d(log_mel.unsqueeze(1), window).squeeze(1)
    return Views(image, texture(log_mel) if config.texture_capsules else image.new_zeros(0))


class ImageNetwork(nn.Module):
    """A network on log-mel segments that `deepmusic.classifier.task.ClassifierTask` trains.

    Means and deviations of its input are buffers, set by `fit_scales`.

    Args:
        config: sizes and choices.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("image_mean", torch.zeros(config.bands))
        self.register_buffer("image_std", torch.ones(config.bands))

    @property
    def by_logit(self) -> bool:
        """Whether the loss is the cross-entropy of logits, not the margin loss of lengths."""
        return True

    def forward(self, inputs: Views, *, rebuild: Tensor | None = None) -> NetworkOutput:
        """The output for a batch of segments; see `ClassifierNetwork`."""
        raise NotImplementedError

    def sketch(self, image: Tensor) -> Tensor:
        """The coarse image ``(b, f, 16)``, in standard deviations, of ``(b, f, t)`` in dB."""
        return F.adaptive_avg_pool1d(self.scale(image), SKETCH_FRAMES)

    def scale(self, image: Tensor) -> Tensor:
        """The image in standard deviations from each band's mean."""
        return (image - self.image_mean.unsqueeze(1)) / self.image_std.unsqueeze(1)

    @torch.no_grad()
    def fit_scales(self, inputs: Views) -> None:
        """Set means and deviations from segments of the training tracks."""
        self.image_mean.copy_(inputs.image.mean(dim=(0, 2)))
        self.image_std.copy_(inputs.image.std(dim=(0, 2)).clamp_min(1e-3))


class ClassifierNetwork(ImageNetwork):
    """One network of the ensemble (see the figure above).

    Args:
        config: sizes and choices.
    """

    texture_mean: Tensor
    texture_std: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        genres, dim, height = len(config.genres), config.pose_dim, stem_rows(config.bands)
        self.register_buffer("texture_mean", torch.zeros(TEXTURE_SIZE))
        self.register_buffer("texture_std", torch.ones(TEXTURE_SIZE))
        self.stem = (
            convolutional_stem(config.channels, config.dropout) if config.position_types else None
        )
        self.texture_dropout = nn.Dropout(config.texture_dropout)
        self.linear = self.positions = self.reader = self.decoder = None
        if config.routing == "none":
            width = config.channels[-1] * height if config.position_types else 0
            width += TEXTURE_SIZE if config.texture_capsules else 0
            self.linear = nn.Linear(width, genres)
            return
        if config.position_types:
            self.positions = PrimaryCapsules(
                config.channels[-1], config.position_types, dim, kernel_size=(height, 1)
            )
        if config.texture_capsules:
            self.reader = nn.Linear(TEXTURE_SIZE, config.texture_capsules * dim)
            nn.init.normal_(self.reader.weight, std=0.02)
            nn.init.zeros_(self.reader.bias)
        self.genres = GenreCapsules(config)
        if config.reconstruction and config.position_types:
            self.decoder = MaskedDecoder(
                genres, config.genre_dim, (config.bands, SKETCH_FRAMES), hidden=(64,)
            )

    @property
    def by_logit(self) -> bool:
        """Whether the loss is the cross-entropy of logits, not the margin loss of lengths."""
        return self.config.routing in ("none", "inverted_attention")

    def forward(self, inputs: Views, *, rebuild: Tensor | None = None) -> NetworkOutput:
        """The output for a batch of segments.

        Args:
            inputs: as `views` gives them; the image ``(b, f, t)`` may be masked.
            rebuild: ``(b,)``, the genre capsule from which to reconstruct each segment's coarse
                image, in training the true genre; None reconstructs nothing.
        """
        feature_map = statistics = None
        if self.stem is not None:
            # channels-last is a quarter faster on CPUs
            image = self.scale(inputs.image).unsqueeze(1)
            feature_map = self.stem(image.contiguous(memory_format=torch.channels_last))
        if self.config.texture_capsules:
            scaled = (inputs.texture - self.texture_mean) / self.texture_std
            # only broken sound lies beyond eight deviations, and it must not dominate
            statistics = self.texture_dropout(scaled.clamp(-8, 8))
        if self.linear is not None:
            pooled = None if feature_map is None else feature_map.mean(dim=3).flatten(1)
            given = [part for part in (pooled, statistics) if part is not None]
            logits = self.linear(torch.cat(given, dim=1))
            return NetworkOutput(F.log_softmax(logits, dim=1), logits.softmax(dim=1))
        positions = textures = None
        if feature_map is not None and self.positions is not None:
            positions = self.positions(feature_map)
        if self.reader is not None and statistics is not None:
            # without the rectifier, the length of a pose would be the same for a statistic above
            # its mean as for one equally far below it
            read = F.relu(self.reader(statistics))
            textures = read.reshape(read.shape[0], -1, self.config.pose_dim)
            share = self.config.capsule_dropout
            if self.training and share:
                kept = torch.rand(textures.shape[:2], device=textures.device) >= share
                textures = textures * kept.unsqueeze(-1) / (1 - share)
        record = self.genres(positions, textures)
        if self.by_logit:
            # in float32 a sigmoid rounds to one, whose logit is infinite
            log_scores = F.log_softmax(record.activations.logit(eps=1e-6), dim=1)
        else:
            share = record.activations.clamp_min(_MIN_LENGTH)
            log_scores = (share / share.sum(dim=1, keepdim=True)).log()
        children = [capsule_length(c).flatten(1) for c in (positions, textures) if c is not None]
        rebuilt = None
        if rebuild is not None and self.decoder is not None:
            rebuilt = self.decoder(record.poses, rebuild)
        return NetworkOutput(
            log_scores=log_scores,
            lengths=record.activations,
            poses=record.poses,
            coupling=record.coupling,
            children=torch.cat(children, dim=1),
            rebuilt=rebuilt,
        )

    @torch.no_grad()
    def fit_scales(self, inputs: Views) -> None:
        """Set means and deviations from segments of the training tracks."""
        if self.stem is not None:
            super().fit_scales(inputs)
        if self.config.texture_capsules:
            self.texture_mean.copy_(inputs.texture.mean(dim=0))
            self.texture_std.copy_(inputs.texture.std(dim=0).clamp_min(1e-3))


class GenreCapsules(nn.Module):
    """One routing for two families of children: positions in time, and textures."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        genres, dim, out = len(config.genres), config.pose_dim, config.genre_dim
        self.route = ROUTING[config.routing].route
        self.iterations = config.iterations

        def weight(children: int) -> nn.Parameter | None:
            if not children:
                return None
            std = genres / (children * out) ** 0.5
            return nn.Parameter(torch.randn(children, dim, genres, out) * std / 2)

        self.position_weight = weight(config.position_types)
        self.texture_weight = weight(config.texture_capsules)
        # different from the start, so that routing can prefer one
        self.bias = nn.Parameter(0.02 * torch.randn(genres, out))
        # its layer norm gives all poses the same length, so that presence must be read off them
        self.learned = nn.ParameterDict()
        if config.routing == "inverted_attention":
            sizes = Sizes(config.position_types + config.texture_capsules, dim, genres, out)
            self.learned.update(ROUTING[config.routing].learned(sizes))

    def forward(self, positions: Tensor | None, textures: Tensor | None) -> RoutingRecord:
        """Route ``(b, p, i, d)`` and ``(b, i, d)`` together."""
        votes = []
        if positions is not None and self.position_weight is not None:
            # the mean over positions: a longer segment does not outvote the textures
            cast = torch.einsum("bpid,idoh->bpioh", positions, self.position_weight)
            votes.append((cast / positions.shape[1]).flatten(1, 2))
        if textures is not None and self.texture_weight is not None:
            votes.append(torch.einsum("bid,idoh->bioh", textures, self.texture_weight))
        cast = torch.cat(votes, dim=1)
        options = {"stop_gradient": True, "bias": self.bias, **self.learned}
        return self.route(cast, self.iterations, **options)


class Ensemble(nn.Module):
    """Networks that were trained separately, averaged.

    Args:
        config: sizes and choices, and the number of networks.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.networks = nn.ModuleList(map(ClassifierNetwork, config.network_configs))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mean log scores and mean lengths, both ``(b, o)``, of segments ``(b, m, t)``."""
        inputs = views(log_mel, self.config)
        outputs = [network(inputs) for network in self.networks]
        log_scores = torch.stack([output.log_scores for output in outputs]).mean(dim=0)
        return log_scores, torch.stack([output.lengths for output in outputs]).mean(dim=0)


def convolutional_stem(channels: tuple[int, int, int], dropout: float) -> nn.Sequential:
    """Three convolutions with pooling: ``(b, 1, f, t)`` to ``(b, channels, f / 16, t / 16)``."""
    layers: list[nn.Module] = []
    before = 1
    for size, stride, width in zip((5, 3, 3), (2, 1, 1), channels, strict=True):
        layers += [
            nn.Conv2d(before, width, size, stride=stride, padding=size // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        before = width
    return nn.Sequential(*layers, nn.Dropout2d(dropout))


def stem_rows(bands: int) -> int:
    """Rows of the stem's feature map, for an image of this many bands."""
    return max((bands + 1) // 2 // 8, 1)


def texture(log_mel: Tensor) -> Tensor:
    """Statistics of each segment, independent of its loudness.

    Second and higher moments say much about a genre (brightness, density, roughness, change at each
    time scale), and a small network hardly learns them from a few hundred tracks.

    *timbre*: of 20 cepstral coefficients (orthonormal DCT-II of the mels) the mean, logarithm of
    the standard deviation, skewness, logarithm of the kurtosis, maximum, minimum and median.
    *correlation*: between each two coefficients over time. *movement*: for 32 bands, the logarithm
    of the mean absolute change (dB) between frames 1 to 64 apart, the structure function of the
    spectrogram.

    Args:
        log_mel: ``(b, mels, frames)`` in dB; mels a multiple of 32, more than 64 frames.

    Returns:
        ``(b, 554)``, finite for any finite input.

    Raises:
        ShapeError: too few frames, or mels that 32 does not divide.
    """
    if log_mel.ndim != 3 or log_mel.shape[1] % BANDS or log_mel.shape[2] <= LAGS[-1]:
        raise ShapeError(
            f"texture needs (batch, mels, frames) with mels a multiple of {BANDS} and more than "
            f"{LAGS[-1]} frames; got {tuple(log_mel.shape)}"
        )
    with torch.autocast(log_mel.device.type, enabled=False):  # moments need all their digits
        return _statistics(log_mel.float())


def _statistics(log_mel: Tensor) -> Tensor:
    level = log_mel - log_mel.amax(dim=(1, 2), keepdim=True)
    level = level.clamp_min(-RANGE_DB)
    cepstrum = torch.from_numpy(_dct(int(level.shape[1]))).to(level) @ level  # (b, c, t)
    mean = cepstrum.mean(dim=2)
    centred = cepstrum - mean.unsqueeze(2)
    deviation = (centred.square().mean(dim=2) + 1e-4).sqrt()
    scaled = centred / deviation.unsqueeze(2)
    correlation = scaled @ scaled.transpose(1, 2) / scaled.shape[2]  # (b, c, c)
    row, column = torch.triu_indices(COEFFICIENTS, COEFFICIENTS, 1, device=level.device)
    power = 10 ** (level / 10)
    power = power.reshape(power.shape[0], BANDS, -1, power.shape[2]).sum(dim=2)  # (b, bands, t)
    band_db = 10 * torch.log10(power + 1e-10)
    changes = [
        (band_db[:, :, lag:] - band_db[:, :, :-lag]).abs().mean(dim=2).clamp_min(1e-3).log()
        for lag in LAGS
    ]
    statistics = [
        mean,
        deviation.log(),
        scaled.pow(3).mean(dim=2),
        (scaled.pow(4).mean(dim=2) + 1e-2).log(),
        cepstrum.amax(dim=2),
        cepstrum.amin(dim=2),
        # the lower median, which ONNX knows no other way
        cepstrum.topk((cepstrum.shape[2] + 1) // 2, dim=2, largest=False).values[:, :, -1],
        correlation[:, row, column],
        *changes,
    ]
    return torch.cat(statistics, dim=1)


@lru_cache(maxsize=4)
def _dct(n_mels: int) -> NDArray[np.float32]:
    """The first rows of the orthonormal DCT-II, ``(coefficients, n_mels)``."""
    k = np.arange(COEFFICIENTS)[:, None]
    rows = np.cos(np.pi / n_mels * (np.arange(n_mels) + 0.5) * k) * np.sqrt(2 / n_mels)
    rows[0] /= np.sqrt(2)
    result: NDArray[np.float32] = rows.astype(np.float32)
    return result
