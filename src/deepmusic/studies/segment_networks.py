"""Networks of the field on log-mel segments: what the capsule networks are compared with.

All see the same image of a segment (64 bands, frames of 46 ms, each band scaled by the training
tracks) and all have about as many parameters: the widths of each are scaled until it has as many as
the capsule network with dynamic routing, which itself depends on the number of genres.

Axes: b segments, f bands, t frames, p places, i children, d their pose, o genres.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepmusic.capsules import (
    ROUTING,
    CapsuleLayer,
    PrimaryCapsules,
    capsule_length,
    init_to_length,
)
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.model import (
    ImageNetwork,
    NetworkOutput,
    Views,
    convolutional_stem,
    stem_rows,
)
from deepmusic.errors import RequestError, ShapeError

_SHORTEST = 1e-3  # a length below this counts as this: one mute segment must not decide a track
_STARTS = 256  # segments on which the lengths of capsules are set at the start
_HALVINGS = 24  # steps of the search for a width


class _PlainNetwork(ImageNetwork):
    """A network that gives logits; its scores are their softmax."""

    def forward(self, inputs: Views, *, rebuild: Tensor | None = None) -> NetworkOutput:
        """Hear segments; it rebuilds nothing."""
        logits = self.logits(self.scale(inputs.image))
        return NetworkOutput(F.log_softmax(logits, dim=1), logits.softmax(dim=1))

    def logits(self, image: Tensor) -> Tensor:
        """Logits ``(b, o)`` of scaled images ``(b, f, t)``."""
        raise NotImplementedError


class ConvolutionalNetwork(_PlainNetwork):
    """A plain CNN: the stem of the capsule networks and one more convolution, averaged over time.

    That convolution reaches over all frequencies, as the primary capsules' does: what differs from
    the capsule networks is the head alone.

    Args:
        config: what it hears, and the stem.
        scale: of the width of the last convolution.
    """

    def __init__(self, config: ClassifierConfig, scale: float = 1.0) -> None:
        super().__init__(config)
        width = _scaled(128, scale)
        self.stem = convolutional_stem(config.channels, config.dropout)
        self.last = nn.Sequential(
            nn.Conv2d(config.channels[-1], width, (stem_rows(config.bands), 1), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.head = nn.Linear(width, len(config.genres))

    def logits(self, image: Tensor) -> Tensor:
        """Logits ``(b, o)`` of scaled images ``(b, f, t)``."""
        moments = self.last(self.stem(_channels_last(image)))  # (b, width, 1, p)
        logits: Tensor = self.head(moments.mean(dim=(2, 3)))
        return logits


class AlexNet(_PlainNetwork):
    """Five convolutions and three fully connected layers (Krizhevsky, Sutskever, Hinton 2012).

    Scaled down to the parameters of the other networks, with three changes: the first kernel is 5
    by 5 with a stride of 2 instead of 11 by 11 with 4, since the image is smaller; batch norm takes
    the place of local response norm, as all networks learn at a rate that needs it; and the fully
    connected layers are scaled further down than the convolutions, or they would be all of it.

    Args:
        config: what it hears.
        scale: of all widths.
    """

    def __init__(self, config: ClassifierConfig, scale: float = 1.0) -> None:
        super().__init__(config)
        widths = [_scaled(width, scale) for width in (96, 256, 384, 384, 256)]
        hidden = _scaled(512, scale)
        layers: list[nn.Module] = []
        before = 1
        for number, (size, stride, width) in enumerate(
            zip((5, 5, 3, 3, 3), (2, 1, 1, 1, 1), widths, strict=True)
        ):
            layers += [
                nn.Conv2d(before, width, size, stride=stride, padding=size // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            if number in (0, 1, 4):
                layers.append(nn.MaxPool2d(3, stride=2))
            before = width
        rows, columns = 3, 6  # whatever the segment's length
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d((rows, columns)), nn.Flatten())
        self.head = nn.Sequential(
            nn.Dropout(),
            nn.Linear(before * rows * columns, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, len(config.genres)),
        )

    def logits(self, image: Tensor) -> Tensor:
        """Logits ``(b, o)`` of scaled images ``(b, f, t)``."""
        logits: Tensor = self.head(self.features(_channels_last(image)))
        return logits


class RecurrentNetwork(_PlainNetwork):
    """Two recurrent layers over the frames; a linear layer reads the mean of their states.

    Args:
        config: what it hears.
        scale: of the width of both layers.
        cell: ``torch.nn.LSTM`` (Hochreiter and Schmidhuber 1997) or ``torch.nn.GRU`` (Cho et al.
            2014).
    """

    def __init__(
        self,
        config: ClassifierConfig,
        scale: float = 1.0,
        *,
        cell: type[nn.LSTM] | type[nn.GRU] = nn.LSTM,
    ) -> None:
        super().__init__(config)
        width = _scaled(64, scale)
        self.layers = cell(
            config.bands, width, num_layers=2, batch_first=True, dropout=config.dropout
        )
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, len(config.genres)))

    def logits(self, image: Tensor) -> Tensor:
        """Logits ``(b, o)`` of scaled images ``(b, f, t)``."""
        states, _ = self.layers(image.transpose(1, 2))  # (b, t, width)
        logits: Tensor = self.head(states.mean(dim=1))
        return logits


class ConvolutionalRecurrentNetwork(_PlainNetwork):
    """Four convolutions, then two GRU layers over what is left of time (Choi et al. 2017).

    As there: batch norm, ELU, pooling and dropout of 0.1 after each convolution, until one row of
    frequency is left, and dropout of 0.3 on the last state. The pooling is another, because a
    segment here is shorter, and the first convolution is 5 by 5 with a stride of 2, as in the stem
    of the other networks: in full resolution it would take most of the time.

    Args:
        config: what it hears.
        scale: of all widths.
    """

    def __init__(self, config: ClassifierConfig, scale: float = 1.0) -> None:
        super().__init__(config)
        layers: list[nn.Module] = []
        before = 1
        for channels, size, stride, pool in zip(
            (64, 128, 128, 128),
            (5, 3, 3, 3),
            (2, 1, 1, 1),
            ((2, 2), (2, 2), (4, 1), (2, 1)),
            strict=True,
        ):
            width = _scaled(channels, scale)
            layers += [
                nn.Conv2d(before, width, size, stride=stride, padding=size // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ELU(inplace=True),
                nn.MaxPool2d(pool, ceil_mode=True),
                nn.Dropout(0.1),
            ]
            before = width
        hidden = _scaled(32, scale)
        self.features = nn.Sequential(*layers)
        rows = -(-config.bands // 64)  # one, of the 64 bands that are usual
        self.layers = nn.GRU(before * rows, hidden, num_layers=2, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(hidden, len(config.genres)))

    def logits(self, image: Tensor) -> Tensor:
        """Logits ``(b, o)`` of scaled images ``(b, f, t)``."""
        moments = self.features(_channels_last(image)).flatten(1, 2)  # (b, channels, p)
        states, _ = self.layers(moments.transpose(1, 2))
        logits: Tensor = self.head(states[:, -1])
        return logits


class CapsuleNetwork(ImageNetwork):
    """The stem, primary capsules at each moment, and one routed layer of genre capsules.

    It learns by the margin loss where a length says how present a genre is, and by cross-entropy of
    the activations' logits where the method gives a logistic activation (see :attr:`by_logit`). It
    has no decoder, since no other network has to rebuild its input.

    In self-routing the activations do not come from the votes, so in a last layer votes can learn
    nothing, and their authors leave them out; here they are frozen, and not counted.

    Args:
        config: what it hears, the stem, ``place_types``, ``pose_dim`` and ``genre_dim``.
        scale: of the number of primary capsules at each moment.
        routing: a name in :data:`deepmusic.capsules.ROUTING`.
    """

    def __init__(
        self, config: ClassifierConfig, scale: float = 1.0, *, routing: str = "dynamic"
    ) -> None:
        super().__init__(config)
        self.routing = routing
        types = _scaled(config.position_types, scale)
        self.stem = convolutional_stem(config.channels, config.dropout)
        self.places = PrimaryCapsules(
            config.channels[-1],
            types,
            config.pose_dim,
            kernel_size=(stem_rows(config.bands), 1),
        )
        self.genres = CapsuleLayer(
            types, config.pose_dim, len(config.genres), config.genre_dim, routing=routing
        )
        if routing == "self_routing":
            self.genres.weight.requires_grad_(False)

    @property
    def by_logit(self) -> bool:
        """Whether activations are logistic, and the loss is the cross-entropy of their logits."""
        return self.routing in ("em", "inverted_attention", "variational")

    def forward(self, inputs: Views, *, rebuild: Tensor | None = None) -> NetworkOutput:
        """Hear segments; it rebuilds nothing."""
        places = self.places(self.stem(_channels_last(self.scale(inputs.image))))  # (b, p, i, d)
        record = self.genres(places)
        if self.by_logit:
            # in float32 a sigmoid rounds to one, whose logit is infinite
            log_scores = F.log_softmax(record.activations.logit(eps=1e-6), dim=1)
        else:
            share = record.activations.clamp_min(_SHORTEST)
            log_scores = (share / share.sum(dim=1, keepdim=True)).log()
        coupling = record.coupling
        if "prior" in self.genres.learned:  # added to the couplings, and no share of a child
            coupling = coupling - self.genres.learned["prior"]
        return NetworkOutput(
            log_scores=log_scores,
            lengths=record.activations,
            poses=record.poses,
            coupling=coupling.flatten(1, 2),
            children=capsule_length(places).flatten(1),
        )

    @torch.no_grad()
    def fit_scales(self, inputs: Views) -> None:
        """Take means and deviations, and let capsules begin at a mean length of one half."""
        super().fit_scales(inputs)
        image = inputs.image[:: max(len(inputs.image) // _STARTS, 1)]
        features = self.stem[:-1](_channels_last(self.scale(image)))  # without its dropout
        # Where no scale reaches one half, as on silence or with very many genres, they begin by
        # fan-in.
        with suppress(ShapeError):
            init_to_length(self.places, features)
            if "squash" in ROUTING[self.routing].options:
                init_to_length(self.genres, self.places(features))


CAPSULE_ROUTINGS: dict[str, str] = {
    "capsules-dynamic": "dynamic",
    "capsules-em": "em",
    "capsules-self": "self_routing",
    "capsules-variational": "variational",
    "capsules-inverted-attention": "inverted_attention",
    "capsules-self-attention": "self_attention",
    "capsules-uniform": "uniform",
}
"""Name of the model -> name of the routing in :data:`deepmusic.capsules.ROUTING`."""

NETWORKS: dict[str, Callable[[ClassifierConfig, float], ImageNetwork]] = {
    "cnn": ConvolutionalNetwork,
    "alexnet": AlexNet,
    "lstm": partial(RecurrentNetwork, cell=nn.LSTM),
    "gru": partial(RecurrentNetwork, cell=nn.GRU),
    "crnn": ConvolutionalRecurrentNetwork,
    **{
        name: partial(CapsuleNetwork, routing=routing) for name, routing in CAPSULE_ROUTINGS.items()
    },
}
"""Name -> function of a configuration and a scale of widths that makes an untrained network."""

_YARDSTICK = "capsules-dynamic"


def build_network(name: str, config: ClassifierConfig, scale: float | None = None) -> ImageNetwork:
    """An untrained network, its weights drawn from torch's global generator.

    Args:
        name: one of :data:`NETWORKS`.
        config: genres, segments, stem and capsules.
        scale: of its widths; None takes that of :func:`width_scale`.

    Raises:
        RequestError: there is no network of that name.
    """
    if name not in NETWORKS:
        raise RequestError(f"There is no network {name!r}; there are {', '.join(NETWORKS)}.")
    return NETWORKS[name](config, width_scale(name, config) if scale is None else scale)


def count_parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@lru_cache(maxsize=256)
def width_scale(name: str, config: ClassifierConfig) -> float:
    """The scale of a network's widths at which it has as many parameters as the capsules.

    Args:
        name: one of :data:`NETWORKS`.
        config: of all networks.

    Raises:
        RequestError: there is no network of that name.
    """
    if name == _YARDSTICK:
        return 1.0
    wanted = _size(_YARDSTICK, config, 1.0)
    low, high = 0.01, 1.0
    while _size(name, config, high) < wanted:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _size(name, config, middle) < wanted else (low, middle)
    return min(low, high, key=lambda scale: abs(_size(name, config, scale) - wanted))


def parameter_table(genres: int) -> str:
    """A table in Markdown: the parameters of each network for so many genres.

    Args:
        genres: at least two.
    """
    config = ClassifierConfig(
        genres=tuple(f"genre {number}" for number in range(genres)),
        texture_capsules=0,
        texture_networks=0,
    )
    wanted = _size(_YARDSTICK, config, 1.0)
    rows = [f"| network | parameters | beside `{_YARDSTICK}` |", "| --- | --- | --- |"]
    for name in NETWORKS:
        size = _size(name, config, width_scale(name, config))
        rows.append(f"| `{name}` | {size:,} | {100 * (size / wanted - 1):+.1f} % |")
    return "\n".join(rows) + "\n"


def _size(name: str, config: ClassifierConfig, scale: float) -> int:
    with torch.device("meta"):  # shapes without numbers
        return count_parameters(build_network(name, config, scale))


def _scaled(width: int, scale: float) -> int:
    return max(round(width * scale), 1)


def _channels_last(image: Tensor) -> Tensor:
    """Images ``(b, f, t)`` as ``(b, 1, f, t)``, in the order that is faster on CPUs."""
    return image.unsqueeze(1).contiguous(memory_format=torch.channels_last)
