"""Routing: how children share themselves out among parents; one module a method.

Every method is a pair of functions found by name in :data:`ROUTING`: a plain one over votes, to
be read, and a folded one over children and weights, which layers use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from deepmusic.capsules.routing.dynamic import dynamic_routing, dynamic_routing_folded
from deepmusic.capsules.routing.record import RoutingRecord, Squash
from deepmusic.capsules.routing.uniform import uniform_routing, uniform_routing_folded
from deepmusic.errors import ShapeError

__all__ = [
    "ROUTING",
    "Routing",
    "RoutingRecord",
    "Squash",
    "dynamic_routing",
    "dynamic_routing_folded",
    "routing_method",
    "uniform_routing",
    "uniform_routing_folded",
]


class Routing(NamedTuple):
    """One method: ``plain(votes, iterations, ...)`` and ``folded(children, weight, ...)``."""

    plain: Callable[..., RoutingRecord]
    folded: Callable[..., RoutingRecord]


ROUTING: dict[str, Routing] = {
    "dynamic": Routing(dynamic_routing, dynamic_routing_folded),
    "uniform": Routing(uniform_routing, uniform_routing_folded),
}


def routing_method(name: str) -> Routing:
    """The routing called ``name``; ShapeError, which is a ValueError, where there is none."""
    if name not in ROUTING:
        raise ShapeError(f"no routing is called {name!r}; choose one of {', '.join(ROUTING)}")
    return ROUTING[name]
