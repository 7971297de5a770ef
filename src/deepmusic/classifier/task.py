"""The training task of one network of the classifier: segments, loss, validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from deepmusic.audio import LogMelConfig, mel_filters, segment_batches
from deepmusic.capsules import coupling_entropy, dead_share, margin_loss, reconstruction_loss
from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.model import (
    ClassifierNetwork,
    ImageNetwork,
    NetworkOutput,
    Views,
    texture,
    views,
)

_BATCH_SIZE = 64  # segments, in validation
_MEASURED = 64  # training tracks that are scored like the validation tracks, at most
_TEXTURE_HOP_S = 1.0  # between segments of which the texture is computed
LOW_PASS_HZ = (2_500, 10_000)
"""The lowest and the highest frequency above which segments are silenced in training."""
_SILENT_DB = -100.0


@dataclass(frozen=True)
class Augmentation:
    """How segments are varied in training.

    Args:
        gain_db: largest change of loudness, up or down.
        mask_share: one block of bands and one of frames, each up to this share, is masked in the
            image (SpecAugment, Park et al. 2019).
        mixup: parameter of the Beta distribution by which pairs of segments and their labels are
            mixed (Zhang et al. 2018); 0 mixes none.
        low_pass: share of segments that have nothing above a frequency of `LOW_PASS_HZ`.
    """

    gain_db: float = 6.0
    mask_share: float = 0.25
    mixup: float = 1.0
    low_pass: float = 0.0


class SegmentDataset:
    """Training items: per track and epoch one input of the network, drawn at random.

    Args:
        tracks: what ``draw`` takes, one per track.
        labels: index of each track's genre.
        seed: of the draws.
        draw: makes an item from a track and a random generator.
    """

    def __init__(
        self,
        tracks: Sequence[NDArray[np.floating]],
        labels: Sequence[int],
        *,
        seed: int,
        draw: Callable[[NDArray[np.floating], np.random.Generator], NDArray[np.float32]],
    ) -> None:
        self._tracks, self._labels, self._seed, self._draw = tracks, labels, seed, draw

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, key: tuple[int, int], /) -> tuple[Tensor, int]:
        epoch, index = key
        random = np.random.default_rng([self._seed, epoch, index])
        return torch.from_numpy(self._draw(self._tracks[index], random)), int(self._labels[index])


class ClassifierTask:
    """The training of one network by `deepmusic.training.fit`.

    Args:
        config: of the network.
        train, validation: tracks and labels. A track is its spectrogram ``(n_mels, frames)``, for a
            texture network its `segment_textures` instead.
        seed: of the weights and segments.
        augmentation: how segments are varied.
        metadata: saved with the weights, in addition to the configuration.
        network: makes the network from its configuration.
    """

    monitor = "loss"
    higher_is_better = False

    def __init__(
        self,
        config: ClassifierConfig,
        train: tuple[Sequence[NDArray[np.floating]], Sequence[int]],
        validation: tuple[Sequence[NDArray[np.floating]], Sequence[int]],
        *,
        seed: int,
        augmentation: Augmentation = Augmentation(),
        metadata: Mapping[str, Any] | None = None,
        network: Callable[[ClassifierConfig], ImageNetwork] = ClassifierNetwork,
    ) -> None:
        self.config = config
        self.augmentation = augmentation
        self.metadata = {**(metadata or {}), "classifier": config.to_dict()}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = network(config)
        draw, rows = _draw_texture, 1
        if config.position_types:
            draw = partial(
                _draw_segment,
                frames=config.segment_frames,
                augmentation=augmentation,
                bands=_low_pass_bands(config.log_mel),
            )
        else:  # validation takes textures of segments that do not overlap
            rows = math.ceil(config.segment_frames / _texture_hop(config))
        self.dataset = SegmentDataset(*train, seed=seed, draw=draw)
        scaled = [self._track_inputs(track) for track in train[0]]
        self.model.fit_scales(Views(*map(torch.cat, zip(*scaled, strict=True))))
        # computed once: every epoch validates on the same segments
        self._validation = [self._track_inputs(track, every=rows) for track in validation[0]]
        self._labels = torch.tensor(list(validation[1]))
        count = min(len(validation[0]), _MEASURED)
        sample = np.random.default_rng(0).permutation(len(train[0]))[:count].tolist()
        self._sample = [self._track_inputs(train[0][i], every=rows) for i in sample]
        self._sample_labels = torch.tensor([train[1][i] for i in sample])

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
        network = self.model
        inputs = self._inputs(segments)
        unmasked = inputs.image
        targets = F.one_hot(labels, len(self.config.genres)).to(segments.dtype)
        inputs, targets = _mixed(inputs, targets, self.augmentation.mixup)
        if self.config.position_types:
            masked = _masked(inputs.image, network.image_mean, self.augmentation.mask_share)
            inputs = Views(masked, inputs.texture)
        output = model(inputs, rebuild=labels if self.config.position_types else None)
        loss = self.genre_loss(output, targets)
        with torch.no_grad():
            is_correct = output.log_scores.argmax(dim=1) == targets.argmax(dim=1)
            measures: dict[str, Tensor | float] = {"accuracy": is_correct.float().mean()}
            if output.coupling is not None:
                measures["coupling_entropy"] = coupling_entropy(output.coupling).mean()
                measures["dead_capsules"] = dead_share(output.children).mean()
        if output.rebuilt is not None:
            # the target is neither mixed nor masked
            error = reconstruction_loss(output.rebuilt, network.sketch(unmasked))
            loss = loss + self.config.reconstruction * error
        return loss, measures

    def genre_loss(self, output: NetworkOutput, targets: Tensor) -> Tensor:
        """The loss, a scalar, for the genres' shares ``(b, genres)``."""
        if self.model.by_logit:
            return -(targets * output.log_scores).sum(dim=1).mean()
        return margin_loss(output.lengths, targets)

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Loss (cross-entropy of the track scores) and accuracy on the validation tracks.

        The same for some training tracks as ``train_loss`` and ``train_accuracy``.
        """
        return {
            **_measures(self.validation_scores(model), self._labels),
            **_measures(_track_scores(model, self._sample), self._sample_labels, "train_"),
        }

    def validation_scores(self, model: nn.Module) -> Tensor:
        """Track scores ``(tracks, genres)`` of the validation tracks."""
        return _track_scores(model, self._validation)

    def _inputs(self, segments: Tensor) -> Views:
        """The network's inputs for a batch of the data set."""
        if self.config.position_types:
            return views(segments, self.config)
        return Views(segments.new_zeros(len(segments), self.config.bands, 0), segments)

    def _track_inputs(self, track: NDArray[np.floating], *, every: int = 1) -> Views:
        """The inputs of a track's segments: of spectrograms without overlap, to save time."""
        if not self.config.position_types:
            return self._inputs(torch.from_numpy(track[::every].astype(np.float32)))
        length = self.config.segment_frames
        batches = segment_batches(track, length=length, hop=length)
        return self._inputs(torch.from_numpy(np.concatenate([cut for _, cut in batches])))


@torch.no_grad()
def _track_scores(model: nn.Module, tracks: Sequence[Views]) -> Tensor:
    """Scores ``(tracks, genres)``: means over the segments of each track."""
    device = next(model.parameters()).device
    counts = [len(track.image) for track in tracks]
    image, statistics = (torch.cat(parts) for parts in zip(*tracks, strict=True))
    scores = [
        model(Views(image[i:j].to(device), statistics[i:j].to(device))).log_scores.cpu()
        for i, j in pairwise([*range(0, len(image), _BATCH_SIZE), len(image)])
    ]
    by_track = torch.split(torch.cat(scores), counts)
    return torch.stack([part.mean(dim=0) for part in by_track])


def _measures(scores: Tensor, labels: Tensor, prefix: str = "") -> dict[str, float]:
    return {
        f"{prefix}loss": float(F.nll_loss(scores.log_softmax(dim=1), labels)),
        f"{prefix}accuracy": float((scores.argmax(dim=1) == labels).float().mean()),
    }


def _draw_segment(
    track: NDArray[np.floating],
    random: np.random.Generator,
    *,
    frames: int,
    augmentation: Augmentation,
    bands: tuple[int, int],
) -> NDArray[np.float32]:
    """A segment ``(n_mels, frames)`` at a random position, varied in loudness and bandwidth."""
    start = int(random.integers(track.shape[1] - frames + 1))
    segment = track[:, start : start + frames].astype(np.float32)
    segment += np.float32(random.uniform(-augmentation.gain_db, augmentation.gain_db))
    if random.random() < augmentation.low_pass:
        segment[random.integers(*bands) :] = _SILENT_DB
    return segment


def _low_pass_bands(config: LogMelConfig) -> tuple[int, int]:
    """Range of the bands from which on a low-pass may silence all, evenly on the mel scale."""
    hz = mel_filters(config).argmax(axis=1) * config.sample_rate / config.n_fft
    first, last = np.searchsorted(hz, LOW_PASS_HZ).tolist()
    return min(first, config.n_mels - 1), min(last, config.n_mels - 1) + 1


def _draw_texture(track: NDArray[np.floating], random: np.random.Generator) -> NDArray[np.float32]:
    """The texture ``(s,)`` of a random segment, on which loudness has no influence."""
    return np.asarray(track[int(random.integers(len(track)))], np.float32)


def segment_textures(
    spectrogram: NDArray[np.floating],
    config: ClassifierConfig,
    random: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """Textures ``(n, s)`` of segments of a track ``(n_mels, frames)``, one per second.

    With ``random`` they are those of segments that have nothing above a frequency of `LOW_PASS_HZ`.
    """
    batches = segment_batches(
        spectrogram, length=config.segment_frames, hop=_texture_hop(config), batch_size=_BATCH_SIZE
    )
    textures = []
    for _, segments in batches:
        if random is not None:
            segments = segments.copy()
            for segment in segments:
                segment[random.integers(*_low_pass_bands(config.log_mel)) :] = _SILENT_DB
        textures.append(texture(torch.from_numpy(segments)).numpy())
    return np.concatenate(textures)


def _texture_hop(config: ClassifierConfig) -> int:
    hop = round(_TEXTURE_HOP_S * config.log_mel.frames_per_second)
    return min(max(hop, 1), config.segment_frames)


def _mixed(inputs: Views, targets: Tensor, alpha: float) -> tuple[Views, Tensor]:
    """Mix each segment with another one of the batch, with the smaller weight for the other."""
    if not alpha or len(targets) < 2:
        return inputs, targets
    share = torch.distributions.Beta(alpha, alpha).sample((len(targets),)).to(targets.device)
    share = torch.maximum(share, 1 - share)
    partner = torch.randperm(len(targets), device=targets.device)

    def mix(values: Tensor) -> Tensor:
        part = share.view(-1, *[1] * (values.ndim - 1))
        return part * values + (1 - part) * values[partner]

    statistics = mix(inputs.texture) if inputs.texture.numel() else inputs.texture
    return Views(mix(inputs.image), statistics), mix(targets)


def _masked(image: Tensor, fill: Tensor, share: float) -> Tensor:
    """Set one block of bands and one of frames of each image ``(b, f, t)`` to the mean."""
    if not share:
        return image
    is_masked = torch.zeros(image.shape, dtype=torch.bool, device=image.device)
    for axis in (1, 2):
        size = image.shape[axis]
        draws = torch.rand(2, len(image), 1, device=image.device)
        width = draws[0] * share * size
        start = draws[1] * (size - width)
        index = torch.arange(size, device=image.device)
        block = (index >= start) & (index < start + width)  # (b, size)
        is_masked |= block.unsqueeze(3 - axis)
    return torch.where(is_masked, fill.to(image).unsqueeze(1), image)
