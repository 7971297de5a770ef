"""The critic of style: what it distinguishes, what makes no difference, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepmusic.composer import critic_training
from deepmusic.composer.critic_training import train_critic
from deepmusic.composer.style_critic import StyleCritic
from deepmusic.datasets.symbolic import load_symbolic
from deepmusic.errors import CheckpointError, DataError
from deepmusic.music import Grid, Part, Tempo, TimeSignature

SCALE = np.array([0, 2, 4, 5, 7, 9, 11])


def hymn(seed: int, beats: int = 48) -> Grid:
    """A chord of four voices each beat, the voices moving by step."""
    random = np.random.default_rng(seed)
    walk = np.cumsum(random.integers(-1, 2, beats))
    degrees = walk[:, None] + np.array([0, 4, 9, 14]) + 7
    pitch = 36 + random.integers(12) + 12 * (degrees // 7) + SCALE[degrees % 7]
    onset = np.repeat(np.arange(beats) * 4, 4)
    return Grid(
        4,
        beats * 4,
        onset=onset,
        duration=np.full(len(onset), 4),
        pitch=np.clip(pitch, 0, 127).ravel(),
        part=np.tile(np.arange(4), beats),
        parts=tuple(Part(name) for name in ("bass", "tenor", "alto", "soprano")),
    )


def jig(seed: int, beats: int = 48) -> Grid:
    """One line in eighths with leaps, its first four beats again later."""
    random = np.random.default_rng(seed)
    degrees = random.choice([0, 2, 4, 7, 9, 11], (beats // 16, 2, 8))
    degrees = np.concatenate([degrees, degrees], axis=1).ravel()
    pitch = 60 + random.integers(12) + 12 * (degrees // 7) + SCALE[degrees % 7]
    steps = 2 * len(degrees)
    return Grid(4, steps, onset=np.arange(0, steps, 2), duration=[2] * len(degrees), pitch=pitch)


MAKERS: dict[str, Callable[[int], Grid]] = {"hymn": hymn, "jig": jig}


@pytest.fixture(scope="module", autouse=True)
def few_excerpts() -> Iterator[None]:
    """Critics of these tests are trained on a tenth of the excerpts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic_training, "_MAX_PER_STYLE", 100)
        yield


@pytest.fixture(scope="module")
def critic() -> StyleCritic:
    styles = [style for style in MAKERS for _ in range(6)]
    return train_critic([MAKERS[style](number) for number, style in enumerate(styles)], styles)


@pytest.fixture(params=list(MAKERS))
def piece(request: pytest.FixtureRequest) -> Grid:
    return MAKERS[request.param](1000)


@pytest.mark.slow
def test_held_out_pieces_are_classified(critic: StyleCritic) -> None:
    for style, make in MAKERS.items():
        for seed in range(100, 110):
            assert critic.probabilities(make(seed))[style] > 0.7


@pytest.mark.slow
def test_spoiled_music_is_detected(critic: StyleCritic, piece: Grid) -> None:
    pitch = np.random.default_rng(0).permutation(np.arange(len(piece.onset)) % 40 + 40)
    part, parts = np.arange(len(pitch)), (Part(),) * len(pitch)
    spoiled = replace(piece, pitch=pitch, part=part, parts=parts)
    assert critic.spoiled(piece) < 0.4
    assert critic.spoiled(spoiled) > 0.6
    assert max(critic.probabilities(spoiled).values()) < max(critic.probabilities(piece).values())


@pytest.mark.parametrize("semitones", [-5, 1, 6, 12])
def test_transposition_changes_nothing(critic: StyleCritic, piece: Grid, semitones: int) -> None:
    moved = replace(piece, pitch=piece.pitch.astype(int) + semitones)
    assert critic.probabilities(moved) == critic.probabilities(piece)
    assert critic.spoiled(moved) == critic.spoiled(piece)


def test_parts_change_nothing(critic: StyleCritic) -> None:
    piece = hymn(1000)
    roll = piece.roll(lowest=0, pitches=128)
    merged = Grid.from_roll(roll, steps_per_beat=4, lowest=0)
    columns = [np.tile(getattr(piece, name), 2) for name in ("onset", "duration", "pitch")]
    part = np.concatenate([piece.part, piece.part + 4])
    doubled = Grid(4, piece.steps, *columns, part, parts=piece.parts * 2)
    for other in (merged, doubled):
        assert critic.probabilities(other) == critic.probabilities(piece)


def test_velocity_instruments_tempo_and_metre_change_nothing(
    critic: StyleCritic, piece: Grid
) -> None:
    other = replace(
        piece,
        velocity=17,
        parts=tuple(Part("organ", program=19) for _ in piece.parts),
        tempos=(Tempo(0, 300_000),),
        time_signatures=(TimeSignature(0, 3, 4),),
    )
    assert critic.probabilities(other) == critic.probabilities(piece)


def test_arrays_round_trip(critic: StyleCritic, piece: Grid, tmp_path: Path) -> None:
    np.savez(tmp_path / "critic.npz", **critic.to_arrays())
    with np.load(tmp_path / "critic.npz") as arrays:
        again = StyleCritic.from_arrays(dict(arrays), list(critic.styles))
    assert again.probabilities(piece) == critic.probabilities(piece)


@pytest.mark.parametrize(
    ("arrays", "styles"),
    [
        ({"version": np.array([99])}, ["hymn", "jig"]),
        ({"mean": np.zeros(3, np.float32)}, ["hymn", "jig"]),
        ({}, ["hymn"]),
    ],
)
def test_a_critic_of_another_version_or_other_styles_is_refused(
    critic: StyleCritic, arrays: dict[str, np.ndarray], styles: list[str]
) -> None:
    with pytest.raises(CheckpointError, match="not one of version 1"):
        StyleCritic.from_arrays(critic.to_arrays() | arrays, styles)


@pytest.mark.slow
def test_one_style_is_certain() -> None:
    critic = train_critic([hymn(0)], ["hymn"])
    assert critic.probabilities(hymn(1)) == {"hymn": 1.0}
    assert critic.probabilities(jig(1)) == {"hymn": 1.0}
    assert 0 <= critic.spoiled(jig(1)) <= 1


@pytest.mark.parametrize("steps", [0, 64])
def test_without_notes_all_styles_are_alike(critic: StyleCritic, steps: int) -> None:
    empty = Grid(4, steps, *np.zeros((3, 0), np.int64))
    assert critic.probabilities(empty) == {"hymn": 0.5, "jig": 0.5}
    assert critic.spoiled(empty) == 1
    drums = Grid(4, 4, onset=[0], duration=[1], pitch=[36], parts=(Part(is_drum=True),))
    assert critic.probabilities(drums) == {"hymn": 0.5, "jig": 0.5}


@pytest.mark.parametrize(
    "grid",
    [
        Grid(4, 1, onset=[0], duration=[1], pitch=[60]),
        Grid(1, 2, onset=[0, 1], duration=[1, 1], pitch=[0, 127]),
        Grid(32767, 40_000, onset=[0, 1, 39_999], duration=[1, 1, 1], pitch=[60, 60, 61]),
        Grid(4, 2**27, onset=[0, 2**27 - 1], duration=[2**27, 1], pitch=[60, 62]),
    ],
    ids=["a step", "two steps", "fine steps", "years"],
)
def test_odd_pieces_have_probabilities(critic: StyleCritic, grid: Grid) -> None:
    result = critic.probabilities(grid)
    assert sum(result.values()) == pytest.approx(1)
    assert all(0 <= value <= 1 for value in result.values())


def test_needs_pieces_with_notes() -> None:
    empty = Grid(4, 8, *np.zeros((3, 0), np.int64))
    with pytest.raises(DataError, match="jig"):
        train_critic([hymn(0), empty], ["hymn", "jig"])
    with pytest.raises(DataError):
        train_critic([], [])
    with pytest.raises(ValueError, match="each grid has a style"):
        train_critic([hymn(0)], [])


@pytest.mark.slow
def test_chorales_are_distinguished_from_piano_pieces(shared_data: Path) -> None:
    sets = [load_symbolic(name, shared_data / "symbolic") for name in ("chorales", "piano-midi")]
    train = [piece for loaded in sets for piece in loaded.train[:6]]
    critic = train_critic([piece.grid for piece in train], [piece.style for piece in train])
    test = [piece for loaded in sets for piece in loaded.test[:20]]
    result = [critic.probabilities(piece.grid)[piece.style] for piece in test]
    assert np.mean(np.array(result) > 0.5) > 0.95
    assert np.mean(result) > 0.8
