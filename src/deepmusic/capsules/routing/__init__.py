"""Routing: how children share themselves out among parents; one module a method.

Every method is a pair of functions found by name in :data:`ROUTING`: a plain one over votes, to
be read, and a folded one over children and weights, which layers use. Where the mathematics allows
it the folded one never builds the votes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from deepmusic.capsules.routing.dynamic import dynamic_routing, dynamic_routing_folded
from deepmusic.capsules.routing.em import em_routing, em_routing_folded
from deepmusic.capsules.routing.inverted_attention import (
    inverted_attention_routing,
    inverted_attention_routing_folded,
)
from deepmusic.capsules.routing.record import RoutingRecord, Squash
from deepmusic.capsules.routing.self_attention import (
    self_attention_routing,
    self_attention_routing_folded,
)
from deepmusic.capsules.routing.self_routing import self_routing, self_routing_folded
from deepmusic.capsules.routing.uniform import uniform_routing, uniform_routing_folded
from deepmusic.capsules.routing.variational import (
    variational_routing,
    variational_routing_folded,
)
from deepmusic.errors import ShapeError

__all__ = [
    "ROUTING",
    "Routing",
    "RoutingRecord",
    "Squash",
    "dynamic_routing",
    "dynamic_routing_folded",
    "em_routing",
    "em_routing_folded",
    "inverted_attention_routing",
    "inverted_attention_routing_folded",
    "routing_method",
    "self_attention_routing",
    "self_attention_routing_folded",
    "self_routing",
    "self_routing_folded",
    "uniform_routing",
    "uniform_routing_folded",
    "variational_routing",
    "variational_routing_folded",
]

Sizes = tuple[int, int, int, int]
"""Children, their pose, parents, their pose."""


class Routing(NamedTuple):
    """One method.

    Attributes:
        plain: ``plain(votes, iterations, ...)``.
        folded: ``folded(children, weight, iterations, ...)``.
        iterations: passes by default.
        options: what both take by keyword besides what is learned: of ``stop_gradient``,
            ``leaky``, ``bias``, ``squash``, ``activations`` (of the children), ``previous`` (poses
            of the parents) and ``inverse_temperature``. All take ``compete``.
        learned: initial values of what is learned besides the weights, by keyword, for sizes
            ``(i, d, o, h)``.
        averages: whether a pose is a mean of votes and not their squashed sum.
    """

    plain: Callable[..., RoutingRecord]
    folded: Callable[..., RoutingRecord]
    iterations: int
    options: frozenset[str]
    learned: Callable[[Sizes], dict[str, Tensor]]
    averages: bool = False


def _nothing(sizes: Sizes) -> dict[str, Tensor]:
    return {}


def _prior(sizes: Sizes) -> dict[str, Tensor]:
    children, _, parents, _ = sizes
    return {"prior": torch.zeros(children, parents)}


def _norm_and_read_out(sizes: Sizes) -> dict[str, Tensor]:
    out_dim = sizes[3]
    return {
        "gain": torch.ones(out_dim),
        "shift": torch.zeros(out_dim),
        "read_out": torch.randn(out_dim) / out_dim**0.5,
        "read_out_bias": torch.zeros(1),
    }


def _route(sizes: Sizes) -> dict[str, Tensor]:
    children, in_dim, parents, _ = sizes
    return {
        "route_weight": torch.zeros(children, in_dim, parents),
        "route_bias": torch.zeros(children, parents),
    }


def _betas(sizes: Sizes) -> dict[str, Tensor]:
    return {"beta_u": torch.zeros(sizes[2]), "beta_a": torch.zeros(sizes[2])}


def _gain_and_offset(sizes: Sizes) -> dict[str, Tensor]:
    parents = sizes[2]
    # what the gain multiplies is about one over the parents: activations would begin all alike
    return {"gain": torch.full((parents,), float(parents)), "offset": torch.zeros(parents)}


_SQUASHED = frozenset({"stop_gradient", "leaky", "bias", "squash"})
_CLUSTERS = frozenset({"stop_gradient", "activations"})

ROUTING: dict[str, Routing] = {
    "dynamic": Routing(dynamic_routing, dynamic_routing_folded, 3, _SQUASHED, _nothing),
    "em": Routing(
        em_routing, em_routing_folded, 3, _CLUSTERS | {"inverse_temperature"}, _betas, averages=True
    ),
    "inverted_attention": Routing(
        inverted_attention_routing,
        inverted_attention_routing_folded,
        2,
        frozenset({"stop_gradient", "bias", "previous"}),
        _norm_and_read_out,
    ),
    "self_attention": Routing(
        self_attention_routing,
        self_attention_routing_folded,
        1,
        frozenset({"stop_gradient", "bias", "squash"}),
        _prior,
    ),
    "self_routing": Routing(
        self_routing, self_routing_folded, 1, frozenset({"activations"}), _route, averages=True
    ),
    "uniform": Routing(uniform_routing, uniform_routing_folded, 1, _SQUASHED, _nothing),
    "variational": Routing(
        variational_routing, variational_routing_folded, 3, _CLUSTERS, _gain_and_offset, True
    ),
}


def routing_method(name: str) -> Routing:
    """The routing called ``name``; ShapeError, which is a ValueError, where there is none."""
    if name not in ROUTING:
        raise ShapeError(f"no routing is called {name!r}; choose one of {', '.join(ROUTING)}")
    return ROUTING[name]
