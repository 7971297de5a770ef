"""FMA's recipe in its three versions, computed by librosa: the oracle of the tests."""

from __future__ import annotations

import warnings

import librosa
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from deepmusic.features import FEATURE_SIZES, STATISTICS

Rows = dict[str, NDArray[np.floating]]


def librosa_rows(y: NDArray[np.float32], sr: int, recipe: str) -> Rows:
    """Features over time, computed by librosa according to a recipe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # short and silent sounds
        return _rows(y, sr, recipe)


def _rows(y: NDArray[np.float32], sr: int, recipe: str) -> Rows:
    feature = librosa.feature
    corrected = recipe == "fma-corrected"
    rate = {"sr": sr} if corrected else {}
    bins = {} if recipe == "fma-librosa" else {"bins_per_octave": 12}
    magnitude = np.abs(librosa.stft(y, n_fft=2048, hop_length=512))
    power = magnitude**2
    cqt = np.abs(
        librosa.cqt(y, sr=sr, hop_length=512, bins_per_octave=12, n_bins=7 * 12, tuning=None)
    )
    chroma = feature.chroma_cqt(C=cqt, n_chroma=12, n_octaves=7, **bins)
    cens = feature.chroma_cens(C=cqt, n_chroma=12, n_octaves=7, **bins)
    mel = feature.melspectrogram(S=power, sr=sr)
    return {
        "chroma_cens": cens,
        "chroma_cqt": chroma,
        "chroma_stft": feature.chroma_stft(S=power, n_chroma=12, **rate),
        "mfcc": feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20),
        "rmse": feature.rms(y=y) if corrected else feature.rms(S=magnitude),
        "spectral_bandwidth": feature.spectral_bandwidth(S=magnitude, **rate),
        "spectral_centroid": feature.spectral_centroid(S=magnitude, **rate),
        "spectral_contrast": feature.spectral_contrast(
            S=power if corrected else magnitude, n_bands=6, **rate
        ),
        "spectral_rolloff": feature.spectral_rolloff(S=magnitude, **rate),
        "tonnetz": feature.tonnetz(chroma=chroma if corrected else cens),
        "zcr": feature.zero_crossing_rate(y, frame_length=2048, hop_length=512),
    }


def librosa_columns(rows: Rows) -> NDArray[np.float32]:
    """The 518 columns of features over time, by SciPy."""
    columns = []
    for name in FEATURE_SIZES:
        values = rows[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # rows that do not vary
            values_by_name = {
                "kurtosis": np.nan_to_num(stats.kurtosis(values, axis=1), nan=-3.0),
                "max": values.max(axis=1),
                "mean": values.mean(axis=1),
                "median": np.median(values, axis=1),
                "min": values.min(axis=1),
                "skew": np.nan_to_num(stats.skew(values, axis=1), nan=0.0),
                "std": values.std(axis=1),
            }
        columns += [values_by_name[statistic] for statistic in STATISTICS]
    return np.concatenate(columns).astype(np.float32)
