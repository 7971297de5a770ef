"""Statistics of music on a grid, and the distance between two sets of pieces by each.

No value is good or bad by itself: composed pieces should be distributed as human pieces are. Drums
have no pitch: they count in ``note_density``, ``groove_consistency`` and ``empty_beat_rate``, and
are left out of all else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.music import Grid

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_POINTS = 1024  # at which densities are compared
_LEAST_BANDWIDTH = 0.01  # of the range of all values, since equal values have no spread


@dataclass(frozen=True)
class MusicStatistics:
    """Statistics of one piece; NaN if undefined, such as those of pitch without notes.

    Where MusPy (Dong, Chen, McAuley and Berg-Kirkpatrick 2020, arXiv:2008.01951) has a measure, the
    name and the definition are its own; it has no mean pitch, note length, density, syncopation.

    Args:
        pitch_class_entropy: of the shares of notes by pitch class, 0 to 3.585 bits.
        scale_consistency: largest share of notes that lie in one of the 24 major and natural minor
            scales, 0 to 1.
        polyphony: mean pitches that sound together, over the steps in which any does; 1 or more.
        pitch_range: from the lowest to the highest note, semitones.
        mean_pitch: MIDI pitch, each note counted once.
        note_length: mean, beats.
        syncopation: share of notes, 0 to 1, that begin between beats and last past the next beat:
            what Longuet-Higgins and Lee (1984) call a syncopation, with beats as the only level of
            the metre. NaN also where a step is a beat.
        note_density: notes a beat.
        groove_consistency: 1 less the mean share of steps in which neighbouring bars differ in
            whether a note begins, 0 to 1; of whole bars, NaN with fewer than two. Where few
            steps have onsets it is near 1 whatever the music.
        empty_beat_rate: share of beats in which nothing sounds, 0 to 1.
    """

    pitch_class_entropy: float
    scale_consistency: float
    polyphony: float
    pitch_range: float
    mean_pitch: float
    note_length: float
    syncopation: float
    note_density: float
    groove_consistency: float
    empty_beat_rate: float

    def to_dict(self) -> dict[str, float | None]:
        """The statistics by name as JSON types, None for NaN."""
        return {
            name: None if math.isnan(value) else float(value)
            for name, value in asdict(self).items()
        }


def statistics(grid: Grid, *, steps_per_bar: int | None = None) -> MusicStatistics:
    """Compute the statistics of a piece.

    Args:
        grid: the piece.
        steps_per_bar: length of its bars, which begin at step 0; None takes it from the metre, and
            where that changes, or a bar is no whole number of steps, there is no groove.

    Raises:
        ValueError: ``steps_per_bar`` is below 1.
        ScoreError: ``too_long``: the piece has more than 2²⁷ steps with notes.

    Example:
        >>> scale = Grid(1, 8, onset=range(8), duration=[1] * 8, pitch=[0, 2, 4, 5, 7, 9, 11, 12])
        >>> measured = statistics(scale)
        >>> measured.scale_consistency, measured.polyphony, measured.pitch_range
        (1.0, 1.0, 12.0)
    """
    if steps_per_bar is not None and steps_per_bar < 1:
        raise ValueError(f"steps_per_bar is at least 1; got {steps_per_bar}")
    is_drum = np.array([part.is_drum for part in grid.parts], bool)[grid.part]
    onset, duration = grid.onset[~is_drum], grid.duration[~is_drum]
    pitch = grid.pitch[~is_drum].astype(np.int64)
    classes = np.bincount(pitch % 12, minlength=12)
    beats = grid.steps / grid.steps_per_beat
    return MusicStatistics(
        pitch_class_entropy=_entropy(classes) if len(pitch) else math.nan,
        scale_consistency=_scale_consistency(classes) if len(pitch) else math.nan,
        polyphony=_polyphony(onset, duration, pitch, grid.steps),
        pitch_range=float(np.ptp(pitch)) if len(pitch) else math.nan,
        mean_pitch=float(pitch.mean()) if len(pitch) else math.nan,
        note_length=float(duration.mean()) / grid.steps_per_beat if len(pitch) else math.nan,
        syncopation=_syncopation(onset, duration, grid.steps_per_beat),
        note_density=len(grid.onset) / beats if beats else math.nan,
        groove_consistency=_groove_consistency(grid, steps_per_bar or _steps_per_bar(grid)),
        empty_beat_rate=_empty_beat_rate(grid),
    )


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return abs(float((shares * np.log2(shares)).sum()))  # no negative zero


def _scale_consistency(classes: NDArray[np.int64]) -> float:
    """Minor scales have the notes of major ones, so twelve sets cover all."""
    inside = max(int(classes[(np.array(_MAJOR) + root) % 12].sum()) for root in range(12))
    return inside / int(classes.sum())


def _sounding(
    onset: NDArray[np.int64], duration: NDArray[np.int64], steps: int
) -> NDArray[np.int64]:
    """``(steps,)``, the number of sounding notes per step."""
    changes = np.bincount(onset, minlength=steps + 1) - np.bincount(
        onset + duration, minlength=steps + 1
    )
    return np.cumsum(changes[:steps])


def _polyphony(
    onset: NDArray[np.int64], duration: NDArray[np.int64], pitch: NDArray[np.int64], steps: int
) -> float:
    sounds = _sounding(onset, duration, steps) > 0
    if not sounds.any():
        return math.nan
    # a pitch that several parts play at once counts once
    together = sum(
        np.count_nonzero(_sounding(onset[pitch == p], duration[pitch == p], steps))
        for p in np.unique(pitch)
    )
    return float(together / np.count_nonzero(sounds))


def _syncopation(
    onset: NDArray[np.int64], duration: NDArray[np.int64], steps_per_beat: int
) -> float:
    if not len(onset) or steps_per_beat == 1:
        return math.nan
    late = onset % steps_per_beat
    return float(np.mean((late > 0) & (late + duration > steps_per_beat)))


def _steps_per_bar(grid: Grid) -> int | None:
    """Steps per bar, None if the metre changes or a bar is not a whole number of steps."""
    bars = {metre.beats_per_bar * grid.steps_per_beat for metre in grid.time_signatures}
    bar = bars.pop()
    return None if bars or bar.denominator != 1 else int(bar)


def _groove_consistency(grid: Grid, steps_per_bar: int | None) -> float:
    if steps_per_bar is None or grid.steps < 2 * steps_per_bar:
        return math.nan
    bars = grid.steps // steps_per_bar
    onsets = np.bincount(grid.onset, minlength=grid.steps)[: bars * steps_per_bar] > 0
    onsets = onsets.reshape(bars, steps_per_bar)
    return 1 - float(np.mean(onsets[1:] != onsets[:-1]))


def _empty_beat_rate(grid: Grid) -> float:
    if not grid.steps:
        return math.nan
    sounds = _sounding(grid.onset, grid.duration, grid.steps) > 0
    return 1 - float(
        np.mean(np.logical_or.reduceat(sounds, range(0, grid.steps, grid.steps_per_beat)))
    )


class Distance(NamedTuple):
    """The distance of a set of pieces from a reference by one statistic; NaN if undefined.

    Args:
        shift: mean less the reference's mean, in standard deviations of the reference. Where those
            are 0 it is 0 for equal means and infinite for others.
        overlap: the area that the densities of both have in common, 0 to 1.
    """

    shift: float
    overlap: float


def distance(
    sample: Sequence[MusicStatistics], reference: Sequence[MusicStatistics]
) -> dict[str, Distance]:
    """The distance of a set of pieces from a reference, by each statistic.

    Densities are sums of Gaussians, wide by Scott's rule. Their overlapping area is a comparison
    of Yang and Lerch (2020, doi:10.1007/s00521-018-3849-7), who take it of distances between
    pieces; here it is of the values themselves. It depends on how many pieces there are: the
    overlap of two halves of the reference is what can be had. NaN values are left out.

    Args:
        sample: the pieces in question.
        reference: such as pieces by people, of the style and of like length.
    """
    return {
        field.name: _distance(_values(sample, field.name), _values(reference, field.name))
        for field in fields(MusicStatistics)
    }


def _values(pieces: Sequence[MusicStatistics], name: str) -> NDArray[np.float64]:
    values = np.array([getattr(piece, name) for piece in pieces], np.float64)
    return values[~np.isnan(values)]


def _distance(sample: NDArray[np.float64], reference: NDArray[np.float64]) -> Distance:
    if not len(sample) or not len(reference):
        return Distance(math.nan, math.nan)
    moved, spread = float(sample.mean() - reference.mean()), float(reference.std())
    if abs(moved) <= 1e-12 * max(1.0, float(np.abs(reference).max())):  # rounding
        moved = 0.0
    with np.errstate(divide="ignore"):
        shift = float(np.float64(moved) / spread) if moved else 0.0
    return Distance(shift, _overlap(sample, reference))


def _overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    both = np.concatenate([first, second])
    least = _LEAST_BANDWIDTH * float(np.ptp(both))
    if least <= 1e-12 * max(1.0, float(np.abs(both).max())):  # all are one value
        return 1.0
    widths = [max(_bandwidth(values), least) for values in (first, second)]
    points = np.linspace(both.min() - 4 * max(widths), both.max() + 4 * max(widths), _POINTS)
    densities = [
        _density(values, width, points)
        for values, width in zip((first, second), widths, strict=True)
    ]
    # normalized at these points, so that no overlap exceeds 1
    shares = [density / density.sum() for density in densities]
    return float(np.minimum(*shares).sum())


def _bandwidth(values: NDArray[np.float64]) -> float:
    """Scott's rule (Scott 1992) for one dimension."""
    return float(values.std(ddof=1)) * len(values) ** -0.2 if len(values) > 1 else 0.0


def _density(
    values: NDArray[np.float64], width: float, points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(points,)``, not normalised."""
    away = (points[:, None] - values) / width
    density: NDArray[np.float64] = np.exp(-0.5 * away**2).sum(axis=1)
    return density
