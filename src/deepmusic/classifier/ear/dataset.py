"""Patches of a data set's tracks for networks of one's own in PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deepmusic.audio import open_audio
from deepmusic.audio.silence import SilenceGate
from deepmusic.classifier.ear.patches import EAR_MEL, compressed, patches_of
from deepmusic.datasets import FolderDataset


class PatchDataset(Dataset[tuple[Tensor, int]]):
    """The spectrograms that the ear reads, and the genre, of each track of a data set.

    An item is a pair of patches ``(patches, 187, 96)``, float32, and the index of the genre in
    ``dataset.genres``. Patches of three seconds are spread evenly over what is not silent of the
    track; where that is shorter, some are repeated. A track is decoded when its item is taken, so a
    ``DataLoader`` with workers decodes in parallel. Taking one that is silent or cannot be decoded
    raises an `AudioError`.

    Args:
        dataset: such as `deepmusic.datasets.load_dataset` gives.
        patches: per track, at least 1.

    Example:
        >>> loader = DataLoader(PatchDataset(load_dataset("music").dataset), batch_size=16)
    """

    def __init__(self, dataset: FolderDataset, patches: int = 8) -> None:
        self.dataset = dataset
        self.patches = patches
        self._labels = dataset.labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file = self.dataset.file(self.dataset.tracks[index])
        with open_audio(file, sample_rate=EAR_MEL.sample_rate) as audio:
            gate = SilenceGate(EAR_MEL.sample_rate, repr(str(file)))
            _, log_mel = patches_of(gate.through(audio), self.patches)
        chosen = np.linspace(0, len(log_mel) - 1, self.patches).round().astype(int)
        return torch.from_numpy(compressed(log_mel[chosen])), self._labels[index]
