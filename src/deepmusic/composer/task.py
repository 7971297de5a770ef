"""What the training loop needs to train a composer: excerpts, passages, loss, validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepmusic.capsules import margin_loss
from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import (
    ATTRIBUTES,
    UNKNOWN_BARS_LEFT,
    Encoded,
    Excerpt,
    StyledPiece,
    measure_attributes,
)
from deepmusic.composer.likelihood import likelihood
from deepmusic.composer.model import Batch, ComposerNetwork, Condition

# shares of excerpts without a pose, and without knowing the number of bars left
_NO_POSE, _NO_BARS_LEFT = 0.25, 0.1
_MARGIN_WEIGHT, _ATTRIBUTE_WEIGHT = 0.2, 0.1
_RIDGE = 0.1


class _Item(NamedTuple):
    """One training item."""

    excerpt: Excerpt
    style: int
    is_minor: bool
    passage: NDArray[np.bool_]
    attributes: NDArray[np.float64]
    has_pose: bool


@dataclass(frozen=True)
class _Excerpts:
    """Training items: excerpts drawn anew in each epoch, pieces by their probability."""

    pieces: Sequence[StyledPiece]
    steps: int
    count: int
    seed: int
    max_shift: int
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int], /) -> _Item:
        random = np.random.default_rng([self.seed, *key])
        piece, style = self.pieces[random.choice(len(self.pieces), p=self.probabilities)]
        start = int(random.integers(max(len(piece) - self.steps, 0) + 1))
        stop = min(start + self.steps, len(piece))
        excerpt = piece.excerpt(start, stop)
        if random.random() < _NO_BARS_LEFT:
            excerpt.positions[:, 3] = UNKNOWN_BARS_LEFT
        excerpt = excerpt.transposed(piece.config, _random_shift(random, piece, self.max_shift))
        passage = piece.passage(_passage_start(random, piece, start, stop))
        has_pose = random.random() >= _NO_POSE
        attributes = measure_attributes(piece.config, passage)
        return _Item(excerpt, style, piece.is_minor, passage, attributes, has_pose)


def _random_shift(random: np.random.Generator, piece: Encoded, limit: int) -> int:
    """By how many semitones to transpose an excerpt so that its piece stays in the pitches."""
    config = piece.config
    pitch = piece.element % config.pitches
    lowest, highest = int(pitch.min(initial=config.pitches)), int(pitch.max(initial=0))
    low, high = max(-limit, -lowest), min(limit, config.pitches - 1 - highest)
    return int(random.integers(low, high + 1)) if limit and low <= high else 0


def _passage_start(random: np.random.Generator, piece: Encoded, start: int, stop: int) -> int:
    """Where a passage begins: beside the excerpt if the piece is long enough, else anywhere."""
    length, beat = piece.config.passage_steps, piece.config.steps_per_beat
    spans = [(0, start - length), (stop, len(piece) - length)]
    starts = [np.arange(first, last + 1, beat) for first, last in spans if last >= first]
    if not starts:
        starts = [np.arange(0, max(len(piece) - length, 0) + 1, beat)]
    return int(random.choice(np.concatenate(starts)))


class ComposerTask:
    """What ``deepmusic.training.fit`` needs to train a composer.

    Args:
        config: of the composer.
        train, validation: pieces with the indices of their styles.
        seed: of weights and excerpts.
        steps: of an excerpt.
        excerpts: per epoch; None takes as many as it takes to read every step about once.
        balance: 0 draws styles in proportion to their steps, 1 all equally often.
        shift: largest transposition of excerpts in semitones; 0 for music in one key.
        pose_noise: standard deviation of the noise on poses while training.
        metadata: saved with the weights, beside the configuration.
    """

    monitor = "nats_per_step"
    higher_is_better = False

    def __init__(
        self,
        config: ComposerConfig,
        train: Sequence[StyledPiece],
        validation: Sequence[StyledPiece],
        *,
        seed: int,
        steps: int = 256,
        excerpts: int | None = None,
        balance: float = 0.0,
        shift: int = 0,
        pose_noise: float = 0.1,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        lengths = np.array([max(len(piece), steps) for piece, _ in train], float)
        styles = np.array([style for _, style in train])
        totals = np.bincount(styles, weights=lengths, minlength=len(config.styles))
        weights = lengths * totals[styles] ** -balance
        count = excerpts or round(lengths.sum() / steps)
        self.config, self.pose_noise, self._validation = config, pose_noise, validation
        self._sample = train[:: -(-len(train) // max(len(validation), 1))]  # of every style
        self.dataset = _Excerpts(train, steps, count, seed, shift, weights / weights.sum())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model: nn.Module = ComposerNetwork(config)
        self._attribute_mean, self._attribute_scale = self._attribute_statistics()
        self.metadata: Mapping[str, Any] = {
            "config": config.to_dict(),
            "steps": steps,
            "balance": balance,
            "shift": shift,
            "pose_noise": pose_noise,
            **(metadata or {}),
        }

    def _attribute_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the attributes of training passages."""
        if not self.config.capsules:
            return torch.zeros(len(ATTRIBUTES)), torch.ones(len(ATTRIBUTES))
        pieces = self.dataset.pieces
        random = np.random.default_rng(self.dataset.seed)
        rows = []
        for index in random.choice(len(pieces), size=min(400, 2 * len(pieces))):
            piece = pieces[index].piece
            start = int(random.integers(max(len(piece) - self.config.passage_steps, 0) + 1))
            rows.append(measure_attributes(self.config, piece.passage(start)))
        table = torch.tensor(np.array(rows), dtype=torch.float32)
        return table.mean(dim=0), table.std(dim=0).clamp_min(1e-3)

    @staticmethod
    def collate(items: list[_Item]) -> tuple[Batch, Condition, Tensor, Tensor]:
        """Items as tensors: excerpts, their conditions, passages and the attributes of these."""
        styles = torch.tensor([item.style for item in items])
        is_minor = torch.tensor([item.is_minor for item in items])
        has_pose = torch.tensor([float(item.has_pose) for item in items])
        return (
            Batch.of([item.excerpt for item in items]),
            Condition(styles, has_pose, is_minor),
            torch.from_numpy(np.stack([item.passage for item in items])).float(),
            torch.from_numpy(np.stack([item.attributes for item in items])).float(),
        )

    def loss(
        self, model: nn.Module, batch: tuple[Batch, Condition, Tensor, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Mean nats per step, margin loss of the styles, and error of the predicted attributes."""
        excerpts, (styles, has_pose, is_minor), passages, attributes = batch
        config = self.config
        one_hot = nn.functional.one_hot(styles, len(config.styles)).to(excerpts.before.dtype)
        shape = (len(styles), len(config.styles), config.pose_dim)
        # noise bounds what a pose can leak about its piece
        noise = 1 + self.pose_noise * torch.randn(shape, device=styles.device)
        condition = Condition(one_hot, has_pose[:, None, None] * noise, is_minor)
        log_probs, encoded = model(excerpts, condition, passages if config.capsules else None)
        nats = -log_probs.mean()
        measures: dict[str, Tensor | float] = {"nats_per_step": nats.detach()}
        if encoded is None:
            return nats, measures
        margin = margin_loss(encoded.lengths, styles)
        predicted = encoded.attributes[torch.arange(len(styles)), styles]
        scale = self._attribute_scale.to(predicted)
        target = (attributes - self._attribute_mean.to(predicted)) / scale
        error = nn.functional.smooth_l1_loss(predicted, target)
        measures["accuracy"] = (encoded.lengths.argmax(dim=1) == styles).float().mean()
        measures["attribute_error"] = error.detach()
        return nats + _MARGIN_WEIGHT * margin + _ATTRIBUTE_WEIGHT * error, measures

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Nats per step of whole pieces without a pose, also by style, and ``train_`` likewise."""
        assert isinstance(model, ComposerNetwork)
        measures: dict[str, float] = {}
        for prefix, pieces in (("", self._validation), ("train_", self._sample)):
            by_style = likelihood(model, pieces).by_style(self.config.styles)
            measures[f"{prefix}nats_per_step"] = float(np.mean(list(by_style.values())))
            if len(self.config.styles) > 1:
                measures |= {f"{prefix}nats_per_step_{s}": nats for s, nats in by_style.items()}
        return measures


@torch.no_grad()
def fit_poses(model: ComposerNetwork, pieces: Sequence[StyledPiece]) -> None:
    """Set the distribution of poses in each style, and their directions by attribute.

    Args:
        model: put into evaluation mode, and its buffers filled.
        pieces: the training pieces; all their passages count.
    """
    model.eval()
    for style in {style for _, style in pieces}:
        chosen = [piece for piece, of in pieces if of == style]
        poses = torch.cat([model.encode(piece).poses[:, style] for piece in chosen]).double().cpu()
        passages = (frames for piece in chosen for frames in piece.passages())
        measured = np.array([measure_attributes(model.config, frames) for frames in passages])
        attributes = torch.from_numpy(measured)
        mean = poses.mean(dim=0)
        deviation = poses - mean
        count = max(len(poses) - 1, 1)
        ridge = 1e-6 * torch.eye(len(mean), dtype=torch.float64)
        model.pose_mean[style] = mean.float()
        covariance = deviation.T @ deviation / count + ridge
        model.pose_spread[style] = torch.linalg.cholesky(covariance).float()
        scaled = attributes - attributes.mean(dim=0)
        scaled = scaled / (scaled.square().sum(dim=0) / count).sqrt().clamp_min(1e-6)
        # attributes correlate: the ridge keeps inseparable ones from being blown up
        among = scaled.T @ scaled / count + _RIDGE * torch.eye(len(ATTRIBUTES), dtype=torch.float64)
        directions = torch.linalg.solve(among, scaled.T @ deviation / count)
        model.pose_directions[style] = directions.float()
