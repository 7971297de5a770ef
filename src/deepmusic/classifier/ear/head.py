r"""The capsules over the ear: patches of a whole track are routed to genre capsules.

::

    features of each patch          -> patch capsules \
                                                        > routing -> genre capsules -> scores
    their mean and spread over time -> track capsules /
    (broad set: the ear's tags      -> where each genre capsule starts)

Axes: b tracks, n patches, i children, d their pose, o genres, h their pose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deepmusic.capsules import ROUTING, squash
from deepmusic.classifier.ear.patches import FEATURES


@dataclass(frozen=True)
class HeadConfig:
    genres: tuple[str, ...]
    patch_capsules: int = 4
    track_capsules: int = 48
    pose_dim: int = 8
    genre_dim: int = 16
    routing: str = "self_attention"
    dropout: float = 0.5
    hidden: int = 0


class HeadOutput(NamedTuple):
    logits: Tensor
    lengths: Tensor
    poses: Tensor
    coupling: Tensor


class EarHead(nn.Module):
    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("std", torch.ones(FEATURES))
        self.register_buffer("spread_mean", torch.zeros(FEATURES))
        self.register_buffer("spread_std", torch.ones(FEATURES))
        self.register_buffer("tmean_std", torch.ones(FEATURES))
        self.dropout = nn.Dropout(c.dropout)
        self.patch = (
            nn.Linear(FEATURES, c.patch_capsules * c.pose_dim) if c.patch_capsules else None
        )
        self.track = nn.Linear(2 * FEATURES, c.track_capsules * c.pose_dim)
        g, h, d = len(c.genres), c.genre_dim, c.pose_dim

        def weight(n):
            return nn.Parameter(torch.randn(n, d, g, h) * (0.5 * g / (n * h) ** 0.5))

        if c.patch_capsules:
            self.patch_weight = weight(c.patch_capsules)
        self.track_weight = weight(c.track_capsules)
        self.bias = nn.Parameter(0.02 * torch.randn(g, h))
        self.read = nn.Linear(h, 1)

    def forward(self, features: Tensor) -> HeadOutput:
        b, n, _ = features.shape
        c = self.config
        scaled = (features - self.mean) / self.std
        mean = (features.mean(1) - self.mean) / self.tmean_std
        std = (features.std(1, correction=0) - self.spread_mean) / self.spread_std
        children, votes = [], []
        if self.patch is not None:
            p = squash(self.patch(self.dropout(scaled.clamp(-8, 8))).reshape(b, n, -1, c.pose_dim))
            votes.append((torch.einsum("bnid,idoh->bnioh", p, self.patch_weight) / n).flatten(1, 2))
        pooled = torch.cat([mean, std], 1).clamp(-8, 8)
        t = squash(self.track(self.dropout(pooled)).reshape(b, -1, c.pose_dim))
        votes.append(torch.einsum("bid,idoh->bioh", t, self.track_weight))
        record = ROUTING[c.routing].route(torch.cat(votes, 1), 3, bias=self.bias)
        return HeadOutput(
            self.read(record.poses).squeeze(-1), record.activations, record.poses, record.coupling
        )

    @torch.no_grad()
    def fit_scales(self, features: Tensor) -> None:
        self.mean.copy_(features.mean((0, 1)))
        self.std.copy_(features.std((0, 1)).clamp_min(1e-3))
        self.tmean_std.copy_(features.mean(1).std(0).clamp_min(1e-3))
        s = features.std(1, correction=0)
        self.spread_mean.copy_(s.mean(0))
        self.spread_std.copy_(s.std(0).clamp_min(1e-3))
