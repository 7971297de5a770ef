"""Losses on capsules, and what to watch while they fall.

Margin and spread of activations, reconstruction error per element; whether routing decides
anything, and which capsules are dead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from deepmusic.capsules.squash import at_least_float32
from deepmusic.errors import ShapeError


def margin_loss(
    lengths: Tensor,
    targets: Tensor,
    *,
    upper: float = 0.9,
    lower: float = 0.1,
    down_weight: float = 0.5,
) -> Tensor:
    """Push the capsule of the true class above ``upper``, all others below ``lower``.

    Per item the sum over classes k of ``T_k max(0, upper - |v_k|)² +
    down_weight (1 - T_k) max(0, |v_k| - lower)²`` (Sabour et al. 2017); the mean over the batch.

    Args:
        lengths: ``(b, k)``, lengths of the class capsules in [0, 1]: never their softmax.
        targets: ``(b,)`` class indices, or ``(b, k)`` floating shares T_k in [0, 1], as mixup and
            label smoothing make them.
        upper: what present classes should exceed.
        lower: what absent classes should stay below.
        down_weight: weight of absent classes.

    Returns:
        A scalar, in float32 or wider.

    Raises:
        ShapeError: shapes or types that do not fit.

    Example:
        >>> lengths = torch.tensor([[0.8, 0.2, 0.1]])
        >>> margin_loss(lengths, torch.tensor([0]))  # (0.9 - 0.8)² + 0.5 (0.2 - 0.1)²
        tensor(0.0150)
    """
    _check_classes("lengths", lengths)
    lengths = at_least_float32(lengths)
    if targets.ndim == 1 and not targets.is_floating_point() and len(targets) == len(lengths):
        targets = F.one_hot(targets.long(), lengths.shape[1])
    elif targets.shape != lengths.shape or not targets.is_floating_point():
        raise ShapeError(
            f"targets must be class indices of shape ({len(lengths)},) or floating shares of "
            f"shape {tuple(lengths.shape)}; got {tuple(targets.shape)} of {targets.dtype}"
        )
    present = targets.to(lengths.dtype)
    too_short = (upper - lengths).clamp_min(0).square()
    too_long = (lengths - lower).clamp_min(0).square()
    return (present * too_short + down_weight * (1 - present) * too_long).sum(dim=1).mean()


def reconstruction_loss(rebuilt: Tensor, original: Tensor) -> Tensor:
    """Mean squared error per element.

    The paper weights the *sum* over the elements of an item by 0.0005. For the same pull on n
    elements weight this mean by ``0.0005 * n``: 0.392 for its 28 by 28 pixels.

    Args:
        rebuilt: ``(b, ...)``, floating.
        original: same shape.

    Returns:
        A scalar, in float32 or wider.

    Raises:
        ShapeError: the shapes differ.
    """
    if rebuilt.shape != original.shape:
        raise ShapeError(
            f"rebuilt and original must have one shape; "
            f"got {tuple(rebuilt.shape)} and {tuple(original.shape)}"
        )
    rebuilt = at_least_float32(rebuilt)
    return F.mse_loss(rebuilt, original.to(rebuilt.dtype))


def spread_loss(activations: Tensor, targets: Tensor, *, margin: float = 0.9) -> Tensor:
    """Push the true class above each other one by a margin.

    Per item ``Σ_{k≠t} max(0, margin - (a_t - a_k))²`` (Hinton et al. 2018); the mean over the
    batch. Begin with a small margin, as `spread_margin` gives it: with a large one early
    parents die.

    Args:
        activations: ``(b, k)`` in [0, 1].
        targets: ``(b,)``, class indices.
        margin: by which the true class should lead.

    Returns:
        A scalar, in float32 or wider.

    Raises:
        ShapeError: shapes or types that do not fit.
    """
    _check_classes("activations", activations)
    if targets.shape != activations.shape[:1] or targets.is_floating_point():
        raise ShapeError(
            f"targets must be class indices of shape ({len(activations)},); "
            f"got {tuple(targets.shape)} of {targets.dtype}"
        )
    activations = at_least_float32(activations)
    true = activations.gather(1, targets.long().unsqueeze(1))  # (b, 1)
    short = (margin - (true - activations)).clamp_min(0).square()
    others = torch.ones_like(short).scatter(1, targets.long().unsqueeze(1), 0.0)
    return (short * others).sum(dim=1).mean()


def spread_margin(progress: float, *, first: float = 0.2, last: float = 0.9) -> float:
    """Margin of the spread loss at some part of the training.

    It grows along a sigmoid, slowly at both ends: about ``first`` until a quarter of the training,
    about ``last`` from three quarters on.

    Args:
        progress: share of the training that is done, in [0, 1].
        first: margin at the start.
        last: margin at the end.
    """
    return first + (last - first) / (1 + math.exp(-20 * (progress - 0.5)))


@torch.no_grad()
def coupling_entropy(coupling: Tensor) -> Tensor:
    """Mean entropy of the couplings over the parents, divided by ln(parents).

    1 is plain averaging, 0 is every child with one parent. Couplings of a leaky routing are scaled
    to sum to one; negative ones, which the prior of self-attention can make, count as 0.

    Args:
        coupling: ``(..., o)``.

    Returns:
        A scalar in [0, 1]; 0 for a single parent.

    Raises:
        ShapeError: no parents.
    """
    if coupling.ndim == 0 or coupling.shape[-1] == 0:
        raise ShapeError(f"coupling must have shape (..., parents); got {tuple(coupling.shape)}")
    parents = coupling.shape[-1]
    if parents == 1:
        return coupling.new_zeros(())
    share = at_least_float32(coupling).clamp_min(0)
    share = share / share.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    entropy = torch.special.entr(share).sum(dim=-1) / math.log(parents)
    mean: Tensor = entropy.mean().clamp(0, 1)
    return mean


@torch.no_grad()
def dead_share(activations: Tensor, threshold: float = 0.05) -> Tensor:
    """Share of capsules that no item of the batch activates above a threshold.

    Args:
        activations: ``(b, o)``.
        threshold: activation below which a capsule counts as inactive.

    Returns:
        A scalar in [0, 1].

    Raises:
        ShapeError: not ``(b, o)``, or empty.
    """
    if activations.ndim != 2 or 0 in activations.shape:
        raise ShapeError(
            f"activations must have shape (batch, capsules); got {tuple(activations.shape)}"
        )
    return (activations.amax(dim=0) < threshold).float().mean()


def _check_classes(name: str, scores: Tensor) -> None:
    if scores.ndim != 2 or not scores.is_floating_point():
        raise ShapeError(
            f"{name} must be floating with shape (batch, classes); "
            f"got {tuple(scores.shape)} of {scores.dtype}"
        )
