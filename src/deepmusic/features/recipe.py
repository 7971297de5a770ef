"""The 518 columns of FMA (Defferrard et al., ISMIR 2017) and versions of their recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deepmusic.errors import RequestError
from deepmusic.features.statistics import STATISTICS

ROWS = {
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
"""Each feature with its rows over time; each row gives one column a statistic."""

COLUMNS: tuple[tuple[str, str, str], ...] = tuple(
    (feature, statistic, f"{row + 1:02d}")
    for feature, rows in ROWS.items()
    for statistic in STATISTICS
    for row in range(rows)
)
"""Feature, statistic and number of every column, in the order of the published table."""


@dataclass(frozen=True)
class Recipe:
    """A version of the recipe.

    Args:
        name: a key of :data:`RECIPES`.
        version: goes up when values change.
        chroma_bins: constant-Q bins taken for an octave when they are folded into pitch classes.
        is_corrected: whether every feature is told the true rate, loudness is that of the samples,
            contrast is that of power, and the tonnetz comes from chroma that is not quantised.
            Otherwise all but ``chroma_cqt``, ``chroma_cens``, ``tonnetz`` and ``mfcc`` take sound
            for 22,050 Hz, whatever its rate.
        summary: one sentence for people.
        is_fast: whether the constant-Q transform is in single precision: ``chroma_cqt``,
            ``chroma_cens`` and ``tonnetz`` are then nearly, not exactly, librosa's.
    """

    name: str
    version: int
    chroma_bins: int
    is_corrected: bool
    summary: str
    is_fast: bool = False

    @property
    def mode(self) -> str:
        """``"exact"`` or ``"fast"``, as tables name it."""
        return "fast" if self.is_fast else "exact"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("fma", 1, 12, False, "What the published table means, quirks and all."),
        Recipe(
            "fma-librosa",
            1,
            36,
            False,
            "What the published script gives on librosa 0.8 and later: chroma folded otherwise.",
        ),
        Recipe(
            "fma-corrected",
            1,
            12,
            True,
            "True rates, loudness of the samples, contrast of power, tonnetz of plain chroma.",
        ),
    )
}
"""By name."""


def recipe_named(name: str, *, is_fast: bool = False) -> Recipe:
    """Look a recipe up.

    Args:
        name: a key of :data:`RECIPES`.
        is_fast: whether to have its fast mode.

    Raises:
        RequestError: there is none of that name.
    """
    if name not in RECIPES:
        raise RequestError(f"There is no recipe {name!r}; there are {', '.join(RECIPES)}.")
    return replace(RECIPES[name], is_fast=is_fast)
