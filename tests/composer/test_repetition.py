"""Repeats: as of a slow search, in a whole piece and in one that grows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.composer.encoding import (
    LENGTHS,
    RepeatFinder,
    find_repeats,
    frame_codes,
    scattered,
)
from deepmusic.music import Grid, Part


def scatter(symbols: list[int] | np.ndarray) -> np.ndarray:
    return scattered(np.asarray(symbols, np.uint64)).view(np.int64)


def slow_repeats(symbols: list[int]) -> tuple[list[int], list[int]]:
    """All earlier positions are compared step by step, at every length."""
    source, match_level = [], []
    for step in range(len(symbols)):
        result = (-1, 0)
        for number, length in enumerate(LENGTHS, start=1):
            for other in range(length, step):
                if symbols[other - length : other] == symbols[step - length : step]:
                    result = (other, number)  # of one length the latest, longer ones before others
        source.append(result[0])
        match_level.append(result[1])
    return source, match_level


SEQUENCES = st.one_of(
    st.lists(st.integers(0, 2), max_size=80),
    # long repeats: a figure that comes back, with a slip somewhere
    st.builds(
        lambda figure, times, position: [
            *(figure * times)[:position],
            9,
            *(figure * times)[position:],
        ],
        st.lists(st.integers(0, 3), min_size=1, max_size=20),
        st.integers(1, 12),
        st.integers(0, 100),
    ),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(symbols=SEQUENCES)
def test_repeats_equal_a_slow_search(symbols: list[int]) -> None:
    result = find_repeats(scatter(symbols))
    source, match_level = slow_repeats(symbols)
    assert result.source.tolist() == source
    assert result.match_level.tolist() == match_level
    assert result.source.dtype == np.int32
    assert result.match_level.dtype == np.uint8


@settings(deadline=None, max_examples=60)
@given(count=st.integers(0, 300), alphabet=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_a_growing_piece_has_the_repeats_of_the_whole(count: int, alphabet: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    symbols = random.integers(0, alphabet, count)
    if count > 150:  # repeats of more than the greatest length
        symbols[-75:] = symbols[:75]
    codes = scatter(symbols)
    whole = find_repeats(codes)
    finder = RepeatFinder()
    for step, code in enumerate(codes.tolist()):
        assert finder.next == (whole.source[step], whole.match_level[step])
        finder.append(code)
    # what would come after the last step: that of the piece with any step more
    longer = find_repeats(np.append(codes, 0))
    assert finder.next == (longer.source[-1], longer.match_level[-1])


def grid(rows: list[tuple[int, int, int, int]], steps: int = 12) -> Grid:
    onset, duration, pitch, part = np.array(rows, np.int64).reshape(-1, 4).T
    return Grid(4, steps, onset, duration, pitch, part, parts=(Part(), Part(), Part()))


def codes_of(made: Grid, parts: int = 3) -> np.ndarray:
    return frame_codes(made, np.minimum(made.part.astype(np.int64), parts - 1), parts)


def test_codes_distinguish_onsets_from_sustained_notes_pitches_and_parts() -> None:
    sustained = codes_of(grid([(0, 4, 60, 0)]))
    onsets = codes_of(grid([(n, 1, 60, 0) for n in range(4)]))
    assert sustained.shape == (3, 12)
    assert len(set(onsets[0, :4].tolist())) == 1
    assert len(set(sustained[0, 1:4].tolist())) == 1
    assert sustained[0, 0] == onsets[0, 0] != sustained[0, 1]
    assert not sustained[1:].any()
    assert not sustained[0, 4:].any()
    np.testing.assert_array_equal(codes_of(grid([(0, 4, 60, 1)])), sustained[[1, 0, 2]])
    assert codes_of(grid([(0, 4, 61, 0)]))[0, 0] != sustained[0, 0]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000))
def test_codes_are_equal_where_the_steps_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = {
        (int(onset), int(pitch), int(part))
        for onset, pitch, part in random.integers(0, [12, 3, 2], (20, 3))
    }
    made = grid([(onset, 1, 60 + pitch, part) for onset, pitch, part in rows])
    codes = codes_of(made, 2)
    for part in range(2):
        sets = [
            frozenset(p for o, p, which in rows if o == step and which == part)
            for step in range(12)
        ]
        for one in range(12):
            for other in range(12):
                assert (codes[part, one] == codes[part, other]) == (sets[one] == sets[other])
    # the same notes in another order
    order = random.permutation(len(made.onset))

    class Shuffled:
        steps = made.steps
        onset, duration, pitch = made.onset[order], made.duration[order], made.pitch[order]

    again = frame_codes(Shuffled, made.part[order].astype(np.int64), 2)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again, codes)
