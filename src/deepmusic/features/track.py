"""All features of one track, from samples that are read once, or twice where the track is long.

Tuning and loudness are known only at the end, and much depends on them. The spectra of a short
track are kept until then; a long one is read again, so that memory stays bounded: what is kept of
it is a few hundred bytes for each frame of 512 samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from deepmusic.audio import LogMelConfig
from deepmusic.audio.mel import mel_power
from deepmusic.errors import AudioError
from deepmusic.features.chroma import (
    CLASSES,
    cens,
    chroma_filters,
    fold_filters,
    normalised,
    tonnetz,
)
from deepmusic.features.constant_q import BINS as CONSTANT_Q_BINS, ConstantQ, highest_hz
from deepmusic.features.recipe import ROWS, Recipe, recipe_named
from deepmusic.features.spectra import FFT_SIZE, HOP, magnitudes
from deepmusic.features.spectral import (
    CONTRAST_BANDS,
    HIGHEST_BAND_HZ,
    HopTotals,
    centroid_and_bandwidth,
    contrast_ends,
    decibels,
    rms,
    rolloff,
)
from deepmusic.features.statistics import describe
from deepmusic.features.tuning import PeakFinder

Blocks = Callable[[], Iterable[NDArray[np.float32]]]
"""Gives the samples of a track, ``(n,)`` at a time, from the start each time it is called."""

Rows = Mapping[str, NDArray[np.floating]]
"""Features over time, ``(rows, frames)`` each, by name."""

_ASSUMED_RATE = 22050.0
_MELS, _MFCC = 128, 20


@dataclass
class _Survey:
    """What is known of a track when it was heard once."""

    samples: int = 0
    tuning: float = 0.0  # of the constant-Q transform
    tuning_assumed: float = 0.0  # of power at the assumed rate
    loudest_mel: float = 0.0
    totals: HopTotals = field(default_factory=HopTotals)
    kept: list[tuple[NDArray[np.float32], NDArray[np.float32]]] | None = None


class _Writer:
    """The rows of a track, filled from left to right."""

    def __init__(self, rows: int, frames: int) -> None:
        self.rows = np.empty((rows, frames), np.float32)
        self.filled = 0

    def add(self, columns: NDArray[np.float32]) -> None:
        if self.filled + columns.shape[1] > self.rows.shape[1]:
            raise AudioError("It grew while it was read; try again.", code="changed")
        self.rows[:, self.filled : self.filled + columns.shape[1]] = columns
        self.filled += columns.shape[1]


def feature_rows(
    samples: NDArray[np.float32], sample_rate: int, recipe: Recipe | str = "fma"
) -> dict[str, NDArray[np.floating]]:
    """Features over time of sound in memory.

    Args:
        samples: ``(n,)`` mono, at least one; float64 is rounded to float32.
        sample_rate: samples per second.
        recipe: a version of the recipe, or its name.

    Returns:
        ``(rows, frames)`` for each name of :data:`~deepmusic.features.ROWS`, one frame every 512
        samples. What the rate is too low for is left out: the constant-Q transform and what comes
        from it below 8,390 Hz or so, by the tuning; the corrected contrast up to 12,800 Hz.

    Raises:
        RequestError: there is no such recipe.
        ValueError: samples are not one-dimensional, none, or not finite.
    """
    sound = np.ascontiguousarray(samples, np.float32)
    if sound.ndim != 1 or not len(sound):
        raise ValueError(f"samples are one channel, shape (n,), n > 0; got {sound.shape}")
    if not np.isfinite(sound).all():
        raise ValueError("samples must be finite numbers")
    chosen = recipe_named(recipe) if isinstance(recipe, str) else recipe
    return dict(families_of(lambda: [sound], sample_rate, chosen, keeps=True))


def feature_columns(rows: Rows) -> NDArray[np.float32]:
    """The 518 columns of features over time.

    Args:
        rows: as :func:`feature_rows` gives them; what is missing becomes NaN.

    Returns:
        ``(518,)``, in the order of :data:`~deepmusic.features.COLUMNS`.
    """
    return columns_of(rows.items())


def columns_of(families: Iterable[tuple[str, NDArray[np.floating]]]) -> NDArray[np.float32]:
    """The 518 columns of names and rows, which are taken one after another."""
    found = {name: describe(rows) for name, rows in families}
    missing = {name: np.full((7, count), np.nan) for name, count in ROWS.items()}
    columns = [{**missing, **found}[name].ravel() for name in ROWS]
    return np.concatenate(columns).astype(np.float32)


def families_of(
    blocks: Blocks, sample_rate: int, recipe: Recipe, *, keeps: bool
) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Name and rows of each feature, as in :func:`feature_rows`, one after another.

    Whoever keeps none of them needs memory for one at a time.

    Args:
        blocks: the samples, finite.
        sample_rate: samples per second.
        recipe: a version of the recipe.
        keeps: whether spectra are kept in memory, 4.6 kB a frame; otherwise ``blocks`` is called
            twice.
    """
    mel = LogMelConfig(sample_rate=sample_rate, n_fft=FFT_SIZE, hop_length=HOP, n_mels=_MELS)
    told = float(sample_rate) if recipe.is_corrected else _ASSUMED_RATE
    survey = _survey(blocks, sample_rate, told, mel, keeps=keeps)
    frames = 1 + survey.samples // HOP
    chroma = None
    if highest_hz(survey.tuning) <= sample_rate / 2:
        chroma = _PitchClasses(sample_rate, survey.tuning, recipe, frames)
    spectral = _Spectral(survey, told, recipe, frames)
    if survey.kept is not None:
        for spectra, n_mels in survey.kept:
            spectral.add(spectra, n_mels)
        survey.kept = None
        if chroma is not None:
            for block in blocks():
                chroma.add(block)
    else:
        sound = blocks() if chroma is None else chroma.heard(blocks())
        for spectra in magnitudes(sound):
            spectral.add(spectra, _mels(spectra * spectra, mel))
    crossings, loudness = survey.totals.by_frame()
    del survey
    yield "zcr", crossings[None]
    if recipe.is_corrected:
        yield "rmse", loudness[None]
    if chroma is not None:
        yield from chroma.families()
    del chroma
    yield from spectral.families()


def _survey(
    blocks: Blocks, sample_rate: int, told: float, mel: LogMelConfig, *, keeps: bool
) -> _Survey:
    survey = _Survey(kept=[] if keeps else None)
    peaks, peaks_assumed = PeakFinder(sample_rate, FFT_SIZE), PeakFinder(told, FFT_SIZE)

    def counted() -> Iterator[NDArray[np.float32]]:
        for block in blocks():
            survey.samples += len(block)
            survey.totals.add(block)
            yield block

    power = np.empty(0, np.float32)
    for spectra in magnitudes(counted()):
        power = np.multiply(spectra, spectra, out=_room(power, spectra))
        greatest = spectra.max(axis=0)
        peaks.add(spectra, greatest)
        peaks_assumed.add(power, greatest * greatest)
        n_mels = _mels(power, mel)
        survey.loudest_mel = max(survey.loudest_mel, float(n_mels.max()))
        if survey.kept is not None:
            survey.kept.append((spectra, n_mels))
    survey.tuning, survey.tuning_assumed = peaks.tuning(), peaks_assumed.tuning()
    return survey


def _room(before: NDArray[np.float32], like: NDArray[np.float32]) -> NDArray[np.float32]:
    """An array to write to: one from before, if it has the shape; new memory costs time."""
    return before if before.shape == like.shape else np.empty_like(like)


def _mels(power: NDArray[np.float32], mel: LogMelConfig) -> NDArray[np.float32]:
    """Spectra of power ``(1025, frames)`` in mel bands, ``(frames, 128)``."""
    return mel_power(power.T, mel, np.empty((power.shape[1], _MELS), np.float32))


class _PitchClasses:
    """Constant-Q chroma of a track, of any loudness."""

    def __init__(self, sample_rate: int, tuning: float, recipe: Recipe, frames: int) -> None:
        self._recipe = recipe
        self._transform = ConstantQ(sample_rate, tuning, is_exact=not recipe.is_fast)
        self._fold = fold_filters(CONSTANT_Q_BINS, recipe.chroma_bins)
        self._written = _Writer(CLASSES, frames)

    def add(self, block: NDArray[np.float32], *, is_last: bool = False) -> None:
        magnitude = self._transform.push(block, is_last=is_last)
        self._written.add(self._fold @ magnitude)

    def heard(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """The blocks, each after it was added."""
        for block in blocks:
            self.add(block)
            yield block

    def families(self) -> Iterator[tuple[str, NDArray[np.floating]]]:
        self.add(np.empty(0, np.float32), is_last=True)
        raw = self._written.rows[:, : self._written.filled]
        yield "chroma_cqt", _by_frame(normalised(raw, np.inf))
        smooth = cens(raw)
        yield "chroma_cens", smooth
        if self._recipe.is_corrected:
            smooth = normalised(raw, np.inf)
        yield "tonnetz", tonnetz(smooth)


class _Spectral:
    """What is told from spectra, once tuning and loudness are known."""

    def __init__(self, survey: _Survey, told: float, recipe: Recipe, frames: int) -> None:
        self._told, self._recipe = told, recipe
        self._filters = chroma_filters(told, survey.tuning_assumed)
        self._loudest_mel = survey.loudest_mel
        self._cosines = _cosines()
        self._has_contrast = told / 2 > HIGHEST_BAND_HZ
        self._power = np.empty(0, np.float32)
        self._shape = _Writer(4, frames)  # rms, centroid, bandwidth, rolloff
        self._chroma = _Writer(CLASSES, frames)
        self._mfcc = _Writer(_MFCC, frames)
        self._ends = _Writer(2 * CONTRAST_BANDS, frames if self._has_contrast else 0)

    def add(self, spectra: NDArray[np.float32], n_mels: NDArray[np.float32]) -> None:
        power = self._power = np.multiply(spectra, spectra, out=_room(self._power, spectra))
        centre, width = centroid_and_bandwidth(spectra, self._told)
        shape = [rms(power), width, centre, rolloff(spectra, self._told)]
        self._shape.add(np.array(shape, np.float32))
        self._chroma.add(self._filters @ power)
        self._mfcc.add(self._cosines @ decibels(n_mels, self._loudest_mel).T)
        if self._has_contrast:
            told = power if self._recipe.is_corrected else spectra
            self._ends.add(contrast_ends(told, self._told))

    def families(self) -> Iterator[tuple[str, NDArray[np.floating]]]:
        yield "chroma_stft", _by_frame(normalised(self._chroma.rows, np.inf))
        yield "mfcc", self._mfcc.rows
        loudness, width, centre, rolled = self._shape.rows[:, None]
        if not self._recipe.is_corrected:  # which has that of the samples
            yield "rmse", loudness
        yield "spectral_bandwidth", width.astype(np.float64)
        yield "spectral_centroid", centre.astype(np.float64)
        yield "spectral_rolloff", rolled.astype(np.float64)
        if self._has_contrast:
            peaks, valleys = np.split(self._ends.rows, 2)
            loudest = float(peaks.max()), float(valleys.max())
            contrast = np.empty(peaks.shape)
            for band, peak, valley in zip(contrast, peaks, valleys, strict=True):
                band[:] = decibels(peak.astype(np.float64), loudest[0])
                band -= decibels(valley.astype(np.float64), loudest[1])
            yield "spectral_contrast", contrast


def _by_frame(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same values in librosa's order in memory: its statistics add them up in that order."""
    return np.asfortranarray(rows)


def _cosines() -> NDArray[np.float32]:
    """From mel bands to cepstral coefficients, ``(20, 128)``."""
    transform = scipy.fft.dct(np.eye(_MELS), axis=0, type=2, norm="ortho")
    return np.asarray(transform[:_MFCC], np.float32)
