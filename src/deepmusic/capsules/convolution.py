"""Convolutional capsules: weights shared over the positions of a grid of any height and width."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepmusic.capsules.layers import CapsuleLayer
from deepmusic.capsules.routing.votes import Compete, RoutingRecord
from deepmusic.errors import ShapeError


class ConvCapsules(nn.Module):
    """Parents at every position of a grid, each with the children in its window.

    The weights of a window are the same at every position. A child lies in the windows of several
    positions, and all parents there compete for it: its couplings add up to one over positions and
    parents together (Hinton et al. 2018).

    Args:
        in_capsules: children at each position of the grid below.
        in_dim: length of a child's pose.
        out_capsules: parents at each position.
        out_dim: length of a parent's pose.
        kernel_size: of the window, one number or (height, width).
        stride: from one position to the next, likewise.
        padding: rows and columns of absent children around the grid, likewise.
        competition: whether positions compete for a child; otherwise each window routes by itself.
        **options: ``routing``, ``iterations``, ``bias`` and the options of the method, as in
            `CapsuleLayer`; a leaky child has one slot, however many windows it lies in.

    Raises:
        ShapeError: as of `CapsuleLayer`, or an impossible window.
    """

    def __init__(
        self,
        in_capsules: int,
        in_dim: int,
        out_capsules: int,
        out_dim: int,
        *,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        competition: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = map(_pair, (kernel_size, stride, padding))
        if min(self.kernel_size) < 1 or min(self.stride) < 1 or min(self.padding) < 0:
            raise ShapeError(
                "kernel_size and stride are at least 1 and padding at least 0; got "
                f"{kernel_size}, {stride} and {padding}"
            )
        self.in_capsules, self.in_dim, self.competition = in_capsules, in_dim, competition
        self.leaky = bool(options.get("leaky"))
        self.layer = CapsuleLayer(
            self.kernel_size[0] * self.kernel_size[1] * in_capsules,
            in_dim,
            out_capsules,
            out_dim,
            **options,
        )

    @property
    def weight(self) -> Tensor:
        """Weights of the window, for initialisation."""
        return self.layer.weight

    def forward(self, children: Tensor, activations: Tensor | None = None) -> RoutingRecord:
        """Route children ``(b, y, x, i, d)``, as ``PrimaryCapsules.grid`` gives them.

        Args:
            children: poses.
            activations: ``(b, y, x, i)``, for methods that weigh them; None takes lengths.

        Returns:
            Poses ``(b, y, x, o, h)``, activations ``(b, y, x, o)`` and coupling
            ``(b, y, x, k, o)`` at the positions, k the children of a window: rows, columns, types.

        Raises:
            ShapeError: children of another shape, or a grid smaller than a window.
        """
        if (
            children.ndim != 5
            or children.shape[3:] != (self.in_capsules, self.in_dim)
            or not children.is_floating_point()
        ):
            raise ShapeError(
                "children must be floating with shape (batch, height, width, "
                f"{self.in_capsules}, {self.in_dim}); got {tuple(children.shape)} of "
                f"{children.dtype}"
            )
        if activations is None:
            activations = self.layer.presence(children) if self.layer.weighs_activations else None
        elif activations.shape != children.shape[:4]:
            raise ShapeError(
                f"activations must have shape {tuple(children.shape[:4])}; "
                f"got {tuple(activations.shape)}"
            )
        windows = self._windows(children, 0.0)  # (b, y, x, k, d)
        batch, rows, columns = windows.shape[:3]
        compete = None
        if self.competition:
            height, width = children.shape[1:3]
            count = height * width * self.in_capsules
            number = torch.arange(count, device=children.device)
            grid = number.reshape(1, height, width, self.in_capsules, 1)
            child_of = self._windows(grid, count)[0, ..., 0].flatten(0, 1)  # (y*x, k)
            compete = window_competition(child_of, count, leaky=self.leaky)
        present = None
        if activations is not None:
            present = self._windows(activations.unsqueeze(4), 0.0)[..., 0].flatten(0, 2)
        record = self.layer(windows.flatten(0, 2), present, compete=compete)
        return RoutingRecord(*(part.unflatten(0, (batch, rows, columns)) for part in record))

    def _windows(self, grid: Tensor, absent: float) -> Tensor:
        """Windows ``(b, y, x, k, d)`` of a grid ``(b, y, x, i, d)``, k its rows, columns, types."""
        (high, wide), (down, right) = self.kernel_size, self.stride
        rows, columns = self.padding
        padded = F.pad(grid, (0, 0, 0, 0, columns, columns, rows, rows), value=absent)
        if padded.shape[1] < high or padded.shape[2] < wide:
            raise ShapeError(
                f"a window of {high} by {wide} does not fit a grid of {padded.shape[1]} by "
                f"{padded.shape[2]}, padding included"
            )
        windows = padded.unfold(1, high, down).unfold(2, wide, right)  # (b, y, x, i, d, h, w)
        return windows.permute(0, 1, 2, 5, 6, 3, 4).flatten(3, 5)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def window_competition(child_of: Tensor, children: int, *, leaky: bool = False) -> Compete:
    """Competition of all positions and parents whose window holds a child.

    Args:
        child_of: ``(w, i)`` integer: which child stands in slot i of window w, ``children`` where
            there is none (padding); such a slot gets no coupling.
        children: how many there are.
        leaky: each child has one extra zero logit.

    Returns:
        A function of logits ``(b*w, i, o)``; the couplings of a child add up to one over all
        windows and parents together.
    """
    windows, slots = child_of.shape
    flat = child_of.reshape(-1)

    def compete(logits: Tensor) -> Tensor:
        wide = logits.reshape(-1, windows * slots, logits.shape[-1])  # (b, w*i, o)
        index = flat.expand(len(wide), -1)
        empty = wide.new_zeros(len(wide), children + 1)
        # the largest logit of a child cancels out of its shares: no gradient of its own
        best = wide.detach().amax(dim=2)
        peak = empty.scatter_reduce(1, index, best, "amax", include_self=leaky)
        weight = (wide - peak.gather(1, index).unsqueeze(2)).exp()
        total = (-peak).exp() if leaky else empty
        total = total.scatter_add(1, index, weight.sum(dim=2))
        coupling = weight / total.gather(1, index).unsqueeze(2)
        coupling = coupling.masked_fill((index == children).unsqueeze(2), 0)
        return coupling.reshape(logits.shape)

    return compete
