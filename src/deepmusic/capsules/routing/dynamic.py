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
from deepmusic.capsules.routing.competition import Compete, share
from deepmusic.capsules.routing.folding import (
    child_agreement,
    child_last,
    parent_last,
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


def dynamic_routing(
    votes: Tensor,
    iterations: int = 3,
    *,
    stop_gradient: bool = False,
    leaky: bool = False,
    bias: Tensor | None = None,
    squash: Squash = squash,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route votes to the parents on which they agree.

    Args:
        votes: ``(b, i, o, h)``, floating: what child i says parent o looks like.
        iterations: passes; 1 is uniform coupling.
        stop_gradient: treat the couplings as constants in the backward pass. Faster and leaner,
            and another gradient; the paper lets it flow through all passes.
        leaky: give children an extra slot to leave their vote in, for what fits no parent.
        bias: ``(o, h)`` or ``(b, o, h)``, added to each parent before the squash.
        squash: what turns a parent's sum into its pose.
        compete: replaces the softmax over parents (and the leaky slot), as convolutions need.

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
            coupling = share(logits, parents=-1, leaky=leaky, compete=compete)
            poses = _parents(coupling, wide, bias, squash)
            logits = logits + torch.einsum("bioh,boh->bio", wide, poses)
        coupling = share(logits, parents=-1, leaky=leaky, compete=compete)
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
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route children to parents like :func:`dynamic_routing`, without building the votes.

    Args:
        children: ``(b, i, d)``, or ``(b, p, i, d)`` where children at p places share weights.
        weight: ``(o, h, d, i)``; the vote of child i for parent o is
            ``einsum("bid,ohdi->bioh", children, weight)``.
        iterations: as in :func:`dynamic_routing`.
        stop_gradient: as in :func:`dynamic_routing`.
        leaky: as in :func:`dynamic_routing`.
        bias: as in :func:`dynamic_routing`.
        squash: as in :func:`dynamic_routing`.
        compete: as in :func:`dynamic_routing`; children at p places are ``p * i`` children.

    Returns:
        Poses ``(b, o, h)`` and activations ``(b, o)`` in the wider type of children and weight,
        coupling ``(b, i, o)`` or ``(b, p, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.
    """
    check_children(children, weight, bias)
    check_iterations(iterations)
    result = torch.promote_types(children.dtype, weight.dtype)
    has_places = children.ndim == 4
    children, weight = child_last(children, weight)  # (b, p, d, i)
    batch, places, _, count = children.shape
    zero = at_least_float32(children.new_zeros(()))
    logits = zero.expand(len(weight), batch, places, count)
    # all logits are equal at first, and so are the couplings, unless windows compete
    coupling = (zero + 1 / (len(weight) + leaky)).expand(logits.shape)
    with torch.no_grad() if stop_gradient else nullcontext():
        if compete is not None:
            coupling = share(logits, parents=0, compete=compete)
        for step in range(iterations - 1):
            summed = (
                weighted_vote(coupling, children, weight)
                if step or compete is not None
                else _first_sum(children, weight, leaky)
            )
            poses = _finish(summed, bias, squash)  # (b, o, h)
            logits = logits + child_agreement(children, weight, poses)
            coupling = share(logits, parents=0, leaky=leaky, compete=compete)
    summed = (
        weighted_vote(coupling, children, weight)
        if iterations > 1 or compete is not None
        else _first_sum(children, weight, leaky)
    )
    poses = _finish(summed, bias, squash).to(result)
    coupling = parent_last(coupling, places=has_places).to(result)
    return RoutingRecord(poses, capsule_length(poses), coupling)


def _first_sum(children: Tensor, weight: Tensor, leaky: bool) -> Tensor:
    """With equal couplings no child need be weighted by itself."""
    return total_vote(children, weight) / (len(weight) + leaky)


def _parents(coupling: Tensor, votes: Tensor, bias: Tensor | None, squash: Squash) -> Tensor:
    return _finish(torch.einsum("bio,bioh->boh", coupling, votes), bias, squash)


def _finish(summed: Tensor, bias: Tensor | None, squash: Squash) -> Tensor:
    """Add the bias to sums ``(b, o, h)`` and squash, in float32 or wider."""
    summed = at_least_float32(summed)
    return squash(summed if bias is None else summed + bias)
