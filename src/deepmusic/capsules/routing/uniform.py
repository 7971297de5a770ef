"""Uniform coupling: every child votes for all parents alike, the baseline of every routing.

It is dynamic routing stopped after its first pass, and one matrix product when folded. Published
comparisons find it hard to beat (Paik et al. 2019), so report it beside any other method.
"""

from __future__ import annotations

from torch import Tensor

from deepmusic.capsules.routing.dynamic import dynamic_routing
from deepmusic.capsules.routing.votes import Compete, RoutingRecord, Squash, Votes
from deepmusic.capsules.squash import squash


def uniform_routing(
    votes: Tensor | Votes,
    iterations: int = 1,
    *,
    stop_gradient: bool = False,
    leaky: bool = False,
    bias: Tensor | None = None,
    squash: Squash = squash,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Sum the votes with equal couplings.

    Args:
        votes: ``(b, i, o, h)``, floating, or `FoldedVotes`.
        iterations: no effect; accepted so that methods are interchangeable.
        stop_gradient: likewise.
        leaky: leave one share of each child in an extra slot.
        bias: ``(o, h)`` or ``(b, o, h)``, added to each parent before the squash.
        squash: what turns a parent's sum into its pose.
        compete: replaces the equal shares, as convolutions need.

    Returns:
        As `dynamic_routing`.

    Raises:
        ShapeError: wrong rank, type or counts.
    """
    del iterations, stop_gradient
    return dynamic_routing(votes, 1, leaky=leaky, bias=bias, squash=squash, compete=compete)
