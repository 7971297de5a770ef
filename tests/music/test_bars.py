"""Where bars begin: by time signatures, against a slow walk, and by ear on made music."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.music import (
    Grid,
    KeySignature,
    Part,
    Tempo,
    TimeSignature,
    with_estimated_bars,
)

EMPTY = np.zeros(0, int)


def slow_bars(grid: Grid) -> list[tuple[int, int, bool]]:
    """Walk over the steps; a bar ends when it is full, or where the metre changes."""
    signatures = {signature.time: signature for signature in grid.time_signatures}
    bars: list[tuple[int, int, bool]] = []
    current, length, begun = None, 0, 0
    for step in range(max(grid.steps, 1)):
        if step in signatures:
            current = signatures[step]
            length = max(round(Fraction(current.beats_per_bar) * grid.steps_per_beat), 1)
            begun = step
        elif step - begun == length:
            begun = step
        if begun == step:
            changes = [time for time in signatures if step < time < step + length]
            # a change beyond the music cuts no bar, unless another follows it
            end = min(changes, default=step + length)
            is_compound = current.denominator == 8 and current.numerator % 3 == 0
            bars.append((step, end - step, is_compound))
    return bars


METRES = st.builds(
    TimeSignature,
    st.integers(0, 90),
    st.integers(1, 13),
    st.sampled_from([1, 2, 4, 8, 16, 32]),
)


@settings(deadline=None, max_examples=150)
@given(
    steps=st.integers(0, 90),
    steps_per_beat=st.sampled_from([1, 3, 4, 12]),
    metres=st.lists(METRES, max_size=4),
)
def test_bars_equal_a_slow_walk(
    steps: int, steps_per_beat: int, metres: list[TimeSignature]
) -> None:
    metres = [metre for metre in metres if metre.time < max(steps, 1)]
    grid = Grid(steps_per_beat, steps, EMPTY, EMPTY, EMPTY, time_signatures=tuple(metres))
    bars = grid.bars()
    got = list(zip(*(column.tolist() for column in bars), strict=True))
    assert got == slow_bars(grid)
    assert bars.start[0] == 0
    # bars follow one another without a gap, the last to the end of the music at least
    np.testing.assert_array_equal(bars.start[:-1] + bars.length[:-1], bars.start[1:])
    assert bars.start[-1] + bars.length[-1] >= steps


def test_some_metres_by_hand() -> None:
    metres = (TimeSignature(0, 4, 4), TimeSignature(20, 6, 8), TimeSignature(44, 3, 4))
    bars = Grid(4, 60, EMPTY, EMPTY, EMPTY, time_signatures=metres).bars()
    assert bars.start.tolist() == [0, 16, 20, 32, 44, 56]
    assert bars.length.tolist() == [16, 4, 12, 12, 12, 12]
    assert bars.is_compound.tolist() == [False, False, True, True, False, False]


# -------------------------------------------------------------------------------------- by ear


def oom_pah(beats: int, bars: int, later: int, *, seed: int = 0) -> Grid:
    """A low note on the first beat, chords on the others, a tune above; all after an upbeat.

    Args:
        beats: of a bar.
        bars: how many.
        later: steps before the first downbeat.
        seed: of the tune.
    """
    random = np.random.default_rng(seed)
    rows = []
    for bar in range(bars):
        for beat in range(beats):
            step = later + 4 * (beats * bar + beat)
            if beat == 0:
                rows.append((step, 4, 43 + (bar % 2) * 5))
            else:
                rows += [(step, 2, pitch) for pitch in (59, 62, 67)]
        step = later + 4 * beats * bar
        rows.append((step, 8, 79 + int(random.integers(0, 3))))
        rows += [(step + 8 + n, 1, 76 - n) for n in range(4 * beats - 8)]
    rows += [(n, 1, 76) for n in range(later % 4, later, 2)]
    onset, duration, pitch = np.array(rows).T
    return Grid(
        4, later + 4 * beats * bars, onset, duration, pitch,
        parts=(Part("band"),), tempos=(Tempo(0, 400_000), Tempo(later + 4, 500_000)),
        key_signatures=(KeySignature(later + 8, 1),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("beats", "upbeat"), [(3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2), (4, 3)]
)
@pytest.mark.parametrize("seed", range(3))
def test_the_downbeat_of_a_band_is_found(beats: int, upbeat: int, seed: int) -> None:
    later = 4 * upbeat
    grid = oom_pah(beats, 12, later, seed=seed)
    result = with_estimated_bars(grid)
    assert result.time_signatures == (TimeSignature(0, beats, 4),)
    rest = -later % (4 * beats)
    assert result.steps == grid.steps + rest
    np.testing.assert_array_equal(result.onset, grid.onset + rest)
    np.testing.assert_array_equal(result.duration, grid.duration)
    np.testing.assert_array_equal(result.pitch, grid.pitch)
    # all first beats stand at the beginning of a bar
    low = result.onset[result.pitch < 50]
    assert set(low.tolist()) <= set(result.bars().start.tolist())
    assert [tempo.time for tempo in result.tempos] == [0, later + 4 + rest]
    assert [key.time for key in result.key_signatures] == [later + 8 + rest]
    assert result.parts == grid.parts


@pytest.mark.parametrize("steps", [0, 1, 7, 100])
def test_silence_has_bars_too(steps: int) -> None:
    result = with_estimated_bars(Grid(4, steps, EMPTY, EMPTY, EMPTY))
    assert result.time_signatures == (TimeSignature(0, 4, 4),)
    assert result.steps == steps
