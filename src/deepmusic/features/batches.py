"""Spectrograms, chroma, constant-Q, onsets and tempo of batches in torch, on any device.

Each function is the twin of the one of its name in :mod:`deepmusic.features`, with a batch in
front: windows, filters and constants are taken from there. Sounds of a batch have the same length
and rate, and none changes the result of another. Whoever imports this module imports torch.

Transforms and products are in double precision, results in single: so they are the CPU's but for
the last digits, and no setting of torch that trades digits for speed (TF32, autocast) touches them.
Work goes through some windows at a time, so that beside copies of the sounds and the results memory
does not grow with their length. No function records gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as nn
from numpy.typing import NDArray
from torch import Tensor

from deepmusic.audio import LogMelConfig, mel_filters
from deepmusic.errors import RequestError, ShapeError
from deepmusic.features.chroma import chroma_filters, fold_filters
from deepmusic.features.constant_q import (
    BINS,
    halving_start,
    halving_weights,
    highest_hz,
    octave_filters,
)
from deepmusic.features.rhythm import RANGE_DB, likeliest_bpm, tempo_window
from deepmusic.features.spectra import FFT_SIZE, HOP, hann
from deepmusic.features.spectrograms import TOP_DB
from deepmusic.features.tuning import LOWEST_A_HZ, SHARE_OF_MAXIMUM, VOTE_EDGES, peak_bins

_CPU_SAMPLES, _GPU_SAMPLES = 1 << 18, 1 << 23  # in windows at a time: a cache's fill, and a GPU's
_HALVED_AT_ONCE = 64  # samples that one product of a matrix with a window gives


def _sound(samples: Tensor) -> Tensor:
    """The batch ``(b, n)`` in single precision, as the CPU takes it."""
    if samples.ndim != 2 or not samples.is_floating_point() or not len(samples):
        raise ShapeError(
            f"samples are floating (b, n), b > 0; got {samples.dtype} {tuple(samples.shape)}"
        )
    return samples.float()


def _windows(padded: Tensor, size: int, hop: int) -> Iterator[Tensor]:
    """Windows ``(b, some, size)``, in double precision, of sound that is padded already."""
    room = _CPU_SAMPLES if padded.device.type == "cpu" else _GPU_SAMPLES
    at_once = max(1, room // (len(padded) * size))
    windows = padded.unfold(1, size, hop)
    for start in range(0, windows.shape[1], at_once):
        yield windows[:, start : start + at_once].double()


def _on(device: torch.device, array: NDArray[np.floating]) -> Tensor:
    """Numbers of the CPU on a device, in double precision."""
    if device.type == "mps":
        raise RequestError(
            "Features need double precision, which mps devices lack; move the batch to the CPU."
        )
    return torch.from_numpy(array).to(device, torch.float64)


def _magnitudes(sound: Tensor) -> Iterator[Tensor]:
    """Spectra ``(b, some, 1025)``, ``1 + n // 512`` in all; rounded where the CPU rounds them."""
    fade = _on(sound.device, hann(FFT_SIZE))
    for windows in _windows(nn.pad(sound, (FFT_SIZE // 2, FFT_SIZE // 2)), FFT_SIZE, HOP):
        spectra = torch.fft.rfft(windows * fade)
        yield (spectra.real.float().square() + spectra.imag.float().square()).sqrt()


def _powers(sound: Tensor) -> Iterator[Tensor]:
    for spectra in _magnitudes(sound):
        yield spectra.square()


def _mel_db(sound: Tensor, sample_rate: int, n_mels: int) -> Tensor:
    """Power in mel bands in dB, no more than 80 dB below the loudest, ``(b, mels, frames)``."""
    filters = _on(sound.device, mel_filters(LogMelConfig(sample_rate=sample_rate, n_mels=n_mels))).T
    parts = [(power.double() @ filters).float().transpose(1, 2) for power in _powers(sound)]
    loud = 10 * torch.cat(parts, dim=2).clamp(min=1e-10).log10()
    return loud.maximum(loud.amax((1, 2), keepdim=True) - TOP_DB)


@torch.no_grad()
def log_mel_spectrogram(samples: Tensor, sample_rate: int = 22050, *, n_mels: int = 128) -> Tensor:
    """Power in mel bands in dB, no more than 80 dB below the loudest of its sound.

    Args:
        samples: ``(b, n)``, floating.
        sample_rate: samples per second.
        n_mels: bands, up to half the rate.

    Returns:
        ``(b, mels, 1 + n // 512)`` float32, as :func:`deepmusic.features.log_mel_spectrogram` to
        1e-3 dB.

    Raises:
        ShapeError: samples are not ``(b, n)``.
        RequestError: the device has no double precision.
    """
    return _mel_db(_sound(samples), sample_rate, n_mels)


@torch.no_grad()
def mfcc(
    samples: Tensor, sample_rate: int = 22050, *, coefficients: int = 20, n_mels: int = 128
) -> Tensor:  # fmt: skip
    """Mel-frequency cepstral coefficients, ``(b, coefficients, 1 + n // 512)``.

    As :func:`deepmusic.features.mfcc` to 2e-3.

    Args:
        samples: ``(b, n)``, floating.
        sample_rate: samples per second.
        coefficients: how many, at most ``n_mels``.
        n_mels: bands that they are made from.

    Raises:
        ShapeError: samples are not ``(b, n)``.
        RequestError: the device has no double precision.
    """
    loud = _mel_db(_sound(samples), sample_rate, n_mels)
    transform = scipy.fft.dct(np.eye(n_mels), axis=0, norm="ortho")[:coefficients]
    return (_on(samples.device, transform) @ loud.double()).float()


@torch.no_grad()
def estimate_tuning(samples: Tensor, sample_rate: int = 22050) -> Tensor:
    """By how many semitones each sound is out of tune with A = 440 Hz, in [-0.5, 0.5).

    Args:
        samples: ``(b, n)``, floating.
        sample_rate: samples per second.

    Returns:
        ``(b,)`` float64, as :func:`deepmusic.features.estimate_tuning`. Where two hundredths of a
        semitone have equally many votes but for rounding, it can be the other one.

    Raises:
        ShapeError: samples are not ``(b, n)``.
        RequestError: the device has no double precision.
    """
    return _tunings(_magnitudes(_sound(samples)), sample_rate)


def _tunings(spectra: Iterable[Tensor], sample_rate: float) -> Tensor:
    """What :class:`~deepmusic.features.tuning.PeakFinder` tells of each sound's spectra."""
    found = []
    for part in spectra:
        batch = len(part)
        found.append(_peaks(part, sample_rate))
    item, pitch, height = (torch.cat(parts) for parts in zip(*found, strict=True))
    # of each sound the peaks by height, to find the one in the middle, or two
    order = height.argsort()
    order = order[item[order].argsort(stable=True)]
    item, pitch, height = item[order], pitch[order], height[order]
    counts = torch.bincount(item, minlength=batch)
    after = counts.cumsum(0)[item]
    low = after - counts[item] + (counts[item] - 1) // 2
    high = after - counts[item] + counts[item] // 2
    votes = height >= (height[low] + height[high]) / 2
    # rounded as on the CPU, but for the logarithm, which processors round in their own ways
    octaves = (pitch[votes] / LOWEST_A_HZ).double().log2().float()
    apart = (12 * octaves).remainder(1.0)
    apart = torch.where(apart >= 0.5, apart - 1, apart).double()
    edges = _on(pitch.device, VOTE_EDGES)
    slot = torch.bucketize(apart, edges, right=True) - 1
    slots = len(VOTE_EDGES) - 1
    ballots = torch.bincount(item[votes] * slots + slot, minlength=batch * slots)
    fullest = ballots.view(batch, slots).argmax(dim=1)
    return torch.where(counts > 0, edges[fullest], 0.0)


def _peaks(spectra: Tensor, sample_rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of all peaks in ``(b, frames, 1025)``: whose, pitch in Hz and height, ``(peaks,)`` each."""
    bins = peak_bins(sample_rate, FFT_SIZE)
    below, here, above = (
        spectra[:, :, bins.start + step : bins.stop + step] for step in (-1, 0, 1)
    )
    least = SHARE_OF_MAXIMUM * spectra.amax(dim=2, keepdim=True)
    is_peak = (here > least) & (here > below) & (here >= above)
    item, _, place = is_peak.nonzero(as_tuple=True)
    low, mid, high = below[is_peak], here[is_peak], above[is_peak]
    bend = (high + low).double() - 2 * mid.double()
    slope = (high - low).double() / 2
    shift = torch.where(slope.abs() < bend.abs(), -slope / bend, 0.0).float()
    pitch = (bins.start + place + shift.double()) * sample_rate / FFT_SIZE
    return item, pitch.float(), mid + 0.5 * ((high - low) / 2) * shift


def _loudest_one(rows: Tensor) -> Tensor:
    """Columns ``(b, rows, frames)`` divided by their greatest value; those next to zero stay."""
    greatest = rows.abs().amax(dim=1, keepdim=True)
    return rows / torch.where(greatest < torch.finfo(rows.dtype).tiny, 1.0, greatest)


@torch.no_grad()
def chroma_stft(samples: Tensor, sample_rate: int = 22050) -> Tensor:
    """Pitch classes from spectra of power, C first, the loudest 1.

    Spectra are computed twice, for the tuning and for the chroma, and never kept.

    Args:
        samples: ``(b, n)``, floating.
        sample_rate: samples per second.

    Returns:
        ``(b, 12, 1 + n // 512)`` float32, as :func:`deepmusic.features.chroma_stft` to 1e-5.

    Raises:
        ShapeError: samples are not ``(b, n)``.
        RequestError: the device has no double precision.
    """
    sound = _sound(samples)
    tunings = _tunings(_powers(sound), sample_rate).tolist()
    by_tuning = {tuning: chroma_filters(sample_rate, tuning).T for tuning in set(tunings)}
    filters = _on(sound.device, np.stack([by_tuning[tuning] for tuning in tunings]))
    parts = [(power.double() @ filters).float().transpose(1, 2) for power in _powers(sound)]
    return _loudest_one(torch.cat(parts, dim=2))


@torch.no_grad()
def cqt(
    samples: Tensor, sample_rate: int = 22050, *, tuned: float | Tensor | None = None
) -> Tensor:
    """Magnitude of the constant-Q transform: 7 octaves of 12 bins from C1.

    Args:
        samples: ``(b, n)``, floating.
        sample_rate: samples per second.
        tuned: semitones that the sounds are out of tune: one number, or ``(b,)``; None measures
            it of each.

    Returns:
        ``(b, 84, frames)`` float32, as :func:`deepmusic.features.cqt` to 2e-6 of the loudest value,
        from the first frame to the last. Frames are ``1 + n // 512``, or one more above 33 kHz
        where a few samples are missing to it.

    Raises:
        ShapeError: samples are not ``(b, n)``, or tunings not ``(b,)``.
        RequestError: the rate is too low for the tuning of a sound, which is so below 8,390 Hz or
            so; or the device has no double precision.
    """
    sound = _sound(samples)
    if tuned is None:
        tuned = estimate_tuning(sound, sample_rate)
    measured = torch.as_tensor(tuned, dtype=torch.float64)
    if measured.shape not in ((), (len(sound),)):
        raise ShapeError(f"tuned is one number or {len(sound)}; got {tuple(measured.shape)}")
    tunings = measured.expand(len(sound)).tolist()
    alike: dict[tuple[int, ...], list[int]] = {}
    for number, tuning in enumerate(tunings):
        if highest_hz(tuning) > sample_rate / 2:
            raise RequestError(
                f"{sample_rate} samples per second are too few for the constant-Q transform of "
                f"sound {number} of the batch; it needs {2 * highest_hz(tuning):.0f}."
            )
        factor, octaves = octave_filters(sample_rate, tuning)
        shape = (factor, *(len(filters) for _, filters in octaves))
        alike.setdefault(shape, []).append(number)
    parts = [
        _cqt_alike(sound[numbers], sample_rate, [tunings[number] for number in numbers])
        for numbers in alike.values()
    ]
    found = torch.cat([part[:, :, : min(part.shape[2] for part in parts)] for part in parts])
    return found[np.argsort(np.concatenate(list(alike.values())))]


def _cqt_alike(sound: Tensor, sample_rate: float, tunings: Sequence[float]) -> Tensor:
    """Constant-Q magnitudes of sounds whose filters have the same shapes."""
    plans = [octave_filters(sample_rate, tuning) for tuning in tunings]
    factor = plans[0][0]
    found: list[Tensor] = []
    for octave in zip(*(octaves for _, octaves in plans), strict=True):
        sound = _halved(sound, 2 if found else factor)
        hop = octave[0][0]
        filters = _on(sound.device, np.stack([filters for _, filters in octave]))  # (b, size, 24)
        half = filters.shape[1] // 2
        parts = []
        for windows in _windows(nn.pad(sound, (half, half)), 2 * half, hop):
            real, imaginary = (windows @ filters).chunk(2, dim=2)
            parts.append(torch.hypot(real, imaginary).float().transpose(1, 2))
        found.append(torch.cat(parts, dim=2))
    frames = min(part.shape[2] for part in found)
    return torch.cat([part[:, :, :frames] for part in reversed(found)], dim=1)


def _halved(sound: Tensor, factor: int) -> Tensor:
    """Sound ``(b, n)`` at a fraction of its rate, keeping its energy: ``(b, ceil(n / factor))``."""
    if factor == 1:
        return sound
    samples = sound.shape[1]
    due = -(-samples // factor)
    hop = _HALVED_AT_ONCE * factor
    more = max(1, -(-due // _HALVED_AT_ONCE)) * hop - samples
    matrix = _on(sound.device, _halving_matrix(factor))
    reach = (len(matrix) - hop + factor - 1) // 2
    parts = [
        (windows @ matrix).float().flatten(1)
        for windows in _windows(nn.pad(sound, (reach, reach + more)), len(matrix), hop)
    ]
    found = torch.cat(parts, dim=1)[:, :due]
    start = _on(sound.device, halving_start(factor))[: min(samples, 4 * factor), :due]
    found[:, : start.shape[1]] += (sound[:, : len(start)].double() @ start).float()
    found[:, (samples + factor // 2) // factor :] = 0  # soxr stops half a sample earlier
    return found


@lru_cache(maxsize=8)
def _halving_matrix(factor: int) -> NDArray[np.float64]:
    """From a window of sound to 64 samples of it at a fraction of its rate, ``(size, 64)``."""
    weights = halving_weights(factor)
    matrix = np.zeros((factor * (_HALVED_AT_ONCE - 1) + len(weights), _HALVED_AT_ONCE))
    for place in range(_HALVED_AT_ONCE):
        matrix[factor * place : factor * place + len(weights), place] = weights
    return matrix


@torch.no_grad()
def chroma_cqt(samples: Tensor, sample_rate: int = 22050) -> Tensor:
    """Pitch classes from the constant-Q transform, C first, the loudest 1.

    Args:
        samples: ``(b, n)``, floating.
        sample_rate: samples per second.

    Returns:
        ``(b, 12, frames)`` float32, as :func:`deepmusic.features.chroma_cqt` to 1e-4 in
        frames that are at most 80 dB below the loudest of their sound; in fainter ones rounding
        has its share.

    Raises:
        ShapeError: samples are not ``(b, n)``.
        RequestError: as in :func:`cqt`.
    """
    folds = _on(samples.device, fold_filters(BINS, 12))
    return _loudest_one((folds @ cqt(samples, sample_rate).double()).float())


@torch.no_grad()
def onset_strength(mel_db: Tensor) -> Tensor:
    """How much louder than a frame before each frame is: the mean rise of its bands.

    Args:
        mel_db: ``(b, mels, frames)`` in dB, floating, as
            :func:`deepmusic.audio.log_mel_torch.log_mel_batch` gives it.

    Returns:
        ``(b, frames)`` in dB, in the type given, as :func:`deepmusic.features.onset_strength` to
        1e-4 dB.

    Raises:
        ShapeError: the tensor has other axes, or no band or frame.
    """
    if mel_db.ndim != 3 or not mel_db.is_floating_point() or not mel_db.numel():
        raise ShapeError(
            "mel_db is floating (b, mels, frames), none of them 0; "
            f"got {mel_db.dtype} {tuple(mel_db.shape)}"
        )
    heard = mel_db.maximum(mel_db.amax((1, 2), keepdim=True) - RANGE_DB)
    rise = heard.diff(dim=2).clamp(min=0).mean(dim=1)
    return nn.pad(rise, (1 + FFT_SIZE // (2 * HOP), 0))[:, : mel_db.shape[2]]


@torch.no_grad()
def tempogram(onsets: Tensor, *, window_frames: int = 384) -> Tensor:
    """How alike the onsets around each frame are to themselves some frames later.

    Args:
        onsets: ``(b, frames)``, floating, as :func:`onset_strength` gives them.
        window_frames: length of the Hann window around a frame, and the number of lags.

    Returns:
        ``(b, window_frames, frames)`` float64, as :func:`deepmusic.features.tempogram` to 1e-6.

    Raises:
        ShapeError: onsets are not ``(b, frames)``, or there are none.
        ValueError: the window is shorter than two frames.
        RequestError: the device has no double precision.
    """
    return torch.cat(list(_tempogram_blocks(onsets, window_frames)), dim=1).transpose(1, 2)


def _tempogram_blocks(onsets: Tensor, window_frames: int) -> Iterator[Tensor]:
    """Rows of tempograms, ``(b, some, window_frames)`` at a time."""
    if onsets.ndim != 2 or not onsets.is_floating_point() or not onsets.numel():
        raise ShapeError(
            "onsets are floating (b, frames), none of them 0; "
            f"got {onsets.dtype} {tuple(onsets.shape)}"
        )
    if window_frames < 2:
        raise ValueError(f"window_frames is at least 2; got {window_frames}")
    fade = _on(onsets.device, hann(window_frames))
    ramp = _on(onsets.device, np.linspace(0, 1, window_frames // 2, endpoint=False))
    faded = torch.cat([onsets[:, :1] * ramp, onsets, onsets[:, -1:] * ramp.flip(0)], dim=1)
    # so long that the end of a window does not meet its beginning
    size = scipy.fft.next_fast_len(2 * window_frames - 1, real=True)
    for windows in _windows(faded[:, : onsets.shape[1] + window_frames - 1], window_frames, 1):
        spectra = torch.fft.rfft(windows * fade, size)
        power = spectra.real.square() + spectra.imag.square()
        found = torch.fft.irfft(power, size)[:, :, :window_frames]
        greatest = found.abs().amax(dim=2, keepdim=True)
        yield found / torch.where(greatest < torch.finfo(found.dtype).tiny, 1.0, greatest)


@torch.no_grad()
def tempo(onsets: Tensor, sample_rate: float) -> Tensor:
    """The tempo of each track, as one number; half or twice of it is often as good an answer.

    Args:
        onsets: ``(b, frames)``, floating, as :func:`onset_strength` gives them.
        sample_rate: samples per second of the sound.

    Returns:
        ``(b,)`` float64, beats a minute, as :func:`deepmusic.features.tempo`; NaN where there is
        no onset.

    Raises:
        ShapeError: onsets are not ``(b, frames)``, or there are none.
        ValueError: the rate is so low that 8 s make less than two frames.
        RequestError: the device has no double precision.
    """
    lags = tempo_window(sample_rate)
    total = sum(block.sum(dim=1) for block in _tempogram_blocks(onsets, lags))
    repeats = (torch.as_tensor(total) / onsets.shape[1]).cpu().numpy()
    bpm = [likeliest_bpm(row, sample_rate) for row in repeats]
    return torch.tensor(bpm, dtype=torch.float64, device=onsets.device)
