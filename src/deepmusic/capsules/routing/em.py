"""EM routing (Hinton, Sabour and Frosst 2018, Matrix capsules with EM routing, ICLR).

Each parent is a Gaussian cluster of votes with diagonal covariance. For votes V_ij of children with
activations a_i, couplings R_ij = 1/parents at first, and in each pass::

    M:  R' = R_ij a_i     μ_j = Σ R'V / ΣR'     σ_j² = Σ R'(V - μ)² / ΣR' (+ floor)
        a_j = sigmoid(λ_t (β_a - Σ_h (β_u + ln σ_jh) ΣR'))
    E:  R_i = softmax over parents of (ln a_j + ln N(V_ij; μ_j, σ_j²))    (not after the last pass)

with λ_t = λ (1 - 0.95^(t+1)), t from 0. The variance is quadratic in the votes, so they are built:
there is nothing to fold. The child's activation weighs it in the M step and stays out of the E
step; code that normalises R·a over the parents loses it.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from deepmusic.capsules.routing.clusters import NARROWEST, distances, moments, prepare
from deepmusic.capsules.routing.method import Sizes
from deepmusic.capsules.routing.votes import Compete, RoutingRecord, outside_autocast, share

_LEAST = 1e-12  # of a parent's mass
_FLOOR = 5e-4  # of a variance: a parent with one child would have none


def betas(sizes: Sizes) -> dict[str, Tensor]:
    """The learned costs, zero at first."""
    return {"beta_u": torch.zeros(sizes.parents), "beta_a": torch.zeros(sizes.parents)}


@outside_autocast
def em_routing(
    votes: Tensor,
    iterations: int = 3,
    *,
    stop_gradient: bool = False,
    activations: Tensor | None = None,
    beta_u: Tensor | None = None,
    beta_a: Tensor | None = None,
    inverse_temperature: float = 0.01,
    compete: Compete | None = None,
) -> RoutingRecord:
    """Route votes to the clusters that explain them best.

    Args:
        votes: ``(b, i, o, h)``, floating.
        iterations: passes; 1 has uniform coupling.
        stop_gradient: treat the couplings as constants in the backward pass.
        activations: ``(b, i)``, presence of the children in [0, 1]; None is one.
        beta_u: ``(o,)``, learned: cost of describing a vote; None is zero.
        beta_a: ``(o,)``, learned: cost of leaving a parent off; None is zero.
        inverse_temperature: λ, best a few tenths of one over the number of votes that a parent
            gets: more saturates the activations. The default is the paper's.
        compete: replaces the softmax over parents, as convolutions need.

    Returns:
        Poses ``(b, o, h)``, the means; activations ``(b, o)``; coupling ``(b, i, o)``, R.

    Raises:
        ShapeError: wrong rank, type or counts, or fewer than one pass.
    """
    both, middle, unit, present = prepare(
        votes, iterations, activations, beta_u=beta_u, beta_a=beta_a
    )
    coupling = share(both.new_zeros(votes.shape[:3]), parents=-1, compete=compete)
    for step in range(iterations):
        is_last = step + 1 == iterations
        with torch.no_grad() if stop_gradient and not is_last else nullcontext():
            part = coupling * present
            mass = part.sum(dim=1)  # (b, o)
            total = (mass + _LEAST).unsqueeze(2)
            first, second = moments(part, both)
            means = first / total  # (b, o, h), from the middle
            variances = second / total - means.square() * (2 - mass.unsqueeze(2) / total)
            # the floor is one of votes as they came
            variances = (variances + _FLOOR / unit.square()).clamp_min(NARROWEST)
            log_sigma = variances.log() / 2 + unit.log()
            cost = log_sigma if beta_u is None else log_sigma + beta_u.unsqueeze(1)
            gain = -cost.sum(dim=2) * mass
            if beta_a is not None:
                gain = gain + beta_a
            evidence = inverse_temperature * (1 - 0.95 ** (step + 1)) * gain
            if not is_last:
                # the constant of the normal law is the same for all parents
                logits = F.logsigmoid(evidence) - log_sigma.sum(dim=2)
                away = distances(both, means, 1 / variances)
                coupling = share(logits.unsqueeze(1) - away / 2, parents=-1, compete=compete)
    poses = (means + middle) * unit
    dtype = votes.dtype
    return RoutingRecord(poses.to(dtype), evidence.sigmoid().to(dtype), coupling.to(dtype))
