"""An exact distribution over the sets of notes of a step, given what came before.

A set written as its notes in ascending order and an end symbol has one spelling only. So the
product of the symbols' conditional probabilities, each masked *before* the softmax to what may
follow, is the probability of the set itself: all sets together have one, with no assumption that
the notes of a chord were independent (Walder 2016, arXiv:1606.01368, spells chords likewise).

Axes: n steps, c context, k keys, s symbols.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepmusic.errors import ShapeError

__all__ = ["NoteSetHead", "spelled"]


def spelled(roll: Tensor) -> Tensor:
    """Sets as sequences.

    Args:
        roll: ``(n, k)``; what is not zero is in the set.

    Returns:
        ``(n, s)`` int64: the keys of each set in ascending order, then the end symbol ``k``, again
        and again; s is one more than the notes of the largest set.

    Raises:
        ShapeError: not ``(n, k)``.
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


class NoteSetHead(nn.Module):
    """Reads a context, writes a set: a small recurrent network over its notes.

    Args:
        context_dim: numbers that say what came before.
        keys: notes there are.
        hidden: size of the recurrent state.
        embedding: numbers that stand for a note.

    Raises:
        ShapeError: a size below one.
    """

    def __init__(
        self, context_dim: int, *, keys: int = 88, hidden: int = 128, embedding: int = 32
    ) -> None:
        super().__init__()
        if min(context_dim, keys, hidden, embedding) < 1:
            raise ShapeError("context_dim, keys, hidden and embedding are at least 1")
        self.context_dim, self.keys = context_dim, keys
        self.embed = nn.Embedding(keys + 1, embedding)  # every key, and the beginning
        self.start = nn.Linear(context_dim, hidden)
        self.memory = nn.GRU(embedding, hidden, batch_first=True)
        self.read = nn.Linear(hidden, keys + 1)
        self.read_context = nn.Linear(context_dim, keys + 1)

    def forward(self, context: Tensor, roll: Tensor) -> Tensor:
        """Logarithm of the probability of each set, ``(n,)``.

        Args:
            context: ``(n, c)``.
            roll: ``(n, k)``; what is not zero is in the set.

        Raises:
            ShapeError: shapes that do not fit.
        """
        self._check(context)
        if roll.shape != (len(context), self.keys):
            raise ShapeError(
                f"roll must have shape ({len(context)}, {self.keys}); got {tuple(roll.shape)}"
            )
        symbols = spelled(roll)  # (n, s)
        before = torch.cat([symbols.new_full((len(symbols), 1), -1), symbols[:, :-1]], dim=1)
        is_open = before != self.keys  # what follows the end symbol is no part of the spelling
        # the beginning has an embedding of its own, the end needs none
        told = torch.where(before < 0, self.keys, before)
        states, _ = self.memory(self.embed(told), self._begin(context))
        logits = self.read(states) + self.read_context(context).unsqueeze(1)
        # where nothing follows any more the end may stand alone, to keep the softmax finite
        lowest = torch.where(is_open, before, self.keys - 1)
        log_probs = self._masked(logits, lowest).log_softmax(dim=2)
        chosen = log_probs.gather(2, symbols.unsqueeze(2)).squeeze(2)
        return (chosen * is_open).sum(dim=1)

    @torch.no_grad()
    def sample(
        self,
        context: Tensor,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        allowed: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw a set for each context.

        Args:
            context: ``(n, c)``.
            temperature: below 1 favours the likely symbols, above 1 the others; more than 0.
            top_p: draw from the fewest symbols that have this probability together, in (0, 1].
            allowed: ``(n, k)`` bool, keys that may be in the set; None allows all.
            generator: of random numbers, on the device of the context.

        Returns:
            ``(n, k)`` bool.

        Raises:
            ShapeError: shapes that do not fit.
            ValueError: temperature or top_p out of range.
        """
        self._check(context)
        if temperature <= 0 or not 0 < top_p <= 1:
            raise ValueError(
                f"temperature is above 0 and top_p in (0, 1]; got {temperature} and {top_p}"
            )
        count = len(context)
        if allowed is not None and allowed.shape != (count, self.keys):
            raise ShapeError(
                f"allowed must have shape ({count}, {self.keys}); got {tuple(allowed.shape)}"
            )
        roll = torch.zeros(count, self.keys, dtype=torch.bool, device=context.device)
        before = torch.full((count,), -1, device=context.device)
        state, outline = self._begin(context), self.read_context(context)
        while bool((before < self.keys).any()):
            told = torch.where((before < 0) | (before == self.keys), self.keys, before)
            states, state = self.memory(self.embed(told).unsqueeze(1), state)
            logits = (self.read(states[:, 0]) + outline) / temperature
            if allowed is not None:
                logits[:, : self.keys].masked_fill_(~allowed, -torch.inf)
            chances = self._masked(logits, before.clamp(max=self.keys - 1)).softmax(dim=1)
            drawn = torch.multinomial(_nucleus(chances, top_p), 1, generator=generator)[:, 0]
            before = torch.where(before == self.keys, before, drawn)
            (going,) = (before < self.keys).nonzero(as_tuple=True)
            roll[going, before[going]] = True
        return roll

    def _begin(self, context: Tensor) -> Tensor:
        return torch.tanh(self.start(context)).unsqueeze(0)  # (1, n, hidden)

    def _masked(self, logits: Tensor, before: Tensor) -> Tensor:
        """Logits ``(..., k+1)`` without the symbols that may not follow ``before`` ``(...)``."""
        symbols = torch.arange(self.keys + 1, device=logits.device)
        return logits.masked_fill(symbols <= before.unsqueeze(-1), -torch.inf)

    def _check(self, context: Tensor) -> None:
        if context.ndim != 2 or context.shape[1] != self.context_dim:
            raise ShapeError(
                f"context must have shape (steps, {self.context_dim}); got {tuple(context.shape)}"
            )


def _nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Chances ``(n, s)`` of the likeliest symbols that reach ``top_p`` together; others zero."""
    if top_p == 1:
        return chances
    ordered, order = chances.sort(dim=1, descending=True)
    is_beyond = ordered.cumsum(dim=1) - ordered >= top_p  # the first that reaches it stays
    return torch.zeros_like(chances).scatter(1, order, ordered.masked_fill(is_beyond, 0))
