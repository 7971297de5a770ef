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

from deepmusic.capsules.precision import at_least_float32
from deepmusic.capsules.routing.competition import Compete, share
from deepmusic.capsules.routing.folding import child_last, parent_last, weighted_vote
from deepmusic.capsules.routing.record import (
    RoutingRecord,
    check_activations,
    check_children,
    check_iterations,
    check_shape,
    check_votes,
)
from deepmusic.errors import ShapeError

_LEAST = 1e-12  # of a sum of activations: silence is divided by this


def self_routing(
    votes: Tensor,
    iterations: int = 1,
    *,
    children: Tensor,
    route_weight: Tensor,
    route_bias: Tensor,
    activations: Tensor | None = None,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route votes as each child by itself decides.

    Args:
        votes: ``(b, i, o, h)``, floating.
        iterations: taken so that methods can be exchanged by name; has no effect.
        children: ``(b, i, d)``, poses of the children.
        route_weight: ``(i, d, o)``, learned: R.
        route_bias: ``(i, o)``, learned: r.
        activations: ``(b, i)``, presence of the children, not negative; None is one.
        compete: replaces the softmax over parents, as convolutions need.

    Returns:
        Poses ``(b, o, h)``, activations ``(b, o)``, coupling ``(b, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts.
    """
    check_votes(votes)
    check_iterations(iterations)
    batch, count, parents, _ = votes.shape
    if children.ndim != 3 or children.shape[:2] != (batch, count):
        raise ShapeError(
            f"children must have shape ({batch}, {count}, dim); got {tuple(children.shape)}"
        )
    _check_route(route_weight, route_bias, count, children.shape[2], parents)
    check_activations(activations, (batch, count))
    wide = at_least_float32(votes)
    logits = torch.einsum("bid,ido->bio", at_least_float32(children), route_weight.to(wide.dtype))
    coupling = share(logits + route_bias, parents=-1, compete=compete)
    present = wide.new_ones(batch, count) if activations is None else at_least_float32(activations)
    part = coupling * present.unsqueeze(2)
    mass = part.sum(dim=1)  # (b, o)
    poses = torch.einsum("bio,bioh->boh", part, wide) / (mass + _LEAST).unsqueeze(2)
    woken = mass / (present.sum(dim=1, keepdim=True) + _LEAST)
    dtype = votes.dtype
    return RoutingRecord(poses.to(dtype), woken.to(dtype), coupling.to(dtype))


def self_routing_folded(
    children: Tensor,
    weight: Tensor,
    iterations: int = 1,
    *,
    route_weight: Tensor,
    route_bias: Tensor,
    activations: Tensor | None = None,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route children like :func:`self_routing`, without building the votes.

    Args:
        children: ``(b, i, d)``, or ``(b, p, i, d)`` where children at p places share weights.
        weight: ``(o, h, d, i)``.
        iterations: as in :func:`self_routing`.
        route_weight: as in :func:`self_routing`; the same at every place.
        route_bias: as in :func:`self_routing`; the same at every place.
        activations: ``(b, i)`` or ``(b, p, i)``; None is one.
        compete: as in :func:`self_routing`.

    Returns:
        As :func:`self_routing`; coupling ``(b, i, o)`` or ``(b, p, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts.
    """
    check_children(children, weight)
    check_iterations(iterations)
    parents, _, in_dim, count = weight.shape
    _check_route(route_weight, route_bias, count, in_dim, parents)
    check_activations(activations, tuple(children.shape[:-1]))
    result = torch.promote_types(children.dtype, weight.dtype)
    has_places = children.ndim == 4
    children, weight = child_last(children, weight)  # (b, p, d, i)
    wide = at_least_float32(children)
    logits = torch.einsum("bpdi,ido->obpi", wide, route_weight.to(wide.dtype))
    coupling = share(logits + route_bias.t()[:, None, None], parents=0, compete=compete)
    if activations is None:
        present = wide.new_ones(wide.shape[0], wide.shape[1], count)
    else:
        present = at_least_float32(activations).reshape(wide.shape[0], wide.shape[1], count)
    part = coupling * present
    mass = part.sum(dim=(2, 3)).t()  # (b, o)
    summed = at_least_float32(weighted_vote(part, children, weight))
    poses = summed / (mass + _LEAST).unsqueeze(2)
    woken = mass / (present.sum(dim=(1, 2)).unsqueeze(1) + _LEAST)
    coupling = parent_last(coupling, places=has_places)
    return RoutingRecord(poses.to(result), woken.to(result), coupling.to(result))


def _check_route(weight: Tensor, bias: Tensor, count: int, in_dim: int, parents: int) -> None:
    check_shape("route_weight", weight, (count, in_dim, parents))
    check_shape("route_bias", bias, (count, parents))
