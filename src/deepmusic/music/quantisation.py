"""From scores to grids: what a grid loses, and aligning a score with it first.

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
from deepmusic.music.score import LAST_TICK, Change, Score, shifted


class SnappedNotes(NamedTuple):
    """Where the notes of a score fall on a grid: columns ``(n,)`` in the order of its notes.

    Args:
        onset: the step nearest to the onset; ties go to the later one.
        end: the step nearest to the end, at least one after the onset, but no later than the next
            onset of the pitch in the part.
        is_kept: False for notes merged into another of the same pitch, part and step; the one that
            is kept gets the latest end and the greatest velocity.
        is_cut: kept, and ended early by the next onset of its pitch.
        velocity: after merging.
    """

    onset: NDArray[np.int64]
    end: NDArray[np.int64]
    is_kept: NDArray[np.bool_]
    is_cut: NDArray[np.bool_]
    velocity: NDArray[np.int64]


def snap(score: Score, steps_per_beat: int) -> SnappedNotes:
    """Find the steps of the notes of a score; ``score_to_grid`` makes a grid of these.

    Raises:
        ValueError: ``steps_per_beat`` is below 1.
    """
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
        columns = (onset[order], notes.pitch[order], notes.part[order])
        is_new = np.ones(len(onset), bool)
        is_new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        is_kept[order] = is_new
        first = np.flatnonzero(is_new)
        kept = order[first]
        end[kept] = np.maximum.reduceat(end[order], first)
        velocity[kept] = np.maximum.reduceat(velocity[order], first)
        earlier, later = same_pitch_pairs(onset[kept], notes.pitch[kept], notes.part[kept])
        earlier, later = kept[earlier], kept[later]
        is_cut[earlier] = end[earlier] > onset[later]
        end[earlier] = np.minimum(end[earlier], onset[later])
    return SnappedNotes(onset, end, is_kept, is_cut, velocity)


def score_to_grid(score: Score, steps_per_beat: int) -> Grid:
    """Quantise a score.

    Every onset and end goes to the nearest step, and every note lasts at least one. Notes of one
    pitch and part on one step are merged, and a note ends where its pitch begins again in its part;
    ``quantisation_loss`` measures what that costs.

    Args:
        score: the music.
        steps_per_beat: steps per quarter note.

    Returns:
        The grid, with parts, velocities, tempos and signatures.

    Raises:
        ScoreError: ``too_long``: more than 2³¹ steps.
        ValueError: ``steps_per_beat`` is out of range.
    """
    snapped = snap(score, steps_per_beat)
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


def _nearest(
    ticks: NDArray[np.int64] | np.int64, ticks_per_beat: int, steps_per_beat: int
) -> NDArray[np.int64]:
    """The step nearest to each tick, in integer arithmetic; ties go to the later step."""
    return np.asarray((2 * ticks * steps_per_beat + ticks_per_beat) // (2 * ticks_per_beat))


@dataclass(frozen=True)
class QuantisationLoss:
    """How a grid changes the notes of a score.

    Args:
        notes: number of notes of the score.
        merged: notes lost because another of the same pitch and part falls on the same step.
        cut: notes ended early because their pitch begins again in their part.
        onset_error_beats: ``(notes,)`` shift of onsets in quarter notes; later is positive.
        onset_error_s: ``(notes,)`` the same in seconds, at the score's tempo.
        duration_error: ``(n,)`` relative change of duration, longer is positive; of the notes that
            are kept, without drums.
    """

    notes: int
    merged: int
    cut: int
    onset_error_beats: NDArray[np.float64]
    onset_error_s: NDArray[np.float64]
    duration_error: NDArray[np.float64]


def quantisation_loss(score: Score, steps_per_beat: int) -> QuantisationLoss:
    """Measure what ``score_to_grid`` would lose.

    Raises:
        ValueError: ``steps_per_beat`` is below 1.
    """
    snapped = snap(score, steps_per_beat)
    notes = score.arrays
    ticks_per_step = score.ticks_per_beat / steps_per_beat
    onset = snapped.onset * ticks_per_step
    is_drum = np.array([part.is_drum for part in score.parts], bool)
    pitched = snapped.is_kept & ~is_drum[notes.part]
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
    a step, as in free playing, it means nothing but does no harm.

    Returns:
        The score, moved as a whole; what would begin before 0 begins at 0.

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
    notes = tuple(
        replace(
            note,
            onset=(onset := max(note.onset + shift, 0)),
            duration=max(note.end + shift - onset, 1),
        )
        for note in score.notes
    )
    return replace(
        score,
        notes=notes,
        tempos=shifted(score.tempos, shift),
        time_signatures=shifted(score.time_signatures, shift),
        key_signatures=shifted(score.key_signatures, shift),
        end=max(score.end + shift, 0),
    )
