"""An LSTM on piano rolls, with independent pitches or exact note sets; for piano_rolls.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepmusic.composer import NoteSetHead
from deepmusic.studies.piano_rolls import Rolls

_BATCH = 16  # pieces that are scored together


class RecurrentComposer(nn.Module):
    """An LSTM over steps, whose state gives the distribution of the next set of pitches.

    Args:
        keys: number of pitches.
        hidden: size of the LSTM.
        dropout: of its input and its output, in [0, 1).
        head: ``"sets"`` for the exact distribution over sets, ``"keys"`` for independent pitches
            (Bernoulli), as in most published models.
    """

    def __init__(
        self, *, keys: int = 88, hidden: int = 200, dropout: float = 0.3, head: str = "sets"
    ) -> None:
        super().__init__()
        if head not in ("sets", "keys"):
            raise ValueError(f"head is 'sets' or 'keys'; got {head!r}")
        self.dropout = nn.Dropout(dropout)
        self.read = nn.Linear(keys, hidden)
        self.memory = nn.LSTM(hidden, hidden, batch_first=True)
        self.sets = NoteSetHead(hidden, pitches=keys) if head == "sets" else None
        self.independent = nn.Linear(hidden, keys) if head == "keys" else None

    def forward(self, rolls: Tensor, lengths: Tensor) -> Tensor:
        """Log probability of each step that is not padding, one after the other.

        Args:
            rolls: ``(b, t, k)``.
            lengths: ``(b,)`` steps of each piece; what follows is padding.
        """
        before = F.pad(rolls[:, :-1], (0, 0, 1, 0))  # nothing sounds before the first
        states, _ = self.memory(self.dropout(torch.relu(self.read(before))))
        is_step = torch.arange(rolls.shape[1], device=rolls.device) < lengths.unsqueeze(1)
        context, sounds = self.dropout(states)[is_step], rolls[is_step]
        if self.sets is not None:
            log_probs: Tensor = self.sets(context, sounds)
            return log_probs
        assert self.independent is not None
        return -F.binary_cross_entropy_with_logits(
            self.independent(context), sounds, reduction="none"
        ).sum(dim=1)


@dataclass(frozen=True)
class _Excerpts:
    """Training items: one excerpt per piece and epoch, drawn and transposed at random."""

    rolls: Rolls
    steps: int
    shift: int
    seed: int

    def __len__(self) -> int:
        return len(self.rolls)

    def __getitem__(self, key: tuple[int, int], /) -> Tensor:
        epoch, index = key
        random = np.random.default_rng([self.seed, epoch, index])
        roll = self.rolls[index]
        start = int(random.integers(max(len(roll) - self.steps, 0) + 1))
        piece = roll[start : start + self.steps]
        sounding = np.flatnonzero(piece.any(axis=0))
        if self.shift and len(sounding):
            least = max(-self.shift, -int(sounding[0]))
            most = min(self.shift, roll.shape[1] - 1 - int(sounding[-1]))
            piece = np.roll(piece, int(random.integers(least, most + 1)), axis=1)
        return torch.from_numpy(piece.astype(np.float32))


class PianoRollTask:
    """What :func:`deepmusic.training.fit` needs to train a :class:`RecurrentComposer`.

    Args:
        train, validation: rolls ``(steps, keys)``.
        seed: of weights and excerpts.
        head: of the composer.
        steps: of an excerpt of a longer piece.
        shift: semitones by which excerpts are moved at most; 0 for data in one key.
    """

    monitor = "nats_per_step"
    higher_is_better = False

    def __init__(
        self,
        train: Rolls,
        validation: Rolls,
        *,
        seed: int,
        head: str = "sets",
        steps: int = 256,
        shift: int = 0,
    ) -> None:
        self.metadata: Mapping[str, Any] = {"head": head, "steps": steps, "shift": shift}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model: nn.Module = RecurrentComposer(keys=train[0].shape[1], head=head)
        self.dataset = _Excerpts(train, steps, shift, seed)
        self._validation = validation

    @staticmethod
    def collate(items: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Pieces padded to the longest, ``(b, t, k)``, and their lengths."""
        lengths = torch.tensor([len(item) for item in items])
        return nn.utils.rnn.pad_sequence(items, batch_first=True), lengths

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Mean nats per step."""
        nats = -model(*batch).mean()
        return nats, {"nats_per_step": nats.detach()}

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Nats per step on whole pieces."""
        return {"nats_per_step": nats_per_step(model, self._validation)}


@torch.no_grad()
def nats_per_step(model: nn.Module, rolls: Rolls) -> float:
    """Mean over all steps of pieces, each scored whole.

    Args:
        model: as :class:`RecurrentComposer`, in evaluation mode.
        rolls: pieces ``(steps, keys)``.
    """
    device = next(model.parameters()).device
    by_length = sorted(rolls, key=len)  # pieces of like length waste no padding
    total, steps = 0.0, 0
    for first in range(0, len(by_length), _BATCH):
        pieces = [
            torch.from_numpy(roll.astype(np.float32)) for roll in by_length[first : first + _BATCH]
        ]
        padded, lengths = PianoRollTask.collate(pieces)
        total -= float(model(padded.to(device), lengths.to(device)).double().sum())
        steps += int(lengths.sum())
    return total / steps
