"""Capsule layers: primary capsules from a feature map, routed capsules, the masked decoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from deepmusic.capsules.initialisation import fan_in_
from deepmusic.capsules.routing import RoutingRecord, Squash, routing_method
from deepmusic.capsules.routing.record import check_iterations
from deepmusic.capsules.squash import capsule_length, squash
from deepmusic.errors import ShapeError

__all__ = ["CapsuleLayer", "MaskedDecoder", "PrimaryCapsules"]


class PrimaryCapsules(nn.Module):
    """Read a feature map as capsules: a convolution, its channels grouped into poses.

    Capsule k at place (y, x) is channels ``k*dim`` to ``(k+1)*dim`` of the convolution at (y, x),
    squashed. Places run row by row: place ``y * width + x``.

    Args:
        in_channels: channels of the feature map.
        types: capsules at each place.
        dim: length of a pose.
        kernel_size: of the convolution, one number or (height, width).
        stride: likewise.
        padding: likewise.
        squash: what turns the channels into a pose.

    Raises:
        ShapeError: a count below one.
    """

    def __init__(
        self,
        in_channels: int,
        types: int,
        dim: int,
        *,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        squash: Squash = squash,
    ) -> None:
        super().__init__()
        _check_counts(in_channels=in_channels, types=types, dim=dim)
        self.types, self.dim, self.squash = types, dim, squash
        self.conv = nn.Conv2d(in_channels, types * dim, kernel_size, stride, padding)

    @property
    def weight(self) -> Tensor:
        """Weights of the convolution, for initialisation."""
        return self.conv.weight

    def forward(self, features: Tensor) -> Tensor:
        """Feature map ``(b, c, h, w)`` to capsules ``(b, places, types, dim)``."""
        if features.ndim != 4 or features.shape[1] != self.conv.in_channels:
            raise ShapeError(
                f"features must have shape (batch, {self.conv.in_channels}, height, width); "
                f"got {tuple(features.shape)}"
            )
        grouped = self.conv(features).unflatten(1, (self.types, self.dim))  # (b, k, d, y, x)
        return self.squash(grouped.flatten(3).permute(0, 3, 1, 2))


class CapsuleLayer(nn.Module):
    """Every child speaks to every parent through its own weights, and routing decides.

    Given children at several places, ``(b, p, i, d)``, the weights of child i are the same at
    every place and each (place, child) routes by itself; the number of places is free.

    Args:
        in_capsules: children (per place).
        in_dim: length of a child's pose.
        out_capsules: parents.
        out_dim: length of a parent's pose.
        routing: a name in :data:`~deepmusic.capsules.ROUTING`.
        iterations: routing passes.
        stop_gradient: treat couplings as constants in the backward pass.
        leaky: give children an extra slot to leave their vote in.
        bias: learn a bias for each parent, zero at first.
        squash: what turns a parent's sum into its pose.

    Raises:
        ShapeError: a count below one or an unknown routing.
    """

    def __init__(
        self,
        in_capsules: int,
        in_dim: int,
        out_capsules: int,
        out_dim: int,
        *,
        routing: str = "dynamic",
        iterations: int = 3,
        stop_gradient: bool = False,
        leaky: bool = False,
        bias: bool = True,
        squash: Squash = squash,
    ) -> None:
        super().__init__()
        _check_counts(
            in_capsules=in_capsules, in_dim=in_dim, out_capsules=out_capsules, out_dim=out_dim
        )
        check_iterations(iterations)
        routing_method(routing)
        self.routing, self.iterations = routing, iterations
        self.stop_gradient, self.leaky, self.squash = stop_gradient, leaky, squash
        self.weight = nn.Parameter(torch.empty(out_capsules, in_dim, in_capsules, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_capsules, out_dim)) if bias else None
        fan_in_(self.weight)

    def forward(self, children: Tensor) -> RoutingRecord:
        """Route children ``(b, i, d)`` or ``(b, p, i, d)``.

        Returns:
            Poses ``(b, o, h)``, activations ``(b, o)``, coupling ``(b, i, o)`` or
            ``(b, p, i, o)``.

        Raises:
            ShapeError: children of another shape, or not floating.
        """
        return routing_method(self.routing).folded(
            children,
            self.weight,
            self.iterations,
            stop_gradient=self.stop_gradient,
            leaky=self.leaky,
            bias=self.bias,
            squash=self.squash,
        )

    def extra_repr(self) -> str:
        """Sizes and routing, for ``print(layer)``."""
        parents, in_dim, children, out_dim = self.weight.shape
        return (
            f"{children}x{in_dim} -> {parents}x{out_dim}, "
            f"routing={self.routing!r}, iterations={self.iterations}"
        )


class MaskedDecoder(nn.Module):
    """Rebuild the input from one parent capsule, all others masked (Sabour et al. 2017).

    Args:
        capsules: parents.
        dim: length of their poses.
        out_shape: shape of what is rebuilt, without the batch.
        hidden: widths of the hidden layers.

    Raises:
        ShapeError: a count below one.
    """

    def __init__(
        self, capsules: int, dim: int, out_shape: Sequence[int], *, hidden: Sequence[int] = (512,)
    ) -> None:
        super().__init__()
        _check_counts(capsules=capsules, dim=dim)
        for size in (*out_shape, *hidden):
            _check_counts(**{"every size of out_shape and hidden": size})
        self.capsules, self.dim, self.out_shape = capsules, dim, tuple(out_shape)
        widths = [capsules * dim, *hidden]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.ReLU()]
        self.decode = nn.Sequential(*layers, nn.Linear(widths[-1], prod(out_shape)))

    def forward(self, poses: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decode one capsule of each item.

        Args:
            poses: ``(b, o, h)``.
            labels: ``(b,)``, which capsule to decode: the true class in training. None decodes
                the longest.

        Returns:
            ``(b, *out_shape)``, unbounded.

        Raises:
            ShapeError: poses or labels of another shape.
        """
        if poses.ndim != 3 or poses.shape[1:] != (self.capsules, self.dim):
            raise ShapeError(
                f"poses must have shape (batch, {self.capsules}, {self.dim}); "
                f"got {tuple(poses.shape)}"
            )
        if labels is None:
            labels = capsule_length(poses).argmax(dim=1)
        if labels.shape != poses.shape[:1] or labels.is_floating_point():
            raise ShapeError(
                f"labels must be class indices of shape (batch,) = ({len(poses)},); "
                f"got {tuple(labels.shape)} of {labels.dtype}"
            )
        chosen = nn.functional.one_hot(labels, self.capsules).to(poses.dtype)  # (b, o)
        masked = (poses * chosen.unsqueeze(-1)).flatten(1)
        rebuilt: Tensor = self.decode(masked)
        return rebuilt.reshape(len(poses), *self.out_shape)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ShapeError(f"{name} must be at least 1; got {count}")
