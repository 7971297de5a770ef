"""Scores and grids for property-based tests."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from deepmusic.music import Grid, KeySignature, Note, Part, Score, Tempo, TimeSignature

NAMES = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=12)
PARTS = st.builds(Part, name=NAMES, program=st.integers(0, 127), is_drum=st.booleans())


def changes(last: int) -> st.SearchStrategy[dict[str, Any]]:
    """Tempos, time signatures and key signatures, up to a last tick or step."""
    time = st.integers(0, last)
    denominators = st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128])
    kinds = {
        "tempos": st.builds(Tempo, time, st.integers(1, 2**24 - 1)),
        "time_signatures": st.builds(TimeSignature, time, st.integers(1, 255), denominators),
        "key_signatures": st.builds(KeySignature, time, st.integers(-7, 7), st.booleans()),
    }
    return st.fixed_dictionaries(
        {name: st.lists(kind, max_size=3).map(tuple) for name, kind in kinds.items()}
    )


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any grid: pitches repeated at once, rests at both ends, several parts in unison."""
    steps = draw(st.integers(0, 30))
    parts = tuple(draw(st.lists(PARTS, min_size=1, max_size=3)))
    rows = []
    lines = st.tuples(st.integers(0, len(parts) - 1), st.integers(0, 127))
    for part, pitch in sorted(draw(st.sets(lines, max_size=6))):
        bounds = sorted(draw(st.sets(st.integers(0, steps), max_size=6)))
        for start, stop in pairwise(bounds):
            if draw(st.booleans()):
                rows.append((start, stop - start, pitch, part, draw(st.integers(1, 127))))
    columns = np.array(rows, np.int64).reshape(-1, 5).T
    steps_per_beat = draw(st.sampled_from([1, 2, 3, 4, 6, 12, 24, 479]))
    return Grid(steps_per_beat, steps, *columns, parts=parts, **draw(changes(steps)))


@st.composite
def scores(draw: st.DrawFn) -> Score:
    """Any score that MIDI can hold: every part sounds, no note lies within one of its pitch."""
    parts = tuple(draw(st.lists(PARTS, min_size=1, max_size=4)))
    notes = []
    for part in range(len(parts)):
        for pitch in draw(st.sets(st.integers(0, 127), min_size=1, max_size=3)):
            count = draw(st.integers(1, 4))
            many = {"min_size": count, "max_size": count}
            onsets = sorted(draw(st.lists(st.integers(0, 3000), **many)))
            last = 0
            for onset, length in zip(
                onsets, draw(st.lists(st.integers(1, 900), **many)), strict=True
            ):
                last = max(last, onset + length)
                notes.append(Note(onset, last - onset, pitch, draw(st.integers(1, 127)), part))
    return Score(
        draw(st.integers(1, 32767)),
        tuple(draw(st.permutations(notes))),
        parts=parts,
        end=draw(st.integers(0, 6000)),
        **draw(changes(5000)),
    )
