"""The 518 features of FMA and what they are made of, exact and fast; neither librosa nor torch.

Names are looked up on first use: whoever only wants column names loads no compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepmusic.features.recipe import COLUMNS, RECIPES, ROWS, Recipe, recipe_named
from deepmusic.features.statistics import STATISTICS, describe
from deepmusic.lazy import lazy_names

if TYPE_CHECKING:
    from deepmusic.features.extraction import TrackFeatures, extract, extract_file
    from deepmusic.features.library import extract_library
    from deepmusic.features.rhythm import onset_strength, tempo, tempogram
    from deepmusic.features.spectrograms import (
        chroma_cqt,
        chroma_stft,
        cqt,
        estimate_tuning,
        log_mel_spectrogram,
        mfcc,
    )
    from deepmusic.features.table import FeatureTable, read_features, write_features
    from deepmusic.features.track import feature_columns, feature_rows

__all__ = [
    "COLUMNS",
    "RECIPES",
    "ROWS",
    "STATISTICS",
    "FeatureTable",
    "Recipe",
    "TrackFeatures",
    "chroma_cqt",
    "chroma_stft",
    "cqt",
    "describe",
    "estimate_tuning",
    "extract",
    "extract_file",
    "extract_library",
    "feature_columns",
    "feature_rows",
    "log_mel_spectrogram",
    "mfcc",
    "onset_strength",
    "read_features",
    "recipe_named",
    "tempo",
    "tempogram",
    "write_features",
]

_MODULES = {
    "spectrograms": (
        "chroma_cqt",
        "chroma_stft",
        "cqt",
        "log_mel_spectrogram",
        "mfcc",
        "estimate_tuning",
    ),
    "rhythm": ("onset_strength", "tempo", "tempogram"),
    "table": ("FeatureTable", "read_features", "write_features"),
    "extraction": ("TrackFeatures", "extract", "extract_file"),
    "library": ("extract_library",),
    "track": ("feature_columns", "feature_rows"),
}

__getattr__, __dir__ = lazy_names(__name__, __all__, _MODULES)
