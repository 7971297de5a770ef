"""The composer's network: capsules read a passage, a decoder writes step after step.

The encoder routes a passage to one capsule per style: its length is how present the style is, its
pose how it is done. The decoder writes the next step from the steps before, the position in the
bar and in the piece, what followed the longest earlier match, and the pose. A pose routed from the
very steps that are scored would leak them; so it is routed from earlier steps or from another
passage, or there is none.

Axes: b pieces, t steps, e elements (parts by pitches), y symbols, s styles, d pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from deepmusic.capsules import CapsuleLayer, PrimaryCapsules
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import ATTRIBUTES, LENGTHS, POSITION_SIZES, Encoded, Excerpt
from deepmusic.composer.exported import ExportedNetwork
from deepmusic.composer.note_sets import NoteSetHead
from deepmusic.training import fill_model

Memory = tuple[Tensor, Tensor]


class Batch(NamedTuple):
    """Excerpts of several pieces as tensors, padded to the longest.

    As in ``Excerpt``, with an axis b before the others; ``before`` is float, integers are int64,
    and ``is_step``, ``(b, t)`` bool, is False for padding.
    """

    before: Tensor
    target: Tensor
    repeated: Tensor
    match_level: Tensor
    bar_ago: Tensor
    positions: Tensor
    is_step: Tensor

    @classmethod
    def of(cls, excerpts: Sequence[Excerpt]) -> Batch:
        """Excerpts as tensors, padded to the longest."""
        dtypes = {"before": torch.float32, "match_level": torch.long, "positions": torch.long}
        tensors = {}
        for name in Excerpt._fields:
            arrays = [torch.from_numpy(getattr(excerpt, name)) for excerpt in excerpts]
            tensors[name] = pad_sequence(arrays, batch_first=True).to(dtypes.get(name, torch.bool))
        lengths = torch.tensor([len(excerpt.before) for excerpt in excerpts])
        return cls(**tensors, is_step=torch.arange(int(lengths.max())) < lengths.unsqueeze(1))


class EncoderOutput(NamedTuple):
    """The style capsules of passages.

    Args:
        lengths: ``(b, s)`` in [0, 1), how present each style is.
        poses: ``(b, s, d)``, how it is done.
        attributes: ``(b, s, m)``, the ``ATTRIBUTES`` predicted from each pose, standardised.
    """

    lengths: Tensor
    poses: Tensor
    attributes: Tensor


class Condition(NamedTuple):
    """What the decoder reads besides notes.

    Args:
        styles: ``(b, s)`` weights that add up to one.
        poses: ``(b, s, d)``, or ``(b, t, s, d)`` where they change; zeros stand for none.
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
        self.primary = PrimaryCapsules(96, config.primary_types, config.primary_dim, kernel_size=1)
        self.styles = CapsuleLayer(
            config.primary_types,
            config.primary_dim,
            len(config.styles),
            config.pose_dim,
            routing=config.routing,
            iterations=config.iterations,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.attributes = nn.Linear(config.pose_dim, len(ATTRIBUTES))

    def forward(self, passages: Tensor) -> EncoderOutput:
        """Encode passages ``(b, passage_steps, 2 * e)``; silent beats are left out."""
        beat = self.config.steps_per_beat
        count = passages.shape[1] // beat
        hidden = F.relu(self.read(passages)).transpose(1, 2)
        hidden = F.relu(self.beats(self.dropout(hidden)))[:, :, :count].unsqueeze(2)  # (b, c, 1, n)
        children = self.primary.grid(hidden).squeeze(1)  # (b, n, types, dim)
        is_audible = passages.reshape(passages.shape[0], count, -1).any(dim=2)
        record = self.styles(children * is_audible[:, :, None, None])
        return EncoderOutput(record.activations, record.poses, self.attributes(record.poses))


class StepDecoder(nn.Module):
    """Remembers the steps before, and gives a probability to every set of the next."""

    def __init__(self, config: ComposerConfig) -> None:
        super().__init__()
        self.config = config
        sources = int(config.repeats) + int(config.has_bars)
        self.read = nn.Linear(2 * config.elements, config.frame_dim)
        self.read_sources = nn.ModuleList(
            nn.Linear(config.symbols, config.frame_dim, bias=False) for _ in range(sources)
        )
        self.match_level = nn.ModuleList(
            nn.Embedding(len(LENGTHS) + 1, config.hidden)
            for _ in range(config.parts * config.repeats)
        )
        self.positions = nn.ModuleList(
            nn.Embedding(count, config.hidden) for count in POSITION_SIZES * config.has_bars
        )
        for embedding in (*self.match_level, *self.positions):
            nn.init.normal_(embedding.weight, std=0.1)
        pose_dim = config.pose_dim if config.capsules else 0
        self.condition = nn.Linear(len(config.styles) * (1 + pose_dim) + 1, config.hidden)
        self.join = nn.Linear(config.frame_dim * (1 + sources), config.hidden)
        self.memory = nn.LSTM(config.hidden, config.hidden, batch_first=True)
        self.head = NoteSetHead(
            2 * config.hidden,
            pitches=config.elements,
            states=config.states,
            hidden=config.head,
            suggestions=1 + sources,
            dropout=config.dropout,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.input_dropout = nn.Dropout(config.input_dropout)

    def step(
        self, batch: Batch, condition: Condition, memory: Memory
    ) -> tuple[Tensor, Tensor, Memory]:
        """Read one step, as ``forward`` reads all.

        Args:
            batch: of one step, t = 1.
            condition: the poses are the same in all steps.
            memory: what the step before gave, at first zeros: twice ``(b, hidden)``.

        Returns:
            What `NoteSetHead.begin` gives for the step, and the memory after it.
        """
        hidden = self._read(batch, condition).squeeze(1)
        memory = torch.lstm_cell(hidden, memory, *self.memory.all_weights[0])
        start, bias = self.head.begin(
            torch.cat([memory[0], hidden], dim=1),
            allowed=self.possible(batch.before.squeeze(1)),
            suggested=self.suggested(batch).squeeze(1),
        )
        return start, bias, memory

    def _read(self, batch: Batch, condition: Condition) -> Tensor:
        """What the LSTM reads, ``(b, t, hidden)``."""
        read = [self.read(self.input_dropout(batch.before))]
        read += [
            layer(self.input_dropout(source.to(batch.before.dtype)))
            for layer, source in zip(self.read_sources, self._sources(batch), strict=True)
        ]
        hidden = self.join(F.relu(torch.cat(read, dim=2)))
        for part, embedding in enumerate(self.match_level):
            hidden = hidden + embedding(batch.match_level[:, :, part])
        for column, embedding in enumerate(self.positions):
            hidden = hidden + embedding(batch.positions[:, :, column])
        is_minor = condition.is_minor.to(condition.styles.dtype).unsqueeze(1)
        given = torch.cat([condition.styles, is_minor], dim=1).unsqueeze(1)
        if self.config.capsules:
            poses = condition.poses if condition.poses.ndim == 4 else condition.poses.unsqueeze(1)
            weighted = (poses * condition.styles[:, None, :, None]).flatten(2)
            given = torch.cat([given.expand(-1, weighted.shape[1], -1), weighted], dim=2)
        return F.relu(hidden + self.condition(given))

    def forward(self, batch: Batch, condition: Condition) -> Tensor:
        """Log probability of each step that is not padding, ``(steps,)``, piece after piece."""
        hidden = self._read(batch, condition)
        states, _ = self.memory(self.dropout(hidden))
        contexts = torch.cat([self.dropout(states), self.dropout(hidden)], dim=2)
        chosen = batch.is_step
        log_probs: Tensor = self.head(
            contexts[chosen],
            batch.target[chosen],
            allowed=self.possible(batch.before[chosen]),
            suggested=self.suggested(batch)[chosen],
        )
        return log_probs

    def sustained(self, before: Tensor) -> Tensor:
        """The sets ``(..., y)`` in which everything that sounded ``before`` continues."""
        sounded = before[..., 0::2] != 0
        if not self.config.has_onsets:
            return sounded
        return torch.stack([sounded, torch.zeros_like(sounded)], dim=-1).flatten(-2)

    def possible(self, before: Tensor) -> Tensor | None:
        """Possible symbols ``(..., y)``: only what sounded can be sustained; None for all."""
        if not self.config.has_onsets:
            return None
        sounded = before[..., 0::2] != 0
        return torch.stack([sounded, torch.ones_like(sounded)], dim=-1).flatten(-2)

    def suggested(self, batch: Batch) -> Tensor:
        """Sets suggested to the head in each step, ``(b, t, sources, y)``."""
        return torch.stack([self.sustained(batch.before), *self._sources(batch)], dim=2)

    def _sources(self, batch: Batch) -> list[Tensor]:
        sources = [batch.repeated] if self.config.repeats else []
        return [*sources, batch.bar_ago] if self.config.has_bars else sources


class ComposerNetwork(nn.Module):
    """Encoder and decoder, and the distribution of poses in each style.

    Args:
        config: sizes and choices.

    Attributes:
        pose_mean: ``(s, d)``, the mean pose of the training passages of each style.
        pose_spread: ``(s, d, d)``, a factor L of their covariance L Lᵀ.
        pose_directions: ``(s, 5, d)``, how poses change where one of the ``ATTRIBUTES`` is one
            standard deviation (within the style) higher and the others are the same.
    """

    pose_mean: Tensor
    pose_spread: Tensor
    pose_directions: Tensor

    def __init__(self, config: ComposerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CapsuleEncoder(config) if config.capsules else None
        self.decoder = StepDecoder(config)
        styles, dim = len(config.styles), config.pose_dim
        self.register_buffer("pose_mean", torch.zeros(styles, dim))
        self.register_buffer("pose_spread", torch.zeros(styles, dim, dim))
        self.register_buffer("pose_directions", torch.zeros(styles, len(ATTRIBUTES), dim))

    def forward(
        self, batch: Batch, condition: Condition, passages: Tensor | None = None
    ) -> tuple[Tensor, EncoderOutput | None]:
        """Score excerpts, with poses routed from passages where these are given.

        Args:
            batch: the excerpts.
            condition: its poses are multiplied with the routed ones: zeros hide them.
            passages: ``(b, passage_steps, 2 * e)``, without the steps that are scored or later
                ones.

        Returns:
            Log probability of each step that is not padding, and the capsules of the passages.
        """
        encoded = None
        if passages is not None and self.encoder is not None:
            encoded = self.encoder(passages)
            condition = condition._replace(poses=condition.poses * encoded.poses)
        log_probs: Tensor = self.decoder(batch, condition)
        return log_probs, encoded

    @classmethod
    def of(cls, exported: ExportedNetwork) -> ComposerNetwork:
        """The network of a `Composer` in PyTorch, in evaluation mode.

        Raises:
            CheckpointError: a weight is missing.
        """
        network = cls(exported.config)
        fill_model(network, exported.weights, source="The composer")
        return network.eval()

    @torch.no_grad()
    def encode(self, piece: Encoded) -> EncoderOutput:
        """The style capsules of the consecutive passages of a piece."""
        assert self.encoder is not None
        device = next(self.parameters()).device
        output: EncoderOutput = self.encoder(torch.from_numpy(piece.passages()).float().to(device))
        return output
