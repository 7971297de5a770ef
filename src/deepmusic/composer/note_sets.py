"""An exact distribution over the sets of notes of a step, given what came before.

A set is written as its symbols in ascending order and an end symbol, in exactly one way. So the
product of the symbols' conditional probabilities, each masked *before* the softmax to what may
follow, is the probability of the set itself: the probabilities of all sets sum to one, with no
assumption that the notes of a chord are independent (as in Walder 2016, arXiv:1606.01368).

Where a pitch has several states (sustained, onset), each is a symbol of its own; the symbols of a
pitch are adjacent, and a set holds at most one of them.

A set begun so far is represented by the sum of the embeddings of its symbols, as a set has no
order; so all positions of all sets are computed at once, without recurrence inside a step.

Axes: n steps, c context, y symbols (pitches by states), p positions in a sequence, r rows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepmusic.errors import ShapeError


def set_sequences(sets: Tensor) -> Tensor:
    """Sets as sequences of symbols.

    Args:
        sets: ``(n, y)``; what is not zero is in the set.

    Returns:
        ``(n, p)`` int64: the symbols of each set in ascending order, padded with the end symbol
        ``y``; p is one more than the size of the largest set.
    """
    is_in = sets != 0
    end = sets.shape[1]
    counts = is_in.sum(dim=1)
    longest = int(counts.max()) if len(sets) else 0
    sequences = sets.new_full((len(sets), longest + 1), end, dtype=torch.long)
    step, symbol = is_in.nonzero(as_tuple=True)  # by step, then ascending
    first = counts.cumsum(0) - counts
    sequences[step, torch.arange(len(step), device=sets.device) - first[step]] = symbol
    return sequences


class NoteSetHead(nn.Module):
    """The distribution over note sets, given a context.

    Args:
        context_dim: size of the context.
        pitches: number of pitches.
        states: states of a pitch; symbol ``pitch * states + state`` stands for one.
        hidden: width of the network.
        embedding: size of the embedding of a symbol.
        suggestions: number of sets suggested for each step, such as what followed earlier on the
            same music; the head learns from the context how far to trust each.
        dropout: in [0, 1).

    Raises:
        ShapeError: a size is below one.
    """

    def __init__(
        self,
        context_dim: int,
        *,
        pitches: int = 88,
        states: int = 1,
        hidden: int = 192,
        embedding: int = 64,
        suggestions: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(context_dim, pitches, states, hidden, embedding) < 1 or suggestions < 0:
            raise ShapeError("context_dim, pitches, states, hidden and embedding are at least 1")
        self.context_dim, self.pitches, self.states = context_dim, pitches, states
        self.symbols = pitches * states
        self.suggestions = suggestions
        # the end symbol also stands for the start, whose embedding is zero
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
        sets: Tensor,
        *,
        allowed: Tensor | None = None,
        suggested: Tensor | None = None,
    ) -> Tensor:
        """Log probability of each set, ``(n,)``.

        Args:
            context: ``(n, c)``.
            sets: ``(n, y)``; what is not zero is in the set; at most one symbol per pitch.
            allowed: ``(n, y)`` bool, symbols that are possible; None allows all. A set with
                another symbol has probability zero.
            suggested: ``(n, suggestions, y)``; what is not zero is suggested.

        Raises:
            ShapeError: shapes do not fit.
        """
        self._check(context, sets=sets, allowed=allowed, suggested=suggested)
        symbols = set_sequences(sets)  # (n, p)
        before = torch.cat([symbols.new_full((len(symbols), 1), -1), symbols[:, :-1]], dim=1)
        is_open = before != self.symbols  # what follows the end is padding
        step, position = is_open.nonzero(as_tuple=True)
        embedded = self.embed(before.masked_fill(before < 0, self.symbols))
        summed, last = embedded.chunk(2, dim=2)
        begun = torch.cat([summed.cumsum(dim=1), last], dim=2)[step, position]  # (r, 2 * embedding)
        bias = self._step_logits(context, allowed, suggested)
        logits = self._logits(self.start(context)[step], begun) + bias[step]
        log_probs = self._masked(logits, before[step, position]).log_softmax(dim=1)
        chosen = log_probs.gather(1, symbols[step, position].unsqueeze(1)).squeeze(1)
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
    ) -> tuple[Tensor, Tensor]:
        """Sample a set for each context.

        Temperature and top-p act on which pitches get an onset (the last state), not on how many:
        favouring the end, the likeliest symbol of most steps, would make music fall silent.

        Args:
            context: ``(n, c)``.
            random: draws the symbols.
            temperature: above 0; below 1 favours likely pitches.
            top_p: sample from the fewest pitches with this total probability, in (0, 1].
            allowed: as in ``forward``.
            wanted: ``(n, y)`` bool, the symbols to sample from; None samples from all.
            required: ``(n, y)`` bool, wanted symbols that must be in the set.
            is_filled: ``(n,)`` bool, sets that must not be empty if any symbol is possible.
            suggested: as in ``forward``.

        Returns:
            The sets, ``(n, y)`` bool, and their log probabilities, ``(n,)``, as of ``forward``.

        Raises:
            ShapeError: shapes do not fit.
            ValueError: temperature or top_p out of range.
        """
        self._check(context, allowed=allowed, suggested=suggested)
        count, end = len(context), self.symbols
        closed = None if wanted is None else F.pad(~wanted, (0, 1))  # the end is always open
        sets = torch.zeros(count, end, dtype=torch.bool, device=context.device)
        log_probs = context.new_zeros(count)
        start, bias = self.start(context), self._step_logits(context, allowed, suggested)
        summed = last = context.new_zeros(count, self.embed.embedding_dim // 2)
        before = torch.full((count,), -1, device=context.device)
        active = torch.arange(count, device=context.device)
        while len(active):
            read = torch.cat([summed, last], dim=1)
            logits = self._masked(self._logits(start[active], read) + bias[active], before)
            constraints = (None if t is None else t[active] for t in (closed, is_filled, required))
            probabilities = self._constrained(logits, before, *constraints).softmax(dim=1)
            onsets = slice(self.states - 1, end, self.states)
            probabilities[:, onsets] = _sharpened(probabilities[:, onsets], temperature, top_p)
            drawn = _draw(probabilities, random)
            log_probs[active] += logits.log_softmax(dim=1).gather(1, drawn[:, None])[:, 0]
            continues = drawn != end
            active, before = active[continues], drawn[continues]
            sets[active, before] = True
            added, last = self.embed(before).chunk(2, dim=1)
            summed = summed[continues] + added
        return sets, log_probs

    def _constrained(
        self,
        logits: Tensor,
        before: Tensor,
        closed: Tensor | None,
        is_filled: Tensor | None,
        required: Tensor | None,
    ) -> Tensor:
        """Logits ``(r, y+1)`` without the symbols that constraints rule out after ``before``."""
        if closed is not None:
            logits = logits.masked_fill(closed, -torch.inf)
        if is_filled is not None:
            # no end to an empty set where another symbol is possible
            is_closed = torch.zeros_like(logits, dtype=torch.bool)
            is_closed[:, -1] = is_filled & (before < 0) & logits[:, :-1].isfinite().any(dim=1)
            logits = logits.masked_fill(is_closed, -torch.inf)
        if required is not None:
            # nothing that would skip the next required symbol, or take its pitch
            order = torch.arange(self.symbols + 1, device=logits.device)
            due = required & (order[:-1] > before.unsqueeze(1))
            next_due = torch.where(due.any(dim=1), due.int().argmax(dim=1), self.symbols)
            pitch_due = next_due.div(self.states, rounding_mode="floor") * self.states
            is_closed = (order >= pitch_due.unsqueeze(1)) & (order != next_due.unsqueeze(1))
            logits = logits.masked_fill(is_closed, -torch.inf)
        return logits

    def _logits(self, start: Tensor, begun: Tensor) -> Tensor:
        """From contexts and the sum of the symbols so far, ``(r, ...)``, to ``(r, y+1)``."""
        hidden = F.relu(start + self.join(begun))
        hidden = hidden + F.relu(self.middle(self.dropout(hidden)))
        logits: Tensor = self.read(self.dropout(hidden))
        return logits

    def _step_logits(
        self, context: Tensor, allowed: Tensor | None, suggested: Tensor | None
    ) -> Tensor:
        """What holds for a whole step: ``(n, y+1)``, added to the logits at all positions."""
        logits: Tensor = self.read_context(context)
        if suggested is not None:
            assert self.trust is not None
            trust = self.trust(context).unsqueeze(1)  # (n, 1, suggestions)
            pulled = (trust @ suggested.to(trust.dtype)).squeeze(1)
            logits = logits + F.pad(pulled, (0, 1))
        if allowed is not None:
            logits = logits.masked_fill(F.pad(~allowed, (0, 1)), -torch.inf)
        return logits

    def _masked(self, logits: Tensor, before: Tensor) -> Tensor:
        """Logits ``(r, y+1)`` without the symbols that may not follow ``before`` ``(r,)``."""
        first = (before.div(self.states, rounding_mode="floor") + 1) * self.states
        symbols = torch.arange(self.symbols + 1, device=logits.device)
        return logits.masked_fill(symbols < first.unsqueeze(1), -torch.inf)

    def _check(self, context: Tensor, **others: Tensor | None) -> None:
        count = len(context)
        shapes = {
            "context": (count, self.context_dim),
            "sets": (count, self.symbols),
            "allowed": (count, self.symbols),
            "suggested": (count, self.suggestions, self.symbols),
        }
        for name, tensor in {"context": context, **others}.items():
            if tensor is not None and tensor.shape != shapes[name]:
                raise ShapeError(
                    f"{name} must have shape {shapes[name]}; got {tuple(tensor.shape)}"
                )
        if (others["suggested"] is None) != (self.suggestions == 0):
            raise ShapeError(f"suggested must hold {self.suggestions} sets for each step")


def _draw(probabilities: Tensor, random: np.random.Generator) -> Tensor:
    """One symbol ``(n,)`` for each row ``(n, y)``, by inverting the cumulative distribution."""
    sums = probabilities.double().cumsum(dim=1)
    uniform = torch.from_numpy(random.random(len(probabilities))).to(probabilities.device)
    drawn = torch.searchsorted(sums, (uniform * sums[:, -1]).unsqueeze(1), right=True).squeeze(1)
    # rounding may lead past the last symbol that has any probability
    last = probabilities.shape[1] - 1 - (probabilities > 0).flip(1).int().argmax(dim=1)
    return torch.minimum(drawn, last)


def _sharpened(probabilities: Tensor, temperature: float, top_p: float) -> Tensor:
    """Probabilities ``(n, k)`` with the same sum, redistributed by temperature and top-p."""
    if temperature <= 0 or not 0 < top_p <= 1:
        raise ValueError("temperature is above 0 and top_p in (0, 1]")
    if temperature == top_p == 1:
        return probabilities
    total = probabilities.sum(dim=1, keepdim=True)
    shares = (probabilities.log() / temperature).softmax(dim=1)
    if top_p < 1:
        ordered, order = shares.sort(dim=1, descending=True, stable=True)
        is_beyond = ordered.cumsum(dim=1) - ordered >= top_p  # the first that reaches it stays
        shares = torch.zeros_like(shares).scatter(1, order, ordered.masked_fill(is_beyond, 0))
        shares = shares / shares.sum(dim=1, keepdim=True)
    return torch.where(total > 0, total * shares, 0.0)
