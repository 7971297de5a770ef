"""Squashes: turn the length of a pose into a presence in [0, 1), safely at any length.

Both forms are kept apart from zero by an ``eps`` *inside* the root and from overflow by dividing
by the largest entry first, so value and gradient stay finite from 0 to the edge of the type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepmusic.errors import ShapeError


def squash(pose: Tensor, *, eps: float = 1e-12) -> Tensor:
    """Shrink each pose s to length |s|²/(1+|s|²), its direction kept (Sabour et al. 2017).

    Args:
        pose: ``(..., d)``, floating. Half types are computed in float32.
        eps: added to |s|² inside the root.

    Returns:
        Same shape and type, lengths in [0, 1); zero where the pose is zero.

    Raises:
        ShapeError: no axis d, or not floating.

    Example:
        >>> squash(torch.tensor([3.0, 4.0]))  # length 25/26
        tensor([0.5769, 0.7692])
    """
    direction, length = _polar(pose, eps)
    return (direction / (1 + length.pow(-2))).to(pose.dtype)


def squash_exp(pose: Tensor, *, eps: float = 1e-12) -> Tensor:
    """Shrink each pose s to length 1-exp(-|s|), its direction kept (Mazzia et al. 2021).

    Its slope at zero is one, where `squash` has zero: short capsules still learn.

    Args:
        pose: ``(..., d)``, floating. Half types are computed in float32.
        eps: added to |s|² inside the root.

    Returns:
        Same shape and type, lengths in [0, 1); zero where the pose is zero.

    Raises:
        ShapeError: no axis d, or not floating.
    """
    direction, length = _polar(pose, eps)
    return (direction * -torch.expm1(-length)).to(pose.dtype)


def capsule_length(pose: Tensor, *, eps: float = 1e-12) -> Tensor:
    """Length of each pose, √(|s|²+eps), with a gradient of zero at zero.

    Args:
        pose: ``(..., d)``, floating. Half types are computed in float32.
        eps: added to |s|² inside the root; a zero pose has length √eps.

    Returns:
        ``(...)``, same type.

    Raises:
        ShapeError: no axis d, or not floating.
    """
    _, length = _polar(pose, eps)
    return length.squeeze(-1).to(pose.dtype)


def _polar(pose: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Unit direction ``(..., d)`` and length ``(..., 1)``, in float32 or wider."""
    if pose.ndim == 0 or pose.shape[-1] == 0 or not pose.is_floating_point():
        raise ShapeError(
            f"poses must be floating with shape (..., d), d at least 1; "
            f"got {tuple(pose.shape)} of {pose.dtype}"
        )
    pose = at_least_float32(pose)
    # The scale cancels out of both results, so it needs no gradient of its own.
    scale = pose.detach().abs().amax(dim=-1, keepdim=True).clamp_min(1)  # (..., 1)
    scaled = pose / scale
    scaled_length = (scaled.square().sum(dim=-1, keepdim=True) + eps / scale / scale).sqrt()
    return scaled / scaled_length, scaled_length * scale


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half types as float32, which lengths, softmax and losses need; others as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
