"""The 518 features of FMA and what they are made of, exact and fast; neither librosa nor torch.

Names are looked up on first use: whoever only wants column names loads no compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepmusic.features.recipe import COLUMNS, RECIPES, ROWS, Recipe, recipe_named
from deepmusic.features.statistics import STATISTICS, describe

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

_LAZY = {
    "chroma_cqt": "spectrograms",
    "chroma_stft": "spectrograms",
    "cqt": "spectrograms",
    "log_mel_spectrogram": "spectrograms",
    "mfcc": "spectrograms",
    "onset_strength": "rhythm",
    "tempo": "rhythm",
    "tempogram": "rhythm",
    "estimate_tuning": "spectrograms",
    "FeatureTable": "table",
    "TrackFeatures": "extraction",
    "extract": "extraction",
    "extract_file": "extraction",
    "extract_library": "library",
    "feature_columns": "track",
    "feature_rows": "track",
    "read_features": "table",
    "write_features": "table",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
