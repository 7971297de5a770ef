"""Routing: how children share themselves out among parents; one module per method.

A method is a function of votes; `ROUTING` has those of this package by name. Methods that
only take sums of votes run on folded votes, which are never built; ``em`` and ``variational`` need
the squares of votes, and layers build the votes for them.
"""

from __future__ import annotations

from collections.abc import Callable

from deepmusic.capsules.routing.dynamic import dynamic_routing
from deepmusic.capsules.routing.em import betas, em_routing
from deepmusic.capsules.routing.inverted_attention import (
    inverted_attention_routing,
    norm_and_read_out,
)
from deepmusic.capsules.routing.method import Routing
from deepmusic.capsules.routing.self_attention import prior, self_attention_routing
from deepmusic.capsules.routing.self_routing import route_map, self_routing
from deepmusic.capsules.routing.uniform import uniform_routing
from deepmusic.capsules.routing.variational import gain_and_offset, variational_routing
from deepmusic.capsules.routing.votes import RoutingRecord
from deepmusic.errors import ShapeError

RoutingLike = str | Routing | Callable[..., RoutingRecord]
"""A name in `ROUTING`, a `Routing`, or a function of votes and iterations."""

ROUTING: dict[str, Routing] = {
    routing.name: routing
    for routing in (
        Routing(dynamic_routing, name="dynamic", folds=True),
        Routing(em_routing, betas, name="em", averages=True),
        Routing(
            inverted_attention_routing, norm_and_read_out, name="inverted_attention", folds=True
        ),
        Routing(self_attention_routing, prior, name="self_attention", folds=True),
        Routing(self_routing, route_map, name="self_routing", averages=True, folds=True),
        Routing(uniform_routing, name="uniform", folds=True),
        Routing(variational_routing, gain_and_offset, name="variational", averages=True),
    )
}
"""The routing methods by name."""


def as_routing(routing: RoutingLike) -> Routing:
    """The routing that is meant.

    Raises:
        ShapeError: no routing has that name, or a function does not take votes and iterations.
    """
    if isinstance(routing, Routing):
        return routing
    if callable(routing):
        return Routing(routing)
    if routing not in ROUTING:
        raise ShapeError(f"no routing is called {routing!r}; choose one of {', '.join(ROUTING)}")
    return ROUTING[routing]
