"""All features of one track, from samples that are read once, or twice where the track is long.

Tuning and maximum power are known only at the end, and many features depend on them. The spectra of
a short track are kept in memory until then; a long track is read again, so that memory stays
bounded: a few hundred bytes are kept per frame of 512 samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig
from deepmusic.audio.mel import checked_sound, mel_power
from deepmusic.errors import AudioError, ShapeError
from deepmusic.features.chroma import (
    N_CHROMA,
    TuningEstimator,
    cens,
    chroma_filters,
    fold_filters,
    normalize,
    tonnetz,
)
from deepmusic.features.constant_q import N_BINS as CQT_BINS, ConstantQ, f_max
from deepmusic.features.recipe import FEATURE_SIZES, Recipe, recipe_named
from deepmusic.features.spectral_shape import (
    CONTRAST_BANDS,
    HIGHEST_BAND_HZ,
    SampleFrames,
    centroid_and_bandwidth,
    contrast_extremes,
    power_to_db,
    rms,
    rolloff,
)
from deepmusic.features.statistics import STATISTICS, summary_statistics
from deepmusic.features.stft import HOP_LENGTH, magnitudes

Float32 = NDArray[np.float32]
Blocks = Callable[[], Iterable[Float32]]
"""Returns the samples of a track, ``(n,)`` at a time, from the start at each call."""
FrameFeatures = Mapping[str, NDArray[np.floating]]
"""Features over time by name, ``(n, frames)`` each."""
_Features = Iterator[tuple[str, NDArray[np.floating]]]

ASSUMED_RATE = 22050
"""The sample rate that all recipes but ``fma-corrected`` assume for most features."""
_N_MELS, _N_MFCC = 128, 20


def frame_features(
    samples: Float32, sample_rate: int, recipe: Recipe | str = "fma"
) -> dict[str, NDArray[np.floating]]:
    """Compute the features of sound in memory over time.

    Args:
        samples: ``(n,)`` mono, at least one; float64 is rounded to float32.
        sample_rate: samples per second.
        recipe: a version of the recipe, or its name.

    Returns:
        ``(n, frames)`` for each name of ``FEATURE_SIZES``, one frame per
        512 samples. Features that need a higher sample rate are missing: the constant-Q transform
        and what is computed from it below about 8,240 Hz, depending on the tuning; the contrast
        of ``fma-corrected`` up to 12,800 Hz.

    Raises:
        RequestError: there is no such recipe.
        ValueError: samples are not one channel of floating numbers, none, or not finite; or the
            sample rate is below 1.

    Example:
        >>> features = frame_features(np.ones(22050, np.float32), 22050)
        >>> features["mfcc"].shape
        (20, 44)
    """
    sound = checked_sound(samples)
    recipe = recipe_named(recipe) if isinstance(recipe, str) else recipe
    return dict(track_features(lambda: [sound], sample_rate, recipe, in_memory=True))


def feature_columns(
    features: FrameFeatures | Iterable[tuple[str, NDArray[np.floating]]],
) -> Float32:
    """Summarize features over time as the 518 columns.

    Args:
        features: as ``frame_features`` returns them; missing ones become NaN. An iterator of
            names and values is taken one by one, so that only one feature is in memory.

    Returns:
        ``(518,)``, in the order of ``COLUMNS``.

    Raises:
        ShapeError: a feature is not of the recipe, or has another number of rows, or no frame.
    """
    pairs = features.items() if isinstance(features, Mapping) else features
    summary = {name: np.full((len(STATISTICS), n), np.nan) for name, n in FEATURE_SIZES.items()}
    for name, frames in pairs:
        if np.shape(frames)[:1] != (FEATURE_SIZES.get(name),):
            raise ShapeError(f"features are those of FEATURE_SIZES; got {name} {np.shape(frames)}")
        summary[name] = summary_statistics(frames)
    return np.concatenate([values.ravel() for values in summary.values()]).astype(np.float32)


def track_features(
    blocks: Blocks, sample_rate: int, recipe: Recipe, *, in_memory: bool
) -> _Features:
    """Yield name and values of each feature as in ``frame_features``, one after another.

    Args:
        blocks: the samples, finite.
        sample_rate: samples per second.
        recipe: a version of the recipe.
        in_memory: whether spectra are kept, 4.6 kB per frame; otherwise ``blocks`` is called twice.
    """
    mel = LogMelConfig(sample_rate=sample_rate, n_mels=_N_MELS)
    assumed_rate = sample_rate if recipe.is_corrected else ASSUMED_RATE
    first = _first_pass(blocks, sample_rate, assumed_rate, mel, in_memory=in_memory)
    frames = 1 + first.samples // HOP_LENGTH
    chroma = None
    if f_max(first.tuning) <= sample_rate / 2:
        chroma = _ConstantQChroma(sample_rate, first.tuning, recipe, frames)
    spectral = _SpectralFeatures(first, assumed_rate, recipe, frames)

    def blocks_for_chroma() -> Iterator[Float32]:
        for block in blocks():
            if chroma is not None:
                chroma.add(block)
            yield block

    if first.kept is None:
        for spectra in magnitudes(blocks_for_chroma()):
            spectral.add(spectra, _mel_power(spectra * spectra, mel))
    else:
        for spectra, mel_power in first.kept:
            spectral.add(spectra, mel_power)
        first.kept = None
        for _ in blocks_for_chroma():
            pass
    zero_crossings, loudness = first.sample_frames.result()
    del first
    yield "zcr", zero_crossings[None]
    if recipe.is_corrected:
        yield "rmse", loudness[None]
    if chroma is not None:
        yield from chroma.features()
    chroma = None  # its arrays are not needed any more
    yield from spectral.features()


@dataclass
class _FirstPass:
    """What is known of a track after it was read once."""

    samples: int = 0
    tuning: float = 0.0  # of magnitudes, for the constant-Q transform
    power_tuning: float = 0.0  # of power at the assumed rate, for chroma_stft
    max_mel: float = 0.0  # greatest power of a mel band
    sample_frames: SampleFrames = field(default_factory=SampleFrames)
    kept: list[tuple[Float32, Float32]] | None = None  # spectra, and power in mel bands


def _first_pass(
    blocks: Blocks, sample_rate: int, assumed_rate: float, mel: LogMelConfig, *, in_memory: bool
) -> _FirstPass:
    result = _FirstPass(kept=[] if in_memory else None)
    tuning, power_tuning = TuningEstimator(sample_rate), TuningEstimator(assumed_rate)

    def counted() -> Iterator[Float32]:
        for block in blocks():
            result.samples += len(block)
            result.sample_frames.add(block)
            yield block

    for spectra in magnitudes(counted()):
        power = spectra * spectra
        maximum = spectra.max(axis=0)
        tuning.add(spectra, maximum)
        power_tuning.add(power, maximum * maximum)
        mel_power = _mel_power(power, mel)
        result.max_mel = max(result.max_mel, float(mel_power.max()))
        if result.kept is not None:
            result.kept.append((spectra, mel_power))
    result.tuning, result.power_tuning = tuning.result(), power_tuning.result()
    return result


def _mel_power(power: Float32, mel: LogMelConfig) -> Float32:
    """Power spectra ``(1025, frames)`` in mel bands, ``(frames, 128)``."""
    return mel_power(power.T, mel, np.empty((power.shape[1], _N_MELS), np.float32))


class _Frames:
    """An array ``(n, frames)`` that is filled from left to right."""

    def __init__(self, n: int, frames: int) -> None:
        self.values = np.empty((n, frames), np.float32)
        self.filled = 0

    def add(self, values: Float32) -> None:
        end = self.filled + values.shape[1]
        if end > self.values.shape[1]:
            raise AudioError("The file grew while it was read; try again.", code="changed")
        self.values[:, self.filled : end] = values
        self.filled = end


class _ConstantQChroma:
    """Features computed from the constant-Q transform."""

    def __init__(self, sample_rate: int, tuning: float, recipe: Recipe, frames: int) -> None:
        self._recipe = recipe
        self._transform = ConstantQ(sample_rate, tuning)
        self._fold = fold_filters(CQT_BINS, recipe.chroma_bins)
        self._frames = _Frames(N_CHROMA, frames)

    def add(self, block: Float32, *, is_last: bool = False) -> None:
        self._frames.add(self._fold @ self._transform.push(block, is_last=is_last))

    def features(self) -> _Features:
        self.add(np.empty(0, np.float32), is_last=True)
        raw = self._frames.values[:, : self._frames.filled]
        chroma = normalize(raw, np.inf)
        yield "chroma_cqt", np.asfortranarray(chroma)  # librosa's order: it decides how sums round
        smooth = cens(raw)
        yield "chroma_cens", smooth
        yield "tonnetz", tonnetz(chroma if self._recipe.is_corrected else smooth)


class _SpectralFeatures:
    """Features computed from spectra, once tuning and maximum power are known."""

    def __init__(self, first: _FirstPass, assumed_rate: float, recipe: Recipe, frames: int) -> None:
        self._rate, self._recipe = assumed_rate, recipe
        self._chroma_filters = chroma_filters(assumed_rate, first.power_tuning)
        self._max_mel = first.max_mel
        cosines = scipy.fft.dct(np.eye(_N_MELS), axis=0, type=2, norm="ortho")
        self._cosines = np.asarray(cosines[:_N_MFCC], np.float32)
        self._has_contrast = assumed_rate / 2 > HIGHEST_BAND_HZ
        self._shape = _Frames(4, frames)  # loudness, bandwidth, centroid, roll-off
        self._chroma = _Frames(N_CHROMA, frames)
        self._mfcc = _Frames(_N_MFCC, frames)
        self._extremes = _Frames(2 * CONTRAST_BANDS, frames if self._has_contrast else 0)

    def add(self, spectra: Float32, mel_power: Float32) -> None:
        power = spectra * spectra
        centroid, bandwidth = centroid_and_bandwidth(spectra, self._rate)
        shape = [rms(power), bandwidth, centroid, rolloff(spectra, self._rate)]
        self._shape.add(np.array(shape, np.float32))
        self._chroma.add(self._chroma_filters @ power)
        self._mfcc.add(self._cosines @ power_to_db(mel_power, self._max_mel).T)
        if self._has_contrast:
            strength = power if self._recipe.is_corrected else spectra
            self._extremes.add(contrast_extremes(strength, self._rate))

    def features(self) -> _Features:
        yield "chroma_stft", np.asfortranarray(normalize(self._chroma.values, np.inf))
        yield "mfcc", self._mfcc.values
        loudness, bandwidth, centroid, rolled = self._shape.values[:, None]
        if not self._recipe.is_corrected:  # which has that of the samples
            yield "rmse", loudness
        yield "spectral_bandwidth", bandwidth.astype(np.float64)
        yield "spectral_centroid", centroid.astype(np.float64)
        yield "spectral_rolloff", rolled.astype(np.float64)
        if self._has_contrast:
            peaks, valleys = np.split(self._extremes.values, 2)
            max_peak, max_valley = float(peaks.max()), float(valleys.max())
            contrast = np.empty(peaks.shape)
            for band, peak, valley in zip(contrast, peaks, valleys, strict=True):
                band[:] = power_to_db(peak.astype(np.float64), max_peak)
                band -= power_to_db(valley.astype(np.float64), max_valley)
            yield "spectral_contrast", contrast
