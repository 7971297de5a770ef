"""The ensemble's forward pass in NumPy: to import PyTorch takes longer than to hear a track.

From the same weights it gives what :class:`deepmusic.classifier.model.Ensemble` gives after
training, up to rounding; tests hold the two together. Axes: b segments, m mels, f bands, t frames,
p places (moments), i children, d their pose, o genres, h their pose. Feature maps are
``(channels, b, rows, columns)``: so a convolution is one product of its weights and the patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.texture_numpy import TEXTURE_SIZE, texture
from deepmusic.errors import ShapeError

ROUTING = frozenset({"dynamic", "uniform", "none"})
"""The routing methods that are known here; a model with another one is heard in PyTorch."""

Floats = NDArray[np.floating]  # float32 throughout
_SHORTEST = np.float32(1e-3)  # as in the model
_KERNELS = ((0, 1, 5, 2), (4, 5, 3, 1), (8, 9, 3, 1))  # layer, its batch norm, size, stride


class NumpyEnsemble:
    """The networks of a ensemble, ready to hear; safe to use from several threads.

    Args:
        config: with a routing that is in :data:`ROUTING`.
        weights: all arrays that :func:`weight_shapes` names, in these shapes.
    """

    def __init__(self, config: ClassifierConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        self.config = config
        self.weights = {
            # float32 as in the model, whatever the file holds; counters stay what they are
            name: np.asarray(array, np.float32 if array.dtype.kind == "f" else np.int64)
            for name, array in weights.items()
        }
        self._networks = [
            _Network(
                network,
                {
                    name.removeprefix(f"networks.{index}."): array
                    for name, array in self.weights.items()
                    if name.startswith(f"networks.{index}.")
                },
            )
            for index, network in enumerate(config.network_configs)
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        # what is derived from the weights is made again in the other process
        return NumpyEnsemble, (self.config, self.weights)

    def __call__(
        self, log_mel: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean log scores and mean lengths, both ``(b, o)``, of segments ``(b, m, t)``.

        Raises:
            ShapeError: segments of another shape.
        """
        n_mels = self.config.log_mel.n_mels
        if log_mel.ndim != 3 or log_mel.shape[1] != n_mels or log_mel.shape[2] < 96:
            raise ShapeError(
                f"segments have shape (batch, {n_mels}, 96 frames or more); got {log_mel.shape}"
            )
        image = _image(log_mel, n_mels // self.config.bands, self.config.frame_step)
        statistics = texture(log_mel) if self.config.texture_capsules else None
        heard = [network(image, statistics) for network in self._networks]
        return (
            np.mean([log_scores for log_scores, _ in heard], axis=0, dtype=np.float32),
            np.mean([lengths for _, lengths in heard], axis=0, dtype=np.float32),
        )


def weight_shapes(config: ClassifierConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array in the state of a ensemble with a routing of :data:`ROUTING`.

    They are those of ``Ensemble(config).state_dict()``.
    """
    return {
        f"networks.{index}.{name}": shape
        for index, network in enumerate(config.network_configs)
        for name, shape in _member_shapes(network).items()
    }


def _member_shapes(config: ClassifierConfig) -> dict[str, tuple[int, ...]]:
    genres, dim, out, channels = (
        len(config.genres),
        config.pose_dim,
        config.genre_dim,
        config.channels,
    )
    types, textures = config.position_types, config.texture_capsules
    rows = max((config.bands + 1) // 2 // 8, 1)  # of the stem's feature map
    shapes: dict[str, tuple[int, ...]] = {
        "image_mean": (config.bands,),
        "image_std": (config.bands,),
        "texture_mean": (TEXTURE_SIZE,),
        "texture_std": (TEXTURE_SIZE,),
    }
    if types:
        for (layer, norm, size, _), before, width in zip(
            _KERNELS, (1, *channels), channels, strict=False
        ):
            shapes[f"stem.{layer}.weight"] = (width, before, size, size)
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"stem.{norm}.{name}"] = (width,)
            shapes[f"stem.{norm}.num_batches_tracked"] = ()
    if config.routing == "none":
        wide = (channels[-1] * rows if types else 0) + (TEXTURE_SIZE if textures else 0)
        return shapes | {"linear.weight": (genres, wide), "linear.bias": (genres,)}
    if types:
        shapes["positions.conv.weight"] = (types * dim, channels[-1], rows, 1)
        shapes["positions.conv.bias"] = (types * dim,)
        shapes["genres.position_weight"] = (types, dim, genres, out)
    if textures:
        shapes["reader.weight"] = (textures * dim, TEXTURE_SIZE)
        shapes["reader.bias"] = (textures * dim,)
        shapes["genres.texture_weight"] = (textures, dim, genres, out)
    shapes["genres.bias"] = (genres, out)
    if config.reconstruction and types:  # trained beside the rest, and not used for hearing
        shapes["decoder.decode.0.weight"] = (64, genres * out)
        shapes["decoder.decode.0.bias"] = (64,)
        shapes["decoder.decode.2.weight"] = (config.bands * 16, 64)
        shapes["decoder.decode.2.bias"] = (config.bands * 16,)
    return shapes


class _Network:
    """One network: :class:`deepmusic.classifier.model.CapsuleClassifier` after training."""

    def __init__(self, config: ClassifierConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        self._config = config
        self._weights = weights
        self._stem = []
        for layer, norm, size, stride in _KERNELS if config.position_types else ():
            variance = weights[f"stem.{norm}.running_var"]
            # batch norm is folded into the convolution before it
            scale = weights[f"stem.{norm}.weight"] / np.sqrt(variance + np.float32(1e-5))
            bias = weights[f"stem.{norm}.bias"] - weights[f"stem.{norm}.running_mean"] * scale
            kernel = weights[f"stem.{layer}.weight"] * scale[:, None, None, None]
            self._stem.append((kernel, bias[:, None, None, None], stride, size // 2))

    def __call__(self, image: Floats, statistics: Floats | None) -> tuple[Floats, Floats]:
        """Log scores and lengths ``(b, o)`` of images ``(b, f, t)`` and textures ``(b, s)``."""
        weights = self._weights
        moments = self._moments(image) if self._stem else None
        if statistics is not None:
            deviations = (statistics - weights["texture_mean"]) / weights["texture_std"]
            statistics = np.clip(deviations, -8, 8)
        if self._config.routing == "none":
            return self._plain(moments, statistics)
        votes = []
        if moments is not None:
            votes.append(self._place_votes(moments))
        if statistics is not None:
            votes.append(self._texture_votes(statistics))
        passes = self._config.iterations if self._config.routing == "dynamic" else 1
        lengths = _routed(np.concatenate(votes, axis=2), passes, weights["genres.bias"])
        share = np.maximum(lengths, _SHORTEST)
        return np.log(share / share.sum(axis=1, keepdims=True)), lengths

    def _moments(self, image: Floats) -> Floats:
        """The stem's feature map ``(channels, b, rows, p)``."""
        mean, std = self._weights["image_mean"], self._weights["image_std"]
        features: Floats = ((image - mean[:, None]) / std[:, None])[None]  # (1, b, f, t)
        for kernel, bias, stride, padding in self._stem:
            features = _pooled(_convolved(features, kernel, stride, padding))
            features += bias  # the same for all that are pooled: to add it later is less work
            np.maximum(features, 0, out=features)
        return features

    def _plain(self, moments: Floats | None, statistics: Floats | None) -> tuple[Floats, Floats]:
        """Log scores and their exponentials, of a plain CNN."""
        seen = []
        if moments is not None:
            pooled = moments.mean(axis=3)  # (channels, b, rows)
            seen.append(pooled.transpose(1, 0, 2).reshape(pooled.shape[1], -1))
        if statistics is not None:
            seen.append(statistics)
        weights = self._weights
        logits = np.concatenate(seen, axis=1) @ weights["linear.weight"].T + weights["linear.bias"]
        logits -= logits.max(axis=1, keepdims=True)
        log_scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return log_scores, np.exp(log_scores)

    def _place_votes(self, moments: Floats) -> Floats:
        """``(b, o, p * i, h)``, already divided by the number of places."""
        weights = self._weights
        batch, places = moments.shape[1], moments.shape[3]
        weight = weights["genres.position_weight"]  # (i, d, o, h)
        types, dim, genres, out = weight.shape
        cast = _convolved(moments, weights["positions.conv.weight"], 1, 0)  # (i * d, b, 1, p)
        cast += weights["positions.conv.bias"][:, None, None, None]
        poses = _squash(cast.reshape(types, dim, -1).transpose(0, 2, 1))  # (i, b * p, d)
        votes = poses @ (weight.reshape(types, dim, -1) / np.float32(places))
        votes = votes.reshape(types, batch, places, genres, out)
        return votes.transpose(1, 3, 2, 0, 4).reshape(batch, genres, -1, out)

    def _texture_votes(self, statistics: Floats) -> Floats:
        """``(b, o, i, h)``."""
        weights = self._weights
        weight = weights["genres.texture_weight"]  # (i, d, o, h)
        textures, dim, genres, out = weight.shape
        read = np.maximum(statistics @ weights["reader.weight"].T + weights["reader.bias"], 0)
        poses = read.reshape(-1, textures, dim).transpose(1, 0, 2)  # (i, b, d)
        votes: Floats = poses @ weight.reshape(textures, dim, -1)  # (i, b, o * h)
        return votes.reshape(textures, -1, genres, out).transpose(1, 2, 0, 3)


def _image(log_mel: Floats, n_mels: int, frames: int) -> Floats:
    """Means of so many neighbouring mels and frames; frames at the end may be left out."""
    length = log_mel.shape[2] // frames * frames
    parts = [log_mel[:, m::n_mels, t:length:frames] for m in range(n_mels) for t in range(frames)]
    total: Floats = parts[0].copy()
    for part in parts[1:]:
        total += part
    total /= np.float32(len(parts))
    return total


def _convolved(features: Floats, kernel: Floats, stride: int, padding: int) -> Floats:
    """``(c, b, y, x)`` to ``(width, b, y, x)`` by a kernel ``(width, c, height, breadth)``."""
    width, channels, height, breadth = kernel.shape
    _, batch, rows, columns = features.shape
    padded = np.zeros((channels, batch, rows + 2 * padding, columns + 2 * padding), np.float32)
    padded[:, :, padding : padding + rows, padding : padding + columns] = features
    y = (rows + 2 * padding - height) // stride + 1
    x = (columns + 2 * padding - breadth) // stride + 1
    patches = np.empty((channels, height, breadth, batch, y, x), np.float32)
    for i, j in np.ndindex(height, breadth):
        patches[:, i, j] = padded[:, :, i::stride, j::stride][:, :, :y, :x]
    product: Floats = kernel.reshape(width, -1) @ patches.reshape(kernel[0].size, -1)
    return product.reshape(width, batch, y, x)


def _pooled(features: Floats) -> Floats:
    """The largest of every two by two; an odd row or column at the end is left out."""
    rows, columns = features.shape[2] // 2 * 2, features.shape[3] // 2 * 2
    pairs: Floats = np.maximum(features[:, :, 0:rows:2], features[:, :, 1:rows:2])
    pooled: Floats = np.maximum(pairs[..., 0:columns:2], pairs[..., 1:columns:2])
    return pooled


def _routed(votes: Floats, passes: int, bias: Floats) -> Floats:
    """Lengths ``(b, o)`` by dynamic routing of votes ``(b, o, i, h)`` (see deepmusic.capsules)."""
    logits = np.zeros(votes.shape[:3], np.float32)  # (b, o, i)
    for turn in range(passes):
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        coupling = shares / shares.sum(axis=1, keepdims=True)
        poses = _squash((coupling[:, :, None] @ votes)[:, :, 0] + bias)  # (b, o, h)
        if turn < passes - 1:
            logits += (votes @ poses[..., None])[..., 0]
    return _length(poses)


def _squash(pose: Floats) -> Floats:
    """Each pose ``(..., d)`` at length |s|²/(1+|s|²), safely at any length."""
    scale = np.maximum(np.abs(pose).max(axis=-1, keepdims=True), 1)
    scaled = pose / scale
    length = np.sqrt(np.square(scaled).sum(axis=-1, keepdims=True) + 1e-12 / scale / scale)
    squashed: Floats = scaled / length / (1 + (length * scale) ** -2)
    return squashed


def _length(pose: Floats) -> Floats:
    """Lengths ``(...)`` of squashed poses ``(..., d)``."""
    lengths: Floats = np.sqrt(np.square(pose).sum(axis=-1) + np.float32(1e-12))
    return lengths
