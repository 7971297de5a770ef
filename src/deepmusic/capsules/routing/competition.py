"""Who competes for a child: the softmax that turns logits into couplings.

A child shares itself out among all parents that it could belong to, and this is where the most
copied code errs: the softmax runs over parents, for each item and child by itself. In a
convolutional layer the parents of a child are those of every position whose window holds it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Compete = Callable[[Tensor], Tensor]
"""Turns logits ``(b, i, o)`` into couplings of the same shape."""


def share(
    logits: Tensor, *, parents: int, leaky: bool = False, compete: Compete | None = None
) -> Tensor:
    """Couplings of the logits, over the axis of the parents.

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
