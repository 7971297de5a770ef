"""Where capsule weights start: at a length that neither starves nor saturates the squash.

A constant standard deviation depends on the number of children: with 1152 children 0.01 begins
as plain averaging (length 0.01), 1 saturates every parent (length 1.000).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deepmusic.capsules.squash import capsule_length
from deepmusic.errors import ShapeError

__all__ = ["fan_in_", "init_to_length"]

_LOG_STEP = 0.25
_LOG_SCALES = [_LOG_STEP * step for step in range(-48, 49)]  # e^-12 to e^12


def fan_in_(weight: Tensor) -> Tensor:
    """Fill routed weights ``(o, d, i, h)`` in place from a normal law of std o/√(i·h).

    With uniform coupling 1/o and independent unit children a parent's sum then has a length of
    about one, which the squash makes one half.

    Returns:
        The weights.
    """
    parents, _, children, out_dim = weight.shape
    return nn.init.normal_(weight, std=parents / math.sqrt(children * out_dim))


@torch.no_grad()
def init_to_length(
    layer: nn.Module, batch: Tensor, *, target: float = 0.5, tolerance: float = 1e-3
) -> float:
    """Scale the weights of a capsule layer so that its mean output length on a batch is given.

    The routing takes part, so the length holds for the layer as it will be used.

    Args:
        layer: a :class:`~deepmusic.capsules.CapsuleLayer` or
            :class:`~deepmusic.capsules.PrimaryCapsules`; its ``weight`` is changed in place.
        batch: input of the layer, some dozens of items.
        target: mean length over batch and capsules, in (0, 1).
        tolerance: how near is near enough.

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
        return _mean_length(layer, batch)

    # Length need not grow all the way: strong weights send each child to one parent and leave
    # the others none. So walk up to the first scale that is long enough, then bisect below it.
    longest = 0.0
    for log_scale in _LOG_SCALES:
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


def _mean_length(layer: nn.Module, batch: Tensor) -> float:
    output = layer(batch)
    lengths = capsule_length(output) if isinstance(output, Tensor) else output.activations
    return float(lengths.double().mean())
