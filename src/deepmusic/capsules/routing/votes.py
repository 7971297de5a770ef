"""Votes of children for parents, built or folded, their couplings, and the record of a routing.

A method that needs only sums of votes is written once and runs on both forms. Couplings and logits
are held parents first, ``(o, b, p, i)``, so that elementwise work runs along children in memory.

Axes: b batch, p positions that share weights, i children, d their pose, o parents, h their pose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from deepmusic.capsules.routing.folding import (
    child_agreement,
    child_last,
    total_vote,
    weighted_vote,
)
from deepmusic.capsules.squash import at_least_float32
from deepmusic.errors import ShapeError

Squash = Callable[[Tensor], Tensor]
Compete = Callable[[Tensor], Tensor]
"""Turns logits ``(b, i, o)`` into couplings of the same shape."""
Given = ParamSpec("Given")
Result = TypeVar("Result")


class RoutingRecord(NamedTuple):
    """The result of routing children i to parents o.

    Attributes:
        poses: ``(b, o, h)``.
        activations: ``(b, o)``, presence of each parent in [0, 1].
        coupling: ``(b, i, o)``, the share of each child that went to each parent, as used in the
            last pass; sums to 1 over o (to less where a leaky slot took some). For children at
            p positions that share weights: ``(b, p, i, o)``.
    """

    poses: Tensor
    activations: Tensor
    coupling: Tensor


class Votes(ABC):
    """Votes for ``parents`` parents, of which a routing method takes sums.

    Attributes:
        shape: ``(b, p, i, o, h)``.
        dtype: type of the results; sums, couplings and logits are in float32 or wider.
    """

    shape: tuple[int, int, int, int, int]
    dtype: torch.dtype
    _zero: Tensor  # a scalar of the type to compute in
    _has_positions: bool

    @abstractmethod
    def total(self) -> Tensor:
        """Sum of all votes for each parent, ``(b, o, h)``."""

    @abstractmethod
    def weighted(self, coupling: Tensor) -> Tensor:
        """Sum of votes weighted by couplings ``(o, b, p, i)``: ``(b, o, h)``."""

    @abstractmethod
    def agreement(self, poses: Tensor) -> Tensor:
        """Scalar product of each vote with its parent's pose ``(b, o, h)``: ``(o, b, p, i)``."""

    def constant(self, value: float) -> Tensor:
        """Couplings or logits ``(o, b, p, i)`` that are all equal; takes no memory."""
        batch, positions, children, parents, _ = self.shape
        return (self._zero + value).expand(parents, batch, positions, children)

    def record(self, poses: Tensor, activations: Tensor, coupling: Tensor) -> RoutingRecord:
        """The record of a routing, in `dtype`; coupling is (o, b, p, i) or (b, p*i, o)."""
        batch, positions, children, parents, _ = self.shape
        if coupling.ndim == 4:
            coupling = coupling.permute(1, 2, 3, 0)
        else:
            coupling = coupling.reshape(batch, positions, children, parents)
        if not self._has_positions:
            coupling = coupling[:, 0]
        return RoutingRecord(*(part.to(self.dtype) for part in (poses, activations, coupling)))


class BuiltVotes(Votes):
    """Votes that are there, ``(b, i, o, h)``."""

    def __init__(self, votes: Tensor) -> None:
        check_votes(votes)
        batch, children, parents, dim = votes.shape
        self.shape = (batch, 1, children, parents, dim)
        self.dtype = votes.dtype
        self._votes = at_least_float32(votes)
        self._zero = self._votes.new_zeros(())
        self._has_positions = False

    def total(self) -> Tensor:
        """Sum over children."""
        return self._votes.sum(dim=1)

    def weighted(self, coupling: Tensor) -> Tensor:
        """Weighted sum over children."""
        return torch.einsum("obi,bioh->boh", coupling[:, :, 0], self._votes)

    def agreement(self, poses: Tensor) -> Tensor:
        """Scalar products over the pose."""
        return torch.einsum("bioh,boh->obi", self._votes, poses).unsqueeze(2)


class FoldedVotes(Votes):
    """Votes that are never built: their sums are matrix products of children and weights.

    They give the same values and gradients as built ones in a fraction of the memory and time; see
    `deepmusic.capsules.routing.folding`.

    Args:
        children: ``(b, i, d)``, or ``(b, p, i, d)`` where children at p positions share weights;
            these are then ``p * i`` children.
        weight: ``(o, h, d, i)``; the vote of child i for parent o is
            ``einsum("bid,ohdi->bioh", children, weight)``.

    Raises:
        ShapeError: children and weights that do not fit one another.
    """

    def __init__(self, children: Tensor, weight: Tensor) -> None:
        check_children(children, weight)
        self._has_positions = children.ndim == 4
        self.dtype = torch.promote_types(children.dtype, weight.dtype)
        self.children, self._weight = child_last(children, weight)  # children (b, p, d, i)
        batch, positions, _, count = self.children.shape
        self.shape = (batch, positions, count, *weight.shape[:2])
        self._zero = at_least_float32(self.children.new_zeros(()))

    def total(self) -> Tensor:
        """One matrix product over all parents."""
        return at_least_float32(total_vote(self.children, self._weight))

    def weighted(self, coupling: Tensor) -> Tensor:
        """One matrix product per parent."""
        return at_least_float32(weighted_vote(coupling, self.children, self._weight))

    def agreement(self, poses: Tensor) -> Tensor:
        """One matrix product per parent."""
        return at_least_float32(child_agreement(self.children, self._weight, poses))

    def built(self) -> Tensor:
        """All votes, ``(b, p*i, o, h)``: for methods that need more than sums."""
        return torch.einsum("bpdi,ohdi->bpioh", self.children, self._weight).flatten(1, 2)


def share(
    logits: Tensor, *, parents: int, leaky: bool = False, compete: Compete | None = None
) -> Tensor:
    """Couplings of the logits, over the axis of the parents.

    A child shares itself out among all parents that it could belong to, and this is where the most
    copied code errs: the softmax runs over parents, for each item and child by itself.

    Args:
        logits: ``(b, i, o)``, or ``(o, b, p, i)`` as folded routings hold them.
        parents: which axis is that of the parents: -1 or 0.
        leaky: an extra zero logit takes its share, for what fits no parent.
        compete: replaces the softmax, in the order ``(b, i, o)``.
    """
    if compete is not None:
        if parents == -1:
            return compete(logits)
        flat = logits.permute(1, 2, 3, 0).flatten(1, 2)  # (b, p*i, o)
        shared = compete(flat).reshape(*logits.shape[1:], logits.shape[0])
        return shared.permute(3, 0, 1, 2)
    if not leaky:
        return logits.softmax(parents)
    slot = torch.zeros_like(logits.narrow(parents, 0, 1))
    extended = torch.cat([logits, slot], parents).softmax(parents)
    return extended.narrow(parents, 0, logits.shape[parents])


def as_votes(votes: Tensor | Votes, bias: Tensor | None = None) -> Votes:
    """Wrap votes ``(b, i, o, h)``, and check that a bias fits them.

    Raises:
        ShapeError: votes or bias of another shape or type.
    """
    if isinstance(votes, Tensor):
        votes = BuiltVotes(votes)
    if bias is not None:
        batch, _, _, parents, dim = votes.shape
        check_bias(bias, batch, parents, dim)
    return votes


def check_votes(votes: Tensor) -> None:
    """Refuse votes that are not floating ``(b, i, o, h)``."""
    if votes.ndim != 4 or 0 in votes.shape[1:] or not votes.is_floating_point():
        raise ShapeError(
            "votes must be floating with shape (batch, children, parents, dim), every count at "
            f"least 1; got {tuple(votes.shape)} of {votes.dtype}"
        )


def check_children(children: Tensor, weight: Tensor) -> None:
    """Refuse children and weights that do not fit one another."""
    if weight.ndim != 4 or 0 in weight.shape or not weight.is_floating_point():
        raise ShapeError(
            "weight must be floating with shape (parents, out_dim, in_dim, children), every count "
            f"at least 1; got {tuple(weight.shape)} of {weight.dtype}"
        )
    _, _, in_dim, count = weight.shape
    if (
        children.ndim not in (3, 4)
        or children.shape[-2:] != (count, in_dim)
        or 0 in children.shape[1:]
        or not children.is_floating_point()
    ):
        raise ShapeError(
            f"children must be floating with shape (batch, {count}, {in_dim}) or "
            f"(batch, positions, {count}, {in_dim}); got {tuple(children.shape)} of "
            f"{children.dtype}"
        )


def check_bias(bias: Tensor, batch: int, parents: int, out_dim: int) -> None:
    """Refuse a bias that is not floating ``(o, h)`` or ``(b, o, h)``."""
    # no set: sizes that are symbols (torch.export) have no hash
    fits = bias.shape in ((parents, out_dim), (batch, parents, out_dim))
    if not fits or not bias.is_floating_point():
        raise ShapeError(
            f"bias must be floating with shape (parents, dim) = ({parents}, {out_dim}) or one such "
            f"per item; got {tuple(bias.shape)} of {bias.dtype}"
        )


def check_activations(activations: Tensor | None, expected: tuple[int, ...]) -> None:
    """Refuse activations of children that are not floating and of the expected shape."""
    if activations is not None:
        check_shape("activations of the children", activations, expected)


def check_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Refuse a tensor that is not floating or of another shape than expected."""
    if tensor.shape != expected or not tensor.is_floating_point():
        raise ShapeError(
            f"{name} must be floating with shape {expected}; "
            f"got {tuple(tensor.shape)} of {tensor.dtype}"
        )


def check_iterations(iterations: int) -> None:
    """Refuse fewer than one routing pass."""
    if iterations < 1:
        raise ShapeError(f"iterations must be at least 1 (1 is uniform coupling); got {iterations}")


def outside_autocast(
    function: Callable[Concatenate[Tensor, Given], Result],
) -> Callable[Concatenate[Tensor, Given], Result]:
    """Run a function without autocast: variances and densities need more than half precision."""

    @wraps(function)
    def run(first: Tensor, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    return run
