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
        start, bias = self.begin(context, allowed=allowed, suggested=suggested)
        log_probs = self._log_probs(start[step], bias[step], begun, before[step, position])
        chosen = log_probs.gather(1, symbols[step, position].unsqueeze(1)).squeeze(1)
        return chosen.new_zeros(len(context)).index_add(0, step, chosen)

    def begin(
        self, context: Tensor, *, allowed: Tensor | None = None, suggested: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What holds for a whole set, from ``context``, ``allowed``, ``suggested`` of ``forward``.

        Returns:
            ``(n, hidden)``, where the network starts from, and ``(n, y+1)``, which is added to the
            logits of all symbols of the set.
        """
        bias: Tensor = self.read_context(context)
        if suggested is not None:
            assert self.trust is not None
            trust = self.trust(context).unsqueeze(1)  # (n, 1, suggestions)
            pulled = (trust @ suggested.to(trust.dtype)).squeeze(1)
            bias = bias + F.pad(pulled, (0, 1))
        if allowed is not None:
            bias = bias.masked_fill(F.pad(~allowed, (0, 1)), -torch.inf)
        return self.start(context), bias

    def next_symbol(self, start: Tensor, bias: Tensor, sets: Tensor, before: Tensor) -> Tensor:
        """Log probabilities of the next symbol of each set, ``(n, y+1)``, the last of its end.

        Args:
            start: what ``begin`` gave.
            bias: what ``begin`` gave.
            sets: ``(n, y)``, the symbols so far.
            before: ``(n,)`` int64, the last of them; -1 where there is none.
        """
        summed, _ = self.embed.weight[:-1].chunk(2, dim=1)
        _, last = self.embed(before.masked_fill(before < 0, self.symbols)).chunk(2, dim=1)
        begun = torch.cat([sets.to(summed.dtype) @ summed, last], dim=1)
        return self._log_probs(start, bias, begun, before)

    def _log_probs(self, start: Tensor, bias: Tensor, begun: Tensor, before: Tensor) -> Tensor:
        """As ``next_symbol``, from what stands for the symbols so far, ``(n, 2 * embedding)``."""
        hidden = F.relu(start + self.join(begun))
        hidden = hidden + F.relu(self.middle(self.dropout(hidden)))
        logits: Tensor = self.read(self.dropout(hidden)) + bias
        # only pitches above the last may follow
        first = (before.div(self.states, rounding_mode="floor") + 1) * self.states
        symbols = torch.arange(self.symbols + 1, device=logits.device)
        return logits.masked_fill(symbols < first.unsqueeze(1), -torch.inf).log_softmax(dim=1)

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
