"""From scores to grids: alignment, quantisation and its loss, and estimates of bars and key.

Sequencers often hold music that is in time but offset from the beats of the file by a constant, as
where a recording was transcribed along its own beats: ``aligned`` takes that offset out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ScoreError
from deepmusic.music.grid import Grid, same_pitch_pairs
from deepmusic.music.score import LAST_TICK, Change, Key, Score, TimeSignature, shifted

# key profiles of Temperley (1999), What's Key for Key?, from the tonic
_MAJOR = (5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0)
_MINOR = (5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0)


class _SnappedNotes(NamedTuple):
    """Where the notes of a score fall on a grid: columns ``(n,)`` in the order of its notes."""

    onset: NDArray[np.int64]  # the nearest step
    end: NDArray[np.int64]  # the nearest step, but after the onset and by the next of its pitch
    velocity: NDArray[np.int64]  # after merging
    is_kept: NDArray[np.bool_]  # not merged into another of the same pitch, part and step
    is_cut: NDArray[np.bool_]  # kept, and ended early by the next onset of its pitch


def _snap(score: Score, steps_per_beat: int) -> _SnappedNotes:
    if steps_per_beat < 1:
        raise ValueError(f"steps_per_beat is at least 1; got {steps_per_beat}")
    notes = score.arrays
    onset = _nearest(notes.onset, score.ticks_per_beat, steps_per_beat)
    end = _nearest(notes.onset + notes.duration, score.ticks_per_beat, steps_per_beat)
    end = np.maximum(end, onset + 1)
    velocity = notes.velocity.copy()
    is_kept, is_cut = np.ones(len(onset), bool), np.zeros(len(onset), bool)
    if len(onset):
        order = np.lexsort((notes.onset, onset, notes.pitch, notes.part))  # stable
        keys = np.stack([onset, notes.pitch, notes.part])[:, order]
        is_new = np.append(True, np.any(keys[:, 1:] != keys[:, :-1], axis=0))
        is_kept[order] = is_new
        first = np.flatnonzero(is_new)
        kept = order[first]
        # the note that is kept gets the latest end and the greatest velocity
        end[kept] = np.maximum.reduceat(end[order], first)
        velocity[kept] = np.maximum.reduceat(velocity[order], first)
        earlier, later = same_pitch_pairs(onset[kept], notes.pitch[kept], notes.part[kept])
        earlier, later = kept[earlier], kept[later]
        is_cut[earlier] = end[earlier] > onset[later]
        end[earlier] = np.minimum(end[earlier], onset[later])
    return _SnappedNotes(onset, end, velocity, is_kept, is_cut)


def _nearest(
    ticks: NDArray[np.int64] | np.int64, ticks_per_beat: int, steps_per_beat: int
) -> NDArray[np.int64]:
    """The step nearest to each tick, in integer arithmetic; ties go to the later step."""
    return np.asarray((2 * ticks * steps_per_beat + ticks_per_beat) // (2 * ticks_per_beat))


def score_to_grid(score: Score, steps_per_beat: int) -> Grid:
    """Quantise a score.

    Every onset and end goes to the nearest step, and every note lasts at least one. Notes of one
    pitch and part on one step are merged, and a note ends where its pitch begins again in its part;
    ``quantisation_loss`` measures what that costs. A beat is a quarter note.

    Raises:
        ScoreError: ``too_long``: more than 2³¹ steps.
        ValueError: ``steps_per_beat`` is out of range.
    """
    snapped = _snap(score, steps_per_beat)
    notes, kept = score.arrays, snapped.is_kept
    end = int(_nearest(np.int64(score.end), score.ticks_per_beat, steps_per_beat))
    steps = max(end, int(snapped.end.max(initial=0)))
    if steps > LAST_TICK:
        raise ScoreError(f"The score would take {steps:,} steps.", code="too_long")

    def moved(changes: tuple[Change, ...]) -> tuple[Change, ...]:
        times = np.array([change.time for change in changes], np.int64)
        times = _nearest(times, score.ticks_per_beat, steps_per_beat)
        return tuple(replace(c, time=t) for c, t in zip(changes, times.tolist(), strict=True))

    return Grid(
        steps_per_beat,
        steps,
        onset=snapped.onset[kept],
        duration=(snapped.end - snapped.onset)[kept],
        pitch=notes.pitch[kept].astype(np.uint8),
        part=notes.part[kept].astype(np.int16),
        velocity=snapped.velocity[kept].astype(np.uint8),
        parts=score.parts,
        tempos=moved(score.tempos),
        time_signatures=moved(score.time_signatures),
        key_signatures=moved(score.key_signatures),
    )


@dataclass(frozen=True)
class QuantisationLoss:
    """How a grid changes the notes of a score."""

    notes: int  # of the score
    merged: int  # lost because another of the same pitch and part falls on the same step
    cut: int  # ended early because their pitch begins again in their part
    onset_error_beats: NDArray[np.float64]  # (notes,) shift in quarter notes; later is positive
    onset_error_s: NDArray[np.float64]  # (notes,) the same in seconds, at the score's tempo
    duration_error: NDArray[np.float64]  # (n,) relative change of the notes kept, without drums


def quantisation_loss(score: Score, steps_per_beat: int) -> QuantisationLoss:
    """Measure what ``score_to_grid`` would lose; it needs at least one step per beat."""
    snapped = _snap(score, steps_per_beat)
    notes = score.arrays
    ticks_per_step = score.ticks_per_beat / steps_per_beat
    onset = snapped.onset * ticks_per_step
    pitched = snapped.is_kept & ~score.is_drum
    duration = (snapped.end - snapped.onset)[pitched] * ticks_per_step
    return QuantisationLoss(
        notes=len(onset),
        merged=int(np.count_nonzero(~snapped.is_kept)),
        cut=int(np.count_nonzero(snapped.is_cut)),
        onset_error_beats=(onset - notes.onset) / score.ticks_per_beat,
        onset_error_s=score.seconds_at(onset) - score.seconds_at(notes.onset),
        duration_error=duration / notes.duration[pitched] - 1,
    )


def aligned(score: Score, steps_per_beat: int = 4) -> Score:
    """Move a score by up to half a step, so that its onsets lie close to the steps of a grid.

    The shift is the circular mean of the onsets within a step. Where onsets are spread evenly over
    a step, as in free playing, it means nothing but does no harm. What would begin before 0 begins
    at 0.

    Raises:
        ValueError: ``steps_per_beat`` is below 1.
        ScoreError: the score is too long to be moved later (code ``too_long``).
    """
    if steps_per_beat < 1:
        raise ValueError(f"steps_per_beat is at least 1; got {steps_per_beat}")
    # in integers before the angle, so that no precision is lost late in a long piece
    phase = score.arrays.onset * steps_per_beat % score.ticks_per_beat
    mean = np.exp(2j * np.pi * phase / score.ticks_per_beat).sum()
    step = score.ticks_per_beat / steps_per_beat
    shift = -round(float(np.angle(mean)) / (2 * np.pi) * step)
    if shift == 0:
        return score
    if score.end + shift > LAST_TICK:
        raise ScoreError("The score is too long to be moved later.", code="too_long")
    notes = score.arrays
    onset = np.maximum(notes.onset + shift, 0)
    duration = np.maximum(notes.onset + notes.duration + shift - onset, 1)
    return replace(
        score,
        notes=notes._replace(onset=onset, duration=duration).notes(),
        tempos=shifted(score.tempos, shift),
        time_signatures=shifted(score.time_signatures, shift),
        key_signatures=shifted(score.key_signatures, shift),
        end=max(score.end + shift, 0),
    )


def with_estimated_bars(grid: Grid, lengths: tuple[int, ...] = (16, 12)) -> Grid:
    """The grid, later by less than a bar, with one time signature that fits the music.

    Bars tend to begin with many long notes, above all in the bass; the length and phase are chosen
    at which such onsets recur most regularly. ``lengths`` are the steps that a bar may have, the
    usual one first, whole beats each.
    """
    weight = np.zeros(grid.steps)
    lowest = np.full(grid.steps, 128)
    np.minimum.at(lowest, grid.onset, grid.pitch.astype(np.int64))
    is_bass = grid.pitch == lowest[grid.onset]
    duration = np.minimum(grid.duration, max(lengths))
    np.add.at(weight, grid.onset, duration * np.where(is_bass, 2.0, 1.0))
    best = (-np.inf, lengths[0], 0)
    for length in lengths:
        folded = np.zeros(length)
        np.add.at(folded, np.arange(grid.steps) % length, weight)
        folded /= max(grid.steps / length, 1)
        # bars begin on beats: only these are compared
        on_beat = folded[:: grid.steps_per_beat]
        beat = int(on_beat.argmax())
        contrast = (on_beat[beat] - np.delete(on_beat, beat).mean()) / (folded.mean() + 1e-9)
        contrast *= 1.15 if length == lengths[0] else 1.0
        best = max(best, (float(contrast), length, beat * grid.steps_per_beat))
    _, length, phase = best
    delay = -phase % length
    return replace(
        grid,
        steps=grid.steps + delay,
        onset=grid.onset + delay,
        tempos=shifted(grid.tempos, delay),
        time_signatures=(TimeSignature(0, length // grid.steps_per_beat, 4),),
        key_signatures=shifted(grid.key_signatures, delay),
    )


def estimate_key(grid: Grid) -> Key:
    """Estimate the key by correlating the duration of each pitch class with Temperley's profiles.

    Drums are ignored. Music without notes is in C major.
    """
    kept = ~grid.is_drum
    durations = np.bincount(grid.pitch[kept] % 12, weights=grid.duration[kept], minlength=12)
    if not durations.any() or np.ptp(durations) == 0:
        return Key(0, False)
    # pieces tend to end on the tonic in the bass
    last = kept & (grid.onset + grid.duration >= (grid.onset + grid.duration)[kept].max())
    bass = int(grid.pitch[last].min()) % 12
    scores = {
        Key(tonic, is_minor): float(np.corrcoef(np.roll(profile, tonic), durations)[0, 1])
        + 0.1 * (tonic == bass)
        for is_minor, profile in ((False, _MAJOR), (True, _MINOR))
        for tonic in range(12)
    }
    return max(scores, key=lambda key: scores[key])
