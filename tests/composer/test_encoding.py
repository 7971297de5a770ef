"""What the composer reads of a piece, against slow loops over its notes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import (
    ATTRIBUTES,
    LENGTHS,
    POSITION_SIZES,
    Encoded,
    bar_positions,
    encode,
    measure_attributes,
    normalised,
    transposed,
)
from deepmusic.errors import DeepMusicError, ScoreError
from deepmusic.music import Grid, Key, KeySignature, Part, TimeSignature

FIELDS = ("before", "target", "repeated", "match_level", "bar_ago", "positions")


def config(**options: object) -> ComposerConfig:
    small = {"styles": ("a",), "parts": 2, "lowest": 60, "pitches": 5, "passage_steps": 8}
    return ComposerConfig(**{**small, **options})


@st.composite
def pieces(draw: st.DrawFn) -> Grid:
    """Short pieces that repeat themselves, with changes of metre, of one to three parts."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps, parts = draw(st.integers(1, 40)), draw(st.integers(1, 3))
    free = np.zeros((parts, 5), int)
    rows = []
    period = draw(st.sampled_from([3, 8, 100]))
    pattern = random.random((period, parts, 5)) < 0.25
    lengths = random.integers(1, 5, (period, parts, 5))
    for step in range(steps):
        for part, key in zip(*np.nonzero(pattern[step % period]), strict=True):
            if free[part, key] <= step:
                length = min(int(lengths[step % period, part, key]), steps - step)
                rows.append((step, length, 60 + key, part))
                free[part, key] = step + length
    onset, duration, pitch, part = np.array(rows, np.int64).reshape(-1, 4).T
    metres = [TimeSignature(0, *draw(st.sampled_from([(4, 4), (3, 4), (2, 4), (6, 8)])))]
    if draw(st.booleans()):
        metres.append(TimeSignature(draw(st.integers(1, 40)), 3, 8))
    return Grid(
        4, steps, onset, duration, pitch, part, parts=(Part(),) * parts,
        time_signatures=tuple(metres),
    )  # fmt: skip


def slow(piece: Encoded) -> dict[str, np.ndarray]:
    """Everything of a whole piece, note by note and step by step."""
    made, grid = piece.config, piece.grid
    steps, keys, states = grid.steps, made.pitches, made.states
    sounding = np.zeros((steps, made.elements), bool)
    onsets = np.zeros_like(sounding)
    # what each part does, note by note: merged parts of the grid still have notes of their own
    doing: list[list[list[tuple[int, bool]]]] = [
        [[] for _ in range(steps)] for _ in range(made.parts)
    ]
    for onset, duration, pitch, part in zip(
        grid.onset.tolist(), grid.duration.tolist(), grid.pitch.tolist(), grid.part.tolist(),
        strict=True,
    ):  # fmt: skip
        line = min(part, made.parts - 1)
        element = line * keys + pitch - made.lowest
        onsets[onset, element] = True
        for step in range(onset, onset + duration):
            sounding[step, element] = True
            doing[line][step].append((pitch, step == onset))
    sets = np.zeros((steps, made.symbols), bool)
    before = np.zeros((steps, 2 * made.elements), bool)
    for step in range(steps):
        for element in range(made.elements):
            if not made.has_onsets:
                sets[step, element] = sounding[step, element]
            elif onsets[step, element]:
                sets[step, 2 * element + 1] = True
            elif sounding[step, element]:
                sets[step, 2 * element] = True
            if step:
                before[step, 2 * element] = sounding[step - 1, element]
                before[step, 2 * element + 1] = onsets[step - 1, element]
    earlier, repeated = np.zeros_like(sets), np.zeros_like(sets)
    match_level = np.zeros((steps, made.parts), np.uint8)
    bars = grid.bars()
    for step in range(steps):
        bar = max(n for n, start in enumerate(bars.start) if start <= step)
        ago = step - int(bars.length[bar])
        if made.has_bars and ago >= 0:
            earlier[step] = sets[ago]
        for part in range(made.parts if made.repeats else 0):
            did = [sorted(frame) for frame in doing[part]]
            for number, length in enumerate(LENGTHS, start=1):
                for other in range(length, step):
                    if did[other - length : other] == did[step - length : step]:
                        columns = slice(part * keys * states, (part + 1) * keys * states)
                        repeated[step, columns] = sets[other, columns]
                        match_level[step, part] = number
    return {
        "before": before,
        "target": sets,
        "repeated": repeated,
        "match_level": match_level,
        "bar_ago": earlier,
    }


@settings(deadline=None, max_examples=40)
@given(
    grid=pieces(),
    parts=st.integers(1, 3),
    has_onsets=st.booleans(),
    has_bars=st.booleans(),
    repeats=st.booleans(),
)
def test_an_excerpt_equals_a_slow_loop(
    grid: Grid, parts: int, has_onsets: bool, has_bars: bool, repeats: bool
) -> None:
    made = config(parts=parts, has_onsets=has_onsets, has_bars=has_bars, repeats=repeats)
    piece = encode(made, grid)
    excerpt = piece.excerpt(0, len(piece))
    for name, expected in slow(piece).items():
        np.testing.assert_array_equal(getattr(excerpt, name), expected, err_msg=name)
    assert excerpt.positions.shape == (grid.steps, 5)
    assert (excerpt.positions < np.array(POSITION_SIZES)).all()
    assert excerpt.positions.any() <= has_bars


@settings(deadline=None, max_examples=40)
@given(grid=pieces(), data=st.data())
def test_an_excerpt_from_the_middle_is_those_rows_of_the_whole(
    grid: Grid, data: st.DataObject
) -> None:
    piece = encode(config(), grid)
    start = data.draw(st.integers(0, grid.steps - 1))
    stop = data.draw(st.integers(start + 1, grid.steps))
    whole, part = piece.excerpt(0, grid.steps), piece.excerpt(start, stop)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[start:stop])


@settings(deadline=None, max_examples=30)
@given(grid=pieces(), has_onsets=st.booleans(), data=st.data())
def test_an_excerpt_moved_is_the_excerpt_of_the_moved_piece(
    grid: Grid, has_onsets: bool, data: st.DataObject
) -> None:
    made = config(lowest=55, pitches=15, has_onsets=has_onsets)
    semitones = data.draw(st.integers(-5, 5))
    excerpt = encode(made, grid).excerpt(0, grid.steps).transposed(made, semitones)
    moved = encode(made, transposed(grid, semitones)).excerpt(0, grid.steps)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(excerpt, name), getattr(moved, name), err_msg=name)


def test_frames_outside_the_piece_are_silent() -> None:
    grid = Grid(4, 6, [0, 2], [6, 1], [60, 62])
    piece = encode(config(), grid)
    sounding, onsets = piece.frames(-3, 9)
    assert sounding.shape == onsets.shape == (12, 10)
    assert sounding[:, 0].tolist() == [False] * 3 + [True] * 6 + [False] * 3
    assert onsets[:, 0].nonzero()[0].tolist() == [3]
    assert sounding[:, 2].nonzero()[0].tolist() == [5]
    inside, onsets = piece.frames(1, 3)  # a sustained note has no onset
    assert inside[:, 0].all()
    assert not onsets[:, 0].any()


# -------------------------------------------------------------------------------------- positions


@settings(deadline=None, max_examples=40)
@given(grid=pieces())
def test_positions_equal_a_count_step_by_step(grid: Grid) -> None:
    bars = grid.bars()
    positions = bar_positions(bars, grid.steps, has_end=True)
    bar, since = -1, 0
    for step in range(grid.steps):
        since += 1
        if step in bars.start:
            bar, since = bar + 1, 0
        kind = bars.length[bar] // 2 + (32 if bars.is_compound[bar] else 0)
        left = min(len(bars.start) - 1 - bar, 8)
        assert positions[step].tolist() == [since, kind, bar % 8, left, min(bar, 4)]


def test_bars_left_are_those_of_the_whole_piece() -> None:
    grid = Grid(4, 32, [0], [1], [60])
    assert encode(config(), grid).positions[::16, 3].tolist() == [1, 0]
    assert encode(config(), grid, has_end=False).positions[::16, 3].tolist() == [9, 9]


# ---------------------------------------------------------------------------------- normalised

MAJOR = [60, 64, 67, 65, 69, 67, 65, 62, 59, 60, 64, 62, 60]
MINOR = [57, 60, 64, 62, 65, 64, 62, 59, 56, 57, 60, 59, 57]


def tune(pitches: list[int], shift: int = 0) -> Grid:
    count = len(pitches)
    duration = np.full(count, 2)
    duration[-1] = 6
    return Grid(
        4, 2 * count + 4, 2 * np.arange(count), duration, np.array(pitches) + shift,
        key_signatures=(KeySignature(0, 2),),
    )  # fmt: skip


@pytest.mark.parametrize(("pitches", "is_minor"), [(MAJOR, False), (MINOR, True)])
def test_all_transpositions_are_normalised_to_one(pitches: list[int], is_minor: bool) -> None:
    for shift in range(-14, 15):
        grid = tune(pitches, shift)
        moved, key, by = normalised(grid)
        assert key == Key((pitches[-1] + shift) % 12, is_minor)
        assert -6 <= by <= 6
        np.testing.assert_array_equal(moved.pitch, grid.pitch.astype(int) + by)
        octaves = set((moved.pitch.astype(int) - np.array(pitches)).tolist())
        assert octaves <= {-12, 0, 12}
        assert len(octaves) == 1
        assert moved.key_signatures == ()


def test_music_outside_the_pitches_is_moved_by_octaves_into_them() -> None:
    low, high = tune(MAJOR, 21 - 59), tune(MAJOR, 108 - 69)
    for grid in (low, high):
        moved, key, by = normalised(grid)
        assert (key.tonic + by) % 12 == 0
        assert moved.pitch.min() >= 21
        assert moved.pitch.max() <= 108
    few, _, by = normalised(tune(MAJOR), lowest=30, pitches=20)
    assert few.pitch.max() < 50
    assert by % 12 == 0
    again, key, by = normalised(Grid(4, 4, [], [], np.zeros(0, int)))
    assert (again.steps, key, by) == (4, Key(0, False), 0)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: encode(config(), Grid(4, 4, [0], [4], [59])), "60 to 64"),
        (lambda: encode(config(), Grid(4, 4, [0], [4], [65])), "60 to 64"),
        (
            lambda: normalised(Grid(4, 8, [0, 4], [4, 4], [10, 116])),
            "span 106 semitones",
        ),
    ],
)
def test_notes_outside_the_pitches_are_refused(refused: Callable[[], object], message: str) -> None:
    with pytest.raises(ScoreError, match=message) as caught:
        refused()
    assert caught.value.code == "out_of_range"


# ------------------------------------------------------------------------------------ passages


def test_passages_hold_what_sounds_and_what_begins() -> None:
    grid = Grid(4, 10, [0, 4, 4], [6, 2, 6], [60, 62, 64], [0, 0, 1], parts=(Part(), Part()))
    made = config()
    piece = encode(made, grid)
    assert len(piece.passages()) == 2
    frames = piece.passage(4)
    assert frames.shape == (8, 20)
    sounding, onsets = piece.frames(4, 12)
    np.testing.assert_array_equal(frames[:, 0::2], sounding)
    np.testing.assert_array_equal(frames[:, 1::2], onsets)
    assert not piece.passage(-8).any()
    assert not piece.passage(10).any()


@settings(deadline=None, max_examples=40)
@given(grid=pieces(), start=st.integers(-6, 40))
def test_attributes_equal_a_count_by_hand(grid: Grid, start: int) -> None:
    made = config(parts=3, passage_steps=16)
    piece = encode(made, grid)
    got = measure_attributes(made, piece.passage(start))
    notes = [
        (o, d, p, o + d)
        for o, d, p in zip(
            grid.onset.tolist(), grid.duration.tolist(), grid.pitch.tolist(), strict=True
        )
    ]
    onsets = [(o - start, p) for o, _, p, _ in notes if start <= o < start + 16]
    counts = [sum(o <= step < end for o, _, _, end in notes) for step in range(start, start + 16)]
    audible = [n for n, count in enumerate(counts) if count]
    if not onsets:
        assert got.tolist() == [0] * len(ATTRIBUTES)
        return
    beats = (audible[-1] + 1 - audible[0]) / 4
    expected = [
        len(onsets) / beats,
        sum(p for _, p in onsets) / len(onsets),
        sum(counts) / len(audible),
        sum(counts) / len(onsets),
        sum(o % 4 != 0 for o, _ in onsets) / len(onsets),
    ]
    np.testing.assert_allclose(got, expected)


# -------------------------------------------------------------------------------------- config


def test_a_configuration_comes_back_from_its_dictionary() -> None:
    made = config(styles=("folk", "pop"), routing="em", iterations=2)
    assert ComposerConfig.from_dict(made.to_dict()) == made
    assert (made.elements, made.states, made.symbols) == (10, 2, 20)
    assert config(has_onsets=False).symbols == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"styles": ()}, "one or more"),
        ({"styles": ("a", "a")}, "different styles"),
        ({"parts": 0}, "parts is at least 1"),
        ({"lowest": 100, "pitches": 88}, "MIDI"),
        ({"passage_steps": 9}, "whole beats"),
        ({"passage_steps": 0}, "whole beats"),
        ({"dropout": 1.0}, r"in \[0, 1\)"),
        ({"colour": 3}, "'colour'"),
    ],
)
def test_impossible_configurations_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DeepMusicError, match=message):
        ComposerConfig.from_dict({**config().to_dict(), **options})
