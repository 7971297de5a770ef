r"""The capsules over the ear: patches of a whole track are routed to genre capsules.

::

    features of each patch          -> patch capsules \
                                                        > routing -> genre capsules -> scores
    their mean and spread over time -> track capsules /

Axes: k heads, b tracks, n patches, f features, i children, d their pose, o genres, h their pose.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from deepmusic.capsules import ROUTING, squash
from deepmusic.classifier.ear.config import HeadConfig
from deepmusic.classifier.ear.patches import TAGS
from deepmusic.training.onnx_graph import export_graph

_LIMIT = 8.0  # standard deviations: only broken sound lies beyond, and it must not dominate


class EarHead(nn.Module):
    """Capsules over the features of the ear (see the figure above), several heads averaged.

    Means and deviations of its input are buffers, set by `fit_scales`.
    """

    patch_mean: Tensor
    patch_std: Tensor
    track_mean: Tensor
    track_std: Tensor
    spread_mean: Tensor
    spread_std: Tensor
    tag_groups: Tensor
    tag_offset: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        k, genres, dim, out = config.heads, len(config.genres), config.pose_dim, config.genre_dim
        for name in ("patch", "track", "spread"):
            self.register_buffer(f"{name}_mean", torch.zeros(config.features))
            self.register_buffer(f"{name}_std", torch.ones(config.features))
        self.dropout = nn.Dropout(config.dropout)
        if config.routing == "none":
            self.linear = _Layers(k, 2 * config.features, genres)
        else:
            self.track = _Layers(k, 2 * config.features, config.track_capsules * dim)
            self.track_weight = _vote_weight(k, config.track_capsules, dim, genres, out)
            if config.patch_capsules:
                self.patch = _Layers(k, config.features, config.patch_capsules * dim)
                self.patch_weight = _vote_weight(k, config.patch_capsules, dim, genres, out)
            self.bias = nn.Parameter(0.02 * torch.randn(k, genres, out))
            self.read = _Layers(k, out, 1)
        if config.tags:
            self.register_buffer("tag_groups", _groups(config.tags))
            self.register_buffer("tag_offset", torch.tensor(config.tag_offsets))
            self.tag_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: Tensor, tag_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log scores and lengths of the genre capsules, means over the heads, ``(b, o)``.

        Lengths lie in [0, 1) and need not sum to 1: several genres can be present, or none.

        Args:
            features: ``(b, n, 256)`` of the patches of a track, from the ear.
            tag_logits: ``(b, n, 50)``, likewise; read by heads with tags alone.
        """
        logits, lengths = self.heads(features, tag_logits)
        return logits.log_softmax(dim=-1).mean(dim=0), lengths.mean(dim=0)

    def heads(self, features: Tensor, tag_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and lengths of each head, ``(k, b, o)``."""
        config, batch = self.config, features.shape[0]
        mean, spread = features.mean(dim=1), features.std(dim=1, correction=0)
        whole = torch.cat(
            [
                (mean - self.track_mean) / self.track_std,
                (spread - self.spread_mean) / self.spread_std,
            ],
            dim=1,
        )
        whole = self._dropped(whole)  # (k, b, 2f)
        if config.routing == "none":
            logits = self.linear(whole)
            lengths = logits.softmax(dim=-1)
        else:
            votes = [_votes(self.track(whole), self.track_weight)]
            if config.patch_capsules:
                scaled = self._dropped((features - self.patch_mean) / self.patch_std)
                cast = _votes(self.patch(scaled), self.patch_weight)  # (k, b, n, i, o, h)
                # the mean over patches: a longer track does not outvote the track capsules
                votes.append((cast / features.shape[1]).flatten(2, 3))
            joined = torch.cat(votes, dim=2).flatten(0, 1)  # (k*b, i, o, h)
            bias = self.bias.unsqueeze(1).expand(-1, batch, -1, -1).flatten(0, 1)
            route = ROUTING[config.routing].route
            record = route(joined, config.iterations, bias=bias)
            poses = record.poses.reshape(config.heads, batch, *record.poses.shape[1:])
            logits = self.read(poses.flatten(1, 2)).reshape(config.heads, batch, -1)
            lengths = record.activations.reshape(config.heads, batch, -1)
            if config.routing == "inverted_attention":  # its layer norm makes them all equal
                lengths = logits.sigmoid()
        if config.tags:
            logits = logits + self.tag_scale * self.evidence(tag_logits)
            lengths = logits.sigmoid()  # how far the tags lie above what is common
        return logits, lengths

    def evidence(self, tag_logits: Tensor) -> Tensor:
        """What the ear's tags alone say for each genre, ``(b, o)``.

        The logarithm of the sum of the mean probabilities of the genre's tags, less its offset.
        """
        present = tag_logits.sigmoid().mean(dim=1) @ self.tag_groups
        return (present + 1e-9).log() - self.tag_offset

    def _dropped(self, scaled: Tensor) -> Tensor:
        """Scaled features once for each head, with dropout of its own."""
        scaled = scaled.clamp(-_LIMIT, _LIMIT).unsqueeze(0)
        dropped: Tensor = self.dropout(scaled.expand(self.config.heads, *scaled.shape[1:]))
        return dropped

    @torch.no_grad()
    def fit_scales(self, features: Tensor) -> None:
        """Set means and deviations from the features ``(b, n, 256)`` of training tracks."""
        over_time = features.mean(dim=1), features.std(dim=1, correction=0)
        for name, values in zip(
            ("patch", "track", "spread"), (features.flatten(0, 1), *over_time), strict=True
        ):
            getattr(self, f"{name}_mean").copy_(values.mean(dim=0))
            getattr(self, f"{name}_std").copy_(values.std(dim=0, correction=0).clamp_min(1e-3))


class _Layers(nn.Module):
    """One linear layer for each head, on inputs with the heads as first axis."""

    def __init__(self, heads: int, before: int, after: int) -> None:
        super().__init__()
        bound = before**-0.5
        self.weight = nn.Parameter(torch.empty(heads, before, after).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, 1, after).uniform_(-bound, bound))

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer of each head to ``(k, ..., before)``."""
        heads, *middle, size = inputs.shape
        product = inputs.reshape(heads, -1, size) @ self.weight + self.bias
        return product.reshape(heads, *middle, self.weight.shape[2])


def _vote_weight(heads: int, children: int, dim: int, genres: int, out: int) -> nn.Parameter:
    std = genres / (children * out) ** 0.5 / 2
    return nn.Parameter(torch.randn(heads, children, dim, genres, out) * std)


def _votes(read: Tensor, weight: Tensor) -> Tensor:
    """Votes ``(k, ..., i, o, h)`` of children read from ``(k, ..., i*d)``."""
    children = squash(read.reshape(*read.shape[:-1], *weight.shape[1:3]))
    return torch.einsum("k...id,kidoh->k...ioh", children, weight)


def _groups(tags: tuple[tuple[str, ...], ...]) -> Tensor:
    """``(50, o)``, one where a tag speaks for a genre."""
    return torch.tensor([[float(tag in group) for group in tags] for tag in TAGS])


@lru_cache(maxsize=8)
def head_graph(config: HeadConfig) -> bytes:
    """The graph of a head, without weights."""
    return export_graph(
        EarHead(config).eval(),
        (torch.zeros(2, 3, config.features), torch.zeros(2, 3, len(TAGS))),
        inputs=["features", "tag_logits"],
        outputs=["log_scores", "lengths"],
        varying=[{0: "tracks", 1: "patches"}] * 2,
    )
