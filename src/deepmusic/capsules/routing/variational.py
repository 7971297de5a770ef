"""Variational Bayes routing (Ribeiro, Leontidis and Kollias 2020, arXiv:1905.11455), diagonal.

As EM routing, each parent is a Gaussian cluster of votes, but means, precisions and mixing weights
have priors, so that no cluster can shrink to a point. For R' = R_ij a_i, R_j = Σ R', D = h::

    α_j = α0 + R_j    κ_j = κ0 + R_j    ν_j = ν0 + R_j    μ_j = Σ R'V / R_j
    m_j = (R_j μ_j + κ0 m0) / κ_j
    1/Ψ_j = 1/Ψ0 + Σ R'(V - μ)² + (κ0 R_j / κ_j)(μ - m0)²                   (a dimension)
    E ln|Λ_j| = Σ_{k<D} ψ((ν_j - k)/2) + D ln 2 + ln|Ψ_j|
    E ln π_j = ψ(α_j) - ψ(Σ α)
    ln ρ_ij = E ln π_j + ½ E ln|Λ_j| - ½ D ln 2π - ½ [D/κ_j + ν_j Σ (V - m)² Ψ]
    R_i = softmax over parents of ln ρ_i                               (not after the last pass)
    a_j = sigmoid(gain_j (offset_j - exp(E ln π_j) H_j)),  H_j = ½ D ln 2πe - ½ E ln|Λ_j|

with α0 = κ0 = 1, m0 = 0, Ψ0 = I, ν0 = D + 1. The authors normalise by batch where gain and offset
stand; that would let an item's output depend on the others of its batch.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor

from deepmusic.capsules.routing.clusters import NARROWEST, distances, moments, prepare
from deepmusic.capsules.routing.method import Sizes
from deepmusic.capsules.routing.votes import Compete, RoutingRecord, outside_autocast, share

_ALPHA, _KAPPA = 1.0, 1.0
_LEAST = 1e-12  # of a parent's mass


def gain_and_offset(sizes: Sizes) -> dict[str, Tensor]:
    """What the activations learn; what the gain multiplies is about 1/o, so it starts at o."""
    parents = sizes.parents
    return {"gain": torch.full((parents,), float(parents)), "offset": torch.zeros(parents)}


@outside_autocast
def variational_routing(
    votes: Tensor,
    iterations: int = 3,
    *,
    stop_gradient: bool = False,
    activations: Tensor | None = None,
    gain: Tensor | None = None,
    offset: Tensor | None = None,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route votes to the clusters that explain them, by variational inference.

    Args:
        votes: ``(b, i, o, h)``, floating.
        iterations: passes; 1 has uniform coupling.
        stop_gradient: treat the couplings as constants in the backward pass.
        activations: ``(b, i)``, presence of the children in [0, 1]; None is one.
        gain: ``(o,)``, learned; None is one.
        offset: ``(o,)``, learned; None is zero.
        compete: replaces the softmax over parents, as convolutions need.

    Returns:
        Poses ``(b, o, h)``, m; activations ``(b, o)``; coupling ``(b, i, o)``, R.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.
    """
    both, middle, unit, present = prepare(votes, iterations, activations, gain=gain, offset=offset)
    dim = votes.shape[3]
    coupling = share(both.new_zeros(votes.shape[:3]), parents=-1, compete=compete)
    for step in range(iterations):
        is_last = step + 1 == iterations
        with torch.no_grad() if stop_gradient and not is_last else nullcontext():
            part = coupling * present
            mass = part.sum(dim=1)  # (b, o)
            alpha, kappa, nu = _ALPHA + mass, _KAPPA + mass, dim + 1 + mass
            total = (mass + _LEAST).unsqueeze(2)
            first, second = moments(part, both)
            means = first / total  # μ from the middle, (b, o, h)
            spread = (second - first * means * (2 - mass.unsqueeze(2) / total)).clamp_min(0)
            # the prior's mean is zero, so the middle of the votes counts here
            poses = (means + middle) * (mass / kappa).unsqueeze(2)
            pull = (_KAPPA * mass / kappa).unsqueeze(2) * (means + middle).square()
            inverse_scale = (1 / unit.square() + spread + pull).clamp_min(NARROWEST)  # 1/Ψ
            log_psi = -(inverse_scale.log() + 2 * unit.log()).sum(dim=2)
            log_precision = _log_determinant(nu, dim) + log_psi
            log_share = torch.digamma(alpha) - torch.digamma(alpha.sum(dim=1, keepdim=True))
            if not is_last:
                # what is the same for all parents is left out
                logits = log_share + log_precision / 2 - dim / kappa / 2
                off = distances(both, poses - middle, 1 / inverse_scale)
                logits = logits.unsqueeze(1) - nu.unsqueeze(1) * off / 2
                coupling = share(logits, parents=-1, compete=compete)
    entropy = (dim * math.log(2 * math.pi * math.e) - log_precision) / 2
    evidence = (0 if offset is None else offset) - log_share.exp() * entropy
    evidence = evidence if gain is None else evidence * gain
    dtype = votes.dtype
    return RoutingRecord((poses * unit).to(dtype), evidence.sigmoid().to(dtype), coupling.to(dtype))


def _log_determinant(nu: Tensor, dim: int) -> Tensor:
    """E ln|Λ| without ln|Ψ|, of ``nu`` degrees of freedom ``(b, o)``."""
    below = torch.arange(dim, dtype=nu.dtype, device=nu.device)
    return torch.digamma((nu.unsqueeze(2) - below) / 2).sum(dim=2) + dim * math.log(2)
