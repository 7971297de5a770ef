"""Dynamic routing by agreement (Sabour, Frosst and Hinton 2017, arXiv:1710.09829).

For votes û_ij of child i for parent j, logits b_ij start at zero and repeatedly::

    c_i = softmax over parents of b_i      s_j = Σ_i c_ij û_ij (+ bias_j)
    v_j = squash(s_j)                      b_ij += û_ij · v_j   (not after the last pass)
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from deepmusic.capsules.routing.votes import (
    Compete,
    RoutingRecord,
    Squash,
    Votes,
    as_votes,
    check_iterations,
    share,
)
from deepmusic.capsules.squash import capsule_length, squash


def dynamic_routing(
    votes: Tensor | Votes,
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
        votes: ``(b, i, o, h)``, floating: what child i says parent o looks like; or
            `FoldedVotes`.
        iterations: passes; 1 is uniform coupling.
        stop_gradient: treat the couplings as constants in the backward pass. Faster and leaner,
            and another gradient; the paper lets it flow through all passes.
        leaky: give children an extra slot to leave their vote in, for what fits no parent.
        bias: ``(o, h)`` or ``(b, o, h)``, added to each parent before the squash.
        squash: what turns a parent's sum into its pose.
        compete: replaces the softmax over parents (and the leaky slot), as convolutions need.

    Returns:
        Poses ``(b, o, h)`` and activations ``(b, o)``, the lengths of the poses, in the type of
        the votes, coupling ``(b, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.

    Example:
        >>> votes = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, -1.0]]]])
        >>> dynamic_routing(votes).coupling[0]  # two children agree on the first parent
        tensor([[0.7517, 0.2483],
                [0.7517, 0.2483]])
    """
    votes = as_votes(votes, bias)
    check_iterations(iterations)
    slots = votes.shape[3] + int(leaky)
    coupling: Tensor | None = None  # None: all are 1/slots, and no child need be weighted by itself

    def parents() -> Tensor:
        summed = votes.total() / slots if coupling is None else votes.weighted(coupling)
        return squash(summed if bias is None else summed + bias)

    with torch.no_grad() if stop_gradient else nullcontext():
        if compete is not None:  # then couplings depend on the windows from the start
            coupling = share(votes.constant(0), parents=0, compete=compete)
        past: Tensor | None = None  # poses of all passes so far, summed
        for _ in range(iterations - 1):
            past = parents() if past is None else past + parents()
            # agreement is linear in the poses: this is the sum of all agreements so far
            coupling = share(votes.agreement(past), parents=0, leaky=leaky, compete=compete)
    poses = parents().to(votes.dtype)
    if coupling is None:
        coupling = votes.constant(1 / slots)
    return votes.record(poses, capsule_length(poses), coupling)
