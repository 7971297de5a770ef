r"""The capsule classifier: convolutions and statistics become capsules, capsules become genres.

::

    log-mel segment -> image    -> stem -> place capsules   \
                    -> texture  -> texture capsules          > routing -> genre capsules

Axes: b segments, m mels, f bands, t frames, p places (moments), i children, d their pose,
o genres, h their pose.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepmusic.capsules import (
    ROUTING,
    MaskedDecoder,
    PrimaryCapsules,
    RoutingRecord,
    capsule_length,
)
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.texture import texture, texture_size
from deepmusic.errors import ShapeError

SKETCH_FRAMES = 16
"""Columns of the coarse image that the reconstruction aims at."""
_SHORTEST = 1e-3  # a length below this counts as this: one mute segment must not decide a track


class Views(NamedTuple):
    """What a network sees of segments.

    Attributes:
        image: ``(b, f, t)``, dB, neighbouring mels and frames averaged.
        texture: ``(b, s)`` statistics of the segment.
    """

    image: Tensor
    texture: Tensor


class NetworkOutput(NamedTuple):
    """What a network says of segments.

    Attributes:
        log_scores: ``(b, o)``, logarithm of the lengths' shares (for a plain CNN of its softmax).
        lengths: ``(b, o)`` of the genre capsules, in [0, 1).
        poses: ``(b, o, h)``; None for a plain CNN.
        coupling: ``(b, i, o)``, first the place capsules moment by moment, then the textures;
            None for a plain CNN.
        children: ``(b, i)``, length of each child's pose; None for a plain CNN.
        votes: ``(b, i, o)``, what each child adds to the length of each genre's pose before the
            squash; None for a plain CNN.
        rebuilt: ``(b, f, 16)`` coarse image in deviations, when asked for.
    """

    log_scores: Tensor
    lengths: Tensor
    poses: Tensor | None = None
    coupling: Tensor | None = None
    children: Tensor | None = None
    votes: Tensor | None = None
    rebuilt: Tensor | None = None


def views(log_mel: Tensor, config: ClassifierConfig) -> Views:
    """What networks see of log-mel segments ``(b, m, t)``.

    Raises:
        ShapeError: segments of another shape.
    """
    n_mels = config.log_mel.n_mels
    if log_mel.ndim != 3 or log_mel.shape[1] != n_mels or log_mel.shape[2] < 96:
        raise ShapeError(
            f"segments have shape (batch, {n_mels}, 96 frames or more); got {tuple(log_mel.shape)}"
        )
    mels_a_band = n_mels // config.bands
    image = F.avg_pool2d(log_mel.unsqueeze(1), (mels_a_band, config.frame_step)).squeeze(1)
    return Views(image, texture(log_mel) if config.texture_capsules else image.new_zeros(0))


class ImageNetwork(nn.Module):
    """What any network on log-mel segments needs to be trained as ours are.

    The means and deviations by which it scales its input are buffers, set by :meth:`fit_scales`.

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

    def forward(self, seen: Views, *, rebuild: Tensor | None = None) -> NetworkOutput:
        """Hear segments; see :class:`CapsuleClassifier`."""
        raise NotImplementedError

    def sketch(self, image: Tensor) -> Tensor:
        """What is rebuilt: ``(b, f, t)`` in deviations, averaged to ``(b, f, 16)``."""
        return F.adaptive_avg_pool1d(self.scale(image), SKETCH_FRAMES)

    def scale(self, image: Tensor) -> Tensor:
        """The image in deviations from each band's mean."""
        return (image - self.image_mean.unsqueeze(1)) / self.image_std.unsqueeze(1)

    @torch.no_grad()
    def fit_scales(self, seen: Views) -> None:
        """Take means and deviations from segments of the training tracks."""
        self.image_mean.copy_(seen.image.mean(dim=(0, 2)))
        self.image_std.copy_(seen.image.std(dim=(0, 2)).clamp_min(1e-3))


class CapsuleClassifier(ImageNetwork):
    """One network of the ensemble.

    Args:
        config: sizes and choices.
    """

    texture_mean: Tensor
    texture_std: Tensor

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        genres, dim, height = len(config.genres), config.pose_dim, stem_rows(config.bands)
        self.register_buffer("texture_mean", torch.zeros(texture_size()))
        self.register_buffer("texture_std", torch.ones(texture_size()))
        self.stem = (
            convolutional_stem(config.channels, config.dropout) if config.position_types else None
        )
        self.texture_dropout = nn.Dropout(config.texture_dropout)
        self.linear = self.positions = self.reader = self.decoder = None
        if config.routing == "none":
            width = config.channels[-1] * height if config.position_types else 0
            width += texture_size() if config.texture_capsules else 0
            self.linear = nn.Linear(width, genres)
            return
        if config.position_types:
            self.positions = PrimaryCapsules(
                config.channels[-1], config.position_types, dim, kernel_size=(height, 1)
            )
        if config.texture_capsules:
            self.reader = nn.Linear(texture_size(), config.texture_capsules * dim)
            nn.init.normal_(self.reader.weight, std=0.02)
            nn.init.zeros_(self.reader.bias)
        self.genres = GenreCapsules(config)
        if config.reconstruction and config.position_types:
            self.decoder = MaskedDecoder(
                genres, config.genre_dim, (config.bands, SKETCH_FRAMES), hidden=(64,)
            )

    def forward(self, seen: Views, *, rebuild: Tensor | None = None) -> NetworkOutput:
        """Hear segments.

        Args:
            seen: as :func:`views` gives them; image ``(b, f, t)`` may be masked.
            rebuild: ``(b,)``, the genre capsule from which to rebuild each segment's coarse
                image: the true genre in training. None rebuilds nothing, nor does a network
                without reconstruction.
        """
        moments = self._moments(seen.image)
        statistics = None
        if self.config.texture_capsules:
            scaled = (seen.texture - self.texture_mean) / self.texture_std
            # beyond eight deviations lies only broken sound, which must not outshout the rest
            statistics = self.texture_dropout(scaled.clamp(-8, 8))
        if self.linear is not None:
            pooled = [] if moments is None else [moments.mean(dim=3).flatten(1)]
            logits = self.linear(torch.cat([*pooled, *_given(statistics)], dim=1))
            return NetworkOutput(F.log_softmax(logits, dim=1), logits.softmax(dim=1))
        places = None if moments is None or self.positions is None else self.positions(moments)
        textures = None
        if self.reader is not None and statistics is not None:
            # Without the rectifier all is linear up to the squash, and the length of a linear map
            # is the same for a statistic above its mean as for one as far below it.
            read = F.relu(self.reader(statistics))
            textures = read.reshape(len(read), -1, self.config.pose_dim)
            textures = _drop_capsules(textures, self.config.capsule_dropout, self.training)
        record, votes = self.genres(places, textures)
        share = record.activations.clamp_min(_SHORTEST)
        children = [capsule_length(c).flatten(1) for c in (places, textures) if c is not None]
        # votes along the direction the parent took: what each child adds to its length
        direction = F.normalize(record.poses, dim=-1).unsqueeze(1)  # (b, 1, o, h)
        return NetworkOutput(
            log_scores=(share / share.sum(dim=1, keepdim=True)).log(),
            lengths=record.activations,
            poses=record.poses,
            coupling=record.coupling,
            children=torch.cat(children, dim=1),
            votes=(record.coupling.unsqueeze(-1) * votes * direction).sum(dim=-1),
            rebuilt=(
                None
                if rebuild is None or self.decoder is None
                else self.decoder(record.poses, rebuild)
            ),
        )

    @torch.no_grad()
    def fit_scales(self, seen: Views) -> None:
        """Take means and deviations from segments of the training tracks."""
        if self.stem is not None:
            super().fit_scales(seen)
        if self.config.texture_capsules:
            self.texture_mean.copy_(seen.texture.mean(dim=0))
            self.texture_std.copy_(seen.texture.std(dim=0).clamp_min(1e-3))

    def _moments(self, image: Tensor) -> Tensor | None:
        """The stem's feature map ``(b, channels, rows, p)``."""
        if self.stem is None:
            return None
        # channels last is a quarter faster on CPUs
        scaled = self.scale(image).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        moments: Tensor = self.stem(scaled)
        return moments


class GenreCapsules(nn.Module):
    """Two families of children, one routing: every place and every texture votes for genres."""

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
        # no two genres begin alike, so that routing has something to prefer
        self.bias = nn.Parameter(0.02 * torch.randn(genres, out))

    def forward(
        self, places: Tensor | None, textures: Tensor | None
    ) -> tuple[RoutingRecord, Tensor]:
        """Route ``(b, p, i, d)`` and ``(b, i, d)`` together; give the record and the votes."""
        votes = []
        if places is not None and self.position_weight is not None:
            # the mean over places: a longer segment does not outvote the textures
            cast = torch.einsum("bpid,idoh->bpioh", places, self.position_weight)
            votes.append((cast / places.shape[1]).flatten(1, 2))
        if textures is not None and self.texture_weight is not None:
            votes.append(torch.einsum("bid,idoh->bioh", textures, self.texture_weight))
        cast = torch.cat(votes, dim=1)
        record = self.route(cast, self.iterations, stop_gradient=True, bias=self.bias)
        return record, cast


class Ensemble(nn.Module):
    """Networks that were trained apart and speak with one voice.

    Args:
        config: ``config.network_configs`` says which and how many.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.networks = nn.ModuleList(map(CapsuleClassifier, config.network_configs))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mean log scores and mean lengths, both ``(b, o)``, of segments ``(b, m, t)``."""
        seen = views(log_mel, self.config)
        heard = [network(seen) for network in self.networks]
        log_scores = torch.stack([h.log_scores for h in heard]).mean(dim=0)
        return log_scores, torch.stack([h.lengths for h in heard]).mean(dim=0)


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
    """Rows that are left of so many bands after the stem."""
    rows = (bands + 1) // 2
    for _ in range(3):
        rows //= 2
    return max(rows, 1)


def _drop_capsules(capsules: Tensor, share: float, training: bool) -> Tensor:
    if not training or not share:
        return capsules
    kept = torch.rand(capsules.shape[:2], device=capsules.device) >= share
    return capsules * kept.unsqueeze(-1) / (1 - share)


def _given(tensor: Tensor | None) -> list[Tensor]:
    return [] if tensor is None else [tensor]
