"""Log-mel spectrograms and MFCC of batches in torch, for training on a GPU.

Each function matches the one of its name in ``deepmusic.features``, with a batch axis in front.
Importing this module imports torch.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from deepmusic.audio import LogMelConfig
from deepmusic.audio.log_mel_torch import log_mel_batch
from deepmusic.audio.mel import whole_number


def log_mel_spectrogram(samples: Tensor, sample_rate: int = 22050, *, n_mels: int = 128) -> Tensor:
    """Power in mel bands in dB, clipped at 80 dB below the maximum of each signal.

    Gradients are recorded. The result is on the device and in the type of the samples.

    Args:
        samples: ``(b, n)``, floating.
        sample_rate: samples per second.
        n_mels: number of bands.

    Returns:
        ``(b, n_mels, 1 + n // 512)``, equal to ``deepmusic.features.log_mel_spectrogram`` to
        1e-3 dB in float64; in float32 except for cells far below the loudest of their frame.

    Raises:
        ShapeError: samples are not floating ``(b, n)``.
    """
    mel_db = log_mel_batch(samples, LogMelConfig(sample_rate=sample_rate, n_mels=n_mels))
    return mel_db.maximum(mel_db.amax((1, 2), keepdim=True) - 80)


def mfcc(
    samples: Tensor, sample_rate: int = 22050, *, n_mfcc: int = 20, n_mels: int = 128
) -> Tensor:
    """Mel-frequency cepstral coefficients, ``(b, n_mfcc, 1 + n // 512)``.

    Args:
        samples: ``(b, n)``, floating.
        sample_rate: samples per second.
        n_mfcc: number of coefficients, at most ``n_mels``.
        n_mels: number of mel bands.

    Raises:
        ShapeError: samples are not floating ``(b, n)``.
        ValueError: a number is out of range.
    """
    mel_db = log_mel_spectrogram(samples, sample_rate, n_mels=n_mels)
    whole_number("n_mfcc", n_mfcc, most=n_mels)
    cosines = scipy.fft.dct(np.eye(n_mels), axis=0, type=2, norm="ortho")[:n_mfcc]
    return torch.from_numpy(cosines).to(mel_db) @ mel_db
