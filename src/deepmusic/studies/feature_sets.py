"""Sets of feature columns by name: FMA's families and combinations, and the groups of Echonest.

The names are those of FMA's baseline notebook (github.com/mdeff/fma, ``baselines.ipynb``;
Defferrard et al., ISMIR 2017), with ``all`` for its ``all_non-echonest``::

    chosen = feature_set("mfcc/contrast").select(table.columns)  # (tracks, 189)
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import RequestError, ShapeError
from deepmusic.features.recipe import COLUMNS, FEATURE_SIZES

ECHONEST_GROUPS = {
    "audio_features": 8,
    "metadata": 7,  # names and dates
    "ranks": 5,
    "social_features": 5,
    "temporal_features": 224,
}
"""The groups of ``echonest.csv`` with their numbers of columns, in its order: 249 in all."""

_PARTS = {
    "features": [family for family, _, _ in COLUMNS],
    "echonest": [group for group, size in ECHONEST_GROUPS.items() for _ in range(size)],
}  # the family or group of each column, by table


@dataclass(frozen=True)
class FeatureSet:
    """Some columns of a table."""

    name: str
    table: Literal["features", "echonest"]  # the 518 of COLUMNS, or the 249 of FMA's echonest.csv
    parts: tuple[str, ...]  # the families, or groups of Echonest, that it consists of

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """The indices of its columns in the table, ascending."""
        return tuple(i for i, part in enumerate(_PARTS[self.table]) if part in self.parts)

    def select(self, table: NDArray[Any]) -> NDArray[Any]:
        """Its columns ``(tracks, len(columns))`` of a whole table, as a copy.

        Raises:
            ShapeError: the table has another number of columns.
        """
        wanted = len(_PARTS[self.table])
        if table.ndim != 2 or table.shape[1] != wanted:
            raise ShapeError(
                f"The set {self.name!r} takes a table (tracks, {wanted}); got {table.shape}."
            )
        return table[:, np.array(self.columns, np.intp)]


_SHORT = {
    "contrast": "spectral_contrast", "chroma": "chroma_cens", "centroid": "spectral_centroid",
    "audio": "audio_features", "social": "social_features", "temporal": "temporal_features",
}  # fmt: skip
_MIXED = "mfcc/contrast/chroma/centroid"
_COMBINATIONS = ("mfcc/contrast", "mfcc/contrast/chroma", "mfcc/contrast/centroid",
                 _MIXED, f"{_MIXED}/tonnetz", f"{_MIXED}/zcr")  # fmt: skip


def _parts(name: str) -> tuple[str, ...]:
    return tuple(_SHORT.get(part, part) for part in name.split("/"))


FEATURE_SETS: dict[str, FeatureSet] = {
    name: FeatureSet(name, "features", _parts(name)) for name in (*FEATURE_SIZES, *_COMBINATIONS)
} | {"all": FeatureSet("all", "features", tuple(FEATURE_SIZES))}
"""By name, in the order of the notebook: 11 families, 6 combinations, and all 518 columns."""

ECHONEST_SETS: dict[str, FeatureSet] = {
    f"echonest_{name}": FeatureSet(f"echonest_{name}", "echonest", _parts(parts))
    for name, parts in {
        **{name: name for name in ("audio", "social", "temporal", "audio/social", "ranks")},
        "all": "audio/social/temporal",
    }.items()
}
"""By name: the five sets of the notebook, and the ranks, which it leaves out."""


def feature_set(name: str) -> FeatureSet:
    """Look up a set, or combine families joined by ``+``, such as ``"mfcc+zcr"``.

    Raises:
        RequestError: there is no such set.

    Example:
        >>> len(feature_set("mfcc+zcr").columns)
        147
    """
    sets = FEATURE_SETS | ECHONEST_SETS
    if name in sets:
        return sets[name]
    parts = name.split("+")
    if len(parts) > 1 and set(parts) <= set(FEATURE_SIZES) and len(set(parts)) == len(parts):
        return FeatureSet(name, "features", tuple(parts))
    close = difflib.get_close_matches(name, sets, 3)
    hint = f"perhaps {' or '.join(map(repr, close))}" if close else f"there are {', '.join(sets)}"
    raise RequestError(
        f"There is no feature set {name!r}; {hint}; families are joined as in 'mfcc+zcr'."
    )
