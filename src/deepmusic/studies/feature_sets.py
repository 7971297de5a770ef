"""Sets of feature columns by name: FMA's families and combinations, and the groups of Echonest.

The names are those of FMA's baseline notebook (github.com/mdeff/fma, ``baselines.ipynb``;
Defferrard et al., ISMIR 2017), with ``all`` for its ``all_non-echonest``::

    chosen = feature_set("mfcc/contrast").select(table.columns)  # (tracks, 189)
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import RequestError, ShapeError
from deepmusic.features.recipe import COLUMNS, FEATURE_SIZES

ECHONEST_GROUPS = {
    "audio_features": 8,
    "metadata": 7,
    "ranks": 5,
    "social_features": 5,
    "temporal_features": 224,
}
"""The groups of ``echonest.csv`` with their numbers of columns, in its order: 249 in all."""

_COLUMNS_OF = {"features": len(COLUMNS), "echonest": sum(ECHONEST_GROUPS.values())}


@dataclass(frozen=True)
class FeatureSet:
    """Some columns of a table.

    Args:
        name: of the set.
        table: ``"features"``, the 518 columns of ``COLUMNS``, or
            ``"echonest"``, the 249 of FMA's table.
        parts: the families, or groups of Echonest, that it consists of.
        columns: the indices of its columns in the table, ascending.
    """

    name: str
    table: Literal["features", "echonest"]
    parts: tuple[str, ...]
    columns: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of columns."""
        return len(self.columns)

    @property
    def is_numeric(self) -> bool:
        """Whether all columns are numbers; Echonest's metadata are names and dates."""
        return "metadata" not in self.parts

    def select(self, table: NDArray[Any]) -> NDArray[Any]:
        """Its columns ``(tracks, size)`` of a whole table, as a copy.

        Raises:
            ShapeError: the table has another number of columns.
        """
        wanted = _COLUMNS_OF[self.table]
        if table.ndim != 2 or table.shape[1] != wanted:
            raise ShapeError(
                f"The set {self.name!r} takes a table (tracks, {wanted}); got {table.shape}."
            )
        return table[:, np.array(self.columns, np.intp)]


def _of_families(name: str, families: Sequence[str]) -> FeatureSet:
    indices = [index for index, (family, _, _) in enumerate(COLUMNS) if family in families]
    return FeatureSet(name, "features", tuple(families), tuple(indices))


def _of_echonest(name: str, groups: Sequence[str]) -> FeatureSet:
    ends = accumulate(ECHONEST_GROUPS.values())
    spans = {
        group: range(end - size, end)
        for (group, size), end in zip(ECHONEST_GROUPS.items(), ends, strict=True)
    }
    return FeatureSet(name, "echonest", tuple(groups), tuple(i for g in groups for i in spans[g]))


_BOTH = ("mfcc", "spectral_contrast")
_COMBINATIONS: dict[str, tuple[str, ...]] = {
    "mfcc/contrast": _BOTH,
    "mfcc/contrast/chroma": (*_BOTH, "chroma_cens"),
    "mfcc/contrast/centroid": (*_BOTH, "spectral_centroid"),
    "mfcc/contrast/chroma/centroid": (*_BOTH, "chroma_cens", "spectral_centroid"),
    "mfcc/contrast/chroma/centroid/tonnetz": (
        *_BOTH, "chroma_cens", "spectral_centroid", "tonnetz",
    ),
    "mfcc/contrast/chroma/centroid/zcr": (*_BOTH, "chroma_cens", "spectral_centroid", "zcr"),
    "all": tuple(FEATURE_SIZES),
}  # fmt: skip

FEATURE_SETS: dict[str, FeatureSet] = {
    name: _of_families(name, families)
    for name, families in ({family: (family,) for family in FEATURE_SIZES} | _COMBINATIONS).items()
}
"""By name, in the order of the notebook: 11 families, 6 combinations, and all 518 columns."""

ECHONEST_SETS: dict[str, FeatureSet] = {
    name: _of_echonest(name, groups)
    for name, groups in {
        "echonest_audio": ("audio_features",),
        "echonest_social": ("social_features",),
        "echonest_temporal": ("temporal_features",),
        "echonest_audio/social": ("audio_features", "social_features"),
        "echonest_all": ("audio_features", "social_features", "temporal_features"),
        "echonest_ranks": ("ranks",),
        "echonest_metadata": ("metadata",),
    }.items()
}
"""By name: the five sets of the notebook, and the two groups that it leaves out."""


def feature_set(name: str) -> FeatureSet:
    """Look up a set, or combine families joined by ``+``, such as ``"mfcc+zcr"``.

    Raises:
        RequestError: there is no such set.
    """
    named = FEATURE_SETS | ECHONEST_SETS
    if name in named:
        return named[name]
    parts = name.split("+")
    if len(parts) > 1 and set(parts) <= set(FEATURE_SIZES) and len(set(parts)) == len(parts):
        return _of_families(name, parts)
    close = difflib.get_close_matches(name, named, 3)
    hint = f"perhaps {' or '.join(map(repr, close))}" if close else f"there are {', '.join(named)}"
    raise RequestError(
        f"There is no feature set {name!r}; {hint}; families are joined as in 'mfcc+zcr'."
    )
