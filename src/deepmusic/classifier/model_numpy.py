"""The ensemble's forward pass in NumPy: importing PyTorch takes longer than classifying a track.

With the same weights it agrees with `deepmusic.classifier.model.Ensemble` in evaluation mode
up to rounding, which tests check. Axes: b segments, m mels, f bands, t frames, p positions in time,
i children, d their pose, o genres, h their pose. Feature maps are ``(channels, b, rows, columns)``,
so that a convolution is one product of its weights and the patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.errors import ShapeError

ROUTING = frozenset({"dynamic", "uniform", "none"})
"""The routing methods implemented here; models with others run in PyTorch."""

COEFFICIENTS = 20
"""Cepstral coefficients of the texture."""
BANDS = 32
"""Bands of its structure function."""
LAGS = (1, 2, 4, 8, 16, 32, 64)
"""Lags of the structure function, in frames: 23 ms to 1.5 s at the default hop."""
RANGE_DB = 80.0
"""Cells further below the loudest one count as this far below."""
TEXTURE_SIZE = 7 * COEFFICIENTS + COEFFICIENTS * (COEFFICIENTS - 1) // 2 + BANDS * len(LAGS)

Floats = NDArray[np.floating]  # float32 throughout
_MIN_LENGTH = np.float32(1e-3)  # as in the model
_KERNELS = ((0, 1, 5, 2), (4, 5, 3, 1), (8, 9, 3, 1))  # layer, its batch norm, size, stride
_LN_PER_DB = np.float32(np.log(10) / 10)


class NumpyEnsemble:
    """The networks of an ensemble, for inference; several threads may use it.

    Args:
        config: with a routing in `ROUTING`.
        weights: the state of `deepmusic.classifier.model.Ensemble`, as arrays.

    Raises:
        KeyError: a network or an array is missing.
    """

    def __init__(self, config: ClassifierConfig, weights: Mapping[str, NDArray[Any]]) -> None:
        self.config = config
        self.weights = {
            # float32 as in the model, whatever the file holds; counters stay integers
            name: np.asarray(array, np.float32 if array.dtype.kind == "f" else np.int64)
            for name, array in weights.items()
        }
        count = len({name.split(".")[1] for name in weights})
        if count != len(config.network_configs):
            raise KeyError(f"it has {count} networks, not {len(config.network_configs)}")
        own: list[dict[str, NDArray[Any]]] = [{} for _ in config.network_configs]
        for full_name, array in self.weights.items():
            _, index, name = full_name.split(".", 2)
            own[int(index)][name] = array
        self._networks = list(map(_Network, config.network_configs, own))

    def __reduce__(self) -> tuple[Any, ...]:
        # the other process derives the rest from the weights again
        return NumpyEnsemble, (self.config, self.weights)

    def __call__(
        self, log_mel: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean log scores and mean lengths, both ``(b, o)``, of segments ``(b, m, t)``.

        Raises:
            ShapeError: the segments have another shape.
        """
        n_mels = self.config.log_mel.n_mels
        if log_mel.ndim != 3 or log_mel.shape[1] != n_mels or log_mel.shape[2] < 96:
            raise ShapeError(
                f"segments have shape (batch, {n_mels}, 96 frames or more); got {log_mel.shape}"
            )
        image = _image(log_mel, n_mels // self.config.bands, self.config.frame_step)
        statistics = texture(log_mel) if self.config.texture_capsules else None
        outputs = [network(image, statistics) for network in self._networks]
        return (
            np.mean([log_scores for log_scores, _ in outputs], axis=0, dtype=np.float32),
            np.mean([lengths for _, lengths in outputs], axis=0, dtype=np.float32),
        )


class _Network:
    """One network: `deepmusic.classifier.model.CapsuleClassifier` after training."""

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
        feature_map = self._feature_map(image) if self._stem else None
        if statistics is not None:
            deviations = (statistics - weights["texture_mean"]) / weights["texture_std"]
            statistics = np.clip(deviations, -8, 8)
        if self._config.routing == "none":
            return self._plain(feature_map, statistics)
        votes = []
        if feature_map is not None:
            votes.append(self._position_votes(feature_map))
        if statistics is not None:
            votes.append(self._texture_votes(statistics))
        passes = self._config.iterations if self._config.routing == "dynamic" else 1
        lengths = _routed(np.concatenate(votes, axis=2), passes, weights["genres.bias"])
        share = np.maximum(lengths, _MIN_LENGTH)
        return np.log(share / share.sum(axis=1, keepdims=True)), lengths

    def _feature_map(self, image: Floats) -> Floats:
        """The stem's feature map ``(channels, b, rows, p)``."""
        mean, std = self._weights["image_mean"], self._weights["image_std"]
        features: Floats = ((image - mean[:, None]) / std[:, None])[None]  # (1, b, f, t)
        for kernel, bias, stride, padding in self._stem:
            features = _pooled(_convolved(features, kernel, stride, padding))
            features += bias  # pooling commutes with it, and leaves fewer values
            np.maximum(features, 0, out=features)
        return features

    def _plain(
        self, feature_map: Floats | None, statistics: Floats | None
    ) -> tuple[Floats, Floats]:
        """Log scores and their exponentials, of a plain CNN."""
        inputs = [] if statistics is None else [statistics]
        if feature_map is not None:
            pooled = feature_map.mean(axis=3)  # (channels, b, rows)
            inputs.insert(0, pooled.transpose(1, 0, 2).reshape(pooled.shape[1], -1))
        weights = self._weights
        logits = np.concatenate(inputs, axis=1) @ weights["linear.weight"].T
        logits += weights["linear.bias"]
        logits -= logits.max(axis=1, keepdims=True)
        log_scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return log_scores, np.exp(log_scores)

    def _position_votes(self, feature_map: Floats) -> Floats:
        """Votes ``(b, o, p * i, h)``, already divided by the number of positions."""
        weights = self._weights
        batch, positions = feature_map.shape[1], feature_map.shape[3]
        weight = weights["genres.position_weight"]  # (i, d, o, h)
        types, dim, genres, out = weight.shape
        cast = _convolved(feature_map, weights["positions.conv.weight"], 1, 0)  # (i * d, b, 1, p)
        cast += weights["positions.conv.bias"][:, None, None, None]
        poses = _squash(cast.reshape(types, dim, -1).transpose(0, 2, 1))  # (i, b * p, d)
        votes = poses @ (weight.reshape(types, dim, -1) / np.float32(positions))
        votes = votes.reshape(types, batch, positions, genres, out)
        return votes.transpose(1, 3, 2, 0, 4).reshape(batch, genres, -1, out)

    def _texture_votes(self, statistics: Floats) -> Floats:
        """Votes ``(b, o, i, h)``."""
        weights = self._weights
        weight = weights["genres.texture_weight"]  # (i, d, o, h)
        textures, dim, genres, out = weight.shape
        read = np.maximum(statistics @ weights["reader.weight"].T + weights["reader.bias"], 0)
        poses = read.reshape(-1, textures, dim).transpose(1, 0, 2)  # (i, b, d)
        votes: Floats = poses @ weight.reshape(textures, dim, -1)  # (i, b, o * h)
        return votes.reshape(textures, -1, genres, out).transpose(1, 2, 0, 3)


def _image(log_mel: Floats, n_mels: int, frames: int) -> Floats:
    """Means over ``n_mels`` mels by ``frames`` frames; a remainder of frames is dropped."""
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
    """Maxima of two by two cells; an odd row or column at the end is dropped."""
    rows, columns = features.shape[2] // 2 * 2, features.shape[3] // 2 * 2
    pairs: Floats = np.maximum(features[:, :, 0:rows:2], features[:, :, 1:rows:2])
    pooled: Floats = np.maximum(pairs[..., 0:columns:2], pairs[..., 1:columns:2])
    return pooled


def _routed(votes: Floats, passes: int, bias: Floats) -> Floats:
    """Lengths ``(b, o)`` by dynamic routing of votes ``(b, o, i, h)`` (see deepmusic.capsules)."""
    logits = np.zeros(votes.shape[:3], np.float32)  # (b, o, i)
    for iteration in range(passes):
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        coupling = shares / shares.sum(axis=1, keepdims=True)
        poses = _squash((coupling[:, :, None] @ votes)[:, :, 0] + bias)  # (b, o, h)
        if iteration < passes - 1:
            logits += (votes @ poses[..., None])[..., 0]
    return _length(poses)


def _squash(pose: Floats) -> Floats:
    """Each pose ``(..., d)`` scaled to length |s|²/(1+|s|²), without overflow."""
    scale = np.maximum(np.abs(pose).max(axis=-1, keepdims=True), 1)
    scaled = pose / scale
    length = np.sqrt(np.square(scaled).sum(axis=-1, keepdims=True) + 1e-12 / scale / scale)
    squashed: Floats = scaled / length / (1 + (length * scale) ** -2)
    return squashed


def _length(pose: Floats) -> Floats:
    """Lengths ``(...)`` of squashed poses ``(..., d)``."""
    lengths: Floats = np.sqrt(np.square(pose).sum(axis=-1) + np.float32(1e-12))
    return lengths


def texture(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The statistics of `deepmusic.classifier.model.texture`, up to rounding.

    Args:
        log_mel: ``(b, mels, frames)`` in dB; mels a multiple of 32, more than 64 frames.

    Returns:
        ``(b, 554)``, finite for any finite input.
    """
    batch, n_mels, frames = log_mel.shape
    level = log_mel - log_mel.max(axis=(1, 2), keepdims=True)
    np.maximum(level, -RANGE_DB, out=level)
    cepstrum = _dct(n_mels) @ level  # (b, c, t)
    mean = cepstrum.mean(axis=2)
    centred = cepstrum - mean[:, :, None]
    deviation = np.sqrt(np.square(centred).mean(axis=2) + np.float32(1e-4))
    scaled = centred / deviation[:, :, None]
    squared = np.square(scaled)
    correlation = scaled @ scaled.transpose(0, 2, 1) / np.float32(frames)  # (b, c, c)
    row, column = np.triu_indices(COEFFICIENTS, 1)
    power = np.exp(level * _LN_PER_DB).reshape(batch, BANDS, -1, frames).sum(axis=2)
    band_db = np.log(power + np.float32(1e-10)) / _LN_PER_DB  # (b, bands, t)
    changes = [
        np.log(np.maximum(np.abs(band_db[:, :, lag:] - band_db[:, :, :-lag]).mean(axis=2), 1e-3))
        for lag in LAGS
    ]
    middle = (frames - 1) // 2  # torch takes the lower of two middle values
    statistics = [
        mean,
        np.log(deviation),
        (squared * scaled).mean(axis=2),
        np.log(np.square(squared).mean(axis=2) + np.float32(1e-2)),
        cepstrum.max(axis=2),
        cepstrum.min(axis=2),
        np.partition(cepstrum, middle, axis=2)[:, :, middle],
        correlation[:, row, column],
        *changes,
    ]
    return np.concatenate(statistics, axis=1)


@lru_cache(maxsize=4)
def _dct(n_mels: int) -> NDArray[np.float32]:
    """The first rows of the orthonormal DCT-II, ``(coefficients, n_mels)``."""
    k = np.arange(COEFFICIENTS)[:, None]
    rows = np.cos(np.pi / n_mels * (np.arange(n_mels) + 0.5) * k) * np.sqrt(2 / n_mels)
    rows[0] /= np.sqrt(2)
    result: NDArray[np.float32] = rows.astype(np.float32)
    return result
