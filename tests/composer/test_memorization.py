"""Copying: exact search against slow loops, the index never below it, and Bach's own figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from deepmusic.composer.memorization import (
    CopyIndex,
    HumanReference,
    copy_report,
    human_reference,
)
from deepmusic.composer.shared_passages import ReferenceCorpus, SharedRun
from deepmusic.datasets.symbolic import load_symbolic
from deepmusic.errors import CheckpointError
from deepmusic.music import Grid

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "symbolic"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the symbolic data are not here")

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
    """Chords of three of 40 pitches: what two pieces share by chance is short."""
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
    """Steps of silences of more than so many steps."""
    result: set[int] = set()
    for start in range(len(passage) - most):
        if not any(passage[start : start + most + 1]):
            result |= set(range(start, start + most + 1))
    return result


def slow_figures(piece: Grid, others: Sequence[Grid]) -> tuple[int, int]:
    """Every pair of beginnings, as far as it goes; at one step a beat."""
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


@settings(max_examples=50, deadline=None)
@given(PIECES, st.lists(PIECES, max_size=3))
def test_search_agrees_with_slow_loops(piece: Grid, others: list[Grid]) -> None:
    corpus = ReferenceCorpus(others)
    expected = slow_figures(piece, others)
    assert corpus.overlap(piece)[:2] == expected
    longest = corpus.longest(piece)
    if not expected[0]:
        assert longest is None
        return
    assert longest is not None
    assert (longest.steps, corpus.overlap(piece).at) == (expected[0], longest.at)
    mine = sets(piece)[longest.at : longest.at + longest.steps]
    other = sets(others[longest.other])[longest.at_other : longest.at_other + longest.steps]
    assert mine == [{pitch + longest.semitones for pitch in chord} for chord in other]
    assert chords_in(mine) == longest.chords
    assert mine[0]
    assert mine[-1]


@settings(max_examples=50, deadline=None)
@given(PIECES, st.lists(PIECES, max_size=3), st.sampled_from([(2,), (4,), (2, 3), (3, 5, 9)]))
def test_the_index_is_never_below_the_search(
    piece: Grid, others: list[Grid], windows: tuple[int, ...]
) -> None:
    exact = ReferenceCorpus(others).overlap(piece)
    index = CopyIndex.build(others, windows=windows)
    bound = index.overlap(piece)
    assert bound.steps >= exact.steps
    assert bound.chords >= exact.chords
    crowded = CopyIndex.build(others, windows=windows, bits_per_window=1)  # takes much for known
    assert crowded.overlap(piece).steps >= exact.steps


@settings(max_examples=40, deadline=None)
@given(PIECES, PIECES, st.integers(0, 40), st.integers(0, 40))
def test_transposing_changes_nothing(piece: Grid, other: Grid, up: int, other_up: int) -> None:
    exact = ReferenceCorpus([other]).overlap(piece)
    assert ReferenceCorpus([transposed(other, other_up)]).overlap(transposed(piece, up)) == exact
    index, moved = (CopyIndex.build([o]) for o in (other, transposed(other, other_up)))
    np.testing.assert_array_equal(index.bits, moved.bits)
    assert index.overlap(piece) == moved.overlap(transposed(piece, up))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(12, 40), st.integers(0, 20), st.integers(-12, 12))
def test_a_planted_excerpt_is_found(seed: int, length: int, start: int, semitones: int) -> None:
    source, others = random_piece(seed), [random_piece(seed + n) for n in (1, 2)]
    copied = transposed(excerpt(source, start, start + length), semitones)
    piece = joined(random_piece(seed + 3, chords=5), copied, random_piece(seed + 4, chords=5))
    corpus = ReferenceCorpus([*others, source])
    run = corpus.longest(piece)
    assert run is not None
    assert run.steps >= len(copied)
    assert (run.other, run.semitones) == (2, semitones)
    # it goes on, by chance, by part of a chord at most
    assert run.steps <= len(copied) + 4
    bound = CopyIndex.build([*others, source]).overlap(piece)
    assert len(copied) <= bound.steps <= max(len(copied) + 4, 15)
    apart = ReferenceCorpus(others).overlap(piece)
    assert apart.steps < 8


def test_silence_and_one_held_chord_are_no_passage() -> None:
    held = piece_of([((), 30), ((60, 64), 50), ((), 40)])
    other = piece_of([((), 30), ((61, 65), 50), ((), 40)])
    assert ReferenceCorpus([other]).longest(held) is None
    assert ReferenceCorpus([other]).overlap(held) == (0, 0, 0)
    assert CopyIndex.build([other]).overlap(held) == (0, 0, 0)
    # a rest within a passage belongs to it, one around it does not
    twice = piece_of([((), 9), ((60,), 2), ((), 3), ((62,), 2), ((), 9)])
    run = ReferenceCorpus([transposed(twice, 5)]).longest(twice)
    assert run == SharedRun(7, 2, at=9, other=0, at_other=9, semitones=-5)
    # nor does one that is longer than four beats
    for rest, expected in ((16, (20, 2)), (17, (0, 0))):
        apart = piece_of([((60,), 2), ((), rest), ((62,), 2)])
        assert ReferenceCorpus([apart]).overlap(apart)[:2] == expected
        assert CopyIndex.build([apart]).overlap(apart)[:2] == expected


def test_equal_chords_over_another_motion_of_the_bass_are_not_shared() -> None:
    up, down = tune([60, 62, 64, 65]), tune([60, 58, 56, 55])
    assert ReferenceCorpus([down]).longest(up) is None
    one_equal = ReferenceCorpus([tune([70, 60, 62, 50])]).longest(up)
    assert one_equal == SharedRun(2, 2, at=0, other=0, at_other=1, semitones=0)


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


PINNED = [211, 162, 133, 73]  # of no meaning but that saved indices can be read for ever


def test_what_is_no_index_is_refused() -> None:
    arrays = CopyIndex.build([random_piece(0)]).to_arrays()
    with pytest.raises(CheckpointError, match="lacks"):
        CopyIndex.from_arrays({"bits": arrays["bits"]})
    with pytest.raises(CheckpointError, match="lacks"):
        CopyIndex.from_arrays(arrays | {"head": arrays["head"][:3]})
    with pytest.raises(CheckpointError, match="version 9"):
        CopyIndex.from_arrays(arrays | {"head": np.array([9, *arrays["head"][1:]])})
    for damage in (
        {"bits": arrays["bits"][1:]},
        {"bits": arrays["bits"].astype(np.int8)},
        {"head": arrays["head"][:-2]},
        {"head": np.append(arrays["head"], 3)},
        {"head": np.where(np.arange(7) == 3, 65, arrays["head"])},
    ):
        with pytest.raises(CheckpointError, match="damaged"):
            CopyIndex.from_arrays(arrays | damage)


def test_bad_requests_are_refused() -> None:
    four, three = tune([60, 62]), replace(tune([60, 62]), steps_per_beat=3)
    for refused in (
        lambda: ReferenceCorpus([four]).longest(three),
        lambda: ReferenceCorpus([four, three]),
        lambda: CopyIndex.build([four, three]),
        lambda: CopyIndex.build([four]).overlap(three),
        lambda: human_reference(ReferenceCorpus([four]), [three]),
    ):
        with pytest.raises(ValueError, match="one grid"):
            refused()
    for windows in ((), (1,), (8, 8), (16, 8)):
        with pytest.raises(ValueError, match="windows ascend"):
            CopyIndex.build([four], windows=windows)
    with pytest.raises(ValueError, match="above 0"):
        CopyIndex.build([four], bits_per_window=0)
    with pytest.raises(ValueError, match="at most 90"):
        CopyIndex.build([four], bits_per_window=100)
    with pytest.raises(ValueError, match="at least 9 steps"):
        human_reference(ReferenceCorpus([four]), [four], excerpt_steps=9)
    with pytest.raises(ValueError, match="excerpt_steps is at least 1"):
        human_reference(ReferenceCorpus([four]), [four], excerpt_steps=0)


def test_nothing_is_shared_with_nothing() -> None:
    empty = Grid(4, 0, onset=[], duration=[], pitch=np.zeros(0, int))
    for others in ([], [empty]):
        assert ReferenceCorpus(others).longest(random_piece(0)) is None
        index = CopyIndex.build(others)
        assert index.kept == 0
        assert index.overlap(random_piece(0)).steps <= 7
    for source in (ReferenceCorpus([random_piece(0)]), CopyIndex.build([random_piece(0)])):
        assert source.overlap(empty) == (0, 0, 0)


def test_a_report_compares_with_people() -> None:
    train = [random_piece(n) for n in range(8)]
    test = [joined(excerpt(train[n], 0, 8 + 2 * n), random_piece(100 + n)) for n in range(1, 8)]
    corpus, index = ReferenceCorpus(train), CopyIndex.build(train)
    for source in (corpus, index):
        reference = human_reference(source, test, style="noise", excerpt_steps=30)
        assert reference.style == "noise"
        assert reference.is_exact is source.is_exact
        assert reference.pieces == sum(len(piece) // 30 for piece in test)
        figures = sorted(
            source.overlap(excerpt(piece, start, start + 30)).steps
            for piece in test
            for start in range(0, len(piece) - 29, 30)
        )
        assert reference.steps.most == figures[-1]
        assert reference.steps.p50 == np.median(figures)
        assert HumanReference.from_dict(json.loads(json.dumps(asdict(reference)))) == reference
        honest = copy_report(random_piece(300), source, reference)
        assert not honest.is_beyond
        copied = copy_report(train[3], source, reference)
        assert copied.is_beyond
        message = json.loads(json.dumps(copied.to_dict()))
        assert message["share"] == 1
        assert message["is_beyond"] is True
        assert message["reference"]["steps"]["p95"] == reference.steps.p95
        by_chords = replace(honest, chords=int(reference.chords.p95) + 1)
        assert by_chords.is_beyond
    with pytest.raises(ValueError, match="not compared"):
        copy_report(test[0], index, human_reference(corpus, test))
    with pytest.raises(CheckpointError, match="lacks"):
        HumanReference.from_dict({"style": "noise"})


@needs_data
def test_bach_shares_what_the_table_says() -> None:
    """Sides against training: the figures of a search that was written apart from this one."""
    chorales = load_symbolic("chorales", DATA)
    train, test, validation = (
        [piece.grid for piece in side]
        for side in (chorales.train, chorales.test, chorales.validation)
    )
    corpus, index = ReferenceCorpus(train), CopyIndex.build(train)

    def rounded(values: object) -> list[float]:
        return [float(np.floor(2 * value + 0.5) / 2) for value in vars(values).values()]

    exact = human_reference(corpus, test)
    assert rounded(exact.steps) == [16, 20, 25, 64]
    assert rounded(exact.chords) == [6, 7, 8, 24]
    other = human_reference(corpus, validation)
    assert rounded(other.steps) == [18, 20, 29, 164]
    assert rounded(other.chords) == [6, 7, 10.5, 70]
    # the bound is near: most pieces have their exact figures
    result = [(index.overlap(grid), corpus.overlap(grid)) for grid in test + validation]
    assert all(b.steps >= e.steps and b.chords >= e.chords for b, e in result)
    assert np.mean([b.steps == e.steps for b, e in result]) > 0.75
    assert np.mean([b.chords - e.chords for b, e in result]) < 1
    assert len(index.bits) < 150_000
