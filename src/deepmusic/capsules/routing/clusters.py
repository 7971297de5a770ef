"""Votes as points of Gaussian clusters: what EM and variational routing share.

Sums of squared distances are taken apart, Σ r (v - m)² = Σ r v² - 2 m Σ r v + m² Σ r, so that every
step of both methods is a product of matrices with votes and their squares, made once, where the
textbook form makes an array of the size of the votes for each step. Two measures keep the digits:
votes are taken from the middle of those for their parent, and in units of the item's largest, so
that no square overflows. Both cancel out of the results, so neither needs a gradient.

Axes: b batch, i children, o parents, h their pose.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepmusic.capsules.routing.votes import (
    check_activations,
    check_iterations,
    check_shape,
    check_votes,
)
from deepmusic.capsules.squash import at_least_float32

NARROWEST = 1e-12
"""Least variance in units of the largest vote: only rounding lies below."""


def prepare(
    votes: Tensor, iterations: int, activations: Tensor | None, **learned: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Votes ``(b, i, o, h)`` from their middle and in their unit, and activations of the children.

    Returns:
        The votes and then their squares ``(b, o, i, 2*h)``; the middle ``(b, o, h)`` that was
        taken from the votes; the unit ``(b, 1, 1)`` that they were divided by; and the activations
        ``(b, i, 1)``.

    Raises:
        ShapeError: wrong rank, type or counts, also of what is learned, ``(o,)`` each.
    """
    check_votes(votes)
    check_iterations(iterations)
    check_activations(activations, tuple(votes.shape[:2]))
    for name, tensor in learned.items():
        if tensor is not None:
            check_shape(name, tensor, (votes.shape[2],))
    votes = at_least_float32(votes)
    present = votes.new_ones(1, 1) if activations is None else at_least_float32(activations)
    unit = votes.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1)  # (b, 1, 1, 1)
    scaled = (votes / unit).transpose(1, 2)  # (b, o, i, h)
    middle = scaled.detach().mean(dim=2)
    centred = scaled - middle.unsqueeze(2)
    both = torch.cat([centred, centred.square()], dim=3)
    return both, middle, unit[:, 0], present.unsqueeze(2)


def moments(part: Tensor, both: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of votes and of their squares ``(b, o, h)``, weighted by ``(b, i, o)``."""
    summed = (part.transpose(1, 2).unsqueeze(2) @ both).squeeze(2)
    first, second = summed.chunk(2, dim=2)
    return first, second


def distances(both: Tensor, centres: Tensor, precisions: Tensor) -> Tensor:
    """Σ_h (v - m)² p of every vote, ``(b, i, o)``, from m and p, both ``(b, o, h)``."""
    weights = torch.cat([-2 * centres * precisions, precisions], dim=2)
    crossed = (both @ weights.unsqueeze(3)).squeeze(3)  # (b, o, i)
    return (crossed + (centres.square() * precisions).sum(dim=2, keepdim=True)).transpose(1, 2)
