"""Compare two tables of the 518 features column by column, and with what their recipes explain.

An error is ``|a - b| / max(|b|, s)``: B is the reference, s the standard deviation of its column
over the tracks that both tables have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import normpath
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DataError
from deepmusic.features.recipe import FEATURE_SIZES, RECIPES
from deepmusic.features.table import COLUMN_NAMES, FeatureTable

_CONSTANT_Q = {"chroma_cens", "chroma_cqt", "tonnetz"}
_ASSUME_A_RATE = {"chroma_stft", "spectral_bandwidth", "spectral_centroid", "spectral_rolloff"}
_PUBLISHED = "FMA's published table"
_RMSE_FACTOR = 2048 / np.sqrt(2 * 1025)  # librosa 0.5 took the mean over bins, without scaling


@dataclass(frozen=True)
class Matching:
    """Which rows of two tables belong to the same track.

    Args:
        a: row numbers of A, ascending.
        b: for each of them the row number of B.
        by: ``path`` or ``name``: the stem of the file, or FMA's number.
        only_a: paths that only A has, in its order.
        only_b: paths that only B has.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]
    by: str
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.a)


@dataclass(frozen=True)
class ColumnDifference:
    """How much a column of A differs from that of B.

    Args:
        name: such as ``mfcc/mean/01``.
        tracks: number of tracks with a value in both tables.
        one_sided: number of tracks with a value in one table only; NaN in both agrees.
        median, p95, maximum: of the error over ``tracks``; NaN where there is none.
        beyond: share of the matched tracks whose error exceeds the tolerance, or that have a value
            in one table only.
    """

    name: str
    tracks: int
    one_sided: int
    median: float
    p95: float
    maximum: float
    beyond: float

    @property
    def feature(self) -> str:
        """The feature, such as ``mfcc``."""
        return self.name.partition("/")[0]

    @property
    def agrees(self) -> bool:
        """Whether all tracks are within the tolerance."""
        return self.beyond == 0


@dataclass(frozen=True)
class Expectation:
    """What the recipes of two tables imply.

    Args:
        summary: one sentence.
        may_differ: features that can differ.
        must_differ: those of them that differ in any sound.
    """

    summary: str
    may_differ: set[str]
    must_differ: set[str]


@dataclass(frozen=True)
class Comparison:
    """Two tables compared.

    Args:
        matching: which tracks were compared.
        tolerance: of the error.
        columns: 518, in the order of ``COLUMNS``.
        expectation: from the names of the recipes; None where the tables do not name them.
    """

    matching: Matching
    tolerance: float
    columns: tuple[ColumnDifference, ...]
    expectation: Expectation | None

    @property
    def agrees(self) -> bool:
        """Whether all columns are within the tolerance."""
        return all(column.agrees for column in self.columns)

    @property
    def verdict(self) -> str:
        """Whether the differences are as the recipes imply, as one sentence; empty if unknown."""
        if self.expectation is None:
            return ""
        differing = {column.feature for column in self.columns if not column.agrees}
        unexpected = differing - self.expectation.may_differ
        missing = self.expectation.must_differ - differing
        parts = [f"{_listed(unexpected)} should agree but differ"] if unexpected else []
        parts += [f"{_listed(missing)} should differ but agree"] if missing else []
        return f"Unexpected: {'; '.join(parts)}." if parts else "The tables are as expected."


def compare(a: FeatureTable, b: FeatureTable, *, tolerance: float = 1e-4) -> Comparison:
    """Compare two tables over the tracks that both have.

    Args:
        a: of any recipe.
        b: the reference.
        tolerance: greatest error that counts as agreement.

    Raises:
        DataError: tracks cannot be matched.
    """
    matching = match_tracks(a.paths, b.paths)
    rows_a, rows_b = np.array(matching.a), np.array(matching.b)
    columns = []
    for index, name in enumerate(COLUMN_NAMES):
        # one column at a time: whole tables in double precision would be large
        error = relative_error(
            a.columns[rows_a, index].astype(np.float64),
            b.columns[rows_b, index].astype(np.float64),
        )
        both = error[np.isfinite(error)]
        one_sided = int(np.isinf(error).sum())
        beyond = (int((both > tolerance).sum()) + one_sided) / len(matching)
        quantiles = np.quantile(both, [0.5, 0.95, 1]) if len(both) else np.full(3, np.nan)
        median, p95, maximum = quantiles.tolist()
        column = ColumnDifference(name, len(both), one_sided, median, p95, maximum, beyond)
        columns.append(column)
    return Comparison(matching, tolerance, tuple(columns), expected_difference(a, b))


def relative_error(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Error of each value of a column: ``|a - b| / max(|b|, standard deviation of b)``.

    Args:
        a: ``(tracks,)``.
        b: likewise, the reference.

    Returns:
        ``(tracks,)``; NaN where both are NaN, infinite where only one is finite. Where the
        reference is all zeros, the error of another number is 1.
    """
    finite = np.isfinite(b)
    scale = np.maximum(np.abs(b), b[finite].std() if finite.any() else 0.0)
    scale = np.where(scale > 0, scale, np.abs(a))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.minimum(np.abs(a - b) / scale, np.finfo(np.float64).max)
    error[~(np.isfinite(a) & finite)] = np.inf
    error[a == b] = 0
    error[np.isnan(a) & np.isnan(b)] = np.nan
    return error


def match_tracks(a: Sequence[str], b: Sequence[str]) -> Matching:
    """Find the tracks that both tables have: by path or, if no path is the same, by name.

    A name is the stem of a file; one of digits is FMA's number, so that ``2``, ``000002.mp3`` and
    ``000/000002.mp3`` are the same. Swapping A and B gives the same pairs.

    Raises:
        DataError: there is no common track, or two rows of a table could be the same one.
    """
    for by, key in (("path", normpath), ("name", _track_name)):
        rows_a, rows_b = _rows_by_key(a, key), _rows_by_key(b, key)
        common = [name for name in rows_a if name in rows_b]
        if not common:
            continue
        for letter, paths, rows in (("A", a, rows_a), ("B", b, rows_b)):
            twice = next((rows[name] for name in common if len(rows[name]) > 1), None)
            if twice is not None:
                raise DataError(
                    f"Table {letter} has the same {by} twice, {paths[twice[0]]!r} and "
                    f"{paths[twice[1]]!r}, so its rows cannot be matched; give tables whose paths "
                    "agree, each once."
                )
        pairs = sorted((rows_a[name][0], rows_b[name][0]) for name in common)
        in_a, in_b = zip(*pairs, strict=True)
        return Matching(in_a, in_b, by, _without(a, in_a), _without(b, in_b))
    some_a, some_b = (f"such as {paths[0]!r}" if paths else "no row" for paths in (a, b))
    raise DataError(
        f"The tables have no track in common, neither by path nor by name: A has {some_a}, B has "
        f"{some_b}."
    )


def _rows_by_key(paths: Sequence[str], key: Callable[[str], str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        if path:
            rows.setdefault(key(path), []).append(row)
    return rows


def _without(paths: Sequence[str], rows: Sequence[int]) -> tuple[str, ...]:
    matched = set(rows)
    return tuple(path for row, path in enumerate(paths) if row not in matched)


def _track_name(path: str) -> str:
    stem = PurePath(path).stem
    is_number = stem.isascii() and stem.isdigit()
    return stem.lstrip("0") or "0" if is_number else stem


def expected_difference(a: FeatureTable, b: FeatureTable) -> Expectation | None:
    """What the recipes of two tables imply; None where one is unknown.

    A table that names no recipe and has only numbers as paths is taken for FMA's published table.
    """
    name_a, name_b = _recipe_name(a), _recipe_name(b)
    if not (name_a and name_b):
        return None
    between = f"Between {name_a} and {name_b}"
    everything = set(FEATURE_SIZES)
    if name_a == name_b and a.version != b.version:
        return Expectation(f"{between}, any feature can differ.", everything, set())
    recipe_a, recipe_b = (RECIPES["fma" if n == _PUBLISHED else n] for n in (name_a, name_b))
    must = _CONSTANT_Q if recipe_a.chroma_bins != recipe_b.chroma_bins else set()
    may = set(must)
    if recipe_a.is_corrected != recipe_b.is_corrected:
        must = must | {"rmse", "spectral_contrast"}
        may = must | _ASSUME_A_RATE | {"tonnetz"}  # at 22,050 Hz the assumed rate is the true one
    if _PUBLISHED in (name_a, name_b) and name_a != name_b:
        summary = (
            f"{_listed(may | {'rmse'})} differ (rmse by a factor of {_RMSE_FACTOR:.1f}), and the "
            "rest a little: librosa 0.5 padded and scaled differently, and decoders differ"
        )
        return Expectation(f"{between}, {summary}.", everything, must | {"rmse"})
    summary = f"{_listed(may)} differ, and nothing else" if may else "nothing differs"
    return Expectation(f"{between}, {summary}.", may, must)


def _recipe_name(table: FeatureTable) -> str:
    if not table.recipe and set(table.facts) == {"path"} and all(map(str.isdigit, table.paths)):
        return _PUBLISHED
    return table.recipe if table.recipe in RECIPES else ""


def _listed(names: set[str]) -> str:
    *first, last = sorted(names)
    if len(names) == len(FEATURE_SIZES):
        return "all features"
    return f"{', '.join(first)} and {last}" if first else last
