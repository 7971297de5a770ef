"""The 518 columns of FMA (Defferrard et al., ISMIR 2017) and the versions of their recipe."""

from __future__ import annotations

from dataclasses import dataclass

from deepmusic.errors import RequestError
from deepmusic.features.statistics import STATISTICS

FEATURE_SIZES = {
    "chroma_cens": 12,
    "chroma_cqt": 12,
    "chroma_stft": 12,
    "mfcc": 20,
    "rmse": 1,
    "spectral_bandwidth": 1,
    "spectral_centroid": 1,
    "spectral_contrast": 7,
    "spectral_rolloff": 1,
    "tonnetz": 6,
    "zcr": 1,
}
"""Each feature with its number of values per frame; each value gives one column per statistic."""

COLUMNS: tuple[tuple[str, str, str], ...] = tuple(
    (feature, statistic, f"{index + 1:02d}")
    for feature, size in FEATURE_SIZES.items()
    for statistic in STATISTICS
    for index in range(size)
)
"""Feature, statistic and number of every column, in the order of the published table."""


@dataclass(frozen=True)
class Recipe:
    """A version of the recipe.

    Args:
        name: a key of ``RECIPES``.
        version: increases when values change.
        chroma_bins: constant-Q bins counted as one octave when they are folded to pitch classes.
        is_corrected: whether every feature uses the true sample rate, loudness and contrast are
            computed from samples and power, and tonnetz comes from chroma that is not quantised.
            Otherwise all but ``chroma_cqt``, ``chroma_cens``, ``tonnetz`` and ``mfcc`` assume
            22,050 Hz, whatever the sample rate.
    """

    name: str
    version: int
    chroma_bins: int
    is_corrected: bool


RECIPES = {
    "fma": Recipe("fma", 1, 12, False),
    "fma-librosa": Recipe("fma-librosa", 1, 36, False),
    "fma-corrected": Recipe("fma-corrected", 1, 12, True),
}
"""By name: what the published table means, quirks included; what the published script computes with
librosa 0.8 or later, where chroma is folded differently; and the recipe without its mistakes."""


def recipe_named(name: str) -> Recipe:
    """Look up a recipe.

    Raises:
        RequestError: there is no recipe of that name.
    """
    if name not in RECIPES:
        raise RequestError(f"There is no recipe {name!r}; choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]
