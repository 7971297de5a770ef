"""Inverted dot-product attention (Tsai, Srivastava, Goh and Salakhutdinov 2020, arXiv:2002.04764).

For votes û_ij in h dimensions, LN the layer norm of a pose, m parents::

    v_j = LN(Σ_i û_ij / m)                               (the first pass: uniform)
    c_i = softmax over parents of û_ij · v_j / √h
    v_j = LN(Σ_i c_ij û_ij)                              (every further pass)

Parents compete for a child, where attention has the keys compete for a query: hence inverted. The
layer norm replaces the squash, so that gradients survive depth, and presence is read off the pose
by one linear map that all parents share. Given the parents' previous poses, all layers of a stack
can update at once: :class:`~deepmusic.capsules.CapsuleStack`.
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
    check_children,
    check_iterations,
    check_shape,
    check_votes,
)


def inverted_attention_routing(
    votes: Tensor,
    iterations: int = 2,
    *,
    stop_gradient: bool = False,
    gain: Tensor | None = None,
    shift: Tensor | None = None,
    read_out: Tensor | None = None,
    read_out_bias: Tensor | None = None,
    bias: Tensor | None = None,
    previous: Tensor | None = None,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route votes by attention in which the parents compete.

    Args:
        votes: ``(b, i, o, h)``, floating.
        iterations: passes; 1 is uniform coupling.
        stop_gradient: treat the couplings as constants in the backward pass.
        gain: ``(h,)`` of the layer norm, learned; None is ones.
        shift: ``(h,)`` of the layer norm, learned; None is zeros.
        read_out: ``(h,)``, learned: how a pose is read as presence; None is 1/√h throughout.
        read_out_bias: ``(1,)``, learned; None is zero.
        bias: ``(o, h)`` or ``(b, o, h)``, added to each parent before the layer norm.
        previous: ``(b, o, h)``, poses of the parents from before; every pass then attends, where
            without them the first is uniform.
        compete: replaces the softmax over parents, as convolutions need.

    Returns:
        Poses ``(b, o, h)``, activations ``(b, o)``, the sigmoid of the read-out (its ``logit()`` is
        what a cross-entropy takes), coupling ``(b, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.
    """
    check_votes(votes, bias)
    check_iterations(iterations)
    if previous is not None:
        check_shape("previous", previous, (len(votes), *votes.shape[2:]))
    wide = at_least_float32(votes)
    root = math.sqrt(votes.shape[-1])
    poses = None if previous is None else at_least_float32(previous)
    for step in range(iterations):
        with torch.no_grad() if stop_gradient else nullcontext():
            logits = (
                wide.new_zeros(wide.shape[:3])
                if poses is None
                else torch.einsum("bioh,boh->bio", wide, poses / root)
            )
            coupling = share(logits, parents=-1, compete=compete)
        with torch.no_grad() if stop_gradient and step + 1 < iterations else nullcontext():
            summed = torch.einsum("bio,bioh->boh", coupling, wide)
            poses = _layer_norm(summed if bias is None else summed + bias, gain, shift)
    assert poses is not None
    return _record(poses, coupling, read_out, read_out_bias, votes.dtype)


def inverted_attention_routing_folded(
    children: Tensor,
    weight: Tensor,
    iterations: int = 2,
    *,
    stop_gradient: bool = False,
    gain: Tensor | None = None,
    shift: Tensor | None = None,
    read_out: Tensor | None = None,
    read_out_bias: Tensor | None = None,
    bias: Tensor | None = None,
    previous: Tensor | None = None,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route children like :func:`inverted_attention_routing`, without building the votes.

    Args:
        children: ``(b, i, d)``, or ``(b, p, i, d)`` where children at p places share weights.
        weight: ``(o, h, d, i)``.
        iterations: as in :func:`inverted_attention_routing`.
        stop_gradient: as in :func:`inverted_attention_routing`.
        gain: as in :func:`inverted_attention_routing`.
        shift: as in :func:`inverted_attention_routing`.
        read_out: as in :func:`inverted_attention_routing`.
        read_out_bias: as in :func:`inverted_attention_routing`.
        bias: as in :func:`inverted_attention_routing`.
        previous: as in :func:`inverted_attention_routing`.
        compete: as in :func:`inverted_attention_routing`.

    Returns:
        As :func:`inverted_attention_routing`; coupling ``(b, i, o)`` or ``(b, p, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.
    """
    check_children(children, weight, bias)
    check_iterations(iterations)
    if previous is not None:
        check_shape("previous", previous, (len(children), *weight.shape[:2]))
    result = torch.promote_types(children.dtype, weight.dtype)
    has_places = children.ndim == 4
    children, weight = child_last(children, weight)  # (b, p, d, i)
    batch, places, _, count = children.shape
    parents, out_dim = weight.shape[:2]
    root = math.sqrt(out_dim)
    zero = at_least_float32(children.new_zeros(()))
    poses = None if previous is None else at_least_float32(previous)
    for step in range(iterations):
        is_first = poses is None
        with torch.no_grad() if stop_gradient else nullcontext():
            logits = (
                zero.expand(parents, batch, places, count)
                if poses is None
                else at_least_float32(child_agreement(children, weight, poses / root))
            )
            # equal at first, and nothing to compute, unless windows compete
            coupling = (
                (zero + 1 / parents).expand(logits.shape)
                if is_first and compete is None
                else share(logits, parents=0, compete=compete)
            )
        with torch.no_grad() if stop_gradient and step + 1 < iterations else nullcontext():
            summed = at_least_float32(
                total_vote(children, weight) / parents
                if is_first and compete is None
                else weighted_vote(coupling, children, weight)
            )
            poses = _layer_norm(summed if bias is None else summed + bias, gain, shift)
    assert poses is not None
    coupling = parent_last(coupling, places=has_places)
    return _record(poses, coupling, read_out, read_out_bias, result)


def _record(
    poses: Tensor,
    coupling: Tensor,
    read_out: Tensor | None,
    read_out_bias: Tensor | None,
    dtype: torch.dtype,
) -> RoutingRecord:
    evidence = (
        poses.sum(dim=-1) / math.sqrt(poses.shape[-1])
        if read_out is None
        else poses @ read_out.to(poses.dtype)
    )
    if read_out_bias is not None:
        evidence = evidence + read_out_bias
    return RoutingRecord(poses.to(dtype), evidence.sigmoid().to(dtype), coupling.to(dtype))


def _layer_norm(pose: Tensor, gain: Tensor | None, shift: Tensor | None) -> Tensor:
    """Each pose with mean 0 and variance 1 before gain and shift, safe at any size.

    The scale cancels out of the result, so it needs no gradient of its own; without it the
    variance of large poses would overflow.
    """
    scale = pose.detach().abs().amax(dim=-1, keepdim=True).clamp_min(1)
    scaled = pose / scale
    centred = scaled - scaled.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    normed = centred * (variance + 1e-5 / scale / scale + 1e-30).rsqrt()
    if gain is not None:
        normed = normed * gain
    return normed if shift is None else normed + shift
