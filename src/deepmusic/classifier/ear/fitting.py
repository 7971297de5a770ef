"""Fits the capsules over the ear to features of tracks; takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from deepmusic.classifier.ear.config import HeadConfig
from deepmusic.classifier.ear.head import EarHead
from deepmusic.classifier.ear.patches import FEATURES, TAGS, EarOutput
from deepmusic.errors import ShapeError

PATCHES = 10
"""Patches per track in training; more are thinned out, fewer are repeated."""


@dataclass(frozen=True)
class FitOptions:
    """Settings of a fit."""

    epochs: int = 15
    batch_size: int = 32
    learning_rate: float = 1e-3  # the highest of one cycle
    weight_decay: float = 0.01
    seed: int = 0


Anchor = Callable[[EarHead, Tensor, Tensor], Tensor]
"""A further loss of the head, from the features and tag logits of a batch."""


def stacked(tracks: Sequence[EarOutput], size: int = FEATURES) -> tuple[Tensor, Tensor]:
    """Features ``(b, n, size)`` and tag logits ``(b, n, 50)`` of tracks of any length.

    There are ten patches of each, or one where no track has more.

    Raises:
        ShapeError: a track has no patch, or arrays of another shape.
    """
    features, logits = [], []
    count = PATCHES if max(len(one) for one, _ in tracks) > 1 else 1
    for one, tags in tracks:
        if one.shape != (len(one), size) or tags.shape != (len(one), len(TAGS)) or not len(one):
            raise ShapeError(
                f"a track has features (n, {size}) and tags (n, {len(TAGS)}), n at least 1; "
                f"got {one.shape} and {tags.shape}"
            )
        # repeated in equal shares, so that means hardly change
        chosen = np.linspace(0, len(one) - 1, count).round().astype(int)
        features.append(one[chosen])
        logits.append(tags[chosen])
    return torch.from_numpy(np.stack(features)), torch.from_numpy(np.stack(logits))


def fit_head(
    tracks: Sequence[EarOutput],
    targets: NDArray[np.floating],
    config: HeadConfig,
    options: FitOptions | None = None,
    *,
    anchor: Anchor | None = None,
) -> EarHead:
    """Fit a head to tracks with known genres.

    A random half of the patches of each track is seen at a time. The loss is the negative logarithm
    of the probability of all genres that a track may have.

    Args:
        tracks: what the ear gave for each.
        targets: ``(tracks, genres)``, one where a track may have the genre, else zero.
        config: of the head.
        options: settings of the fit.
        anchor: a further loss.

    Returns:
        The head in evaluation mode.
    """
    options = options or FitOptions()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(options.seed)
        features, tags = stacked(tracks, config.features)
        wanted = torch.as_tensor(np.asarray(targets, np.float32))
        patches = features.shape[1]
        head = EarHead(config)
        head.fit_scales(features)
        optimizer = torch.optim.AdamW(
            head.parameters(), options.learning_rate, weight_decay=options.weight_decay
        )
        steps = -(-len(features) // options.batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, options.learning_rate, total_steps=steps * options.epochs
        )
        for _ in range(options.epochs):
            for batch in torch.randperm(len(features)).split(options.batch_size):  # type: ignore[no-untyped-call]
                order = torch.rand(len(batch), patches).argsort(dim=1)
                half = order[:, : -(-patches // 2), None]
                seen = features[batch].gather(1, half.expand(-1, -1, config.features))
                tags_seen = tags[batch].gather(1, half.expand(-1, -1, len(TAGS)))
                logits, _ = head.heads(seen, tags_seen)
                share = (logits.log_softmax(dim=-1) + wanted[batch].log()).logsumexp(dim=-1)
                loss = -share.mean()
                if anchor is not None:
                    loss = loss + anchor(head, features[batch], tags[batch])
                optimizer.zero_grad()
                # heads learn independently: the mean over them must not shrink their steps
                (loss * config.heads).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return head.eval()


def predict_log_scores(head: EarHead, tracks: Sequence[EarOutput]) -> NDArray[np.float32]:
    """Log scores ``(tracks, genres)``."""
    with torch.inference_mode():
        log_scores: NDArray[np.float32] = head(*stacked(tracks, head.config.features))[0].numpy()
        return log_scores


def made_anchor(
    tag_weight: NDArray[np.float32], tag_bias: NDArray[np.float32], *, weight: float, seed: int
) -> Anchor:
    """A loss that keeps a head near the ear's tags on features that no labelled track has.

    Labels know few genres, and a head that learns from them alone forgets the others. Features are
    made by moving those of real tracks towards the tags of a random genre, or mixing them; the last
    layer of the ear gives their tags exactly.
    """
    layer, bias = torch.from_numpy(tag_weight), torch.from_numpy(tag_bias)
    random = torch.Generator().manual_seed(seed)

    def loss(head: EarHead, features: Tensor, _: Tensor) -> Tensor:
        count = len(features)
        groups = head.tag_groups / head.tag_groups.sum(dim=0)
        directions = groups.T @ layer - layer.mean(dim=0)  # (o, f)
        genre = torch.randint(len(directions), (count,), generator=random)
        towards = directions[genre] / directions[genre].square().sum(dim=1, keepdim=True)
        moved = features + (8 * torch.rand(count, 1, generator=random) * towards).unsqueeze(1)
        share = torch.rand(count, 1, 1, generator=random)
        other = moved[torch.randperm(count, generator=random)]
        made = torch.where(share < 0.5, moved, share * moved + (1 - share) * other)
        tags = made @ layer.T + bias
        taught = head.evidence(tags).detach().softmax(dim=-1)
        logits, _ = head.heads(made, tags)
        return -weight * (taught * F.log_softmax(logits, dim=-1)).sum(dim=-1).mean()

    return loss
