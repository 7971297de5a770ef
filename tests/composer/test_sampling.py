"""Writing music: with the probabilities of scoring, and within constraints."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as property_of, settings, strategies as st

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import POSITION_SIZES, StyledPiece, encode
from deepmusic.composer.exported import ExportedNetwork
from deepmusic.composer.graphs import export_graphs
from deepmusic.composer.likelihood import likelihood
from deepmusic.composer.model import Batch, ComposerNetwork, Condition
from deepmusic.composer.planning import Plan
from deepmusic.composer.sampling import write_music
from deepmusic.music import Grid, Key, Part, TimeSignature

KINDS = {
    "onsets": {},
    "no onsets": {"has_onsets": False},
    "one part": {"parts": 1},
    "no bars": {"has_bars": False},
    "no repeats": {"repeats": False},
    "names alone": {"capsules": False},
    "nothing": {"has_onsets": False, "has_bars": False, "repeats": False, "capsules": False},
}
FOUR, THREE, SIX = TimeSignature(0, 4, 4), TimeSignature(0, 3, 4), TimeSignature(0, 6, 8)


PARTS = (Part("upper", 40), Part("lower", 42))


@cache
def network(kind: str = "onsets") -> ComposerNetwork:
    torch.manual_seed(0)
    options = {
        "styles": ("a", "b"), "parts": 2, "lowest": 58, "pitches": 12, "frame_dim": 16,
        "hidden": 16, "head": 16, "passage_steps": 16, "primary_types": 2, "primary_dim": 3,
        "pose_dim": 4,
    }  # fmt: skip
    made = ComposerNetwork(ComposerConfig(**{**options, **KINDS[kind]}))
    with torch.no_grad():
        for parameter in made.decoder.head.read.parameters():
            parameter.mul_(3)
        made.decoder.head.read.bias[-1] += 2.0  # sets of a few notes, not of half the pitches
        made.decoder.head.trust.bias[0] = 3.0
    return made.eval()


class InTorch:
    """What `ExportedNetwork` does, in PyTorch: to export takes seconds for each configuration."""

    def __init__(self, network: ComposerNetwork) -> None:
        self.config, self.decoder = network.config, network.decoder

    @torch.no_grad()
    def step(self, *inputs: np.ndarray) -> list[np.ndarray]:
        tensors = [torch.from_numpy(array) for array in inputs]
        before, repeated, match_level, bar_ago, positions = (t.unsqueeze(1) for t in tensors[:5])
        no_target = torch.empty(0)
        batch = Batch(before, no_target, repeated, match_level, bar_ago, positions, no_target)
        start, bias, memory = self.decoder.step(batch, Condition(*tensors[5:8]), tuple(tensors[8:]))
        return [tensor.numpy() for tensor in (start, bias, *memory)]

    @torch.no_grad()
    def next_symbol(self, *arrays: np.ndarray) -> np.ndarray:
        return self.decoder.head.next_symbol(*map(torch.from_numpy, arrays)).numpy()


@cache
def exported(kind: str) -> ExportedNetwork:
    model = network(kind)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return ExportedNetwork(model.config, weights, export_graphs(model.config))


def plan(kind: str = "onsets", **options: object) -> Plan:
    config = network(kind).config
    random = np.random.default_rng(0)
    usual = {
        "bars": 3,
        "time_signature": THREE,
        "styles": np.array([0.0, 1.0], np.float32),
        "poses": random.standard_normal((2, config.pose_dim)).astype(np.float32),
        "key": Key(9, True),
        "parts": PARTS[: config.parts],
        "range": np.tile(np.array([58, 69]), (config.parts, 1)),
    }
    return Plan(**{**usual, **options})


def write(
    what: Plan, kind: str = "onsets", seed: int = 0, count: int = 2, writer: Any = None
) -> list[tuple[Grid, float]]:
    random = np.random.default_rng(seed)
    writer = writer or InTorch(network(kind))
    return write_music(writer, what, candidates=count, random=random)


def nats(what: Plan, grid: Grid, kind: str = "onsets") -> float:
    model = network(kind)
    piece = encode(model.config, grid, is_minor=what.key.is_minor, has_end=what.has_end)
    scored = likelihood(model, [StyledPiece(piece, 1)], poses=[torch.from_numpy(what.poses)])
    return float(scored.nats[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onsets", "nothing"])
def test_exported_networks_are_those_in_pytorch(kind: str) -> None:
    ours, theirs = exported(kind), InTorch(network(kind))
    config, random = ours.config, np.random.default_rng(0)
    for rows in (1, 3):  # a graph is traced with two
        flags = random.random((4, rows, config.symbols)) > 0.7
        memory = random.standard_normal((2, rows, config.hidden)).astype(np.float32)
        inputs = (
            (random.random((rows, 2 * config.elements)) > 0.7).astype(np.float32),
            flags[0],
            random.integers(0, 13, (rows, config.parts)),
            flags[1],
            random.integers(0, POSITION_SIZES, (rows, len(POSITION_SIZES))),
            random.random((rows, 2), np.float32),
            random.standard_normal((rows, 2, config.pose_dim)).astype(np.float32),
            random.random(rows) > 0.5,
            *memory,
        )
        results = [writer.step(*inputs) for writer in (ours, theirs)]
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        begun = (*results[1][:2], flags[2], random.integers(-1, config.symbols, rows))
        one, other = (writer.next_symbol(*begun) for writer in (ours, theirs))
        np.testing.assert_allclose(one, other, atol=1e-5)
        if config.capsules:
            passages = random.random((rows, config.passage_steps, 2 * config.elements)) > 0.8
            with torch.no_grad():
                encoded = network(kind).encoder(torch.from_numpy(passages).float())
            for one, other in zip(ours.encode(passages), encoded, strict=False):
                np.testing.assert_allclose(one, other.numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onsets", "nothing"])
def test_what_exported_networks_write_has_the_probability_of_scoring(kind: str) -> None:
    for grid, log_prob in write(plan(kind), kind, count=3, writer=exported(kind)):
        assert len(grid.onset) > 10
        assert log_prob == pytest.approx(-nats(plan(kind), grid, kind), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metre", [FOUR, THREE, SIX], ids=["4/4", "3/4", "6/8"])
def test_log_probabilities_are_those_of_scoring(kind: str, metre: TimeSignature) -> None:
    what = plan(kind, time_signature=metre, bars=4)
    for grid, log_prob in write(what, kind, count=3):
        assert len(grid.onset) > 10
        assert log_prob == pytest.approx(-nats(what, grid, kind), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_constraints_do_not_change_log_probabilities(kind: str) -> None:
    parts = network(kind).config.parts
    given = Grid(
        4, 36, [0, 2, 10, 17, 30], [2, 8, 3, 9, 6], [60, 69, 62, 63, 59], [0] * 5,
        parts=(Part(),) * parts,
    )  # fmt: skip
    fixed = np.zeros((36, parts), bool)
    fixed[:20, 0] = True
    narrow = np.tile(np.array([60, 66]), (parts, 1))
    what = plan(kind, temperature=0.6, top_p=0.8, range=narrow, fixed=given, is_fixed=fixed)
    for grid, log_prob in write(what, kind):
        assert log_prob == pytest.approx(-nats(what, grid, kind), abs=1e-3)


@pytest.mark.slow
def test_equal_seeds_write_equal_music() -> None:
    first, again, other = (write(plan(), seed=seed) for seed in (3, 3, 4))
    for one, same, different in zip(first, again, other, strict=True):
        assert one == same
        assert one[0] != different[0]
    assert first[0][0] != first[1][0]  # candidates differ


@pytest.mark.parametrize("count", [1, 5])
def test_pieces_have_the_form_of_the_plan(count: int) -> None:
    written = write(plan(bars=5), count=count)
    assert len(written) == count
    for grid, _ in written:
        assert (grid.steps, grid.steps_per_beat) == (5 * 12, 4)
        assert grid.time_signatures == (THREE,)
        assert grid.parts == PARTS


@pytest.mark.slow
def test_other_conditions_give_other_music() -> None:
    usual = write(plan())[0][0]
    for options in (
        {"poses": np.zeros((2, 4), np.float32)},
        {"styles": np.array([1.0, 0.0], np.float32)},
        {"key": Key(0, False)},
        {"has_end": False},
        {"temperature": 1.5},
        {"top_p": 0.5},
    ):
        assert write(plan(**options))[0][0] != usual, options


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onsets", "no onsets"])
def test_notes_keep_to_the_range_of_their_part(kind: str) -> None:
    limits = np.array([[64, 67], [58, 60]])
    for grid, _ in write(plan(kind, bars=8, range=limits), kind, count=4):
        for part, (low, high) in enumerate(limits):
            pitch = grid.pitch[grid.part == part]
            assert low <= pitch.min()
            assert pitch.max() <= high
    silent = np.array([[64, 67], [128, -1]])
    for grid, _ in write(plan(kind, range=silent), kind):
        assert set(grid.part.tolist()) == {0}


# ---------------------------------------------------------------------------------------- given


@st.composite
def fixed_notes(draw: st.DrawFn) -> tuple[Grid, np.ndarray]:
    """Notes of both parts, some out of range, and any pattern of what is fixed."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for part in range(2):
        for key in range(12):
            free = 0
            for step in range(36):
                if step >= free and random.random() < 0.04:
                    length = int(min(random.integers(1, 12), 36 - step))
                    rows.append((step, length, 58 + key, part))
                    free = step + length
    onset, duration, pitch, part = np.array(rows, np.int64).reshape(-1, 4).T
    given = Grid(4, 36, onset, duration, pitch, part, parts=(Part(), Part()))
    kind = draw(st.sampled_from(["primer", "infill", "melody", "scattered"]))
    is_fixed = np.zeros((36, 2), bool)
    first, last = sorted((draw(st.integers(0, 36)), draw(st.integers(0, 36))))
    if kind == "primer":
        is_fixed[:first] = True
    elif kind == "infill":
        is_fixed[:] = True
        is_fixed[first:last] = False
    elif kind == "melody":
        is_fixed[:last, 0] = True
    else:
        is_fixed = random.random((36, 2)) < 0.5
    return given, is_fixed


@pytest.mark.slow
@settings(deadline=None, max_examples=6)
@property_of(
    fixed=fixed_notes(), seed=st.integers(0, 100), kind=st.sampled_from(["onsets", "no onsets"])
)
def test_fixed_notes_are_kept_and_nothing_is_added_to_them(
    fixed: tuple[Grid, np.ndarray], seed: int, kind: str
) -> None:
    config = network(kind).config
    limits = np.array([[60, 66], [58, 63]])  # some given notes are out of it
    sounds, onsets = encode(config, fixed[0]).frames(0, 36)
    what = plan(kind, range=limits, fixed=fixed[0], is_fixed=fixed[1])
    is_fixed = np.repeat(fixed[1], config.pitches, axis=1) | sounds
    for grid, _ in write(what, kind, seed=seed):
        got, got_onsets = encode(config, grid).frames(0, 36)
        np.testing.assert_array_equal(got & is_fixed, sounds)
        was = np.concatenate([np.zeros((1, got.shape[1]), bool), got[:-1]])
        if config.has_onsets:
            np.testing.assert_array_equal(got_onsets & is_fixed, onsets)
        # what is free keeps to the range, but for given notes that go on
        element = np.arange(config.elements)
        low, high = limits[element // config.pitches].T
        pitch = config.lowest + element % config.pitches
        outside = ((pitch < low) | (pitch > high)) & ~is_fixed & got
        assert not (outside & got_onsets).any()
        assert not (outside & ~was).any()


def test_notes_are_composed_around_a_note_that_goes_on_after_the_fixed_steps() -> None:
    given = Grid(4, 36, [0, 10], [6, 20], [59, 62], parts=(Part(), Part()))
    is_fixed = np.zeros((36, 2), bool)
    is_fixed[:12] = True
    others = 0
    for grid, _ in write(plan(fixed=given, is_fixed=is_fixed), count=12):
        kept = (grid.pitch == 62) & (grid.part == 0) & (grid.onset < 30)
        assert grid.onset[kept].tolist() == [10]
        assert grid.duration[kept] >= 20
        others += np.count_nonzero((grid.onset >= 12) & (grid.onset < 30))
    assert others


def test_a_wholly_fixed_piece_is_written_as_it_is() -> None:
    given = Grid(4, 36, [0, 4, 4], [4, 4, 30], [60, 60, 66], [0, 0, 1], parts=(Part(), Part()))
    what = plan(fixed=given, is_fixed=np.ones((36, 2), bool))
    for grid, log_prob in write(what):
        np.testing.assert_array_equal(grid.onset, given.onset)
        np.testing.assert_array_equal(grid.duration, given.duration)
        np.testing.assert_array_equal(grid.pitch, given.pitch)
        assert log_prob == pytest.approx(-nats(what, grid), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onsets", "no onsets", "one part"])
@pytest.mark.parametrize("is_minor", [True, False])
def test_a_piece_ends_on_the_tonic_triad_and_its_melody_on_the_tonic(
    kind: str, is_minor: bool
) -> None:
    tonic, triad = (9, {9, 0, 4}) if is_minor else (0, {0, 4, 7})
    begins = 3 * 12 - 6
    audible = 0
    for grid, _ in write(plan(kind, key=Key(9 * is_minor, is_minor)), kind, count=6):
        late = grid.onset + grid.duration > begins
        classes, part = grid.pitch[late] % 12, grid.part[late]
        audible += len(classes)
        assert set(classes.tolist()) <= triad
        if len(grid.parts) > 1:
            assert set(classes[part == 0].tolist()) <= {tonic}
    assert audible
    open_end = write(plan(kind, key=Key(9 * is_minor, is_minor), has_end=False), kind, count=6)
    ends = [g.pitch[g.onset + g.duration > begins] % 12 for g, _ in open_end]
    assert not set(np.concatenate(ends).tolist()) <= triad
