"""Scores: ranges, the canonical form, lengths and bars."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scores import scores

from deepmusic.music import KeySignature, Note, Part, Score, Tempo, TimeSignature

SCALE = tuple(Note(480 * i, 480, pitch) for i, pitch in enumerate((60, 62, 64, 65)))


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (Note, (-1, 1, 60)),
        (Note, (0, 0, 60)),
        (Note, (0, 1, 128)),
        (Note, (0, 1, 60, 0)),
        (Note, (0, 1, 60, 80, -1)),
        (Note, (0.5, 1, 60)),
        (Note, (0, 1, True)),
        (Note, (2**31 - 3, 2, 60)),
        (Part, ("two\nlines",)),
        (Part, ("piano", 128)),
        (Tempo, (0, 0)),
        (Tempo, (0, 2**24)),
        (TimeSignature, (0, 0, 4)),
        (TimeSignature, (0, 4, 3)),
        (TimeSignature, (0, 4, 256)),
        (KeySignature, (0, 8)),
        (Score, (0, ())),
        (Score, (480, (Note(0, 1, 60, part=1),))),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any, numbers: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"got|printable|but there are 1"):
        make(*numbers)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(scores(), st.randoms(use_true_random=False))
def test_equal_music_is_equal(score: Score, random: Any) -> None:
    shuffled = list(score.notes)
    random.shuffle(shuffled)
    again = replace(score, notes=tuple(shuffled), warnings=("Something was repaired.",))
    assert again == score
    assert hash(again) == hash(score)
    assert again != replace(score, end=score.end + 1)
    assert [n.onset for n in score.notes] == sorted(n.onset for n in score.notes)


def test_default_tempo_and_time_signature_are_those_of_midi() -> None:
    score = Score(480, SCALE, tempos=(Tempo(960, 250_000), Tempo(960, 1_000_000)))
    assert score.tempos == (Tempo(0, 500_000), Tempo(960, 1_000_000))
    assert score.tempos[0].beats_per_minute == 120
    assert score.time_signatures == (TimeSignature(0, 4, 4),)
    assert score.key_signatures == ()
    assert TimeSignature(0, 6, 8).beats_per_bar == 3


def test_lengths() -> None:
    score = Score(480, SCALE, tempos=(Tempo(960, 1_000_000),), end=2400)
    assert score.beats == Fraction(5)
    assert score.seconds == pytest.approx(2 * 0.5 + 3 * 1.0)
    assert Score(480, SCALE, end=1).beats == 4  # never before the last note
    np.testing.assert_allclose(score.seconds_at([0, 480, 960, 1440.5]), [0, 0.5, 1, 2 + 0.5 / 480])


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(scores(), st.integers(0, 6000))
def test_seconds_equal_a_loop_over_tempos(score: Score, tick: int) -> None:
    seconds = 0.0
    ends = [*(tempo.time for tempo in score.tempos[1:]), 10**9]
    for tempo, end in zip(score.tempos, ends, strict=True):
        ticks = max(0, min(tick, end) - tempo.time)
        seconds += ticks / score.ticks_per_beat * tempo.us_per_beat / 1e6
    assert float(score.seconds_at(tick)) == pytest.approx(seconds, rel=1e-9, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(scores())
def test_columns_are_the_notes(score: Score) -> None:
    columns = score.arrays
    rows = zip(*(column.tolist() for column in columns), strict=True)
    assert tuple(Note(*row) for row in rows) == score.notes
    with pytest.raises(ValueError, match="read-only"):
        columns.pitch[:] = 0
    by_part = [score.notes_of(part) for part in range(len(score.parts))]
    assert sorted(map(str, score.notes)) == sorted(str(n) for notes in by_part for n in notes)


BAR = 4 * 480


def starts(score: Score) -> list[tuple[float, str]]:
    return [(float(bar.start), bar.time_signature) for bar in islice(score.bars(), 100)]


def test_bars_follow_the_time_signatures() -> None:
    assert starts(Score(480, ())) == [(0, "4/4"), (BAR, "")]
    assert starts(Score(480, (), end=2 * BAR)) == [(0, "4/4"), (BAR, ""), (2 * BAR, "")]
    waltz = Score(480, (), time_signatures=(TimeSignature(0, 3, 4),), end=1441)
    assert starts(waltz) == [(0, "3/4"), (1440, ""), (2880, "")]
    # 6/8 after one bar and a half of 3/4, and a metre after the end
    changes = (TimeSignature(0, 3, 4), TimeSignature(2160, 6, 8), TimeSignature(9999, 2, 4))
    mixed = Score(480, (), time_signatures=changes, end=5000)
    assert starts(mixed) == [(0, "3/4"), (1440, ""), (2160, "6/8"), (3600, ""), (5040, "")]
