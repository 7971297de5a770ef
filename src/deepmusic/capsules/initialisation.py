"""Where capsule weights start: at a length that neither starves nor saturates the squash.

A constant standard deviation depends on the number of children: with 1152 children 0.01 begins
as plain averaging (length 0.01), 1 saturates every parent (length 1.000).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from deepmusic.capsules.routing.votes import RoutingRecord
from deepmusic.capsules.squash import capsule_length
from deepmusic.errors import ShapeError

_LOG_STEP = 0.25


def fan_in_(weight: Tensor, *, averages: bool = False) -> Tensor:
    """Fill routed weights ``(o, h, d, i)`` in place from a normal distribution.

    Its standard deviation is o/√(i·h): with uniform coupling 1/o and independent unit children a
    parent's sum then has a length of about one, which the squash makes one half. Where a parent is
    the mean of its votes it is 1/√d: a vote's entries then vary like a child's.

    Args:
        weight: filled.
        averages: whether parents are means of votes and not sums.

    Returns:
        The weights.
    """
    parents, out_dim, in_dim, children = weight.shape
    std = 1 / math.sqrt(in_dim) if averages else parents / math.sqrt(children * out_dim)
    return nn.init.normal_(weight, std=std)


@torch.no_grad()
def init_to_length(
    layer: nn.Module, batch: Tensor, *, target: float = 0.5, tolerance: float = 1e-3
) -> float:
    """Scale the weights of a capsule layer so that its mean output length on a batch is given.

    The routing takes part, so the length holds for the layer as it will be used.

    Args:
        layer: a `CapsuleLayer` or `PrimaryCapsules`; its ``weight`` is changed in place.
        batch: input of the layer, some dozens of items.
        target: mean length over batch and capsules, in (0, 1).
        tolerance: of the mean length.

    Returns:
        The mean length that was reached.

    Raises:
        ShapeError: target outside (0, 1), or no scale reaches it: the batch is silent, or the
            children are too few (32 children route to 161 parents at a mean length of at most
            0.26). The weights are then left as they were.
    """
    if not 0 < target < 1:
        raise ShapeError(f"target must lie between 0 and 1; got {target}")
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise ShapeError(f"{type(layer).__name__} has no weight to scale")
    start = weight.clone()

    def length_at(log_scale: float) -> float:
        weight.copy_(start * math.exp(log_scale))
        return float(capsule_length(_poses(layer(batch))).double().mean())

    # Length need not grow all the way: strong weights send each child to one parent and leave
    # the others none. So walk up to the first scale that is long enough, then bisect below it.
    longest = 0.0
    for step in range(-48, 49):  # e^-12 to e^12
        log_scale = _LOG_STEP * step
        reached = length_at(log_scale)
        longest = max(longest, reached)
        if reached >= target:
            break
    else:
        weight.copy_(start)
        raise ShapeError(
            f"no scale of the weights gives a mean length of {target} (at most "
            f"{longest:.3f}): the batch is silent or not finite, or the children are "
            "too few to fill every parent and the target should be lower"
        )
    low, high = log_scale - _LOG_STEP, log_scale
    while abs(reached - target) > tolerance and high - low > 1e-6:
        middle = (low + high) / 2
        reached = length_at(middle)
        low, high = (middle, high) if reached < target else (low, middle)
    return reached


@torch.no_grad()
def init_stack_to_length(
    layers: Iterable[nn.Module], batch: Tensor, *, target: float = 0.5
) -> list[float]:
    """Scale one layer after another, each on what those below make of a batch.

    Without this the lengths of a deep stack shrink, or saturate, from layer to layer, and the
    gradient with them.

    Args:
        layers: as `init_to_length` takes them, each fed the poses of the one before.
        batch: input of the first.
        target: mean length over batch and capsules, in (0, 1).

    Returns:
        The mean length that each reached.

    Raises:
        ShapeError: as of `init_to_length`, of any layer.
    """
    reached = []
    for layer in layers:
        reached.append(init_to_length(layer, batch, target=target))
        batch = _poses(layer(batch))
    return reached


def _poses(output: Tensor | RoutingRecord) -> Tensor:
    return output if isinstance(output, Tensor) else output.poses
