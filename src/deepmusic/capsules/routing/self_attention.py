"""Self-attention routing (Mazzia, Salvetti and Chiaberge 2021, arXiv:2101.12491).

For votes û_ij in h dimensions and learned priors B_ij, without iterations::

    A_ij = û_ij · Σ_k û_kj / √h      c_i = softmax over parents of A_i + B_i
    s_j = Σ_i c_ij û_ij (+ bias_j)   v_j = squash_exp(s_j)

The paper forms the matrix of all children with all children, û_ij · û_kj, and sums it over one of
them; summing the votes first gives the same in time and memory linear in the children.
"""

from __future__ import annotations

import math
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
    check_shape,
    check_votes,
)
from deepmusic.capsules.squash import capsule_length, squash_exp


def self_attention_routing(
    votes: Tensor,
    iterations: int = 1,
    *,
    stop_gradient: bool = False,
    prior: Tensor | None = None,
    bias: Tensor | None = None,
    squash: Squash = squash_exp,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route votes to the parents on which they agree with the sum of all votes.

    Args:
        votes: ``(b, i, o, h)``, floating.
        iterations: taken so that methods can be exchanged by name; has no effect.
        stop_gradient: treat the softmax as a constant in the backward pass.
        prior: ``(i, o)``, learned, added to the couplings after the softmax: once it is not zero
            they need not add up to one, nor be positive.
        bias: ``(o, h)`` or ``(b, o, h)``, added to each parent before the squash.
        squash: what turns a parent's sum into its pose.
        compete: replaces the softmax over parents, as convolutions need.

    Returns:
        As :func:`~deepmusic.capsules.dynamic_routing`.

    Raises:
        ShapeError: wrong rank, type or counts.
    """
    check_votes(votes, bias)
    check_iterations(iterations)
    if prior is not None:
        check_shape("prior", prior, tuple(votes.shape[1:3]))
    wide = at_least_float32(votes)
    with torch.no_grad() if stop_gradient else nullcontext():
        total, size = _bounded(wide.sum(dim=1))
        agreement = torch.einsum("bioh,boh->bio", wide, total)
        logits = _scaled(agreement, size, parents=-1, alone=compete is None)
        coupling = share(logits, parents=-1, compete=compete)
    if prior is not None:
        coupling = coupling + prior
    summed = torch.einsum("bio,bioh->boh", coupling, wide)
    poses = squash(summed if bias is None else summed + bias).to(votes.dtype)
    return RoutingRecord(poses, capsule_length(poses), coupling.to(votes.dtype))


def self_attention_routing_folded(
    children: Tensor,
    weight: Tensor,
    iterations: int = 1,
    *,
    stop_gradient: bool = False,
    prior: Tensor | None = None,
    bias: Tensor | None = None,
    squash: Squash = squash_exp,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route children like :func:`self_attention_routing`, without building the votes.

    Args:
        children: ``(b, i, d)``, or ``(b, p, i, d)`` where children at p places share weights.
        weight: ``(o, h, d, i)``.
        iterations: as in :func:`self_attention_routing`.
        stop_gradient: as in :func:`self_attention_routing`.
        prior: as in :func:`self_attention_routing`, ``(i, o)``; the same at every place.
        bias: as in :func:`self_attention_routing`.
        squash: as in :func:`self_attention_routing`.
        compete: as in :func:`self_attention_routing`.

    Returns:
        As :func:`~deepmusic.capsules.dynamic_routing_folded`.

    Raises:
        ShapeError: wrong rank, type or counts.
    """
    check_children(children, weight, bias)
    check_iterations(iterations)
    if prior is not None:
        check_shape("prior", prior, (weight.shape[3], weight.shape[0]))
    result = torch.promote_types(children.dtype, weight.dtype)
    has_places = children.ndim == 4
    children, weight = child_last(children, weight)  # (b, p, d, i)
    with torch.no_grad() if stop_gradient else nullcontext():
        total, size = _bounded(at_least_float32(total_vote(children, weight)))
        agreement = at_least_float32(child_agreement(children, weight, total))  # (o, b, p, i)
        logits = _scaled(agreement, size, parents=0, alone=compete is None)
        coupling = share(logits, parents=0, compete=compete)
    if prior is not None:
        coupling = coupling + prior.t()[:, None, None]
    summed = at_least_float32(weighted_vote(coupling, children, weight))
    poses = squash(summed if bias is None else summed + bias).to(result)
    coupling = parent_last(coupling, places=has_places).to(result)
    return RoutingRecord(poses, capsule_length(poses), coupling)


def _bounded(total: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of votes ``(b, o, h)`` as sums of at most one and their size ``(b, 1, 1)``.

    Agreements are of the fourth order in the children and would overflow. The size cancels out,
    so it needs no gradient.
    """
    size = total.detach().abs().amax(dim=(1, 2), keepdim=True).clamp(1, 1e30)
    return total / size, size / math.sqrt(total.shape[-1])


def _scaled(agreement: Tensor, size: Tensor, *, parents: int, alone: bool) -> Tensor:
    """Agreements at their true size, finite; with the best parent of each child at zero if alone.

    Where windows compete for a child, each would move it by another amount.
    """
    if parents == 0:
        size = size.unsqueeze(0)
    if alone:
        return (agreement - agreement.detach().amax(dim=parents, keepdim=True)) * size
    return (agreement * size).clamp(-1e30, 1e30)
