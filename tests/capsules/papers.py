"""Every routing written as slow loops straight from its paper, one item, child, parent at a time.

All take votes (b, i, o, h) in float64 and give poses, activations and coupling.
"""

from __future__ import annotations

import math

import torch


def softmax(values, extra=0.0):
    """Over a list of scalars; ``extra`` is added to the sum, as a leaky slot does."""
    weights = [torch.exp(value) for value in values]
    total = sum(weights) + extra
    return [weight / total for weight in weights]


def length(pose):
    return torch.sqrt((pose * pose).sum() + 1e-12)


def squash(pose):
    """Equation 1 of Sabour et al. (2017)."""
    energy = (pose * pose).sum()
    return energy / (1 + energy) * pose / torch.sqrt(energy + 1e-12)


def squash_exp(pose):
    """Mazzia et al. (2021), section 3."""
    size = length(pose)
    return (1 - torch.exp(-size)) * pose / size


def layer_norm(pose, gain, shift):
    return torch.nn.functional.layer_norm(pose, pose.shape, gain, shift, eps=1e-5)


def stacked(rows):
    return torch.stack([torch.stack(row) for row in rows])


def by_item(route):
    """Route the items of a batch one by one; what is given for each item is cut too."""

    def routed(votes, iterations, **given):
        records = []
        for b in range(len(votes)):
            mine = {
                name: value[b] if name in ("activations", "children", "previous") else value
                for name, value in given.items()
            }
            records.append(route(votes[b], iterations, **mine))
        return tuple(map(torch.stack, zip(*records, strict=True)))

    return routed


@by_item
def dynamic(votes, iterations, *, stop_gradient=False, leaky=False, bias=None):
    """Procedure 1 of Sabour et al. (2017)."""
    children, parents, _ = votes.shape
    logit = [[votes.new_zeros(()) for _ in range(parents)] for _ in range(children)]
    for r in range(iterations):
        coupling = [softmax(row, extra=1 if leaky else 0) for row in logit]
        if stop_gradient:
            coupling = [[c.detach() for c in row] for row in coupling]
        poses = []
        for j in range(parents):
            s = sum(coupling[i][j] * votes[i, j] for i in range(children))
            poses.append(squash(s if bias is None else s + bias[j]))
        if r + 1 < iterations:
            for i in range(children):
                for j in range(parents):
                    logit[i][j] = logit[i][j] + (votes[i, j] * poses[j]).sum()
    return torch.stack(poses), torch.stack([length(v) for v in poses]), stacked(coupling)


def uniform(votes, iterations, *, stop_gradient=False, **options):
    """One pass: all couplings equal."""
    return dynamic(votes, 1, **options)


@by_item
def self_attention(votes, iterations, *, prior, bias=None, stop_gradient=False):
    """Equations 4 to 6 of Mazzia et al. (2021): the full matrix of children, then summed."""
    children, parents, dim = votes.shape
    attention = [[None] * parents for _ in range(children)]
    for j in range(parents):
        for i in range(children):
            row = [(votes[i, j] * votes[k, j]).sum() / math.sqrt(dim) for k in range(children)]
            attention[i][j] = sum(row)
    coupling = [softmax(row) for row in attention]
    if stop_gradient:
        coupling = [[c.detach() for c in row] for row in coupling]
    coupling = [[coupling[i][j] + prior[i, j] for j in range(parents)] for i in range(children)]
    poses = []
    for j in range(parents):
        s = sum(coupling[i][j] * votes[i, j] for i in range(children))
        poses.append(squash_exp(s if bias is None else s + bias[j]))
    return torch.stack(poses), torch.stack([length(v) for v in poses]), stacked(coupling)


@by_item
def inverted_attention(
    votes,
    iterations,
    *,
    gain,
    shift,
    read_out,
    read_out_bias,
    bias=None,
    previous=None,
    stop_gradient=False,
):
    """Algorithm 1 of Tsai et al. (2020)."""
    children, parents, dim = votes.shape
    poses = previous
    for _ in range(iterations):
        if poses is None:
            coupling = [[votes.new_tensor(1 / parents)] * parents for _ in range(children)]
        else:
            coupling = [
                softmax([(votes[i, j] * poses[j]).sum() / math.sqrt(dim) for j in range(parents)])
                for i in range(children)
            ]
        if stop_gradient:
            coupling = [[c.detach() for c in row] for row in coupling]
        poses = []
        for j in range(parents):
            s = sum(coupling[i][j] * votes[i, j] for i in range(children))
            poses.append(layer_norm(s if bias is None else s + bias[j], gain, shift))
    active = [torch.sigmoid((v * read_out).sum() + read_out_bias[0]) for v in poses]
    return torch.stack(poses), torch.stack(active), stacked(coupling)


@by_item
def self_routing(votes, iterations, *, children, route_weight, route_bias, activations):
    """Equations 1 to 4 of Hahn et al. (2019)."""
    count, parents, _ = votes.shape
    coupling = [
        softmax(
            [(children[i] * route_weight[i, :, j]).sum() + route_bias[i, j] for j in range(parents)]
        )
        for i in range(count)
    ]
    poses, active = [], []
    for j in range(parents):
        mass = sum(coupling[i][j] * activations[i] for i in range(count))
        poses.append(
            sum(coupling[i][j] * activations[i] * votes[i, j] for i in range(count)) / mass
        )
        active.append(mass / sum(activations))
    return torch.stack(poses), torch.stack(active), stacked(coupling)


@by_item
def em(
    votes, iterations, *, activations, beta_u, beta_a, inverse_temperature=0.01, stop_gradient=False
):
    """Procedure 1 of Hinton et al. (2018); densities as they stand, not as logarithms."""
    children, parents, dim = votes.shape
    coupling = [[votes.new_tensor(1 / parents)] * parents for _ in range(children)]
    for t in range(iterations):
        if stop_gradient:
            coupling = [[c.detach() for c in row] for row in coupling]
        weight = inverse_temperature * (1 - 0.95 ** (t + 1))
        means, variances, active = [], [], []
        for j in range(parents):
            part = [coupling[i][j] * activations[i] for i in range(children)]
            mass = sum(part)
            mean = sum(part[i] * votes[i, j] for i in range(children)) / mass
            away = [(votes[i, j] - mean) ** 2 for i in range(children)]
            variance = sum(part[i] * away[i] for i in range(children)) / mass + 5e-4
            cost = sum((beta_u[j] + torch.log(torch.sqrt(variance[h]))) * mass for h in range(dim))
            means.append(mean)
            variances.append(variance)
            active.append(torch.sigmoid(weight * (beta_a[j] - cost)))
        if t + 1 < iterations:
            for i in range(children):
                explained = []
                for j in range(parents):
                    off = (votes[i, j] - means[j]) ** 2
                    density = torch.exp(-off / (2 * variances[j])) / torch.sqrt(
                        2 * math.pi * variances[j]
                    )
                    explained.append(active[j] * density.prod())
                total = sum(explained)
                coupling[i] = [e / total for e in explained]
    return torch.stack(means), torch.stack(active), stacked(coupling)


@by_item
def variational(votes, iterations, *, activations, gain, offset, stop_gradient=False):
    """Algorithm 1 of Ribeiro et al. (2020) with diagonal precisions, as the module states it."""
    children, parents, dim = votes.shape
    coupling = [[votes.new_tensor(1 / parents)] * parents for _ in range(children)]
    for t in range(iterations):
        if stop_gradient:
            coupling = [[c.detach() for c in row] for row in coupling]
        masses = [
            sum(coupling[i][j] * activations[i] for i in range(children)) for j in range(parents)
        ]
        total_alpha = sum(1 + mass for mass in masses)
        means, active, log_rho = [], [], [[None] * parents for _ in range(children)]
        for j, mass in enumerate(masses):
            alpha, kappa, nu = 1 + mass, 1 + mass, dim + 1 + mass
            part = [coupling[i][j] * activations[i] for i in range(children)]
            sample = sum(part[i] * votes[i, j] for i in range(children)) / mass
            mean = mass * sample / kappa
            inverse = 1 + sum(part[i] * (votes[i, j] - sample) ** 2 for i in range(children))
            inverse = inverse + mass / kappa * sample**2
            psi = 1 / inverse
            log_precision = (
                sum(torch.digamma((nu - k) / 2) for k in range(dim))
                + dim * math.log(2)
                + torch.log(psi).sum()
            )
            log_pi = torch.digamma(alpha) - torch.digamma(total_alpha)
            for i in range(children):
                off = ((votes[i, j] - mean) ** 2 * psi).sum()
                log_rho[i][j] = (
                    log_pi
                    + log_precision / 2
                    - dim * math.log(2 * math.pi) / 2
                    - (dim / kappa + nu * off) / 2
                )
            entropy = dim * math.log(2 * math.pi * math.e) / 2 - log_precision / 2
            means.append(mean)
            active.append(torch.sigmoid(gain[j] * (offset[j] - torch.exp(log_pi) * entropy)))
        if t + 1 < iterations:
            coupling = [softmax(row) for row in log_rho]
    return torch.stack(means), torch.stack(active), stacked(coupling)


PAPERS = {
    "dynamic": dynamic,
    "em": em,
    "inverted_attention": inverted_attention,
    "self_attention": self_attention,
    "self_routing": self_routing,
    "uniform": uniform,
    "variational": variational,
}
