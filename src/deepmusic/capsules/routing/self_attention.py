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

from deepmusic.capsules.routing.method import Sizes
from deepmusic.capsules.routing.votes import (
    Compete,
    RoutingRecord,
    Squash,
    Votes,
    as_votes,
    check_iterations,
    check_shape,
    share,
)
from deepmusic.capsules.squash import capsule_length, squash_exp


def prior(sizes: Sizes) -> dict[str, Tensor]:
    """The learned prior, zero at first."""
    return {"prior": torch.zeros(sizes.children, sizes.parents)}


def self_attention_routing(
    votes: Tensor | Votes,
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
        votes: ``(b, i, o, h)``, floating, or `FoldedVotes`.
        iterations: no effect; accepted so that methods are interchangeable.
        stop_gradient: treat the softmax as a constant in the backward pass.
        prior: ``(i, o)``, learned, added to the couplings after the softmax, the same at every
            position: once it is not zero they need not add up to one, nor be positive.
        bias: ``(o, h)`` or ``(b, o, h)``, added to each parent before the squash.
        squash: what turns a parent's sum into its pose.
        compete: replaces the softmax over parents, as convolutions need.

    Returns:
        As `dynamic_routing`.

    Raises:
        ShapeError: wrong rank, type or counts.
    """
    votes = as_votes(votes, bias)
    check_iterations(iterations)
    if prior is not None:
        check_shape("prior", prior, votes.shape[2:4])
    with torch.no_grad() if stop_gradient else nullcontext():
        total = votes.total()
        # Agreements are of the fourth order in the children and would overflow. The size cancels
        # out, so it needs no gradient.
        size = total.detach().abs().amax(dim=(1, 2), keepdim=True).clamp(1.0, 1e30)  # (b, 1, 1)
        agreement = votes.agreement(total / size)  # (o, b, p, i)
        scale = size / math.sqrt(total.shape[-1])
        if compete is None:  # the best parent of each child at zero
            logits = (agreement - agreement.detach().amax(dim=0, keepdim=True)) * scale
        else:  # windows that compete for a child would each move it by another amount
            logits = (agreement * scale).clamp(-1e30, 1e30)
        coupling = share(logits, parents=0, compete=compete)
    if prior is not None:
        coupling = coupling + prior.t()[:, None, None]
    summed = votes.weighted(coupling)
    poses = squash(summed if bias is None else summed + bias).to(votes.dtype)
    return votes.record(poses, capsule_length(poses), coupling)
