"""Dynamic routing by agreement (Sabour, Frosst and Hinton 2017, arXiv:1710.09829).

For votes û_ij of child i for parent j, logits b_ij start at zero and repeatedly::

    c_i = softmax over parents of b_i      s_j = Σ_i c_ij û_ij (+ bias_j)
    v_j = squash(s_j)                      b_ij += û_ij · v_j   (not after the last pass)

:func:`dynamic_routing` is that, line by line; :func:`dynamic_routing_folded` gives the same from
children and weights without ever building the votes.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from deepmusic.capsules.precision import at_least_float32
from deepmusic.capsules.routing.folding import (
    child_agreement,
    child_last,
    total_vote,
    weighted_vote,
)
from deepmusic.capsules.routing.record import (
    RoutingRecord,
    Squash,
    check_children,
    check_iterations,
    check_votes,
)
from deepmusic.capsules.squash import capsule_length, squash

__all__ = ["dynamic_routing", "dynamic_routing_folded"]


def dynamic_routing(
    votes: Tensor,
    iterations: int = 3,
    *,
    stop_gradient: bool = False,
    leaky: bool = False,
    bias: Tensor | None = None,
    squash: Squash = squash,
) -> RoutingRecord:
    """Route votes to the parents on which they agree.

    Args:
        votes: ``(b, i, o, h)``, floating: what child i says parent o looks like.
        iterations: passes; 1 is uniform coupling.
        stop_gradient: treat the couplings as constants in the backward pass. Faster and leaner,
            and another gradient; the paper lets it flow through all passes.
        leaky: give children an extra slot to leave their vote in, for what fits no parent.
        bias: ``(o, h)``, added to each parent before the squash.
        squash: what turns a parent's sum into its pose.

    Returns:
        Poses ``(b, o, h)`` and activations ``(b, o)`` in the type of the votes, coupling
        ``(b, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.
    """
    check_votes(votes, bias)
    check_iterations(iterations)
    wide = at_least_float32(votes)
    logits = wide.new_zeros(wide.shape[:3])  # (b, i, o)
    with torch.no_grad() if stop_gradient else nullcontext():
        for _ in range(iterations - 1):
            poses = _parents(_share(logits, dim=2, leaky=leaky), wide, bias, squash)
            logits = logits + torch.einsum("bioh,boh->bio", wide, poses)
        coupling = _share(logits, dim=2, leaky=leaky)
    poses = _parents(coupling, wide, bias, squash).to(votes.dtype)
    return RoutingRecord(poses, capsule_length(poses), coupling.to(votes.dtype))


def dynamic_routing_folded(
    children: Tensor,
    weight: Tensor,
    iterations: int = 3,
    *,
    stop_gradient: bool = False,
    leaky: bool = False,
    bias: Tensor | None = None,
    squash: Squash = squash,
) -> RoutingRecord:
    """Route children to parents like :func:`dynamic_routing`, without building the votes.

    Args:
        children: ``(b, i, d)``, or ``(b, p, i, d)`` where children at p places share weights.
        weight: ``(o, d, i, h)``; the vote of child i for parent o is
            ``einsum("bid,odih->bioh", children, weight)``.
        iterations: as in :func:`dynamic_routing`.
        stop_gradient: as in :func:`dynamic_routing`.
        leaky: as in :func:`dynamic_routing`.
        bias: as in :func:`dynamic_routing`.
        squash: as in :func:`dynamic_routing`.

    Returns:
        Poses ``(b, o, h)`` and activations ``(b, o)`` in the wider type of children and weight,
        coupling ``(b, i, o)`` or ``(b, p, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.
    """
    check_children(children, weight, bias)
    check_iterations(iterations)
    has_places = children.ndim == 4
    children = child_last(children, weight)  # (b, p, d, i)
    batch, places, _, count = children.shape
    parents = weight.shape[0]
    logits = at_least_float32(children.new_zeros(parents, batch, places, count))
    # All logits are equal at first: no need to weight the children one by one.
    total = total_vote(children, weight) / (parents + leaky)  # (o, b, h)
    with torch.no_grad() if stop_gradient else nullcontext():
        for step in range(iterations - 1):
            coupling = _share(logits, dim=0, leaky=leaky)
            summed = weighted_vote(coupling, children, weight) if step else total
            poses = _finish(summed.transpose(0, 1), bias, squash)  # (b, o, h)
            logits = logits + child_agreement(children, weight, poses.transpose(0, 1))
        coupling = _share(logits, dim=0, leaky=leaky)
    summed = weighted_vote(coupling, children, weight) if iterations > 1 else total
    poses = _finish(summed.transpose(0, 1), bias, squash).to(children.dtype)
    coupling = coupling.permute(1, 2, 3, 0).to(children.dtype)  # (b, p, i, o)
    return RoutingRecord(poses, capsule_length(poses), coupling if has_places else coupling[:, 0])


def _share(logits: Tensor, *, dim: int, leaky: bool) -> Tensor:
    """Softmax over the parents on axis ``dim``, less what an extra zero logit takes."""
    if not leaky:
        return logits.softmax(dim)
    slot = torch.zeros_like(logits.narrow(dim, 0, 1))
    return torch.cat([logits, slot], dim).softmax(dim).narrow(dim, 0, logits.shape[dim])


def _parents(coupling: Tensor, votes: Tensor, bias: Tensor | None, squash: Squash) -> Tensor:
    return _finish(torch.einsum("bio,bioh->boh", coupling, votes), bias, squash)


def _finish(summed: Tensor, bias: Tensor | None, squash: Squash) -> Tensor:
    """Add the bias to sums ``(b, o, h)`` and squash, in float32 or wider."""
    summed = at_least_float32(summed)
    return squash(summed if bias is None else summed + bias)
