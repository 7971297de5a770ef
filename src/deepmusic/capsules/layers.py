"""Capsule layers: primary capsules from a feature map, routed capsules, the masked decoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from deepmusic.capsules.initialisation import fan_in_
from deepmusic.capsules.routing import ROUTING, RoutingLike, as_routing
from deepmusic.capsules.routing.method import Sizes
from deepmusic.capsules.routing.votes import (
    Compete,
    RoutingRecord,
    Squash,
    check_children,
    check_iterations,
)
from deepmusic.capsules.squash import capsule_length, squash
from deepmusic.errors import ShapeError


class PrimaryCapsules(nn.Module):
    """Read a feature map as capsules: a convolution, its channels grouped into poses.

    Capsule k at position (y, x) is channels ``k*dim`` to ``(k+1)*dim`` of the convolution there,
    squashed. Positions run row by row: position ``y * width + x``.

    Args:
        in_channels: channels of the feature map.
        types: capsules at each position.
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
        """Feature map ``(b, c, h, w)`` to capsules ``(b, positions, types, dim)``."""
        return self.grid(features).flatten(1, 2)

    def grid(self, features: Tensor) -> Tensor:
        """Feature map ``(b, c, h, w)`` to a grid of capsules ``(b, y, x, types, dim)``.

        Raises:
            ShapeError: a feature map of another shape.
        """
        if features.ndim != 4 or features.shape[1] != self.conv.in_channels:
            raise ShapeError(
                f"features must have shape (batch, {self.conv.in_channels}, height, width); "
                f"got {tuple(features.shape)}"
            )
        grouped = self.conv(features).unflatten(1, (self.types, self.dim))  # (b, k, d, y, x)
        return self.squash(grouped.permute(0, 3, 4, 1, 2))


class CapsuleLayer(nn.Module):
    """Each child votes for each parent through its own weights, and routing weighs the votes.

    Given children at several positions, ``(b, p, i, d)``, the weights of child i are the same at
    every position and each (position, child) routes by itself; the number of positions is free.

    Args:
        in_capsules: children (per position).
        in_dim: length of a child's pose.
        out_capsules: parents.
        out_dim: length of a parent's pose.
        routing: a name in `ROUTING`, a function of votes and iterations, or a `Routing`, which may
            have parameters to learn.
        iterations: routing passes; None takes those of the method.
        bias: learn a bias for each parent, zero at first; None does so where the method has one.
        residual: add each child to the parent of its number before the squash (after the mean,
            where poses are means), so that deep stacks begin near the identity; the numbers of
            children and parents, and their poses, must be equal.
        **options: of the method, such as ``stop_gradient`` (couplings are constants in the backward
            pass), ``leaky`` (children have an extra slot to leave their vote in), ``squash`` (what
            turns a parent's sum into its pose) and ``inverse_temperature`` (of EM routing); None
            and False are the same as leaving one out.

    Raises:
        ShapeError: a count below one, an unknown routing, or an option that it does not take.

    Example:
        >>> layer = CapsuleLayer(32, 8, out_capsules=10, out_dim=16, routing="dynamic")
        >>> poses, activations, coupling = layer(torch.randn(5, 32, 8))
        >>> poses.shape, activations.shape, coupling.shape
        (torch.Size([5, 10, 16]), torch.Size([5, 10]), torch.Size([5, 32, 10]))
    """

    def __init__(
        self,
        in_capsules: int,
        in_dim: int,
        out_capsules: int,
        out_dim: int,
        *,
        routing: RoutingLike = "dynamic",
        iterations: int | None = None,
        bias: bool | None = None,
        residual: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        sizes = Sizes(in_capsules, in_dim, out_capsules, out_dim)
        _check_counts(
            in_capsules=in_capsules, in_dim=in_dim, out_capsules=out_capsules, out_dim=out_dim
        )
        if residual and (in_capsules, in_dim) != (out_capsules, out_dim):
            raise ShapeError(
                "a residual layer has as many parents as children, with poses as long; got "
                f"{in_capsules}x{in_dim} to {out_capsules}x{out_dim}"
            )
        self.routing, self.residual = as_routing(routing), residual
        self.iterations = self.routing.iterations if iterations is None else iterations
        check_iterations(self.iterations)
        self.options = {k: v for k, v in options.items() if v is not None and v is not False}
        for name in (*self.options, *(["bias"] if bias else [])):
            if name not in self.routing.options:
                takers = ", ".join(n for n, other in ROUTING.items() if name in other.options)
                raise ShapeError(
                    f"routing {self.routing.name!r} takes no {name}; these do: {takers or 'none'}"
                )
        self.weight = nn.Parameter(torch.empty(out_capsules, out_dim, in_dim, in_capsules))
        has_bias = "bias" in self.routing.options and bias is not False
        self.bias = nn.Parameter(torch.zeros(out_capsules, out_dim)) if has_bias else None
        self.learned = nn.ParameterDict(
            {name: nn.Parameter(value) for name, value in self.routing.learned(sizes).items()}
        )
        fan_in_(self.weight, averages=self.routing.averages)

    @property
    def weighs_activations(self) -> bool:
        """Whether the routing weighs children by how present they are."""
        return "activations" in self.routing.options

    @staticmethod
    def presence(children: Tensor) -> Tensor:
        """Default activations of children ``(..., d)``: their lengths, at most one."""
        return capsule_length(children).clamp(max=1)

    def forward(
        self,
        children: Tensor,
        activations: Tensor | None = None,
        *,
        previous: Tensor | None = None,
        iterations: int | None = None,
        compete: Compete | None = None,
    ) -> RoutingRecord:
        """Route children ``(b, i, d)`` or ``(b, p, i, d)``.

        Args:
            children: poses.
            activations: ``(b, i)`` or ``(b, p, i)``, presence of the children in [0, 1], for
                methods that weigh them; None takes the lengths of the poses, at most one. Methods
                that do not weigh them, where a short child has a weak vote anyway, ignore them.
            previous: ``(b, o, h)``, earlier poses of the parents, for inverted attention.
            iterations: passes in place of the layer's.
            compete: turns logits ``(b, i, o)`` into couplings in place of the softmax over parents.

        Returns:
            Poses ``(b, o, h)``, activations ``(b, o)``, coupling ``(b, i, o)`` or
            ``(b, p, i, o)``.

        Raises:
            ShapeError: children of another shape, or not floating, or an option that the routing
                does not take.
        """
        check_children(children, self.weight)
        options: dict[str, Any] = {**self.options, **self.learned}
        if self.weighs_activations:
            options["activations"] = self.presence(children) if activations is None else activations
        for name, value in (("previous", previous), ("compete", compete)):
            if value is not None:
                if name not in self.routing.options:
                    raise ShapeError(f"routing {self.routing.name!r} takes no {name}")
                options[name] = value
        through = None
        if self.residual:
            through = children if children.ndim == 3 else children.mean(dim=1)
        has_bias = "bias" in self.routing.options
        if has_bias:
            bias: Tensor | None = self.bias
            if through is not None:
                bias = through if bias is None else through + bias
            options["bias"] = bias
        iterations = self.iterations if iterations is None else iterations
        record = self.routing(children, self.weight, iterations, **options)
        if through is not None and not has_bias:
            return record._replace(poses=record.poses + through)
        return record

    def extra_repr(self) -> str:
        """Sizes and routing, for ``print(layer)``."""
        parents, out_dim, in_dim, children = self.weight.shape
        return (
            f"{children}x{in_dim} -> {parents}x{out_dim}, "
            f"routing={self.routing.name}, iterations={self.iterations}"
        )


class CapsuleStack(nn.Module):
    """Capsule layers one above the other.

    Sequential routing finishes a layer before the next begins, with any method. Concurrent routing
    (Tsai et al. 2020) makes one uniform pass through all layers of inverted attention, then updates
    all layers at once, pass after pass: each attends with the poses that the pass before left below
    and above. High layers thus influence early what low layers make of their votes.

    Args:
        layers: `CapsuleLayer`, each with the parents of the one before as children.
        concurrent: passes of concurrent routing; 0 routes sequentially.

    Raises:
        ShapeError: no layers, or concurrent routing of another method.
    """

    def __init__(self, layers: Sequence[CapsuleLayer], *, concurrent: int = 0) -> None:
        super().__init__()
        if not layers:
            raise ShapeError("a stack needs one layer or more")
        if concurrent < 0:
            raise ShapeError(f"concurrent passes are 0 or more; got {concurrent}")
        others = {x.routing.name for x in layers if "previous" not in x.routing.options}
        if concurrent and others:
            raise ShapeError(
                f"only inverted_attention routes concurrently, not {', '.join(sorted(others))}"
            )
        self.layers = nn.ModuleList(layers)
        self.concurrent = concurrent

    def forward(self, children: Tensor, activations: Tensor | None = None) -> list[RoutingRecord]:
        """Route children ``(b, i, d)`` or ``(b, p, i, d)`` upwards; give every layer's record."""
        below = children
        records: list[RoutingRecord] = []
        for layer in self.layers:
            record = layer(below, activations, iterations=1 if self.concurrent else None)
            records.append(record)
            below, activations = record.poses, record.activations
        for _ in range(self.concurrent - 1):
            inputs = [children, *(record.poses for record in records[:-1])]
            records = [
                layer(below, previous=record.poses, iterations=1)
                for layer, below, record in zip(self.layers, inputs, records, strict=True)
            ]
        return records


class MaskedDecoder(nn.Module):
    """Rebuild the input from one parent capsule, all others masked (Sabour et al. 2017).

    Args:
        capsules: parents.
        dim: length of their poses.
        out_shape: shape of the reconstruction, without the batch.
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
