"""Copying: an index against a slow and an exact search, and figures of Bach's chorales."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.composer.memorization import (
    CopyIndex,
    CopyReport,
    HumanReference,
    human_reference,
)
from deepmusic.datasets.symbolic import load_symbolic
from deepmusic.errors import CheckpointError
from deepmusic.music import Grid

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from memorization import ReferenceCorpus

Chord = tuple[int, ...]


def piece_of(chords: Sequence[tuple[Chord, int]], steps_per_beat: int = 4) -> Grid:
    """The grid of chords, each with its length in steps."""
    steps = [chord for chord, length in chords for _ in range(length)]
    roll = np.zeros((len(steps), 128), bool)
    for step, chord in enumerate(steps):
        roll[step, list(chord)] = True
    return Grid.from_roll(roll, steps_per_beat=steps_per_beat, lowest=0)


def tune(pitches: Sequence[int], length: int = 1) -> Grid:
    return piece_of([((pitch,), length) for pitch in pitches])


def transposed(grid: Grid, semitones: int) -> Grid:
    return replace(grid, pitch=grid.pitch.astype(int) + semitones)


def excerpt(grid: Grid, start: int, stop: int) -> Grid:
    roll = grid.roll(lowest=0, pitches=128)
    return Grid.from_roll(roll[start:stop], steps_per_beat=grid.steps_per_beat, lowest=0)


def joined(*grids: Grid) -> Grid:
    rolls = [grid.roll(lowest=0, pitches=128) for grid in grids]
    return Grid.from_roll(np.concatenate(rolls), steps_per_beat=4, lowest=0)


def random_piece(seed: int, chords: int = 40) -> Grid:
    """Chords of three of 40 pitches: what two pieces share at random is short."""
    random = np.random.default_rng(seed)
    return piece_of(
        [
            (tuple(random.choice(np.arange(40, 80), 3, replace=False)), int(random.integers(1, 4)))
            for _ in range(chords)
        ]
    )


def sets(grid: Grid) -> list[set[int]]:
    return [set(np.flatnonzero(row).tolist()) for row in grid.roll(lowest=0, pitches=128)]


def chords_in(passage: list[set[int]]) -> int:
    return sum(
        bool(chord) and (t == 0 or chord != passage[t - 1]) for t, chord in enumerate(passage)
    )


def pauses(passage: list[set[int]], most: int = 4) -> set[int]:
    """Steps of silences longer than ``most`` steps."""
    result: set[int] = set()
    for start in range(len(passage) - most):
        if not any(passage[start : start + most + 1]):
            result |= set(range(start, start + most + 1))
    return result


def slow_figures(piece: Grid, others: Sequence[Grid]) -> tuple[int, int]:
    """Follow every pair of starts as far as they agree; with one step per beat."""
    longest = richest = 0
    mine = sets(piece)
    pauses_of_mine = pauses(mine)
    for other in map(sets, others):
        for i in range(len(mine)):
            for j in range(len(other)):
                if not mine[i] or not other[j]:
                    continue
                shift = min(mine[i]) - min(other[j])
                stop = i
                for a, b in zip(mine[i:], other[j:], strict=False):
                    if stop in pauses_of_mine or a != {pitch + shift for pitch in b}:
                        break
                    stop += 1
                while not mine[stop - 1]:
                    stop -= 1
                chords = chords_in(mine[i:stop])
                if stop > i and chords >= 2:
                    longest, richest = max(longest, stop - i), max(richest, chords)
    return longest, richest


# few chords, so that much is shared, with silence at ends and between
CHORDS = st.sampled_from(
    [(), (60,), (62,), (60, 64), (62, 66), (59, 64), (0, 64), (1, 65), (0, 63)]
)
PIECES = st.lists(st.tuples(CHORDS, st.integers(1, 5)), max_size=12).map(
    lambda chords: piece_of(chords, steps_per_beat=1)
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(PIECES, st.lists(PIECES, max_size=3), st.sampled_from([(2,), (4,), (2, 3), (3, 5, 9)]))
def test_the_index_is_never_below_a_slow_search(
    piece: Grid, others: list[Grid], windows: tuple[int, ...]
) -> None:
    steps, chords = slow_figures(piece, others)
    assert ReferenceCorpus(others).overlap(piece)[:2] == (steps, chords)
    bound = CopyIndex.build(others, windows=windows).overlap(piece)
    assert bound.steps >= steps
    assert bound.chords >= chords
    crowded = CopyIndex.build(others, windows=windows, bits_per_window=1)  # many false positives
    assert crowded.overlap(piece).steps >= steps


@settings(max_examples=40, deadline=None)
@given(PIECES, PIECES, st.integers(0, 40), st.integers(0, 40))
def test_transposing_changes_nothing(piece: Grid, other: Grid, up: int, other_up: int) -> None:
    index, moved = (CopyIndex.build([o]) for o in (other, transposed(other, other_up)))
    np.testing.assert_array_equal(index.bits, moved.bits)
    assert index.overlap(piece) == moved.overlap(transposed(piece, up))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(12, 40), st.integers(0, 20), st.integers(-12, 12))
def test_a_planted_excerpt_is_found(seed: int, length: int, start: int, semitones: int) -> None:
    source, others = random_piece(seed), [random_piece(seed + n) for n in (1, 2)]
    copied = transposed(excerpt(source, start, start + length), semitones)
    before = random_piece(seed + 3, chords=5)
    piece = joined(before, copied, random_piece(seed + 4, chords=5))
    bound = CopyIndex.build([*others, source]).overlap(piece)
    # it may go on by part of a chord
    assert copied.steps <= bound.steps <= max(copied.steps + 4, 15)
    if bound.steps > 15:
        assert before.steps - 4 <= bound.at <= before.steps


def test_silence_one_held_chord_and_other_bass_motion_are_not_shared() -> None:
    held = piece_of([((), 30), ((60, 64), 50), ((), 40)])
    other = piece_of([((), 30), ((61, 65), 50), ((), 40)])
    assert CopyIndex.build([other]).overlap(held) == (0, 0, 0)
    # a rest within a passage belongs to it, one around it or longer than four beats does not
    for rest, expected in ((3, (7, 2)), (16, (20, 2)), (17, (0, 0))):
        apart = piece_of([((), 9), ((60,), 2), ((), rest), ((62,), 2), ((), 9)])
        assert CopyIndex.build([transposed(apart, 5)]).overlap(apart)[:2] == expected
    up, down = tune([60, 62, 64, 65]), tune([60, 58, 56, 55])
    assert CopyIndex.build([up], windows=(2,)).overlap(down).steps < 2


def test_an_index_is_the_same_when_saved_and_on_every_machine() -> None:
    index = CopyIndex.build([tune(range(40, 70), 2), random_piece(0)], windows=(4, 8))
    arrays = index.to_arrays()
    assert {name: array.dtype for name, array in arrays.items()} == {"head": "u4", "bits": "u1"}
    again = CopyIndex.from_arrays({name: array.copy() for name, array in arrays.items()})
    for name in ("windows", "steps_per_beat", "kept", "hashes"):
        assert getattr(again, name) == getattr(index, name)
    np.testing.assert_array_equal(again.bits, index.bits)
    assert again.overlap(random_piece(0)) == index.overlap(random_piece(0))
    small = CopyIndex.build([tune([60, 62, 64, 65])], windows=(2,))
    assert small.kept == 2  # a whole tone twice, a semitone
    assert small.bits.tolist() == PINNED


PINNED = [211, 162, 133, 73]  # arbitrary, but saved indices must stay readable


def test_bad_input_is_refused() -> None:
    four, three = tune([60, 62]), replace(tune([60, 62]), steps_per_beat=3)
    index = CopyIndex.build([four])
    for refused in (
        lambda: CopyIndex.build([four, three]),
        lambda: index.overlap(three),
        lambda: human_reference(index, [three], style="", excerpt_steps=2),
    ):
        with pytest.raises(ValueError, match="one grid"):
            refused()
    for windows in ((), (1,), (8, 8), (16, 8)):
        with pytest.raises(ValueError, match="windows ascend"):
            CopyIndex.build([four], windows=windows)
    with pytest.raises(ValueError, match="at least 9 steps"):
        human_reference(index, [four], style="", excerpt_steps=9)
    arrays = index.to_arrays()
    for damage in ({"head": np.array([9, *arrays["head"][1:]])}, {"bits": arrays["bits"][1:]}):
        with pytest.raises(CheckpointError, match="not one of version 2"):
            CopyIndex.from_arrays(arrays | damage)


def test_nothing_is_shared_with_nothing() -> None:
    empty = Grid(4, 0, onset=[], duration=[], pitch=np.zeros(0, int))
    for others in ([], [empty]):
        index = CopyIndex.build(others)
        assert index.kept == 0
        assert index.overlap(random_piece(0)).steps <= 7
    assert CopyIndex.build([random_piece(0)]).overlap(empty) == (0, 0, 0)


def test_a_report_compares_with_people() -> None:
    train = [random_piece(n) for n in range(8)]
    test = [joined(excerpt(train[n], 0, 8 + 2 * n), random_piece(100 + n)) for n in range(1, 8)]
    index = CopyIndex.build(train)
    reference = human_reference(index, test, style="noise", excerpt_steps=30)
    excerpts = [
        index.overlap(excerpt(piece, start, start + 30))
        for piece in test
        for start in range(0, piece.steps - 29, 30)
    ]
    assert reference.pieces == len(excerpts)
    assert reference.steps.most == max(overlap.steps for overlap in excerpts)
    assert reference.chords.p50 == np.median([overlap.chords for overlap in excerpts])
    assert HumanReference.from_dict(json.loads(json.dumps(asdict(reference)))) == reference
    original, copied = (
        CopyReport(*index.overlap(piece), piece.steps, reference)
        for piece in (random_piece(300), train[3])
    )
    assert not original.is_beyond
    assert replace(original, chords=int(reference.chords.p95) + 1).is_beyond
    report = json.loads(json.dumps(copied.to_dict()))
    assert (report["share"], report["is_beyond"]) == (1, True)
    assert report["reference"]["steps"]["p95"] == reference.steps.p95


@pytest.mark.slow
def test_chorales_share_what_an_independent_search_found(shared_data: Path) -> None:
    chorales = load_symbolic("chorales", shared_data / "symbolic")
    train = [piece.grid for piece in chorales.train]
    corpus, index = ReferenceCorpus(train), CopyIndex.build(train)
    exact, bounds = [], []
    for side, steps, chords in (
        (chorales.test, [16, 20, 24.8, 64], [6, 7, 8, 24]),
        (chorales.validation, [18, 20, 28.75, 164], [6, 7, 10.25, 70]),
    ):
        overlaps = np.array([corpus.overlap(piece.grid) for piece in side])
        expected = np.transpose([steps, chords])
        np.testing.assert_allclose(np.percentile(overlaps[:, :2], [50, 75, 95, 100], 0), expected)
        exact.append(overlaps)
        bounds.append([index.overlap(piece.grid) for piece in side])
    above = (np.concatenate(bounds) - np.concatenate(exact))[:, :2]
    assert (above >= 0).all()
    assert (above[:, 0] == 0).mean() > 0.75
    assert above[:, 1].mean() < 1
    assert len(index.bits) < 150_000
