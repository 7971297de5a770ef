"""Sums over votes without building the votes.

A vote is linear in its child, so a weighted sum of votes is the weights applied to weighted
children, and the agreement of a vote with a parent is that of the child with the parent seen
through the weights. Each is one matrix product per parent, and so are their gradients; they are
written out here, because left to itself autograd would keep a weighted copy of all children for
every parent and pass.

Axes: b batch, p positions that share weights, i children, d their pose, o parents, h their pose.
Children come last, so that elementwise work runs along memory: here children are ``(b, p, d, i)``,
couplings ``(o, b, p, i)``, weights ``(o, h, d, i)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CPU_NUMBERS = 1 << 19  # weighted children held at once: 2 MB, about the cache of a core
_GPU_NUMBERS = 1 << 26  # a GPU is fastest with few, large products


def child_last(children: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Children as ``(b, p, d, i)`` and the weights, both in the type to compute in.

    That is the wider of the two types, or the type of autocast where it is on.
    """
    if children.ndim == 3:
        children = children.unsqueeze(1)
    dtype = torch.promote_types(children.dtype, weight.dtype)
    device = children.device.type
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    return children.to(dtype).transpose(-1, -2).contiguous(), weight.to(dtype)


def total_vote(children: Tensor, weight: Tensor) -> Tensor:
    """Sum of all votes for each parent, ``(b, o, h)``: one product over all parents."""
    summed = children.sum(1) if children.shape[1] > 1 else children[:, 0]
    product = F.linear(summed.flatten(1), weight.flatten(2).flatten(0, 1))
    return product.reshape(children.shape[0], *weight.shape[:2])


def weighted_vote(coupling: Tensor, children: Tensor, weight: Tensor) -> Tensor:
    """Sum of votes weighted by couplings, ``(b, o, h)``."""
    summed: Tensor = _WeightedVote.apply(  # type: ignore[no-untyped-call]
        coupling.to(children.dtype), children, weight
    )
    return summed.transpose(0, 1)


def child_agreement(children: Tensor, weight: Tensor, poses: Tensor) -> Tensor:
    """Scalar product of each vote with its parent's pose ``(b, o, h)``: ``(o, b, p, i)``."""
    parents = poses.to(children.dtype).transpose(0, 1).contiguous()  # (o, b, h)
    agreement: Tensor = _ChildAgreement.apply(  # type: ignore[no-untyped-call]
        children, weight, parents
    )
    return agreement


class _WeightedVote(torch.autograd.Function):
    """``s_o = W_o (Σ_p c_o · u)``; the backward pass recomputes the weighted children."""

    @staticmethod
    def forward(coupling: Tensor, children: Tensor, weight: Tensor) -> Tensor:
        parents, out_dim = weight.shape[:2]
        summed = children.new_empty(parents, children.shape[0], out_dim)
        for part, buffer in _parts(children, parents):
            weighted = _weighted(coupling[part], children, buffer)
            _into(summed[part], weighted, _seen(weight[part]).mT)
        return summed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        coupling, children, weight = ctx.saved_tensors
        return _gradients(
            (*ctx.needs_input_grad, False), coupling, children, weight, grads[0].contiguous()
        )[:3]


class _ChildAgreement(torch.autograd.Function):
    """``a_o = u · (W_oᵀ v_o)``; the backward pass recomputes ``W_oᵀ v_o``."""

    @staticmethod
    def forward(children: Tensor, weight: Tensor, poses: Tensor) -> Tensor:
        parents = len(weight)
        batch, positions, _, count = children.shape
        agreement = children.new_empty(parents, batch, positions, count)
        for part, buffer in _parts(children, parents):
            seen = torch.bmm(poses[part], _seen(weight[part]), out=buffer)  # (o, b, d*i)
            _contract(agreement[part], seen, children)
        return agreement

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        children, weight, poses = ctx.saved_tensors
        # Σ g a is a weighted sum of votes with g as couplings, times the poses
        needed = (False, *ctx.needs_input_grad)
        return _gradients(needed, grads[0], children, weight, poses)[1:]


def _gradients(
    needed: tuple[bool, ...], coupling: Tensor, children: Tensor, weight: Tensor, poses: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of ``Σ_oi c_oi v_o · W_oi u_i`` to c, u, W and v, those that are needed."""
    to_coupling = torch.empty_like(coupling) if needed[0] else None
    to_children = torch.zeros_like(children) if needed[1] else None
    to_weight = torch.empty_like(weight) if needed[2] else None
    to_poses = torch.empty_like(poses) if needed[3] else None
    for part, buffer in _parts(children, len(weight)):
        if to_weight is not None or to_poses is not None:
            weighted = _weighted(coupling[part], children, buffer)
            if to_weight is not None:
                _into(_seen(to_weight[part]), poses[part].mT, weighted)
            if to_poses is not None:
                _into(to_poses[part], weighted, _seen(weight[part]).mT)
        if to_coupling is not None or to_children is not None:
            seen = torch.bmm(poses[part], _seen(weight[part]), out=buffer)  # (o, b, d*i)
            if to_coupling is not None:
                _contract(to_coupling[part], seen, children)
            if to_children is not None:
                _add_spread(to_children, coupling[part], seen)
    return to_coupling, to_children, to_weight, to_poses


def _parts(children: Tensor, parents: int) -> Iterator[tuple[slice, Tensor | None]]:
    """Slices of parents whose weighted children fit the cache, and a buffer ``(o, b, d*i)``.

    One buffer serves all slices, so that the allocator's memory does not fragment. There is none
    where gradients of gradients are needed, since autograd then has to keep what is computed, nor
    in a compiled graph, which plans its memory itself.
    """
    numbers = _CPU_NUMBERS if children.device.type == "cpu" else _GPU_NUMBERS
    each = min(parents, max(1, numbers // max(1, children[:, 0].numel())))
    buffer = None
    if not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        buffer = children.new_empty(each, children.shape[0], children.shape[2:].numel())
    for first in range(0, parents, each):
        last = min(first + each, parents)
        yield slice(first, last), None if buffer is None else buffer[: last - first]


def _seen(weight: Tensor) -> Tensor:
    """Weights ``(o, h, d, i)`` as matrices ``(o, h, d*i)``."""
    return weight.flatten(2)


def _into(target: Tensor, left: Tensor, right: Tensor) -> None:
    """Write a matrix product into a tensor, without a copy."""
    target.baddbmm_(left, right, beta=0)


def _weighted(coupling: Tensor, children: Tensor, buffer: Tensor | None) -> Tensor:
    """Children weighted for some parents and added up over positions, ``(o, b, d*i)``."""
    if children.shape[1] > 1:
        return torch.einsum("obpi,bpdi->obdi", coupling, children).flatten(2)
    out = None if buffer is None else buffer.view(*buffer.shape[:2], *children.shape[2:])
    return torch.mul(coupling[:, :, 0, None, :], children[:, 0], out=out).flatten(2)


def _contract(target: Tensor, seen: Tensor, children: Tensor) -> None:
    """Write scalar products over d of ``(o, b, d*i)`` with the children into ``(o, b, p, i)``."""
    seen = seen.reshape(*seen.shape[:2], *children.shape[2:])
    if children.shape[1] > 1:
        target.copy_(torch.einsum("obdi,bpdi->obpi", seen, children))
        return
    # a sum along the children's memory, which a reduction over the middle axis would not be
    total = target[:, :, 0].zero_()
    for one, child in zip(seen.unbind(2), children[:, 0].unbind(1), strict=True):
        total.addcmul_(one, child)


def _add_spread(total: Tensor, coupling: Tensor, seen: Tensor) -> None:
    """Add to ``(b, p, d, i)`` what some parents, as ``(o, b, d*i)``, give each child."""
    seen = seen.reshape(*seen.shape[:2], *total.shape[2:])
    if total.shape[1] > 1:
        total += torch.einsum("obpi,obdi->bpdi", coupling, seen)
        return
    for one, share in zip(seen, coupling, strict=True):
        total[:, 0].addcmul_(one, share[:, 0, None, :])
