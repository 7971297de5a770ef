"""What the capsule classifier brings to the training loop: segments, loss, validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from deepmusic.audio import segment_batches
from deepmusic.capsules import coupling_entropy, dead_share, margin_loss, reconstruction_loss
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.model import CapsuleClassifier, ImageNetwork, NetworkOutput, Views, views
from deepmusic.classifier.texture import texture

_AT_ONCE = 64  # segments that are heard together
_TEXTURE_HOP_S = 1.0  # between the segments whose textures are learned from

Textures = Sequence[NDArray[np.float32]]
"""Of each track, ``(n, s)``: the textures of some of its segments."""


@dataclass(frozen=True)
class Augmentation:
    """How segments are varied in training.

    Args:
        gain_db: loudness changes by up to so much either way.
        mask_share: one block of bands and one of frames, each up to this share, is hidden from
            the stem (SpecAugment, Park et al. 2019).
        mixup: parameter of the Beta law by which pairs of segments and their labels are mixed
            (Zhang et al. 2018); 0 mixes none.
    """

    gain_db: float = 6.0
    mask_share: float = 0.25
    mixup: float = 1.0


class Segments:
    """Training items: one segment a track and epoch, cut at a place drawn anew each epoch."""

    def __init__(
        self,
        spectrograms: Sequence[NDArray[np.float16]],
        labels: Sequence[int],
        *,
        frames: int,
        seed: int,
        gain_db: float,
    ) -> None:
        self._spectrograms, self._labels = spectrograms, labels
        self._frames, self._seed, self._gain_db = frames, seed, gain_db

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, key: tuple[int, int], /) -> tuple[Tensor, int]:
        epoch, index = key
        random = np.random.default_rng([self._seed, epoch, index])
        whole = self._spectrograms[index]
        start = int(random.integers(whole.shape[1] - self._frames + 1))
        segment = whole[:, start : start + self._frames].astype(np.float32)
        segment += np.float32(random.uniform(-self._gain_db, self._gain_db))
        return torch.from_numpy(segment), int(self._labels[index])


class SegmentTextures:
    """Training items of a network that reads textures alone: those of a segment drawn anew.

    Textures are blind to loudness, so no gain is drawn.
    """

    def __init__(self, textures: Textures, labels: Sequence[int], *, seed: int) -> None:
        self._textures, self._labels, self._seed = textures, labels, seed

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, key: tuple[int, int], /) -> tuple[Tensor, int]:
        epoch, index = key
        random = np.random.default_rng([self._seed, epoch, index])
        rows = self._textures[index]
        return torch.from_numpy(rows[int(random.integers(len(rows)))]), int(self._labels[index])


class ClassifierTask:
    """One network of the ensemble, as :func:`deepmusic.training.fit` trains it.

    Args:
        config: of the network.
        train, validation: spectrograms ``(n_mels, frames)`` and labels.
        seed: of the weights, the segments and the augmentation.
        augmentation: how segments are varied.
        metadata: what is saved beside the weights, besides the configuration.
        textures: what :func:`segment_textures` gives of each track of both sides, for a network
            that reads textures alone; None computes them, which several such networks need only
            once.
        network: makes the network of its configuration.
    """

    monitor = "loss"
    higher_is_better = False

    def __init__(
        self,
        config: ClassifierConfig,
        train: tuple[Sequence[NDArray[np.float16]], Sequence[int]],
        validation: tuple[Sequence[NDArray[np.float16]], Sequence[int]],
        *,
        seed: int,
        augmentation: Augmentation | None = None,
        metadata: Mapping[str, Any] | None = None,
        textures: tuple[Textures, Textures] | None = None,
        network: Callable[[ClassifierConfig], ImageNetwork] = CapsuleClassifier,
    ) -> None:
        self.config = config
        self.augmentation = augmentation or Augmentation()
        self.metadata = {**(metadata or {}), "classifier": config.to_dict()}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model: nn.Module = network(config)
        self.dataset: Segments | SegmentTextures
        if config.position_types:
            self.dataset = Segments(
                *train,
                frames=config.segment_frames,
                seed=seed,
                gain_db=self.augmentation.gain_db,
            )
            self._fit_scales([views(self._cut(whole), config) for whole in train[0]])
        else:
            learned, judged = textures or (
                [segment_textures(whole, config) for whole in side[0]]
                for side in (train, validation)
            )
            self.dataset = SegmentTextures(learned, train[1], seed=seed)
            self._fit_scales([self._seen(torch.from_numpy(rows)) for rows in learned])
        # cut and pooled once: every epoch validates on the same segments, which do not overlap
        if config.position_types:
            self._heard = [views(segments, config) for segments in map(self._cut, validation[0])]
        else:
            apart = math.ceil(config.segment_frames / _texture_hop(config))
            self._heard = [self._seen(torch.from_numpy(rows[::apart].copy())) for rows in judged]
        self._labels = torch.tensor(list(validation[1]))

    @staticmethod
    def collate(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """Segments ``(b, mels, frames)``, or their textures ``(b, s)``, and labels ``(b,)``."""
        segments, labels = zip(*items, strict=True)
        return torch.stack(segments), torch.tensor(labels)

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Margin loss (cross-entropy for the plain CNN) and the masked reconstruction."""
        segments, labels = batch
        network = self._network()
        seen = self._seen(segments)
        whole = seen.image
        targets = F.one_hot(labels, len(self.config.genres)).to(segments.dtype)
        seen, targets = _mixed(seen, targets, self.augmentation.mixup)
        if self.config.position_types:
            masked = _masked(seen.image, network.image_mean, self.augmentation.mask_share)
            seen = Views(masked, seen.texture)
        heard = model(seen, rebuild=labels if self.config.position_types else None)
        loss = self.genre_loss(heard, targets)
        with torch.no_grad():
            right = heard.log_scores.argmax(dim=1) == targets.argmax(dim=1)
            measures: dict[str, Tensor | float] = {"accuracy": right.float().mean()}
            if heard.coupling is not None:
                measures["coupling_entropy"] = coupling_entropy(heard.coupling).mean()
                measures["dead_capsules"] = dead_share(heard.children).mean()
        if heard.rebuilt is not None:
            # the whole image, unmixed and unmasked: the capsule says what the genre sounds like
            error = reconstruction_loss(heard.rebuilt, network.sketch(whole))
            loss = loss + self.config.reconstruction * error
        return loss, measures

    def genre_loss(self, heard: NetworkOutput, targets: Tensor) -> Tensor:
        """How far from the genres' shares ``(b, genres)`` is what was heard; a scalar."""
        if heard.poses is None:
            return -(targets * heard.log_scores).sum(dim=1).mean()
        return margin_loss(heard.lengths, targets)

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Loss (cross-entropy of the track scores) and accuracy on the validation tracks."""
        scores = self.validation_scores(model)
        labels = self._labels
        return {
            "loss": float(F.nll_loss(scores.log_softmax(dim=1), labels)),
            "accuracy": float((scores.argmax(dim=1) == labels).float().mean()),
        }

    @torch.no_grad()
    def validation_scores(self, model: nn.Module) -> Tensor:
        """Track scores ``(tracks, genres)`` of the validation tracks."""
        device = next(model.parameters()).device
        counts = [len(seen.image) for seen in self._heard]
        image = torch.cat([seen.image for seen in self._heard])
        statistics = torch.cat([seen.texture for seen in self._heard])
        scores = torch.cat(
            [
                model(
                    Views(
                        image[i : i + _AT_ONCE].to(device), statistics[i : i + _AT_ONCE].to(device)
                    )
                ).log_scores.cpu()
                for i in range(0, len(image), _AT_ONCE)
            ]
        )
        return torch.stack([track_scores(part) for part in torch.split(scores, counts)])

    def _network(self) -> ImageNetwork:
        assert isinstance(self.model, ImageNetwork)
        return self.model

    def _seen(self, segments: Tensor) -> Views:
        """What the network sees of a batch of the data set."""
        if self.config.position_types:
            return views(segments, self.config)
        return Views(segments.new_zeros(len(segments), self.config.bands, 0), segments)

    def _fit_scales(self, parts: Sequence[Views]) -> None:
        self._network().fit_scales(
            Views(torch.cat([p.image for p in parts]), torch.cat([p.texture for p in parts]))
        )

    def _cut(self, whole: NDArray[np.float16]) -> Tensor:
        """Segments side by side, ``(n, mels, frames)``: overlap would double the time."""
        length = self.config.segment_frames
        batches = segment_batches(whole, length=length, hop=length)
        return torch.from_numpy(np.concatenate([segments for _, segments in batches]))


def segment_textures(
    spectrogram: NDArray[np.floating], config: ClassifierConfig
) -> NDArray[np.float32]:
    """Textures ``(n, s)`` of segments of a track ``(n_mels, frames)``, one starting each second."""
    batches = segment_batches(
        spectrogram, length=config.segment_frames, hop=_texture_hop(config), batch_size=_AT_ONCE
    )
    return np.concatenate([texture(torch.from_numpy(segments)).numpy() for _, segments in batches])


def _texture_hop(config: ClassifierConfig) -> int:
    hop = round(_TEXTURE_HOP_S * config.log_mel.frames_per_second)
    return min(max(hop, 1), config.segment_frames)


def track_scores(log_scores: Tensor) -> Tensor:
    """Scores ``(genres,)`` of a track from the log scores ``(segments, genres)`` of its parts."""
    return log_scores.mean(dim=0)


def _mixed(seen: Views, targets: Tensor, alpha: float) -> tuple[Views, Tensor]:
    """Each segment mixed with another one of the batch, itself keeping the larger part."""
    if not alpha or len(targets) < 2:
        return seen, targets
    share = torch.distributions.Beta(alpha, alpha).sample((len(targets),)).to(targets.device)
    share = torch.maximum(share, 1 - share)
    partner = torch.randperm(len(targets), device=targets.device)

    def mix(values: Tensor) -> Tensor:
        part = share.view(-1, *[1] * (values.ndim - 1))
        return part * values + (1 - part) * values[partner]

    statistics = mix(seen.texture) if seen.texture.numel() else seen.texture
    return Views(mix(seen.image), statistics), mix(targets)


def _masked(image: Tensor, fill: Tensor, share: float) -> Tensor:
    """One block of bands and one of frames of each image ``(b, f, t)`` set to the mean."""
    if not share:
        return image
    hidden = torch.zeros(image.shape, dtype=torch.bool, device=image.device)
    for axis in (1, 2):
        size = image.shape[axis]
        draws = torch.rand(2, len(image), 1, device=image.device)
        width = draws[0] * share * size
        start = draws[1] * (size - width)
        place = torch.arange(size, device=image.device)
        block = (place >= start) & (place < start + width)  # (b, size)
        hidden |= block.unsqueeze(3 - axis)
    return torch.where(hidden, fill.to(image).unsqueeze(1), image)
