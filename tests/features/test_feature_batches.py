"""Features of batches in torch, compared with those of each signal alone in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recordings import chord

from deepmusic import features
from deepmusic.errors import ShapeError
from deepmusic.features import batches

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_each_signal_of_a_batch_has_its_own_features(device: str, sample_rate: int) -> None:
    batch = np.stack([chord(sample_rate, 2), 0.1 * chord(sample_rate, 2, seed=1)])
    samples = torch.from_numpy(batch).double().to(device)
    mel_db = batches.log_mel_spectrogram(samples, sample_rate).cpu().numpy()
    mfcc = batches.mfcc(samples, sample_rate, n_mfcc=13).cpu().numpy()
    for index, row in enumerate(batch):
        expected = features.log_mel_spectrogram(row, sample_rate)
        np.testing.assert_allclose(mel_db[index], expected, atol=1e-3)
        np.testing.assert_allclose(
            mfcc[index], features.mfcc(row, sample_rate, n_mfcc=13), atol=2e-3
        )


def test_gradients_are_recorded() -> None:
    samples = torch.from_numpy(chord(16000, 0.2)[None]).requires_grad_()
    batches.mfcc(samples, 16000).sum().backward()
    assert samples.grad is not None
    assert torch.isfinite(samples.grad).all()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(b, n\)"):
        batches.mfcc(torch.zeros(100))
