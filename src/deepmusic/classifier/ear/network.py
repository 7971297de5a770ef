"""The ear: the convolutional network ``MSD_vgg`` of musicnn, in PyTorch.

Pons and Serra, musicnn: Pre-trained convolutional neural networks for music audio tagging, 2019;
trained by them on the Million Song Dataset with 50 tags of Last.fm. Pools are those that the
original graph has; the package's own code for this model shows others, which are wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepmusic.classifier.ear.patches import EAR_MEL, FEATURES, PATCH_FRAMES, TAGS
from deepmusic.errors import ShapeError
from deepmusic.training.onnx_graph import export_graph

_CHANNELS = 128
_POOLING = ((4, 1), (1, 4), (2, 2), (2, 2), (4, 4))  # time, frequency


class Ear(nn.Module):
    """Patches of a spectrogram to 256 features and the logits of 50 tags."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, eps=1e-3)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, _CHANNELS, 3, padding=1),
                nn.ReLU(),
                nn.BatchNorm2d(_CHANNELS, eps=1e-3),
                nn.MaxPool2d(pool),
            )
            for before, pool in zip((1, *[_CHANNELS] * 4), _POOLING, strict=True)
        )
        self.tags = nn.Linear(FEATURES, len(TAGS))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(b, 256)`` and logits ``(b, 50)`` of patches ``(b, 187, 96)``.

        Patches are (time, frequency), as `deepmusic.classifier.ear.compressed` gives them.

        Raises:
            ShapeError: patches of another shape.
        """
        if patches.ndim != 3 or patches.shape[1:] != (PATCH_FRAMES, EAR_MEL.n_mels):
            raise ShapeError(
                f"patches are (batch, {PATCH_FRAMES}, {EAR_MEL.n_mels}); got {tuple(patches.shape)}"
            )
        hidden = self.norm(patches.unsqueeze(1))
        for block in self.blocks:
            hidden = block(hidden)
        features = hidden.permute(0, 2, 3, 1).flatten(1)  # height, width, channel
        return features, self.tags(features)


def export_ear() -> bytes:
    """The graph of the ear, without weights, as it is shipped."""
    return export_graph(
        Ear().eval(),
        (torch.zeros(2, PATCH_FRAMES, EAR_MEL.n_mels),),
        inputs=["patches"],
        outputs=["features", "logits"],
        varying=[{0: "batch"}],
    )
