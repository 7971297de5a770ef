"""Self-routing (Hahn, Pyeon and Kim 2019, NeurIPS).

Each child decides alone where it belongs, by a small linear map of its own; no iterations and no
agreement. For children u_i with activations a_i and votes û_ij::

    c_i = softmax over parents of (R_i u_i + r_i)
    a_j = Σ_i c_ij a_i / Σ_i a_i      v_j = Σ_i c_ij a_i û_ij / Σ_i c_ij a_i

The paper normalises poses by batch between layers and trains by the logarithm of a.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepmusic.capsules.routing.method import Sizes
from deepmusic.capsules.routing.votes import (
    Compete,
    FoldedVotes,
    RoutingRecord,
    Votes,
    as_votes,
    check_activations,
    check_iterations,
    check_shape,
    share,
)
from deepmusic.capsules.squash import at_least_float32
from deepmusic.errors import ShapeError

_LEAST = 1e-12  # added to a sum of activations, by which is divided


def route_map(sizes: Sizes) -> dict[str, Tensor]:
    """The learned map of each child, zero at first: all couplings are equal."""
    return {
        "route_weight": torch.zeros(sizes.children, sizes.in_dim, sizes.parents),
        "route_bias": torch.zeros(sizes.children, sizes.parents),
    }


def self_routing(
    votes: Tensor | Votes,
    iterations: int = 1,
    *,
    route_weight: Tensor,
    route_bias: Tensor,
    children: Tensor | None = None,
    activations: Tensor | None = None,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route votes as each child by itself decides.

    Args:
        votes: ``(b, i, o, h)``, floating, or `FoldedVotes`.
        iterations: no effect; accepted so that methods are interchangeable.
        route_weight: ``(i, d, o)``, learned: R; the same at every position.
        route_bias: ``(i, o)``, learned: r; the same at every position.
        children: ``(b, i, d)``, poses of the children; folded votes hold them already.
        activations: ``(b, p*i)``, presence of the children, not negative; None is one.
        compete: replaces the softmax over parents, as convolutions need.

    Returns:
        Poses ``(b, o, h)``, activations ``(b, o)``, coupling ``(b, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts, or no children.
    """
    votes = as_votes(votes)
    check_iterations(iterations)
    batch, positions, count, parents, _ = votes.shape
    if isinstance(votes, FoldedVotes):
        poses = votes.children  # (b, p, d, i)
    elif children is not None and children.ndim == 3 and children.shape[:2] == (batch, count):
        poses = children.mT.unsqueeze(1)
    else:
        shape = None if children is None else tuple(children.shape)
        raise ShapeError(f"children must have shape ({batch}, {count}, dim); got {shape}")
    check_shape("route_weight", route_weight, (count, poses.shape[2], parents))
    check_shape("route_bias", route_bias, (count, parents))
    check_activations(activations, (batch, positions * count))
    wide = at_least_float32(poses)
    logits = torch.einsum("bpdi,ido->obpi", wide, route_weight.to(wide.dtype))
    coupling = share(logits + route_bias.t()[:, None, None], parents=0, compete=compete)
    present = wide.new_ones(()) if activations is None else at_least_float32(activations)
    present = present.expand(batch, positions * count).reshape(batch, positions, count)
    part = coupling * present  # (o, b, p, i)
    mass = part.sum(dim=(2, 3)).t()  # (b, o)
    means = votes.weighted(part) / (mass + _LEAST).unsqueeze(2)
    active = mass / (present.sum(dim=(1, 2)).unsqueeze(1) + _LEAST)
    return votes.record(means, active, coupling)
