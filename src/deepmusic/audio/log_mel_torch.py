"""Log-mel spectrograms of a batch in torch, on any device and differentiable, for training."""

from __future__ import annotations

import torch
from torch import Tensor

from deepmusic.audio.mel import LogMelConfig, mel_filters
from deepmusic.errors import ShapeError


def log_mel_batch(samples: Tensor, config: LogMelConfig | None = None) -> Tensor:
    """Log-mel spectrograms ``(b, n_mels, 1 + n // hop_length)`` of mono signals ``(b, n)``.

    Device and type are those of the samples. Equal to `deepmusic.audio.log_mel` on each to 1e-3 dB:
    in float64 everywhere, in float32 for cells at most 80 dB below the loudest of their frame
    (quieter ones are lost in the rounding of the transform).

    Raises:
        ShapeError: samples are not ``(b, n)``.
    """
    if samples.ndim != 2 or not samples.is_floating_point():
        raise ShapeError(f"samples are floating (b, n); got {samples.dtype} {tuple(samples.shape)}")
    config = config or LogMelConfig()
    window = torch.hann_window(
        config.n_fft, periodic=True, dtype=samples.dtype, device=samples.device
    )
    spectrum = torch.stft(
        samples,
        config.n_fft,
        config.hop_length,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )  # (b, bins, frames)
    power = spectrum.real.square() + spectrum.imag.square()
    filters = torch.from_numpy(mel_filters(config)).to(samples)
    mel = filters @ power  # (b, n_mels, frames)
    return 10 * mel.clamp(min=10 ** (config.floor_db / 10)).log10()
