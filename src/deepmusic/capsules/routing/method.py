"""A routing method as layers use it: the function that routes, and what it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any, NamedTuple

from torch import Tensor

from deepmusic.capsules.routing.votes import FoldedVotes, RoutingRecord, check_activations
from deepmusic.errors import ShapeError


class Sizes(NamedTuple):
    """The sizes of a layer: children (per position), their pose, parents, their pose."""

    children: int
    in_dim: int
    parents: int
    out_dim: int


def _nothing(sizes: Sizes) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True)
class Routing:
    """A routing method.

    Args:
        route: called as ``route(votes, iterations, **options)``; returns a
            `RoutingRecord`. ``votes`` are ``(b, i, o, h)``. Its
            keyword parameters say what it takes. Layers know ``stop_gradient``, ``leaky``,
            ``bias``, ``squash``, ``activations`` (of the children, ``(b, i)``), ``previous`` (poses
            of the parents), ``inverse_temperature`` and ``compete`` (in place of the softmax over
            parents, for convolutions), and give what is in ``learned``.
        learned: makes the initial values of what it learns besides the weights, by keyword, for
            `Sizes`.
        name: of the method in messages; that of ``route`` where it is empty.
        averages: whether a pose is a mean of votes rather than their squashed sum.
        folds: whether ``route`` also takes `FoldedVotes`; layers then
            never build the votes.

    Attributes:
        iterations: passes by default, that of ``route``.
        options: keyword parameters of ``route``.

    Raises:
        ShapeError: ``route`` does not take votes and iterations.

    Example:
        >>> layer = CapsuleLayer(6, 4, 3, 5, routing=Routing(dynamic_routing, folds=True))
        >>> layer.iterations
        3
    """

    route: Callable[..., RoutingRecord]
    learned: Callable[[Sizes], dict[str, Tensor]] = _nothing
    name: str = ""
    averages: bool = False
    folds: bool = False
    iterations: int = field(init=False)
    options: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", getattr(self.route, "__name__", repr(self.route)))
        keywords: list[Parameter] = []
        positional: list[Parameter] = []
        for parameter in signature(self.route).parameters.values():
            is_keyword = parameter.kind is Parameter.KEYWORD_ONLY
            (keywords if is_keyword else positional).append(parameter)
        if len(positional) != 2 or any(p.kind is Parameter.VAR_POSITIONAL for p in positional):
            raise ShapeError(
                f"a routing function takes votes and iterations, and options by keyword; "
                f"{self.name}{signature(self.route)} does not"
            )
        default = positional[1].default
        object.__setattr__(self, "iterations", default if isinstance(default, int) else 3)
        object.__setattr__(self, "options", frozenset(p.name for p in keywords))

    def __call__(
        self, children: Tensor, weight: Tensor, iterations: int | None = None, **options: Any
    ) -> RoutingRecord:
        """Route children through weights.

        Args:
            children: ``(b, i, d)``, or ``(b, p, i, d)`` where children at p positions share
                weights.
            weight: ``(o, h, d, i)``; the vote of child i for parent o is
                ``einsum("bid,ohdi->bioh", children, weight)``.
            iterations: passes; None takes `iterations`.
            **options: of ``route``; ``activations`` are ``(b, i)`` or ``(b, p, i)``.

        Returns:
            Poses ``(b, o, h)`` and activations ``(b, o)`` in the wider type of children and
            weight, coupling ``(b, i, o)`` or ``(b, p, i, o)``.

        Raises:
            ShapeError: wrong rank, type or counts, or fewer than one pass.
        """
        votes = FoldedVotes(children, weight)
        iterations = self.iterations if iterations is None else iterations
        present = options.get("activations")
        if present is not None:
            check_activations(present, tuple(children.shape[:-1]))
            options["activations"] = present.flatten(1)
        if self.folds:
            return self.route(votes, iterations, **options)
        return votes.record(*self.route(votes.built(), iterations, **options))
