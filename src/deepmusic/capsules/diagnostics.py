"""Diagnostics for training: whether routing decides anything, and which capsules are dead."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepmusic.capsules.squash import at_least_float32
from deepmusic.errors import ShapeError


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
