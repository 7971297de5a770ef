"""Inverted dot-product attention (Tsai, Srivastava, Goh and Salakhutdinov 2020, arXiv:2002.04764).

For votes û_ij in h dimensions, LN the layer norm of a pose, m parents::

    v_j = LN(Σ_i û_ij / m)                               (the first pass: uniform)
    c_i = softmax over parents of û_ij · v_j / √h
    v_j = LN(Σ_i c_ij û_ij)                              (every further pass)

Parents compete for a child, where attention has the keys compete for a query: hence inverted. The
layer norm replaces the squash, so that gradients survive depth, and presence is read off the pose
by one linear map that all parents share. Given the parents' previous poses, all layers of a stack
can update at once: `CapsuleStack`.
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
    Votes,
    as_votes,
    check_iterations,
    check_shape,
    share,
)
from deepmusic.capsules.squash import at_least_float32


def norm_and_read_out(sizes: Sizes) -> dict[str, Tensor]:
    """What is learned: the layer norm, and how a pose is read as presence."""
    dim = sizes.out_dim
    return {
        "gain": torch.ones(dim),
        "shift": torch.zeros(dim),
        "read_out": torch.randn(dim) / dim**0.5,
        "read_out_bias": torch.zeros(1),
    }


def inverted_attention_routing(
    votes: Tensor | Votes,
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
        votes: ``(b, i, o, h)``, floating, or `FoldedVotes`.
        iterations: passes; 1 is uniform coupling.
        stop_gradient: treat the couplings as constants in the backward pass.
        gain: ``(h,)`` of the layer norm, learned; None is ones.
        shift: ``(h,)`` of the layer norm, learned; None is zeros.
        read_out: ``(h,)``, learned: how a pose is read as presence; None is 1/√h throughout.
        read_out_bias: ``(1,)``, learned; None is zero.
        bias: ``(o, h)`` or ``(b, o, h)``, added to each parent before the layer norm.
        previous: ``(b, o, h)``, earlier poses of the parents; every pass then attends, where
            without them the first is uniform.
        compete: replaces the softmax over parents, as convolutions need.

    Returns:
        Poses ``(b, o, h)``, activations ``(b, o)``, the sigmoid of the read-out (its ``logit()`` is
        what a cross-entropy takes), coupling ``(b, i, o)``.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.
    """
    votes = as_votes(votes, bias)
    check_iterations(iterations)
    batch, _, _, parents, dim = votes.shape
    if previous is not None:
        check_shape("previous", previous, (batch, parents, dim))
    root = math.sqrt(dim)
    poses = None if previous is None else at_least_float32(previous)
    for step in range(iterations):
        is_uniform = poses is None and compete is None
        with torch.no_grad() if stop_gradient else nullcontext():
            logits = votes.constant(0) if poses is None else votes.agreement(poses / root)
            coupling = (
                votes.constant(1 / parents)
                if is_uniform
                else share(logits, parents=0, compete=compete)
            )
        with torch.no_grad() if stop_gradient and step + 1 < iterations else nullcontext():
            summed = votes.total() / parents if is_uniform else votes.weighted(coupling)
            poses = _layer_norm(summed if bias is None else summed + bias, gain, shift)
    assert poses is not None
    evidence = poses.sum(dim=-1) / root if read_out is None else poses @ read_out.to(poses.dtype)
    if read_out_bias is not None:
        evidence = evidence + read_out_bias
    return votes.record(poses, evidence.sigmoid(), coupling)


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
