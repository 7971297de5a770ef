"""The composer's network: capsules listen to a passage, a decoder writes step after step.

The encoder routes a passage into one capsule for each style: its length is how present the style
is, its pose how it is done. The decoder writes the next step knowing the steps before, the place in
the bar and in the piece, what followed earlier on a passage like the last one, and the pose. A pose
routed from the very steps that are scored would tell of them; so it is routed from steps before
them, or from another passage, or there is none.

Axes: b pieces, t steps, e elements (parts by keys), y symbols, s styles, d pose.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepmusic.capsules import CapsuleLayer, PrimaryCapsules
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import PLACES
from deepmusic.composer.note_sets import NoteSetHead
from deepmusic.composer.passages import MANNER
from deepmusic.composer.repetition import LENGTHS

Memory = tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """Excerpts of several pieces as tensors, padded to the longest; as in ``Excerpt``.

    Args:
        before: ``(b, t, 2 * e)`` float.
        written: ``(b, t, y)`` bool.
        repeated: ``(b, t, y)`` bool.
        likeness: ``(b, t, parts)`` int64.
        earlier: ``(b, t, y)`` bool.
        places: ``(b, t, 5)`` int64.
        is_step: ``(b, t)`` bool, False for padding.
    """

    before: Tensor
    written: Tensor
    repeated: Tensor
    likeness: Tensor
    earlier: Tensor
    places: Tensor
    is_step: Tensor


class Heard(NamedTuple):
    """What the encoder makes of passages.

    Args:
        lengths: ``(b, s)`` in [0, 1), how present each style is.
        poses: ``(b, s, d)``, how it is done.
        manner: ``(b, s, m)``, what each pose says of the properties in ``MANNER``.
    """

    lengths: Tensor
    poses: Tensor
    manner: Tensor


class Condition(NamedTuple):
    """What the decoder is told besides notes.

    Args:
        styles: ``(b, s)`` weights that add up to one.
        poses: ``(b, s, d)``, or ``(b, t, s, d)`` where they change; zeros say nothing.
        is_minor: ``(b,)`` bool.
    """

    styles: Tensor
    poses: Tensor
    is_minor: Tensor


class CapsuleEncoder(nn.Module):
    """From a passage to a capsule for each style.

    A convolution over the steps of each beat gives primary capsules; those of all beats are routed
    to the styles.
    """

    def __init__(self, config: ComposerConfig) -> None:
        super().__init__()
        self.config = config
        beat = config.steps_per_beat
        self.read = nn.Linear(2 * config.elements, 96)
        self.beats = nn.Conv1d(96, 96, 2 * beat, stride=beat, padding=(beat + 1) // 2)
        self.primary = PrimaryCapsules(96, config.place_types, config.place_dim, kernel_size=1)
        self.styles = CapsuleLayer(
            config.place_types,
            config.place_dim,
            len(config.styles),
            config.pose_dim,
            routing=config.routing,
            iterations=config.iterations,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.manner = nn.Linear(config.pose_dim, len(MANNER))

    def forward(self, passages: Tensor) -> Heard:
        """Hear passages ``(b, passage_steps, 2 * e)``; what is silent throughout is no beat."""
        beat = self.config.steps_per_beat
        count = passages.shape[1] // beat
        hidden = F.relu(self.read(passages)).transpose(1, 2)
        hidden = F.relu(self.beats(self.dropout(hidden)))[:, :, :count].unsqueeze(2)  # (b, c, 1, n)
        children = self.primary.grid(hidden).squeeze(1)  # (b, n, types, dim)
        is_heard = passages.reshape(len(passages), count, -1).any(dim=2)
        record = self.styles(children * is_heard[:, :, None, None])
        return Heard(record.activations, record.poses, self.manner(record.poses))


class StepDecoder(nn.Module):
    """Remembers the steps before, and gives every set of the next its probability."""

    def __init__(self, config: ComposerConfig) -> None:
        super().__init__()
        self.config = config
        sources = int(config.repeats) + int(config.has_bars)
        self.read = nn.Linear(2 * config.elements, config.frame_dim)
        self.read_sources = nn.ModuleList(
            nn.Linear(config.symbols, config.frame_dim, bias=False) for _ in range(sources)
        )
        self.likeness = nn.ModuleList(
            nn.Embedding(len(LENGTHS) + 1, config.hidden)
            for _ in range(config.parts * config.repeats)
        )
        self.places = nn.ModuleList(
            nn.Embedding(count, config.hidden) for count in PLACES * config.has_bars
        )
        for embedding in (*self.likeness, *self.places):
            nn.init.normal_(embedding.weight, std=0.1)
        pose_dim = config.pose_dim if config.capsules else 0
        self.condition = nn.Linear(len(config.styles) * (1 + pose_dim) + 1, config.hidden)
        self.join = nn.Linear(config.frame_dim * (1 + sources), config.hidden)
        self.memory = nn.LSTM(config.hidden, config.hidden, batch_first=True)
        self.head = NoteSetHead(
            2 * config.hidden,
            keys=config.elements,
            states=config.states,
            hidden=config.head,
            suggestions=1 + sources,
            dropout=config.dropout,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.input_dropout = nn.Dropout(config.input_dropout)

    def contexts(
        self, batch: Batch, condition: Condition, memory: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """What is known before each step, ``(b, t, 2 * hidden)``, and the memory after the last."""
        sources = self._sources(batch)
        read = [self.read(self.input_dropout(batch.before))]
        read += [
            layer(self.input_dropout(source.to(batch.before.dtype)))
            for layer, source in zip(self.read_sources, sources, strict=True)
        ]
        hidden = self.join(F.relu(torch.cat(read, dim=2)))
        for part, embedding in enumerate(self.likeness):
            hidden = hidden + embedding(batch.likeness[:, :, part])
        for column, embedding in enumerate(self.places):
            hidden = hidden + embedding(batch.places[:, :, column])
        told = [condition.styles, condition.is_minor.to(condition.styles.dtype).unsqueeze(1)]
        given = torch.cat(told, dim=1).unsqueeze(1)
        if self.config.capsules:
            poses = condition.poses if condition.poses.ndim == 4 else condition.poses.unsqueeze(1)
            weighed = (poses * condition.styles[:, None, :, None]).flatten(2)
            given = torch.cat([given.expand(-1, weighed.shape[1], -1), weighed], dim=2)
        hidden = F.relu(hidden + self.condition(given))
        states, memory = self.memory(self.dropout(hidden), memory)
        return torch.cat([self.dropout(states), self.dropout(hidden)], dim=2), memory

    def forward(self, batch: Batch, condition: Condition) -> Tensor:
        """Log probability of each step that is no padding, ``(steps,)``, piece after piece."""
        contexts, _ = self.contexts(batch, condition)
        chosen = batch.is_step
        log_probs: Tensor = self.head(
            contexts[chosen],
            batch.written[chosen],
            allowed=self.possible(batch.before[chosen]),
            suggested=self.suggested(batch, chosen),
        )
        return log_probs

    def held(self, before: Tensor) -> Tensor:
        """The sets ``(..., y)`` in which all goes on that sounded before, ``(..., 2 * e)``."""
        was = before[..., 0::2] != 0
        if not self.config.has_onsets:
            return was
        return torch.stack([was, torch.zeros_like(was)], dim=-1).flatten(-2)

    def possible(self, before: Tensor) -> Tensor | None:
        """Symbols that can be, ``(..., y)``: what did not sound cannot be held; None: all can."""
        if not self.config.has_onsets:
            return None
        was = before[..., 0::2] != 0
        return torch.stack([was, torch.ones_like(was)], dim=-1).flatten(-2)

    def suggested(self, batch: Batch, chosen: Tensor) -> Tensor:
        """Sets that the head is shown for chosen steps, ``(n, sources, y)``: all held first."""
        sources = [self.held(batch.before[chosen]), *(s[chosen] for s in self._sources(batch))]
        return torch.stack(sources, dim=1)

    def _sources(self, batch: Batch) -> list[Tensor]:
        sources = [batch.repeated] if self.config.repeats else []
        return [*sources, batch.earlier] if self.config.has_bars else sources


class ComposerNetwork(nn.Module):
    """Encoder and decoder, and how poses are spread in each style.

    Args:
        config: sizes and choices.

    Attributes:
        pose_mean: ``(s, d)``, the mean pose of the training passages of each style.
        pose_spread: ``(s, d, d)``, a factor L of their covariance L Lᵀ.
        pose_moves: ``(s, 5, d)``, how poses differ where each property in ``MANNER`` is one
            deviation (within the style) higher and the others are the same.
    """

    pose_mean: Tensor
    pose_spread: Tensor
    pose_moves: Tensor

    def __init__(self, config: ComposerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CapsuleEncoder(config) if config.capsules else None
        self.decoder = StepDecoder(config)
        styles, dim = len(config.styles), config.pose_dim
        self.register_buffer("pose_mean", torch.zeros(styles, dim))
        self.register_buffer("pose_spread", torch.zeros(styles, dim, dim))
        self.register_buffer("pose_moves", torch.zeros(styles, len(MANNER), dim))

    def forward(
        self, batch: Batch, condition: Condition, passages: Tensor | None = None
    ) -> tuple[Tensor, Heard | None]:
        """Score excerpts, with poses routed from passages where these are given.

        Args:
            batch: the excerpts.
            condition: its poses are multiplied with those that are heard: ones use them, zeros
                hide them.
            passages: ``(b, passage_steps, 2 * e)``; none of them from the steps that are scored,
                or later than these.

        Returns:
            Log probability of each step that is no padding, and what was heard in the passages.
        """
        heard = None
        if passages is not None and self.encoder is not None:
            heard = self.encoder(passages)
            condition = condition._replace(poses=condition.poses * heard.poses)
        log_probs: Tensor = self.decoder(batch, condition)
        return log_probs, heard
