"""Reading MIDI files whose notes, or whose style, a new piece takes up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import normalised, transposed
from deepmusic.composer.request import Request
from deepmusic.composer.style_profile import RANGE_MARGIN, StyleProfile
from deepmusic.errors import RequestError, ScoreError
from deepmusic.music import Grid, Key, Part, Score, aligned, read_midi, score_to_grid

_OCTAVES = (0, -12, 12, -24, 24, -36, 36)  # the nearest first


def read_given(
    request: Request, config: ComposerConfig, profile: StyleProfile
) -> tuple[Grid, Key, int, float]:
    """The piece that a request continues, rewrites or harmonizes.

    Returns:
        The grid in C major or A minor, its key, by how many semitones it has to be transposed to
        be as it was, and its tempo in beats per minute.

    Raises:
        RequestError: the melody does not suit the style.
        ScoreError: the file cannot be used.
    """
    assert request.given is not None
    grid, key, shift, tempo = read_piece(request.given, config, len(profile.parts))
    if request.harmonize is not None:
        grid = _melody(grid)
        octave = _octave_for(grid, profile, request.harmonize)
        grid, shift = transposed(grid, octave), shift + octave
    return grid, key, -shift, tempo


def read_piece(path: str, config: ComposerConfig, parts: int) -> tuple[Grid, Key, int, float]:
    """A MIDI file as the composer reads it, in at most this many parts.

    Returns:
        The grid in C major or A minor, its key, by how many semitones it was transposed, and its
        tempo in beats per minute.
    """
    raw = read_midi(path)
    score = aligned(_in_parts(raw, parts, path), config.steps_per_beat)
    grid = score_to_grid(score, config.steps_per_beat)
    last = int((grid.onset + grid.duration).max())
    # later changes would only move bars about
    grid = replace(grid, steps=last, time_signatures=grid.time_signatures[:1], tempos=())
    grid, key, shift = normalised(grid, lowest=config.lowest, pitches=config.pitches)
    return grid, key, shift, raw.tempos[0].beats_per_minute


def _in_parts(score: Score, count: int, path: str) -> Score:
    """The score without drums, its further parts merged into the last of ``count``."""
    index_of: dict[int, int] = {}
    for index, part in enumerate(score.parts):
        if not part.is_drum:
            index_of[index] = min(len(index_of), count - 1)
    notes = tuple(replace(n, part=index_of[n.part]) for n in score.notes if n.part in index_of)
    if not notes:
        raise ScoreError(f"{path} has no notes but drums; name a file with a melody.", code="drums")
    first = min(note.part for note in notes)
    notes = tuple(replace(note, part=note.part - first) for note in notes)
    return replace(score, notes=notes, parts=(Part(),) * count)


def _melody(grid: Grid) -> Grid:
    """The highest notes of the first part that has any, one at a time."""
    in_part = np.flatnonzero(grid.part == grid.part.min())
    top = np.full(grid.steps, -1)
    for note in in_part:
        span = slice(int(grid.onset[note]), int(grid.onset[note] + grid.duration[note]))
        top[span] = np.maximum(top[span], int(grid.pitch[note]))
    kept = [n for n in in_part if top[int(grid.onset[n])] == grid.pitch[n]]
    onset = grid.onset[kept]
    ends = np.append(onset[1:], grid.steps)
    return replace(
        grid,
        onset=onset,
        duration=np.minimum(grid.duration[kept], ends - onset),
        pitch=grid.pitch[kept],
        part=np.zeros(len(kept), np.int64),
        velocity=grid.velocity[kept],
    )


def _octave_for(melody: Grid, profile: StyleProfile, path: str) -> int:
    """Semitones to the octave in which a melody suits the first part of a style."""
    if len(profile.parts) < 2:
        raise RequestError(
            "This style has one part, which the melody would fill: harmonize in a style with more."
        )
    margin = 2 * RANGE_MARGIN
    low, high = profile.ranges[0][0] - margin, profile.ranges[0][1] + margin
    lowest, highest = int(melody.pitch.min()), int(melody.pitch.max())
    fitting = [o for o in _OCTAVES if low <= lowest + o and highest + o <= high]
    if not fitting:
        raise RequestError(
            f"The melody in {path} spans {highest - lowest} semitones, which is out of range: the "
            f"{profile.parts[0][0] or 'first part'} of this style spans {high - low} at most."
        )
    return fitting[0]
