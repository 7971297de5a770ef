"""What is lost when a score is put on a grid, and putting it straight first.

Sequencers often hold music that is in time, yet beside the beats of the file by a constant, as
where a recording was transcribed along its own beats: :func:`aligned` takes that out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deepmusic.errors import ScoreError
from deepmusic.music.grid import snap
from deepmusic.music.score import LAST_TICK, Change, Score


@dataclass(frozen=True)
class QuantisationLoss:
    """What a grid makes of the notes of a score.

    Args:
        notes: notes of the score.
        merged: notes lost: another of the same pitch and part falls on the same step.
        cut: notes ended early, since their pitch is struck again in their part.
        onset_error_beats: ``(notes,)`` quarter notes by which onsets move; later is positive.
        onset_error_s: ``(notes,)`` the same in seconds, at the score's tempo.
        duration_error: ``(n,)`` change of duration as a share of the duration, longer is positive;
            of the notes that are kept and are no drums, whose length means nothing.
    """

    notes: int
    merged: int
    cut: int
    onset_error_beats: NDArray[np.float64]
    onset_error_s: NDArray[np.float64]
    duration_error: NDArray[np.float64]


def quantisation_loss(score: Score, steps_per_beat: int) -> QuantisationLoss:
    """Measure what :func:`score_to_grid` would lose.

    Args:
        score: the music.
        steps_per_beat: steps a quarter note.

    Raises:
        ValueError: ``steps_per_beat`` is below 1.
    """
    snapped = snap(score, steps_per_beat)
    notes = score.arrays
    ticks_per_step = score.ticks_per_beat / steps_per_beat
    moved = snapped.onset * ticks_per_step
    is_drum = np.array([part.is_drum for part in score.parts], bool)
    pitched = snapped.is_kept & ~is_drum[notes.part]
    duration = (snapped.end - snapped.onset)[pitched] * ticks_per_step
    return QuantisationLoss(
        notes=len(moved),
        merged=int(np.count_nonzero(~snapped.is_kept)),
        cut=int(np.count_nonzero(snapped.is_cut)),
        onset_error_beats=(moved - notes.onset) / score.ticks_per_beat,
        onset_error_s=score.seconds_at(moved) - score.seconds_at(notes.onset),
        duration_error=duration / notes.duration[pitched] - 1,
    )


def aligned(score: Score, steps_per_beat: int = 4) -> Score:
    """Move a score by up to half a step, so that its onsets lie about steps, not between them.

    The shift is the circular mean of the onsets within a step. Where onsets are spread evenly over
    a step, as in free playing, it means nothing and does no harm.

    Args:
        score: the music.
        steps_per_beat: steps a quarter note of the grid to come.

    Returns:
        The score, all of it earlier or later by the same; what would begin before 0 begins at 0.
        A score on the grid comes back as it is.

    Raises:
        ValueError: ``steps_per_beat`` is below 1.
        ScoreError: the score is too long to be moved later (code ``too_long``).
    """
    if steps_per_beat < 1:
        raise ValueError(f"steps_per_beat is at least 1; got {steps_per_beat}")
    # whole numbers before the angle: a place in the step, not in the piece, so nothing is rounded
    place = score.arrays.onset * steps_per_beat % score.ticks_per_beat
    turns = np.exp(2j * np.pi * place / score.ticks_per_beat).sum()
    step = score.ticks_per_beat / steps_per_beat
    shift = -round(float(np.angle(turns)) / (2 * np.pi) * step)
    if shift == 0:
        return score
    if score.end + shift > LAST_TICK:
        raise ScoreError("The score is too long to be moved later.", code="too_long")

    def moved(changes: tuple[Change, ...]) -> tuple[Change, ...]:
        return tuple(
            # what holds from the start goes on doing so
            replace(change, time=max(change.time + shift, 0) if change.time else 0)
            for change in changes
        )

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
        tempos=moved(score.tempos),
        time_signatures=moved(score.time_signatures),
        key_signatures=moved(score.key_signatures),
        end=max(score.end + shift, 0),
    )
