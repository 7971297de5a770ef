"""Two tables of the 518 features beside each other, column by column, and why they differ.

An error is ``|a - b| / max(|b|, s)``: B is the reference, s the standard deviation of its column
over the tracks that both tables have. An explanation is given only where the numbers support it,
by a pattern that its cause leaves and others do not; what is left is called unexplained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import log, sqrt
from os.path import normpath
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import DataError
from deepmusic.features.recipe import COLUMNS, RECIPES, ROWS
from deepmusic.features.table import FeatureTable

UNEXPLAINED = "unexplained"

_Columns = NDArray[np.float32]
_Mask = NDArray[np.bool_]

_FEATURES = np.array([feature for feature, _, _ in COLUMNS])
_STATISTICS = np.array([statistic for _, statistic, _ in COLUMNS])
_NUMBERS = np.array([int(number) for _, _, number in COLUMNS])

_CONSTANT_Q = ("chroma_cens", "chroma_cqt", "tonnetz")
_FAST_ERROR = 1e-3  # typical error of these in the fast mode, at most
_IN_HZ = ("spectral_bandwidth", "spectral_centroid", "spectral_rolloff")
_TOLD_RATE = ("chroma_stft", "spectral_contrast")  # beside these, but not by a factor
_STFT = ("chroma_stft", "mfcc", "rmse", *_IN_HZ, "spectral_contrast")
_CENTRAL = ("mean", "median")
_EXTREME = ("kurtosis", "max", "min", "skew")
_SCALED = ("max", "mean", "median", "min", "std")  # by a factor, as the rows are

_PUBLISHED = "FMA's published table"
_ASSUMED_RATE = 22050
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)
_RMSE_FACTOR = 2048 / sqrt(2 * 1025)  # librosa 0.5: root of the mean over bins, unscaled
_WINDOW_FACTOR = sqrt(8 / 3)  # what a Hann window takes from the root of the mean square
_CORRELATED_TRACKS = 5  # fewer say nothing by their correlation


@dataclass(frozen=True)
class Matching:
    """Which rows of two tables are of the same track.

    Args:
        a: rows of A, ascending.
        b: for each of them the row of B.
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
class ColumnComparison:
    """How far a column of A is from that of B.

    Args:
        feature: a key of :data:`~deepmusic.features.ROWS`.
        statistic: one of :data:`~deepmusic.features.STATISTICS`.
        number: of the row, from ``01``.
        tracks: how many have a number in both tables.
        one_sided: how many have a number in one table only; NaN in both agrees.
        median: error over ``tracks``; NaN where there is none, as are the next two.
        p95: 95th percentile of the error.
        maximum: the greatest error.
        beyond: share of the matched tracks whose error is above the tolerance, or that have a
            number in one table only.
        correlation: of the two columns; NaN where one does not vary, or for fewer than 3 tracks.
        ratio: A to B, where one number explains nine tenths of the difference; else None.
        offset: A less B, likewise.
        causes: codes of :class:`Cause`, or ``unexplained``, of all or of what is left; empty where
            the column is within the tolerance.
    """

    feature: str
    statistic: str
    number: str
    tracks: int
    one_sided: int
    median: float
    p95: float
    maximum: float
    beyond: float
    correlation: float
    ratio: float | None = None
    offset: float | None = None
    causes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As in a file, such as ``mfcc/mean/01``."""
        return f"{self.feature}/{self.statistic}/{self.number}"

    @property
    def agrees(self) -> bool:
        """Whether all tracks are within the tolerance."""
        return self.beyond == 0


@dataclass(frozen=True)
class Cause:
    """A known difference that the numbers show.

    Args:
        code: a word for programs.
        summary: what it is, for a person.
        evidence: the numbers that speak for it.
        columns: ``(518,)``, those it explains, all or in part.
    """

    code: str
    summary: str
    evidence: str
    columns: _Mask


@dataclass(frozen=True)
class Expectation:
    """What the names of two recipes let one expect.

    Args:
        summary: one sentence.
        may_differ: features that can differ.
        must_differ: those of them that do, if there is any sound.
        causes: codes of what is bound to be found.
    """

    summary: str
    may_differ: frozenset[str]
    must_differ: frozenset[str] = frozenset()
    causes: frozenset[str] = frozenset()

    def verdict(self, differing: Collection[str], causes: Collection[str]) -> str:
        """Whether it is so, as one sentence.

        Args:
            differing: the features that do differ.
            causes: codes of what was found.
        """
        more = [name for name in ROWS if name in differing and name not in self.may_differ]
        less = [name for name in ROWS if name in self.must_differ and name not in differing]
        said = []
        if more:
            named = "all features" if len(more) == len(ROWS) else _listed(more)
            said = [f"{named} differ{' as well' if self.must_differ else ''}"]
        said += [f"{_listed(less)} agree all the same"] if less else []
        said += [f"there is no sign of {code}" for code in sorted(self.causes - set(causes))]
        return f"It is not so: {_listed(said)}." if said else "So it is."


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found.

    Args:
        matching: which tracks were compared.
        tolerance: of the error.
        columns: 518, in the order of :data:`~deepmusic.features.COLUMNS`.
        causes: what explains differences, each once.
        expectation: by the recipes' names; None where the tables do not name them.
        notes: sentences on what limits the comparison.
    """

    matching: Matching
    tolerance: float
    columns: tuple[ColumnComparison, ...]
    causes: tuple[Cause, ...]
    expectation: Expectation | None
    notes: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether all columns are within the tolerance."""
        return all(column.agrees for column in self.columns)

    @property
    def differing(self) -> tuple[str, ...]:
        """Features with a column beyond the tolerance."""
        return tuple(dict.fromkeys(c.feature for c in self.columns if not c.agrees))


def match_tracks(a: Sequence[str], b: Sequence[str]) -> Matching:
    """Find the tracks that both tables have: by path, or if none is the same, by name.

    A name is a file's stem; one of digits is FMA's number, so that ``2``, ``000002.mp3`` and
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
                first, second = paths[twice[0]], paths[twice[1]]
                raise DataError(
                    f"Table {letter} has the same {by} twice, as of {first!r} and {second!r}: "
                    "which of them a row of the other table is of cannot be told; give tables "
                    "whose paths agree, each once."
                )
        pairs = sorted((rows_a[name][0], rows_b[name][0]) for name in common)
        in_a, in_b = zip(*pairs, strict=True)
        left_a, left_b = set(in_a), set(in_b)
        return Matching(
            a=in_a,
            b=in_b,
            by=by,
            only_a=tuple(path for row, path in enumerate(a) if row not in left_a),
            only_b=tuple(path for row, path in enumerate(b) if row not in left_b),
        )
    raise DataError(
        f"The tables have no track in common, neither by path nor by name: A has {_some(a)}, "
        f"B has {_some(b)}."
    )


def _rows_by_key(paths: Sequence[str], key: Callable[[str], str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        if path:  # a row without a path is of no track
            rows.setdefault(key(path), []).append(row)
    return rows


def _track_name(path: str) -> str:
    stem = PurePath(path).stem
    is_number = stem.isascii() and stem.isdigit()
    return stem.lstrip("0") or "0" if is_number else stem


def _some(paths: Sequence[str]) -> str:
    return f"such as {paths[0]!r}" if paths else "no row"


def relative_errors(a: _Columns, b: _Columns) -> _Columns:
    """Errors of all cells: ``|a - b| / max(|b|, standard deviation of b's column)``.

    Args:
        a: ``(tracks, columns)``.
        b: likewise, the reference.

    Returns:
        ``(tracks, columns)``; 0 for equal numbers and for NaN in both, infinite for a number in
        one only, and no other is above the greatest float32. Where the reference is nothing but
        zeros, the error of another number is 1.
    """
    errors = np.empty(a.shape, np.float32)
    for column in range(a.shape[1]):  # one at a time: whole tables in double would be large
        errors[:, column] = _column_errors(a[:, column].astype("d"), b[:, column].astype("d"))
    return errors


def _column_errors(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(b)
    scale = np.maximum(np.abs(b), b[known].std() if known.any() else 0.0)
    scale = np.where(scale > 0, scale, np.abs(a))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.minimum(np.abs(a - b) / scale, np.finfo(np.float32).max)
    error[~(np.isfinite(a) & known)] = np.inf
    error[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    return error


def compare(a: FeatureTable, b: FeatureTable, *, tolerance: float = 1e-4) -> Comparison:
    """Compare two tables over the tracks that both have, and explain what differs.

    Args:
        a: of any recipe.
        b: the reference.
        tolerance: greatest error that counts as agreement.

    Raises:
        DataError: tracks cannot be matched.
    """
    matching = match_tracks(a.paths, b.paths)
    left, right = a.rows(matching.a), b.rows(matching.b)
    errors = relative_errors(left.columns, right.columns)
    causes, by_column = _explanations(left, right, errors, tolerance)
    columns = tuple(
        _measured(place, left.columns, right.columns, errors, tolerance, by_column[place])
        for place in range(len(COLUMNS))
    )
    notes: tuple[str, ...] = ()
    if len(matching) == 1:
        notes = ("One track has no standard deviation: errors are relative to |b| alone.",)
    return Comparison(matching, tolerance, columns, causes, expectation(a, b), notes)


def _measured(
    place: int,
    a: _Columns,
    b: _Columns,
    errors: _Columns,
    tolerance: float,
    causes: tuple[str, ...],
) -> ColumnComparison:
    error = errors[:, place].astype("d")
    known = np.isfinite(a[:, place]) & np.isfinite(b[:, place])
    x, y = a[known, place].astype("d"), b[known, place].astype("d")
    median, p95, maximum = np.full(3, 0.0 if known.any() else np.nan)
    if error[known].any():
        median, p95, maximum = np.quantile(error[known], [0.5, 0.95, 1])
    ratio, offset = _fit(x, y, error[known]) if maximum > tolerance else (None, None)
    return ColumnComparison(
        *COLUMNS[place],
        tracks=int(known.sum()),
        one_sided=int(np.isinf(error).sum()),
        median=float(median),
        p95=float(p95),
        maximum=float(maximum),
        beyond=float(np.mean(error > tolerance)),
        correlation=_correlation(x, y),
        ratio=ratio,
        offset=offset,
        causes=causes,
    )


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if len(x) < 3:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    # what does not vary but by rounding has none
    if min(np.ptp(x), np.ptp(y)) == 0:
        return float("nan")
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip((x @ y) / sqrt((x @ x) * (y @ y)), -1, 1))


def _fit(
    a: NDArray[np.float64], b: NDArray[np.float64], error: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """A ratio or an offset that leaves a tenth of the error or less in nine of ten tracks."""
    if len(a) < 2:
        return None, None  # of one track either explains all
    left = {"ratio": np.inf, "offset": np.inf}
    offset, ratio = float(np.median(a - b)), 0.0
    left["offset"] = float(np.quantile(_column_errors(a - offset, b), 0.9))
    if (b != 0).any():
        ratio = float(np.median(a[b != 0] / b[b != 0]))
    if ratio != 0:
        left["ratio"] = float(np.quantile(_column_errors(a / ratio, b), 0.9))
    best = min(left, key=lambda kind: left[kind])
    if left[best] > np.quantile(error, 0.9) / 10:
        return None, None
    return (ratio, None) if best == "ratio" else (None, offset)


def expectation(a: FeatureTable, b: FeatureTable) -> Expectation | None:
    """What the names of two tables' recipes let one expect; None where one is not known.

    A table that names no recipe and tells nothing of its tracks but numbers is taken for FMA's
    published one.
    """
    name_a, name_b = _recipe_of(a), _recipe_of(b)
    if "" in (name_a, name_b):
        return None
    of = f"of {name_a} against {name_b}" if name_a != name_b else f"of two tables of {name_a}"
    if name_a == name_b and a.version != b.version:
        versions = f"versions {a.version} and {b.version}"
        return Expectation(f"{of}, {versions}, anything may differ.", frozenset(ROWS))
    may, must = _differing(name_a, name_b)
    if a.mode != b.mode:
        may |= set(_CONSTANT_Q)
        of += f", {a.mode} and {b.mode}"
    if _PUBLISHED in (name_a, name_b) and name_a != name_b:
        also = f"{_listed(sorted(may))} differ, " if may else ""
        return Expectation(
            f"{of}, {also}rmse differs by a factor of {_RMSE_FACTOR:.1f}, and the rest a little: "
            "librosa 0.5 padded with reflected sound, and decoders differ.",
            frozenset(ROWS),
            frozenset(must | {"rmse"}),
            frozenset({"rmse_scale"}),
        )
    said = f"{_listed(sorted(may))} differ, and nothing else" if may else "nothing differs"
    return Expectation(f"{of}, {said}.", frozenset(may), frozenset(must))


def _recipe_of(table: FeatureTable) -> str:
    if not table.recipe and set(table.facts) == {"path"} and all(map(str.isdigit, table.paths)):
        return _PUBLISHED
    return table.recipe if table.recipe in RECIPES else ""


def _differing(name_a: str, name_b: str) -> tuple[set[str], set[str]]:
    """Features that may and that must differ between two recipes."""
    a, b = (RECIPES["fma" if name == _PUBLISHED else name] for name in (name_a, name_b))
    may: set[str] = set()
    must: set[str] = set()
    if a.chroma_bins != b.chroma_bins:
        may |= set(_CONSTANT_Q)
        must |= set(_CONSTANT_Q)
    if a.is_corrected != b.is_corrected:
        # at 22,050 Hz what is assumed is true
        may |= {"chroma_stft", "rmse", "spectral_contrast", "tonnetz", *_IN_HZ}
        must |= {"rmse", "spectral_contrast"}
    return may, must


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


# Explanations. First what can be put right is: a policy, a factor. What is then left is looked at
# for patterns. Thresholds come from 32 clips of Emotify whose features were made in each of the
# wrong ways; they lie far from both what the cause gives and what others give.


@dataclass(frozen=True)
class _Evidence:
    """What detectors look at: ``(tracks, 518)`` each; errors are NaN where there is no number."""

    a: _Columns
    b: _Columns
    errors: _Columns
    tolerance: float

    def without(self, tracks: _Mask) -> _Evidence:
        keep = ~tracks
        return replace(self, a=self.a[keep], b=self.b[keep], errors=self.errors[keep])

    @property
    def open(self) -> _Mask:
        """Columns that are not within the tolerance."""
        return np.asarray((self.errors > self.tolerance).any(axis=0))

    def typical(self, columns: _Mask) -> float:
        """Median error of some columns' cells; 0 where there is no number."""
        cells = self.errors[:, columns]
        cells = cells[~np.isnan(cells)]
        return float(np.median(cells)) if cells.size else 0.0

    def stray(self, columns: _Mask) -> float:
        """Mean error of some columns' cells, of each no more than 1."""
        cells = self.errors[:, columns]
        cells = cells[~np.isnan(cells)]
        return float(np.minimum(cells, 1).mean(dtype="d")) if cells.size else 0.0

    def central(self, feature: str) -> float:
        """Typical error of the means and medians of a feature."""
        return self.typical(_where([feature], _CENTRAL))

    def correlation(self, columns: _Mask) -> float:
        """Median over some columns; NaN if there are too few tracks."""
        found = []
        for x, y in zip(self.a[:, columns].T, self.b[:, columns].T, strict=True):
            known = np.isfinite(x) & np.isfinite(y)
            if known.sum() >= _CORRELATED_TRACKS:
                found.append(_correlation(x[known].astype("d"), y[known].astype("d")))
        found = [value for value in found if not np.isnan(value)]
        return float(np.median(found)) if found else float("nan")


def _where(
    features: Collection[str] | None = None,
    statistics: Collection[str] | None = None,
    numbers: Collection[int] | None = None,
) -> _Mask:
    """The columns of some features, statistics and row numbers; of all where none is given."""
    mask = np.ones(len(COLUMNS), np.bool_)
    for names, wanted in ((_FEATURES, features), (_STATISTICS, statistics), (_NUMBERS, numbers)):
        if wanted is not None:
            mask &= np.isin(names, np.array(list(wanted)))
    return mask


def _explanations(
    a: FeatureTable, b: FeatureTable, errors: _Columns, tolerance: float
) -> tuple[tuple[Cause, ...], list[tuple[str, ...]]]:
    """The causes found, and for each column the codes of those that explain it."""
    beyond = np.asarray((errors > tolerance).any(axis=0))
    by_column: list[list[str]] = [[] for _ in COLUMNS]
    if not beyond.any():
        return (), [()] * len(COLUMNS)
    x, y, causes = _put_right(a, b)
    left = relative_errors(x, y) if causes else errors
    lone = np.isinf(left)
    if lone.any():
        causes.append(_missing(a, b, lone))
    seen = _Evidence(x, y, np.where(lone, np.float32(np.nan), left), tolerance)
    done = np.zeros(len(COLUMNS), np.bool_)
    if any(cause.code == "sample_rate" for cause in causes):
        done |= _where(_TOLD_RATE)
    patterns, still = _patterns(seen, a, b, done)
    causes += patterns
    for cause in causes:
        for place in np.flatnonzero(cause.columns & beyond):
            by_column[place].append(cause.code)
    for place in np.flatnonzero(still):
        by_column[place].append(UNEXPLAINED)
    found = tuple(cause for cause in causes if (cause.columns & beyond).any())
    return found, [tuple(codes) for codes in by_column]


def _put_right(a: FeatureTable, b: FeatureTable) -> tuple[_Columns, _Columns, list[Cause]]:
    """Both tables with known policies and factors undone."""
    x, y, causes = a.columns, b.columns, []
    constant = _constant_rows(x, y)
    if constant is not None:
        x, y, cause = constant
        causes.append(cause)
    for found in (_rmse_scale(x, y), _rate(x, y, a, b)):
        if found is not None:
            factors, cause = found
            x = (x / factors).astype(np.float32)
            causes.append(cause)
    return x, y, causes


def _constant_rows(a: _Columns, b: _Columns) -> tuple[_Columns, _Columns, Cause] | None:
    """Moments of rows that do not vary: no number on one side, 0 or -3 on the other."""
    fill = np.where(_STATISTICS == "kurtosis", -3, 0).astype(np.float32)
    moments = _where(statistics=("skew", "kurtosis"))
    in_a = np.isnan(a) & (b == fill) & moments
    in_b = np.isnan(b) & (a == fill) & moments
    if not (in_a | in_b).any():
        return None
    cause = Cause(
        "constant_rows",
        "rows that do not vary have no skew and kurtosis (SciPy 1.9 and later) or 0 and -3",
        f"{in_a.sum() + in_b.sum()} cells, NaN in {'A' if in_a.any() else 'B'}"
        + (" and in B" if in_a.any() and in_b.any() else ""),
        np.asarray((in_a | in_b).any(axis=0)),
    )
    return np.where(in_a, fill, a), np.where(in_b, fill, b), cause


def _log_ratios(a: _Columns, b: _Columns, columns: _Mask) -> NDArray[np.float64]:
    """Logarithm of A to B; NaN where one is not above zero."""
    x, y = a[:, columns].astype("d"), b[:, columns].astype("d")
    is_positive = (x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)
    found = np.full(x.shape, np.nan)
    found[is_positive] = np.log(x[is_positive] / y[is_positive])
    return found


def _is_factor(logs: NDArray[np.float64], factor: float, *, slack: float) -> float | None:
    """1 or -1 if all ratios are about a factor or one over it; None if they are not.

    They may vary, as with other parts of the same tracks; then their middle has to be right.
    """
    known = logs[~np.isnan(logs)]
    if not known.size:
        return None
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    spread = (high - low) / 1.35
    room = slack + 2 * spread / sqrt(len(logs))
    for sign in (1.0, -1.0):
        if spread < 0.5 and abs(middle - sign * log(factor)) <= min(room, 0.25):
            return sign
    return None


def _rmse_scale(a: _Columns, b: _Columns) -> tuple[NDArray[np.float64], Cause] | None:
    logs = _log_ratios(a, b, _where(["rmse"], ("max", "mean", "median", "std")))
    sign = _is_factor(logs, _RMSE_FACTOR, slack=0.01)
    if sign is None:
        return None
    scaled = _where(["rmse"], _SCALED)
    ratio = float(np.exp(np.nanmedian(logs)))
    cause = Cause(
        "rmse_scale",
        f"rmse of librosa 0.5, as in FMA's table, is {_RMSE_FACTOR:.1f} times today's",
        f"{'A' if sign > 0 else 'B'} is the older: ratio {ratio:.4g}",
        scaled,
    )
    return np.where(scaled, _RMSE_FACTOR**sign, 1), cause


def _rate(
    a: _Columns, b: _Columns, facts_a: FeatureTable, facts_b: FeatureTable
) -> tuple[NDArray[np.float64], Cause] | None:
    """One table takes sound for 22,050 Hz, the other knows its rate: all in Hz has that ratio."""
    scaled = _where(_IN_HZ, _SCALED)
    logs = _log_ratios(a, b, scaled)
    rows = ~np.isnan(logs).all(axis=1)
    ratio = np.zeros(len(logs))
    if rows.any():
        ratio[rows] = np.nanmedian(logs[rows], axis=1)
    known = ~np.isnan(logs)
    same = np.abs(logs - ratio[:, None])[known] <= 0.02
    if not rows.any() or same.mean() < 0.8 or np.mean(np.abs(ratio[rows]) > 0.02) < 0.1:
        return None
    true = np.log(np.array(_RATES) / _ASSUMED_RATE)
    sample_rate = _known_rates(facts_a, facts_b)
    for sign in (1.0, -1.0):
        nearest = true[np.abs(sign * ratio[:, None] - true).argmin(axis=1)]
        if sample_rate is not None:
            nearest = np.where(np.isnan(sample_rate), nearest, np.log(sample_rate / _ASSUMED_RATE))
        fits = np.abs(sign * ratio - nearest)[rows] <= 0.01
        # rates below 22,050 Hz are rare: without them the direction is told
        if fits.mean() >= 0.9 and (sample_rate is not None or np.median(nearest[rows]) >= 0):
            factors = np.ones(a.shape)
            factors[:, scaled] = np.exp(sign * nearest)[:, None]
            cause = Cause(
                "sample_rate",
                "one table takes all sound for 22,050 Hz, the other knows its rate",
                f"{'A' if sign > 0 else 'B'} knows it: all in Hz has one ratio, "
                f"{np.exp(np.median(ratio[rows])):.4g} in the middle track",
                _where([*_IN_HZ, *_TOLD_RATE]),
            )
            return factors, cause
    return None


def _known_rates(a: FeatureTable, b: FeatureTable) -> NDArray[np.float64] | None:
    for table in (a, b):
        if "sample_rate" in table.facts:
            rates = np.array([_number(sample_rate) for sample_rate in table.facts["sample_rate"]])
            if np.isfinite(rates).any():
                return np.where(rates > 0, rates, np.nan)
    return None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _missing(a: FeatureTable, b: FeatureTable, lone: _Mask) -> Cause:
    tracks = lone.any(axis=1)
    parts = []
    for letter, table in (("A", a), ("B", b)):
        is_absent = (lone & ~np.isfinite(table.columns)).any(axis=1)
        if is_absent.any():
            codes = table.facts.get("code", [""] * len(table))
            named = Counter(str(codes[row]) for row in np.flatnonzero(is_absent) if codes[row])
            reasons = ", ".join(f"{code}: {count}" for code, count in named.most_common(3))
            parts.append(f"{is_absent.sum()} in {letter}" + (f" ({reasons})" if reasons else ""))
    return Cause(
        "missing",
        f"{tracks.sum()} of {len(lone)} tracks have numbers in one table only",
        f"none for {_listed(parts)}",
        np.asarray(lone.any(axis=0)),
    )


def _patterns(
    seen: _Evidence, a: FeatureTable, b: FeatureTable, done: _Mask
) -> tuple[list[Cause], _Mask]:
    """Causes that leave a pattern, and the columns that nothing explains.

    Args:
        seen: what is left when all was put right that can be.
        a: the matched rows of A.
        b: those of B.
        done: columns that are explained already.
    """
    everything = _other_tracks(seen)
    if everything is not None:
        return [everything], np.zeros(len(COLUMNS), np.bool_)
    causes = []
    odd = _odd_tracks(seen)
    if odd.any():
        causes.append(_of_odd_tracks(seen, odd, a))
        rest = np.flatnonzero(~odd).tolist()
        seen, a, b = seen.without(odd), a.rows(rest), b.rows(rest)
    still = seen.open & ~done
    of_power = _contrast_of_power(seen)
    if of_power is not None:  # a rate that is wrong as well would hide it
        causes.append(replace(of_power, columns=of_power.columns & seen.open))
        still &= ~of_power.columns
    tests = [_constant_q, _tonnetz_source, _window]
    if a.mode != b.mode:
        tests.insert(0, _fast_mode)
    length = _other_length(seen, a, b)
    tests += [_edges, _noise, _other_frames] if length is None else [lambda *_: length]
    for test in tests:
        found = test(seen, still)
        if found is not None and (found.columns & still).any():
            causes.append(replace(found, columns=found.columns & still))
            still = still & ~found.columns
    return causes, still


def _other_tracks(seen: _Evidence) -> Cause | None:
    means = _where(statistics=["mean"])
    if seen.open.mean() < 0.9 or seen.typical(_where(statistics=_CENTRAL)) < 0.1:
        return None
    correlation = seen.correlation(means)
    if np.isnan(correlation) or correlation > 0.3:
        return None
    return Cause(
        "other_tracks",
        "the tables name different tracks alike",
        f"the means of a track say nothing of its means in the other table: correlation "
        f"{correlation:.2f}",
        _where(),
    )


def _odd_tracks(seen: _Evidence) -> _Mask:
    """Tracks that are far off in everything where nearly all are not: at most a third."""
    is_known = ~np.isnan(seen.errors).all(axis=1)
    error = np.zeros(len(seen.errors))
    error[is_known] = np.nanmedian(np.minimum(seen.errors[is_known], 1), axis=1)
    odd = error >= 0.2
    is_few = 3 * odd.sum() <= len(odd) and np.median(error) <= 0.02
    return odd if is_few else np.zeros_like(odd)


def _of_odd_tracks(seen: _Evidence, odd: _Mask, a: FeatureTable) -> Cause:
    named = [repr(a.paths[row]) for row in np.flatnonzero(odd)]
    return Cause(
        "tracks",
        "some tracks differ in everything, as other recordings do",
        f"{len(named)} of {len(odd)}: {', '.join(named[:3])}" + (", ..." if len(named) > 3 else ""),
        np.asarray((seen.errors[odd] > seen.tolerance).any(axis=0)),
    )


def _other_length(seen: _Evidence, a: FeatureTable, b: FeatureTable) -> Cause | None:
    """Parts against wholes: what is longest has the greater maxima and the lesser minima."""
    if sum(seen.central(name) > 0.005 for name in ROWS) < len(ROWS) - 1:
        return None
    if seen.typical(_where(statistics=_CENTRAL)) < 0.015:
        return None
    a_lasts = _duration_ratio(a, b)
    correlation = seen.correlation(_where(statistics=["mean"]))
    if correlation < 0.3 or (a_lasts is None and np.isnan(correlation)):
        return None
    inside = _share_inside(seen)
    is_a_part = inside >= 0.5
    if max(inside, 1 - inside) < 0.7 or (a_lasts is not None and is_a_part != (a_lasts < 0.95)):
        return None
    if a_lasts is not None and 0.95 <= a_lasts <= 1.05:
        return None
    part, whole = ("A", "B") if is_a_part else ("B", "A")
    lasting = "" if a_lasts is None else f"; A lasts {a_lasts:.3g} times as long"
    return Cause(
        "length",
        f"{part} is of parts of the tracks, such as clips of 30 s, {whole} of more",
        f"{max(inside, 1 - inside):.0%} of the extremes of {part} lie inside those of {whole}"
        + lasting,
        _where(),
    )


def _duration_ratio(a: FeatureTable, b: FeatureTable) -> float | None:
    if "duration_s" not in a.facts or "duration_s" not in b.facts:
        return None
    pairs = zip(a.facts["duration_s"], b.facts["duration_s"], strict=True)
    ratios = [_number(x) / _number(y) for x, y in pairs if _number(y) > 0]
    ratios = [ratio for ratio in ratios if np.isfinite(ratio)]
    return float(np.median(ratios)) if ratios else None


def _share_inside(seen: _Evidence) -> float:
    """Share of A's extremes that lie inside those of B, of those that differ."""
    names = ("zcr", "mfcc", *_IN_HZ)
    high, low = _where(names, ["max"]), _where(names, ["min"])
    rise = np.concatenate([(seen.b - seen.a)[:, high], (seen.a - seen.b)[:, low]], axis=1)
    rise = rise[np.isfinite(rise) & (rise != 0)]
    return float(np.mean(rise > 0)) if rise.size else 0.5


def _fast_mode(seen: _Evidence, still: _Mask) -> Cause | None:
    """What comes from the constant-Q transform differs a little, of tables of both modes."""
    three = _where(_CONSTANT_Q)
    typical = seen.typical(three)
    if typical > _FAST_ERROR:
        return None
    tracks = np.mean((seen.errors[:, three] > seen.tolerance).any(axis=1))
    return Cause(
        "fast",
        "one table was made with --fast: its constant-Q transform is in single precision",
        f"typical error of its chroma {typical:.1g}; {tracks:.1%} of the tracks differ",
        three,
    )


def _constant_q(seen: _Evidence, still: _Mask) -> Cause | None:
    """All that comes from the constant-Q transform differs, and little else."""
    three = _where(_CONSTANT_Q)
    if not (still & three).any():
        return None
    least = min(seen.central(name) for name in _CONSTANT_Q)
    rest = max(seen.central(name) for name in ("chroma_stft", "mfcc"))
    if least >= 0.05 and least >= 2 * rest:
        profiles = [_profile(table) for table in (seen.a, seen.b)]
        low, high = sorted(profiles)
        if high >= 0.4 and high - low >= 0.25:
            which = "A" if profiles[0] < profiles[1] else "B"
            return Cause(
                "fold",
                f"{which} folds 36 constant-Q bins to an octave of chroma, as the script does on "
                "librosa 0.8 and later, the other 12",
                f"chroma_cqt goes with chroma_stft over the pitch classes by {profiles[0]:.2f} in "
                f"A, {profiles[1]:.2f} in B (correlation)",
                three,
            )
        if rest <= least / 10:
            return Cause(
                "constant_q",
                "the constant-Q transform, its tuning or its folding differs",
                f"typical errors of its chroma are {least:.2g} or more, of chroma_stft and mfcc "
                f"{rest:.2g} or less",
                three,
            )
    tracks = np.mean((seen.errors[:, three] > seen.tolerance).any(axis=1))
    if tracks <= 0.1 and not seen.open[~three].any():
        return Cause(
            "rounding",
            "chroma on a step of its quantisation, or a tuning between two, falls by rounding",
            f"{tracks:.1%} of the tracks differ, and only in what comes from the constant-Q "
            "transform",
            three,
        )
    return None


def _profile(table: _Columns) -> float:
    """How the two chromas' means go together over the pitch classes: median correlation."""
    pairs = zip(
        table[:, _where(["chroma_cqt"], ["mean"])].astype("d"),
        table[:, _where(["chroma_stft"], ["mean"])].astype("d"),
        strict=True,
    )
    found = [_correlation(x, y) for x, y in pairs if np.isfinite(x).all() and np.isfinite(y).all()]
    found = [value for value in found if not np.isnan(value)]
    return float(np.median(found)) if found else 0.0


def _tonnetz_source(seen: _Evidence, still: _Mask) -> Cause | None:
    if seen.open[_where(["chroma_cens", "chroma_cqt"])].any() or seen.central("tonnetz") < 0.02:
        return None
    return Cause(
        "tonnetz_source",
        "tonnetz is told from another chroma, such as one that is not quantised",
        f"it differs by {seen.central('tonnetz'):.2g}, while both constant-Q chromas agree",
        _where(["tonnetz"]),
    )


def _window(seen: _Evidence, still: _Mask) -> Cause | None:
    logs = _log_ratios(seen.a, seen.b, _where(["rmse"], _CENTRAL))
    sign = _is_factor(logs, _WINDOW_FACTOR, slack=0.03)
    if sign is None or seen.central("mfcc") > 0.01:  # louder sound has another mfcc 01
        return None
    which = "A" if sign > 0 else "B"
    return Cause(
        "window",
        f"rmse of {which} is that of the samples, the other's that of windowed spectra",
        f"ratio {np.exp(np.nanmedian(logs)):.3g} where a Hann window gives about "
        f"{_WINDOW_FACTOR**sign:.3g}, and mfcc agree",
        _where(["rmse"]),
    )


def _contrast_of_power(seen: _Evidence) -> Cause | None:
    logs = _log_ratios(seen.a, seen.b, _where(["spectral_contrast"], _CENTRAL, range(1, 6)))
    if np.isnan(logs).all() or seen.central("mfcc") > 0.01:
        return None
    middle = float(np.nanmedian(logs))
    if not log(1.4) <= abs(middle) <= log(2.2):
        return None
    return Cause(
        "contrast_power",
        f"spectral_contrast of {'A' if middle > 0 else 'B'} is that of power, the other's of "
        "amplitude",
        f"ratio {np.exp(middle):.3g} in the middle, and mfcc agree",
        _where(["spectral_contrast"]),
    )


_HIGH_BANDS = _where(["spectral_contrast"], numbers=(6, 7))
_LOW_BANDS = _where(["spectral_contrast"], numbers=range(1, 6))
_GROUPS = (
    *(_where([name]) for name in ROWS if name != "spectral_contrast"),
    _LOW_BANDS,
    _HIGH_BANDS,
)
_IS_CENTRAL, _IS_EXTREME = _where(statistics=_CENTRAL), _where(statistics=_EXTREME)


def _has_extremes(seen: _Evidence, group: _Mask, *, at_most: float) -> bool:
    """Whether the extremes of a group of columns are off, and means and medians much less."""
    central = seen.stray(group & _IS_CENTRAL)
    extreme = seen.stray(group & _IS_EXTREME)
    return bool(central <= at_most and extreme >= 2 * central and extreme > 0)


def _edges(seen: _Evidence, still: _Mask) -> Cause | None:
    """A few windows differ, but not the samples: the sign changes agree."""
    if seen.open[_where(["zcr"])].any():
        return None
    covered = np.zeros(len(COLUMNS), np.bool_)
    for group in _GROUPS:
        if (still & group).any() and _has_extremes(seen, group, at_most=0.01):
            covered |= group
    if len(set(_FEATURES[covered & still]) & set(_STFT)) < 2:
        return None
    central, extreme = seen.stray(covered & _IS_CENTRAL), seen.stray(covered & _IS_EXTREME)
    return Cause(
        "edges",
        "the first and last windows differ, as when one table pads with reflected sound (librosa "
        "before 0.10), the other with zeros",
        f"mean error of extremes, skew and kurtosis {extreme:.2g}, of means and medians "
        f"{central:.2g}; zcr agrees",
        covered,
    )


def _noise(seen: _Evidence, still: _Mask) -> Cause | None:
    """What is faintest differs, and nothing that is loud."""
    high, low = seen.stray(_HIGH_BANDS & _IS_CENTRAL), seen.stray(_LOW_BANDS & _IS_CENTRAL)
    loud = seen.typical(_where(["rmse"], ("max", "mean", "median", "std")))
    if high < max(10 * low, 0.005) or loud > 1e-3 or seen.central("mfcc") > 0.01:
        return None
    covered = _HIGH_BANDS.copy()
    for group in _GROUPS:
        if seen.typical(group & _IS_CENTRAL) <= 0.01:
            covered |= group
    return Cause(
        "noise",
        "noise above the low-pass of an mp3 and in silence, where decoders differ",
        f"mean error of spectral_contrast 06 and 07 {high:.2g}, of 01 to 05 {low:.2g}; rmse agrees",
        covered & ~_where(["rmse"], ("max", "mean", "median", "std")),
    )


def _other_frames(seen: _Evidence, still: _Mask) -> Cause | None:
    """All differs a little, extremes more than means: windows begin at other samples."""
    groups = [group for group in _GROUPS if (still & group).any()]
    strays = [seen.stray(group & _IS_CENTRAL) for group in groups]
    alike = [group for group in groups if _has_extremes(seen, group, at_most=0.1)]
    if not still[_where(["zcr"])].any() or not all(seen.open[g].any() for g in _GROUPS):
        return None
    if len(alike) < 0.7 * len(groups) or np.median(strays) > 0.01:
        return None
    if seen.correlation(_where(set(_FEATURES[still]), ["mean"])) < 0.95:
        return None
    covered = np.logical_or.reduce([g for g, s in zip(groups, strays, strict=True) if s <= 0.1])
    return Cause(
        "frames",
        "windows begin elsewhere in the sound, as with decoders that cut its start differently",
        f"all differ, zcr too, but means and medians by no more than {np.median(strays):.2g} in "
        "the middle feature",
        covered,
    )
