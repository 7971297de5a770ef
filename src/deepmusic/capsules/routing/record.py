"""What every routing method returns, and the checks of what it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from deepmusic.errors import ShapeError

Squash = Callable[[Tensor], Tensor]


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
    fits = bias.shape in {(parents, out_dim), (batch, parents, out_dim)}
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
