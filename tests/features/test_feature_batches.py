"""Features of batches in torch, compared with those of each signal alone in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deepmusic import features
from deepmusic.errors import ShapeError
from deepmusic.features import batches

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def sounds(sample_rate: int, seconds: float = 2.0) -> NDArray[np.float32]:
    """Two chords of different loudness, with noise, ``(2, n)``."""
    random = np.random.default_rng(0)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    rows = []
    for level in (0.1, 0.01):
        row = 1e-3 * random.standard_normal(len(time))
        for hz in random.uniform(100, 1500, 5):
            row += np.sin(2 * np.pi * hz * time)
        rows.append(level * row)
    return np.array(rows, np.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_each_signal_of_a_batch_has_its_own_features(device: str, sample_rate: int) -> None:
    batch = sounds(sample_rate)
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
    samples = torch.from_numpy(sounds(16000, 0.2)).requires_grad_()
    batches.mfcc(samples, 16000).sum().backward()
    assert samples.grad is not None
    assert torch.isfinite(samples.grad).all()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(b, n\)"):
        batches.mfcc(torch.zeros(100))
