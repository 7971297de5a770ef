"""An exact distribution over the sets of notes of a step, given what came before.

A set written as its symbols in ascending order and an end symbol has one spelling only. So the
product of the symbols' conditional probabilities, each masked *before* the softmax to what may
follow, is the probability of the set itself: all sets together have one, with no assumption that
the notes of a chord were independent (Walder 2016, arXiv:1606.01368, spells chords likewise).

Where a key can do more than one thing (be held, or be struck), each is a symbol of its own, the
symbols of a key stand side by side, and a set holds one of them at most.

What a set begun so far is known by is the sum of what stands for its symbols, as a set has no
order; so all places of all sets are computed at once, and there is nothing recurrent inside a step.

Axes: n steps, c context, k keys, y symbols (keys by states), p places in a spelling, r rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepmusic.errors import ShapeError


def spelled(roll: Tensor) -> Tensor:
    """Sets as sequences.

    Args:
        roll: ``(n, y)``; what is not zero is in the set.

    Returns:
        ``(n, p)`` int64: the symbols of each set in ascending order, then the end symbol ``y``,
        again and again; p is one more than the symbols of the largest set.

    Raises:
        ShapeError: not ``(n, y)``.
    """
    if roll.ndim != 2:
        raise ShapeError(f"a roll has shape (steps, keys); got {tuple(roll.shape)}")
    sounds = roll != 0
    keys = roll.shape[1]
    counts = sounds.sum(dim=1)
    longest = int(counts.max()) if len(roll) else 0
    symbols = roll.new_full((len(roll), longest + 1), keys, dtype=torch.long)
    step, key = sounds.nonzero(as_tuple=True)  # by step, then ascending
    first = counts.cumsum(0) - counts
    place = torch.arange(len(step), device=roll.device) - first[step]
    symbols[step, place] = key
    return symbols


class Drawn(NamedTuple):
    """What was drawn.

    Args:
        sets: ``(n, y)`` bool.
        log_probs: ``(n,)``, the logarithm of the probability of each set as
            :meth:`NoteSetHead.forward` has it: whatever the temperature, and whatever had to be.
    """

    sets: Tensor
    log_probs: Tensor


class NoteSetHead(nn.Module):
    """Reads a context, writes a set.

    Args:
        context_dim: numbers that say what came before.
        keys: keys there are.
        states: what a key can do; symbol ``key * states + state`` says that it does.
        hidden: width of the network inside.
        embedding: numbers that stand for a symbol.
        suggestions: sets that the caller suggests for each step, such as what followed earlier on
            like music; the head learns from the context how far to trust each.
        dropout: inside, in [0, 1).

    Raises:
        ShapeError: a size below one.
    """

    def __init__(
        self,
        context_dim: int,
        *,
        keys: int = 88,
        states: int = 1,
        hidden: int = 192,
        embedding: int = 64,
        suggestions: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(context_dim, keys, states, hidden, embedding) < 1 or suggestions < 0:
            raise ShapeError("context_dim, keys, states, hidden and embedding are at least 1")
        self.context_dim, self.keys, self.states = context_dim, keys, states
        self.symbols = keys * states
        self.suggestions = suggestions
        # the end symbol stands for the beginning, of which nothing is summed
        self.embed = nn.Embedding(self.symbols + 1, 2 * embedding, padding_idx=self.symbols)
        self.start = nn.Linear(context_dim, hidden)
        self.join = nn.Linear(2 * embedding, hidden, bias=False)
        self.middle = nn.Linear(hidden, hidden)
        self.read = nn.Linear(hidden, self.symbols + 1)
        self.read_context = nn.Linear(context_dim, self.symbols + 1, bias=False)
        self.trust = nn.Linear(context_dim, suggestions) if suggestions else None
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        context: Tensor,
        roll: Tensor,
        *,
        allowed: Tensor | None = None,
        suggested: Tensor | None = None,
    ) -> Tensor:
        """Logarithm of the probability of each set, ``(n,)``.

        Args:
            context: ``(n, c)``.
            roll: ``(n, y)``; what is not zero is in the set; one symbol of a key at most.
            allowed: ``(n, y)`` bool, symbols that can be in the set at all; None allows all. A set
                with another symbol has no probability.
            suggested: ``(n, suggestions, y)``; what is not zero is suggested.

        Raises:
            ShapeError: shapes that do not fit.
        """
        self._check(context, allowed, suggested)
        if roll.shape != (len(context), self.symbols):
            raise ShapeError(
                f"roll must have shape ({len(context)}, {self.symbols}); got {tuple(roll.shape)}"
            )
        symbols = spelled(roll)  # (n, p)
        before = torch.cat([symbols.new_full((len(symbols), 1), -1), symbols[:, :-1]], dim=1)
        is_open = before != self.symbols  # what follows the end is no part of the spelling
        step, place = is_open.nonzero(as_tuple=True)
        told = before.masked_fill(before < 0, self.symbols)
        embedded = self.embed(told)
        summed, last = embedded.chunk(2, dim=2)
        begun = torch.cat([summed.cumsum(dim=1), last], dim=2)[step, place]  # (r, 2 * embedding)
        outline = self._outline(context, allowed, suggested)
        logits = self._logits(self.start(context)[step], begun) + outline[step]
        log_probs = self._masked(logits, before[step, place]).log_softmax(dim=1)
        chosen = log_probs.gather(1, symbols[step, place].unsqueeze(1)).squeeze(1)
        return chosen.new_zeros(len(context)).index_add(0, step, chosen)

    @torch.no_grad()
    def sample(
        self,
        context: Tensor,
        random: np.random.Generator,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        allowed: Tensor | None = None,
        wanted: Tensor | None = None,
        required: Tensor | None = None,
        is_filled: Tensor | None = None,
        suggested: Tensor | None = None,
    ) -> Drawn:
        """Draw a set for each context.

        Args:
            context: ``(n, c)``.
            random: where chance comes from.
            temperature: below 1 favours the likely keys, above 1 the others; more than 0.
            top_p: draw from the fewest keys that have this share of the chances, in (0, 1].
                Both act on which keys come into the set in the last of the states (that of a struck
                note), not on how many, nor on what is held: were the end, which is the likeliest
                symbol of most steps, favoured too, music would fall silent.
            allowed: as in :meth:`forward`.
            wanted: ``(n, y)`` bool, which of these to draw from; None draws from all.
            required: ``(n, y)`` bool, symbols that must be in the set, wanted or not.
            is_filled: ``(n,)`` bool, sets that must not be empty where there is anything to draw.
            suggested: as in :meth:`forward`.

        Raises:
            ShapeError: shapes that do not fit.
            ValueError: temperature or top_p out of range.
        """
        if temperature <= 0 or not 0 < top_p <= 1:
            raise ValueError(
                f"temperature is above 0 and top_p in (0, 1]; got {temperature} and {top_p}"
            )
        self._check(context, allowed, suggested)
        count, end = len(context), self.symbols
        closed = None
        if wanted is not None:
            closed = F.pad(~(wanted if required is None else wanted | required), (0, 1))
        roll = torch.zeros(count, end, dtype=torch.bool, device=context.device)
        log_probs = context.new_zeros(count)
        start = self.start(context)
        outline = self._outline(context, allowed, suggested)
        summed = last = context.new_zeros(count, self.embed.embedding_dim // 2)
        before = torch.full((count,), -1, device=context.device)
        going = torch.arange(count, device=context.device)
        order = torch.arange(end + 1, device=context.device)
        while len(going):
            logits = self._logits(start[going], torch.cat([summed, last], dim=1)) + outline[going]
            logits = self._masked(logits, before)
            scores = logits.log_softmax(dim=1)
            if closed is not None:
                logits = logits.masked_fill(closed[going], -torch.inf)
            if is_filled is not None:
                is_first = is_filled[going] & (before < 0) & logits[:, :end].isfinite().any(dim=1)
                logits[:, end] = logits[:, end].masked_fill(is_first, -torch.inf)
            if required is not None:
                due = required[going] & (order[:end] > before.unsqueeze(1))
                next_due = torch.where(due.any(dim=1), due.int().argmax(dim=1), end)
                # nothing is left out that is due, and its key does nothing else
                key_due = next_due.div(self.states, rounding_mode="floor") * self.states
                is_closed = (order >= key_due.unsqueeze(1)) & (order != next_due.unsqueeze(1))
                logits = logits.masked_fill(is_closed, -torch.inf)
            chances = logits.softmax(dim=1)
            if temperature != 1 or top_p != 1:
                struck = slice(self.states - 1, end, self.states)
                chances[:, struck] = _sharpened(chances[:, struck], temperature, top_p)
            drawn = _drawn(chances, random)
            log_probs[going] += scores.gather(1, drawn.unsqueeze(1)).squeeze(1)
            goes_on = drawn != end
            going, drawn = going[goes_on], drawn[goes_on]
            roll[going, drawn] = True
            more, last = self.embed(drawn).chunk(2, dim=1)
            summed, before = summed[goes_on] + more, drawn
        return Drawn(roll, log_probs)

    def _logits(self, start: Tensor, begun: Tensor) -> Tensor:
        """Rows of contexts and of what is summed of the symbols so far to ``(r, y+1)``."""
        hidden = F.relu(start + self.join(begun))
        hidden = hidden + F.relu(self.middle(self.dropout(hidden)))
        logits: Tensor = self.read(self.dropout(hidden))
        return logits

    def _outline(self, context: Tensor, allowed: Tensor | None, suggested: Tensor | None) -> Tensor:
        """What holds for a whole step: ``(n, y+1)``, added to the logits of all its places."""
        outline: Tensor = self.read_context(context)
        if suggested is not None:
            assert self.trust is not None
            trust = self.trust(context).unsqueeze(1)  # (n, 1, suggestions)
            pulled = (trust @ suggested.to(trust.dtype)).squeeze(1)
            outline = outline + F.pad(pulled, (0, 1))
        if allowed is not None:
            outline = outline.masked_fill(F.pad(~allowed, (0, 1)), -torch.inf)
        return outline

    def _masked(self, logits: Tensor, before: Tensor) -> Tensor:
        """Logits ``(r, y+1)`` without the symbols that may not follow ``before`` ``(r,)``."""
        least = (before.div(self.states, rounding_mode="floor") + 1) * self.states
        symbols = torch.arange(self.symbols + 1, device=logits.device)
        return logits.masked_fill(symbols < least.unsqueeze(1), -torch.inf)

    def _check(self, context: Tensor, allowed: Tensor | None, suggested: Tensor | None) -> None:
        if context.ndim != 2 or context.shape[1] != self.context_dim:
            raise ShapeError(
                f"context must have shape (steps, {self.context_dim}); got {tuple(context.shape)}"
            )
        if allowed is not None and allowed.shape != (len(context), self.symbols):
            raise ShapeError(
                f"allowed must have shape ({len(context)}, {self.symbols}); "
                f"got {tuple(allowed.shape)}"
            )
        wanted = (len(context), self.suggestions, self.symbols)
        if (suggested is None) != (self.suggestions == 0) or (
            suggested is not None and suggested.shape != wanted
        ):
            raise ShapeError(
                f"suggested must have shape {wanted}; got "
                f"{None if suggested is None else tuple(suggested.shape)}"
            )


def _drawn(chances: Tensor, random: np.random.Generator) -> Tensor:
    """One symbol ``(n,)`` for each row of chances ``(n, y)``, by inverting their sums."""
    sums = chances.double().cumsum(dim=1)
    thrown = torch.from_numpy(random.random(len(chances))).to(chances.device)
    places = torch.searchsorted(sums, (thrown * sums[:, -1]).unsqueeze(1), right=True).squeeze(1)
    # rounding may lead past the last symbol that has any chance
    last = chances.shape[1] - 1 - (chances > 0).flip(1).int().argmax(dim=1)
    return torch.minimum(places, last)


def _sharpened(chances: Tensor, temperature: float, top_p: float) -> Tensor:
    """Chances ``(n, k)`` with the same sum, in which the likely have more of it.

    Of these, only the likeliest that reach the share ``top_p`` together; the others have none.
    """
    total = chances.sum(dim=1, keepdim=True)
    shares = (chances.log() / temperature).softmax(dim=1)
    if top_p < 1:
        ordered, order = shares.sort(dim=1, descending=True, stable=True)
        is_beyond = ordered.cumsum(dim=1) - ordered >= top_p  # the first that reaches it stays
        shares = torch.zeros_like(shares).scatter(1, order, ordered.masked_fill(is_beyond, 0))
        shares = shares / shares.sum(dim=1, keepdim=True)
    return torch.where(total > 0, total * shares, 0.0)
