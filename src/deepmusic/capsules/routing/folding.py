"""Sums over votes that never build the votes: what the fast routings share.

A vote is linear in its child, so a weighted sum of votes is the weights applied to weighted
children, and the agreement of a vote with a parent is that of the child with the parent seen
through the weights. Per parent each is one matrix product, whatever the number of places.

Axes: b batch, p places that share weights, d child pose, i children, o parents, h parent pose.
Parents come first and children last, so that products need no copies of the weights and
elementwise work runs along memory. Here children are ``(b, p, d, i)``, couplings ``(o, b, p, i)``,
weights ``(o, d, i, h)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["child_agreement", "child_last", "total_vote", "weighted_vote"]


def child_last(children: Tensor, weight: Tensor) -> Tensor:
    """``(b, i, d)`` or ``(b, p, i, d)`` as ``(b, p, d, i)``, in the wider of both types."""
    if children.ndim == 3:
        children = children.unsqueeze(1)
    dtype = torch.promote_types(children.dtype, weight.dtype)
    return children.to(dtype).transpose(-1, -2).contiguous()


def total_vote(children: Tensor, weight: Tensor) -> Tensor:
    """Sum of all votes for each parent, ``(o, b, h)``: one product over all parents."""
    summed = children.sum(1).flatten(1)  # (b, d*i)
    return torch.einsum("bk,okh->obh", summed, weight.flatten(1, 2).to(summed.dtype))


def weighted_vote(coupling: Tensor, children: Tensor, weight: Tensor) -> Tensor:
    """Sum of votes weighted by couplings, ``(o, b, h)``."""
    coupling = coupling.to(children.dtype)
    if children.shape[1] == 1:
        weighted = coupling[:, :, 0, None, :] * children[:, 0]  # (o, b, d, i)
    else:
        weighted = torch.einsum("obpi,bpdi->obdi", coupling, children)
    return torch.bmm(weighted.flatten(2), weight.flatten(1, 2).to(children.dtype))


def child_agreement(children: Tensor, weight: Tensor, poses: Tensor) -> Tensor:
    """Scalar product of each vote with its parent's pose ``(o, b, h)``, ``(o, b, p, i)``."""
    poses = poses.to(children.dtype)
    seen = torch.bmm(poses, weight.flatten(1, 2).to(children.dtype).transpose(1, 2))  # (o, b, d*i)
    seen = seen.reshape(*seen.shape[:2], *children.shape[2:])  # (o, b, d, i)
    if children.shape[1] == 1:
        return (seen * children[:, 0]).sum(2).unsqueeze(2)
    return torch.einsum("obdi,bpdi->obpi", seen, children)
