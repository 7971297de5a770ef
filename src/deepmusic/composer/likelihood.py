"""The exact likelihood of whole pieces under a composer, with or without poses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from deepmusic.composer.encoding import Encoded, StyledPiece
from deepmusic.composer.model import Batch, ComposerNetwork, Condition

_BATCH = 16  # pieces scored together


class Likelihood(NamedTuple):
    """The likelihood of pieces.

    Args:
        nats: ``(pieces,)``, minus the log probability of each.
        steps: ``(pieces,)``.
        styles: ``(pieces,)``.
    """

    nats: NDArray[np.float64]
    steps: NDArray[np.int64]
    styles: NDArray[np.int64]

    def of(self, style: int | None) -> float:
        """Nats per step over all steps of a style, or of all."""
        chosen = slice(None) if style is None else self.styles == style
        return float(self.nats[chosen].sum() / max(self.steps[chosen].sum(), 1))

    def by_style(self, names: Sequence[str]) -> dict[str, float]:
        """Nats per step of each style that has pieces."""
        present = set(self.styles.tolist())
        return {name: self.of(style) for style, name in enumerate(names) if style in present}


@torch.no_grad()
def likelihood(
    model: ComposerNetwork,
    pieces: Sequence[StyledPiece],
    *,
    poses: Sequence[Tensor] | None = None,
) -> Likelihood:
    """Score whole pieces, exactly.

    Args:
        model: in evaluation mode.
        pieces: with the indices of their styles.
        poses: for each piece ``(s, d)``, or ``(steps, s, d)``; None scores without a pose.
    """
    config = model.config
    device = next(model.parameters()).device
    steps = np.array([len(piece) for piece, _ in pieces], np.int64)
    nats = np.zeros(len(pieces))
    order = [index for index in np.argsort(steps, kind="stable").tolist() if steps[index]]
    for first in range(0, len(order), _BATCH):
        chosen = order[first : first + _BATCH]
        batch = Batch.of([pieces[i].piece.excerpt(0, len(pieces[i].piece)) for i in chosen])
        given = torch.zeros(len(chosen), 1, len(config.styles), config.pose_dim)
        if poses is not None:
            given = torch.stack([_per_step(poses[i], batch.before.shape[1]) for i in chosen])
        styles = torch.tensor([pieces[i].style for i in chosen])
        condition = Condition(
            F.one_hot(styles, len(config.styles)).float().to(device),
            given.to(device),
            torch.tensor([pieces[i].piece.is_minor for i in chosen], device=device),
        )
        batch = Batch(*(tensor.to(device) for tensor in batch))
        log_probs, _ = model(batch, condition)
        totals = torch.zeros(len(chosen), dtype=torch.float64, device=device)
        piece_of = batch.is_step.nonzero()[:, 0]
        nats[chosen] = -totals.index_add(0, piece_of, log_probs.double()).cpu().numpy()
    return Likelihood(nats, steps, np.array([style for _, style in pieces], np.int64))


def _per_step(pose: Tensor, steps: int) -> Tensor:
    """A pose for each step, ``(steps, s, d)``; the last is repeated."""
    pose = pose.unsqueeze(0) if pose.ndim == 2 else pose
    return torch.cat([pose[:steps], pose[-1:].expand(max(steps - len(pose), 0), -1, -1)])


@torch.no_grad()
def poses_before(model: ComposerNetwork, piece: Encoded, *, hop: int) -> Tensor:
    """The causal capsule memory: poses ``(steps, s, d)`` routed from the past alone.

    The pose of a step is routed from the passage that ends where the step's hop begins, and is
    zero in the first hop. Steps of one hop share a pose.

    Args:
        model: in evaluation mode.
        piece: the music.
        hop: steps after which the past is routed again, such as a bar.
    """
    assert model.encoder is not None
    config = model.config
    device = next(model.parameters()).device
    poses = torch.zeros(1, len(config.styles), config.pose_dim)
    ends = range(hop, len(piece), hop)
    if ends:
        passages = np.stack([piece.passage(end - config.passage_steps) for end in ends])
        encoded = model.encoder(torch.from_numpy(passages).float().to(device))
        poses = torch.cat([poses, encoded.poses.cpu()])
    return poses.repeat_interleave(hop, dim=0)[: len(piece)]
