"""Networks of the field on log-mel segments, for comparison with the capsule networks.

All get the same image of a segment (64 bands, frames of 46 ms, each band standardized by the
training tracks), and all have about as many parameters: the widths of each network are scaled until
it has as many as the capsule network with dynamic routing, whatever the number of genres.

Axes: b segments, f bands, t frames, c channels, p positions in time, i child capsules, d their
pose, o genres.
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

_MIN_LENGTH = 1e-3  # shorter capsules count as this: one mute segment must not decide a track
_INIT_SEGMENTS = 256  # segments on which the initial lengths of capsules are set
_BISECTIONS = 24  # of the search for a width
_ALEXNET_GRID = 3, 6  # frequency and time that AlexNet's features are pooled to


class LogitNetwork(ImageNetwork):
    """A network whose body takes scaled images ``(b, f, t)`` to logits ``(b, o)``."""

    def __init__(self, config: ClassifierConfig, body: nn.Module) -> None:
        super().__init__(config)
        self.body = body

    def forward(self, inputs: Views, *, rebuild: Tensor | None = None) -> NetworkOutput:
        """Classify segments; ``rebuild`` is ignored, as there is no decoder."""
        logits = self.body(self.scale(inputs.image))
        return NetworkOutput(F.log_softmax(logits, dim=1), logits.softmax(dim=1))


class _Image(nn.Module):
    """Images ``(b, f, t)`` as ``(b, 1, f, t)``, in the memory order that is faster on CPUs."""

    def forward(self, image: Tensor) -> Tensor:
        return image.unsqueeze(1).contiguous(memory_format=torch.channels_last)


class _Recurrent(nn.Module):
    """Recurrent layers over time: ``(b, ..., t)`` to the mean or the last state ``(b, width)``."""

    def __init__(self, layers: nn.RNNBase, *, last: bool = False) -> None:
        super().__init__()
        self.layers, self.last = layers, last

    def forward(self, features: Tensor) -> Tensor:
        states, _ = self.layers(features.flatten(1, -2).transpose(1, 2))  # (b, t, width)
        pooled: Tensor = states[:, -1] if self.last else states.mean(dim=1)
        return pooled


def convolutional_network(config: ClassifierConfig, scale: float) -> ImageNetwork:
    """A plain CNN: the stem of the capsule networks, one more convolution, mean over time.

    That convolution covers all frequencies, as that of the primary capsules does, so that only the
    head differs from the capsule networks.
    """
    width = _scaled(128, scale)
    body = nn.Sequential(
        _Image(),
        convolutional_stem(config.channels, config.dropout),
        nn.Conv2d(config.channels[-1], width, (stem_rows(config.bands), 1), bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, len(config.genres)),
    )
    return LogitNetwork(config, body)


def alexnet(config: ClassifierConfig, scale: float) -> ImageNetwork:
    """Five convolutions and three fully connected layers (Krizhevsky, Sutskever, Hinton 2012).

    Scaled down to the parameters of the other networks, with three changes: the first kernel is 5
    by 5 with stride 2 instead of 11 by 11 with 4, since the image is smaller; batch norm replaces
    local response norm, which the common learning rate requires; and the fully connected layers are
    scaled down more than the convolutions, since otherwise they would hold all parameters.
    """
    widths = [_scaled(width, scale) for width in (96, 256, 384, 384, 256)]
    hidden = _scaled(512, scale)
    layers: list[nn.Module] = [_Image()]
    before = 1
    for width, size, stride, is_pooled in zip(
        widths, (5, 5, 3, 3, 3), (2, 1, 1, 1, 1), (True, True, False, False, True), strict=True
    ):
        layers += _convolution(before, width, size, stride, nn.ReLU())
        layers += [nn.MaxPool2d(3, stride=2)] if is_pooled else []
        before = width
    rows, columns = _ALEXNET_GRID  # for segments of any length
    layers += [nn.AdaptiveAvgPool2d((rows, columns)), nn.Flatten()]
    layers += [nn.Dropout(), nn.Linear(before * rows * columns, hidden), nn.ReLU()]
    layers += [nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU()]
    return LogitNetwork(config, nn.Sequential(*layers, nn.Linear(hidden, len(config.genres))))


def recurrent_network(
    config: ClassifierConfig, scale: float, *, cell: type[nn.LSTM] | type[nn.GRU]
) -> ImageNetwork:
    """Two recurrent layers over the frames; a linear layer on the mean of their states.

    The cell is LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014).
    """
    width = _scaled(64, scale)
    layers = cell(config.bands, width, num_layers=2, batch_first=True, dropout=config.dropout)
    head = nn.Dropout(config.dropout), nn.Linear(width, len(config.genres))
    return LogitNetwork(config, nn.Sequential(_Recurrent(layers), *head))


def convolutional_recurrent_network(config: ClassifierConfig, scale: float) -> ImageNetwork:
    """Four convolutions, then two GRU layers over the remaining time steps (Choi et al. 2017).

    As in the paper: batch norm, ELU, pooling and dropout of 0.1 after each convolution until one
    row of frequency is left, and dropout of 0.3 on the last state. Unlike it, the pooling is for
    shorter segments, and the first convolution is 5 by 5 with stride 2, as in the stem of the other
    networks: at full resolution it would take most of the time.
    """
    layers: list[nn.Module] = [_Image()]
    before = 1
    for channels, size, stride, pool in (
        (64, 5, 2, (2, 2)), (128, 3, 1, (2, 2)), (128, 3, 1, (4, 1)), (128, 3, 1, (2, 1)),
    ):  # fmt: skip
        width = _scaled(channels, scale)
        layers += _convolution(before, width, size, stride, nn.ELU(inplace=True))
        layers += [nn.MaxPool2d(pool, ceil_mode=True), nn.Dropout(0.1)]
        before = width
    hidden = _scaled(32, scale)
    rows = -(-config.bands // 64)  # one, for the usual 64 bands
    gru = nn.GRU(before * rows, hidden, num_layers=2, batch_first=True)
    head = nn.Dropout(0.3), nn.Linear(hidden, len(config.genres))
    return LogitNetwork(config, nn.Sequential(*layers, _Recurrent(gru, last=True), *head))


class CapsuleNetwork(ImageNetwork):
    """The stem, primary capsules at each position, and one routed layer of genre capsules.

    It is trained by the margin loss where a length is the presence of a genre, and by cross-entropy
    of the activations' logits where the method gives a logistic activation (``by_logit``).
    There is no decoder, since no other network here reconstructs its input. In self-routing the
    activations do not depend on the votes, so that the votes of a last layer cannot learn; they are
    frozen, and not counted.

    Args:
        config: input, genres, stem and capsules.
        scale: of the number of primary capsules at each position.
        routing: a name in ``deepmusic.capsules.ROUTING``.
    """

    def __init__(
        self, config: ClassifierConfig, scale: float = 1.0, *, routing: str = "dynamic"
    ) -> None:
        super().__init__(config)
        self.routing = routing
        types = _scaled(config.position_types, scale)
        self.stem = nn.Sequential(_Image(), *convolutional_stem(config.channels, config.dropout))
        kernel = stem_rows(config.bands), 1
        self.primary = PrimaryCapsules(
            config.channels[-1], types, config.pose_dim, kernel_size=kernel
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
        """Classify segments; ``rebuild`` is ignored, as there is no decoder."""
        children = self.primary(self.stem(self.scale(inputs.image)))  # (b, p, i, d)
        record = self.genres(children)
        if self.by_logit:
            # in float32 a sigmoid rounds to one, whose logit is infinite
            log_scores = F.log_softmax(record.activations.logit(eps=1e-6), dim=1)
        else:
            share = record.activations.clamp_min(_MIN_LENGTH)
            log_scores = (share / share.sum(dim=1, keepdim=True)).log()
        coupling = record.coupling
        if "prior" in self.genres.learned:  # added to the couplings, and not a share of a child
            coupling = coupling - self.genres.learned["prior"]
        return NetworkOutput(
            log_scores=log_scores,
            lengths=record.activations,
            poses=record.poses,
            coupling=coupling.flatten(1, 2),
            children=capsule_length(children).flatten(1),
        )

    @torch.no_grad()
    def fit_scales(self, inputs: Views) -> None:
        """Set means and deviations, and let capsules start at a mean length of one half."""
        super().fit_scales(inputs)
        image = inputs.image[:: max(len(inputs.image) // _INIT_SEGMENTS, 1)]
        features = self.stem[:-1](self.scale(image))  # without its dropout
        # where no scale reaches one half, as on silence or with many genres, init by fan-in stays
        with suppress(ShapeError):
            init_to_length(self.primary, features)
            if "squash" in ROUTING[self.routing].options:
                init_to_length(self.genres, self.primary(features))


CAPSULE_ROUTINGS: dict[str, str] = {
    "capsules-dynamic": "dynamic",
    "capsules-em": "em",
    "capsules-self": "self_routing",
    "capsules-variational": "variational",
    "capsules-inverted-attention": "inverted_attention",
    "capsules-self-attention": "self_attention",
    "capsules-uniform": "uniform",
}
"""Name of the model -> name of the routing in ``deepmusic.capsules.ROUTING``."""

NETWORKS: dict[str, Callable[[ClassifierConfig, float], ImageNetwork]] = {
    "cnn": convolutional_network,
    "alexnet": alexnet,
    "lstm": partial(recurrent_network, cell=nn.LSTM),
    "gru": partial(recurrent_network, cell=nn.GRU),
    "crnn": convolutional_recurrent_network,
    **{name: partial(CapsuleNetwork, routing=r) for name, r in CAPSULE_ROUTINGS.items()},
}
"""Name -> function of a configuration and a scale of widths that creates an untrained network."""

_YARDSTICK = "capsules-dynamic"


def build_network(name: str, config: ClassifierConfig, scale: float | None = None) -> ImageNetwork:
    """Create one of ``NETWORKS``, its weights drawn from torch's global generator.

    A ``scale`` of None takes that of ``width_scale``.

    Raises:
        RequestError: there is no such network.
    """
    if name not in NETWORKS:
        raise RequestError(f"There is no network {name!r}; there are {', '.join(NETWORKS)}.")
    return NETWORKS[name](config, width_scale(name, config) if scale is None else scale)


def count_parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@lru_cache(maxsize=256)
def width_scale(name: str, config: ClassifierConfig) -> float:
    """The scale of widths at which a network has as many parameters as ``capsules-dynamic``."""
    if name == _YARDSTICK:
        return 1.0
    wanted = _size(_YARDSTICK, config, 1.0)
    low, high = 0.01, 1.0
    while _size(name, config, high) < wanted:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _size(name, config, middle) < wanted else (low, middle)
    return min(low, high, key=lambda scale: abs(_size(name, config, scale) - wanted))


def _size(name: str, config: ClassifierConfig, scale: float) -> int:
    with torch.device("meta"):  # shapes without numbers
        return count_parameters(build_network(name, config, scale))


def _scaled(width: int, scale: float) -> int:
    return max(round(width * scale), 1)


def _convolution(
    before: int, width: int, size: int, stride: int, activation: nn.Module
) -> list[nn.Module]:
    """A convolution of odd size that keeps ``t / stride`` frames, batch norm, an activation."""
    convolution = nn.Conv2d(before, width, size, stride=stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(width), activation]
