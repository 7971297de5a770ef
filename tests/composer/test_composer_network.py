"""The composer's network: exact probabilities, and nothing of the future in them."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch

from deepmusic.composer.config import ComposerConfig
from deepmusic.composer.encoding import POSITION_SIZES, Excerpt, StyledPiece, encode
from deepmusic.composer.likelihood import likelihood, poses_before
from deepmusic.composer.model import Batch, ComposerNetwork, Condition
from deepmusic.composer.task import ComposerTask, fit_poses
from deepmusic.music import Grid, Part, TimeSignature

TINY = {
    "styles": ("a", "b"), "parts": 1, "lowest": 60, "pitches": 4, "frame_dim": 8, "hidden": 8,
    "head": 8, "passage_steps": 8, "primary_types": 2, "primary_dim": 3, "pose_dim": 3,
}  # fmt: skip
KINDS = {
    "onsets": {},
    "two parts": {"parts": 2, "pitches": 2},
    "no onsets": {"has_onsets": False, "parts": 2, "pitches": 3},
    "no bars": {"has_bars": False},
    "no repeats": {"repeats": False, "parts": 2, "pitches": 2},
    "names alone": {"capsules": False, "has_bars": False, "repeats": False},
}


def config(**options: object) -> ComposerConfig:
    return ComposerConfig(**{**TINY, **options})


@cache
def network(kind: str = "onsets", dtype: torch.dtype = torch.float64) -> ComposerNetwork:
    torch.manual_seed(0)
    made = ComposerNetwork(config(**KINDS[kind]))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "embed" not in name:  # its last row stays zero
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval().to(dtype)


def music(made: ComposerConfig, steps: int, seed: int = 0) -> Grid:
    """Random notes that return after two beats; a bar is three beats."""
    random = np.random.default_rng(seed)
    free = np.zeros(made.elements, int)
    pattern = random.random((8, made.elements)) < 0.4
    rows = []
    for step in range(steps):
        for element in np.flatnonzero(pattern[step % 8] ^ (random.random(made.elements) < 0.05)):
            if free[element] <= step:
                length = int(min(random.integers(1, 5), steps - step))
                part, key = divmod(int(element), made.pitches)
                rows.append((step, length, made.lowest + key, part))
                free[element] = step + length
    onset, duration, pitch, part = np.array(rows, np.int64).reshape(-1, 4).T
    return Grid(
        4, steps, onset, duration, pitch, part, parts=(Part(),) * made.parts,
        time_signatures=(TimeSignature(0, 3, 4),),
    )  # fmt: skip


def double(batch: Batch) -> Batch:
    return batch._replace(before=batch.before.double())


def condition(made: ComposerConfig, count: int = 1, seed: int = 0) -> Condition:
    random = torch.Generator().manual_seed(seed)
    shape = (count, len(made.styles), made.pose_dim)
    styles = torch.rand(count, len(made.styles), generator=random).double()
    return Condition(
        styles / styles.sum(dim=1, keepdim=True),
        torch.randn(shape, generator=random).double(),
        torch.arange(count) % 2 == 1,
    )


def scores(model: ComposerNetwork, grid: Grid) -> torch.Tensor:
    """Log probability of each step of a piece, with a pose."""
    piece = encode(model.config, grid, has_end=False)
    batch = double(Batch.of([piece.excerpt(0, len(piece))]))
    with torch.no_grad():
        return model(batch, condition(model.config))[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_next_steps_together_have_probability_one(kind: str) -> None:
    model = network(kind)
    made = model.config
    past = music(made, 20)
    sounds = set(np.flatnonzero(encode(made, past).frames(19, 20)[0][0]))
    assert sounds  # so that something can be sustained
    total, count = 0.0, 0
    first = scores(model, past)  # the past is scored as it is alone
    # of each element: silent, begun, or sustained where it sounded
    choices = [("", "begun", "sustained") if n in sounds and made.has_onsets else ("", "begun")
               for n in range(made.elements)]  # fmt: skip
    for choice in itertools.product(*choices):
        columns = {
            name: getattr(past, name).astype(np.int64).copy()
            for name in ("onset", "duration", "pitch", "part")
        }
        new = []
        for element, does in enumerate(choice):
            part, key = divmod(element, made.pitches)
            mine = (columns["part"] == part) & (columns["pitch"] == made.lowest + key)
            goes_on = mine & (columns["onset"] + columns["duration"] == 20)
            if does == "sustained" or (does and not made.has_onsets and goes_on.any()):
                columns["duration"][goes_on] += 1
            elif does:
                new.append((20, 1, made.lowest + key, part))
        added = np.array(new, np.int64).reshape(-1, 4).T
        joined = {
            name: np.concatenate([column, more])
            for (name, column), more in zip(columns.items(), added, strict=True)
        }
        grid = Grid(4, 21, **joined, parts=past.parts, time_signatures=past.time_signatures)
        whole = scores(model, grid)
        torch.testing.assert_close(whole[:20], first)
        total += whole[20].exp().item()
        count += 1
    assert count == np.prod([len(c) for c in choices])
    assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 12])
def test_no_step_is_scored_by_what_comes_later(kind: str, step: int) -> None:
    model = network(kind)
    grid = music(model.config, 30)
    for seed in (1, 2):
        other = music(model.config, 30, seed)
        kept, later = grid.onset < step, other.onset >= step
        changed = Grid(
            4,
            30,
            np.concatenate([grid.onset[kept], other.onset[later]]),
            np.concatenate(
                [np.minimum(grid.duration[kept], step - grid.onset[kept]), other.duration[later]]
            ),
            np.concatenate([grid.pitch[kept], other.pitch[later]]),
            np.concatenate([grid.part[kept], other.part[later]]),
            parts=grid.parts,
            time_signatures=grid.time_signatures,
        )
        whole, others = scores(model, grid), scores(model, changed)
        assert torch.equal(whole[:step], others[:step])
        assert not torch.equal(whole[step:], others[step:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_scores_as_single_pieces_and_padding_changes_nothing(kind: str) -> None:
    model = network(kind)
    made = model.config
    pieces = [encode(made, music(made, steps, seed)) for seed, steps in enumerate((9, 26, 17))]
    given = condition(made, 3)
    batch = double(Batch.of([piece.excerpt(0, len(piece)) for piece in pieces]))
    assert batch.before.shape[:2] == (3, 26)
    assert batch.is_step.sum(dim=1).tolist() == [9, 26, 17]
    with torch.no_grad():
        together = model(batch, given)[0].split([9, 26, 17])
        for number, piece in enumerate(pieces):
            alone = double(Batch.of([piece.excerpt(0, len(piece))]))
            its = Condition(*(tensor[number : number + 1] for tensor in given))
            torch.testing.assert_close(model(alone, its)[0], together[number])
        garbage = Batch(
            *(
                torch.where(batch.is_step.unsqueeze(2), t, torch.ones_like(t)) if t.ndim == 3 else t
                for t in batch
            )
        )
        torch.testing.assert_close(model(garbage, given)[0], torch.cat(together))


@pytest.mark.parametrize("name", ["positions", "styles", "poses", "is_minor", "match_level"])
def test_every_input_of_the_decoder_matters(name: str) -> None:
    model = network()
    piece = encode(model.config, music(model.config, 20))
    batch, given = double(Batch.of([piece.excerpt(0, 20)])), condition(model.config)
    with torch.no_grad():
        before = model(batch, given)[0]
        if name == "positions":
            batch = batch._replace(positions=(batch.positions + 1) % torch.tensor(POSITION_SIZES))
        elif name == "match_level":
            batch = batch._replace(match_level=(batch.match_level + 1) % 13)
        elif name == "styles":
            given = given._replace(styles=given.styles.flip(1))
        elif name == "poses":
            given = given._replace(poses=-given.poses)
        else:
            given = given._replace(is_minor=~given.is_minor)
        assert not torch.equal(model(batch, given)[0], before)


# ------------------------------------------------------------------------------------- capsules


def test_silent_beats_are_left_out() -> None:
    encoder = network().encoder
    assert encoder is not None
    made = network().config
    frames = encode(made, music(made, 25)).excerpt(1, 25).before
    audible = torch.from_numpy(frames).double()[None]
    silence = torch.zeros(1, 4, audible.shape[2]).double()
    with torch.no_grad():
        once = encoder(torch.cat([silence, audible, silence], dim=1))
        for first, last in ((3, 1), (1, 5), (4, 4)):
            more = encoder(torch.cat([silence] * first + [audible] + [silence] * last, dim=1))
            for one, other in zip(once, more, strict=True):
                torch.testing.assert_close(one, other)
        nothing = encoder(torch.zeros_like(audible))
        assert nothing.lengths.isfinite().all()
        assert (once.lengths != nothing.lengths).all()
        assert ((once.lengths > 0) & (once.lengths < 1)).all()


@pytest.mark.parametrize("beat", [1, 3, 4])
def test_every_step_reaches_the_capsules(beat: int) -> None:
    torch.manual_seed(0)
    made = config(steps_per_beat=beat, passage_steps=4 * beat)
    encoder = ComposerNetwork(made).eval().encoder
    assert encoder is not None
    frames = torch.zeros(1, 4 * beat, 2 * made.elements)
    with torch.no_grad():
        silent = encoder(frames).poses
        for step in range(4 * beat):
            onsets = frames.clone()
            onsets[0, step, :2] = 1
            assert not torch.equal(encoder(onsets).poses, silent), step


def test_a_pose_is_routed_from_the_past_alone() -> None:
    model = network(dtype=torch.float32)
    made, hop = model.config, 6
    grid = music(made, 30)
    piece = encode(made, grid)
    poses = poses_before(model, piece, hop=hop)
    assert poses.shape == (30, 2, 3)
    assert not poses[:hop].any()
    for step in range(30):
        begins = step // hop * hop
        torch.testing.assert_close(poses[step], poses[begins])
        if begins:
            audible = torch.from_numpy(piece.passage(begins - made.passage_steps)).float()[None]
            with torch.no_grad():
                torch.testing.assert_close(poses[step], model.encoder(audible).poses[0])


def test_training_takes_the_pose_from_another_passage_where_there_is_room() -> None:
    made = config()
    piece = StyledPiece(encode(made, music(made, 60)), 1)
    task = ComposerTask(made, [piece], [piece], seed=0, steps=16, excerpts=40)
    items = [task.dataset[1, n] for n in range(40)]
    whole = piece.piece.excerpt(0, 60)

    def columns(excerpt: Excerpt) -> np.ndarray:
        return np.concatenate([excerpt.target, excerpt.before, excerpt.positions[:, :3]], axis=1)

    for item in items:
        windows = np.lib.stride_tricks.sliding_window_view(columns(whole), 16, axis=0)
        (start,) = np.flatnonzero((windows == columns(item.excerpt).T).all(axis=(1, 2)))
        assert any(
            np.array_equal(piece.piece.passage(first), item.passage)
            for first in range(53)
            if not (first < start + 16 and start < first + 8)
        )
    np.testing.assert_array_equal(task.dataset[1, 3].passage, items[3].passage)
    assert {item.has_pose for item in items} == {True, False}
    assert {int(item.excerpt.positions[0, 3]) for item in items} > {9}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind: str) -> None:
    made = config(**KINDS[kind], dropout=0.0)
    pieces = [
        StyledPiece(encode(made, music(made, 60, seed), is_minor=seed % 2 == 0), seed % 2)
        for seed in range(6)
    ]
    task = ComposerTask(made, pieces, pieces, seed=1, steps=24, excerpts=24)
    batch = task.collate([task.dataset[0, n] for n in range(24)])
    task.model.train()
    loss, measures = task.loss(task.model, batch)
    loss.backward()
    assert loss.item() > 0
    assert ("accuracy" in measures) == made.capsules
    for name, parameter in task.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    validated = task.validate(task.model.eval())
    names = ["nats_per_step", "nats_per_step_a", "nats_per_step_b"]
    assert set(validated) == {*names, *(f"train_{name}" for name in names)}


# ------------------------------------------------------------------------------------ likelihood


def test_likelihood_adds_up_piece_by_piece() -> None:
    model = network("two parts", torch.float32)
    made = model.config
    lengths = [5, 31, 12, 0, *range(20, 38)]  # more than are scored at once
    pieces = [
        StyledPiece(encode(made, music(made, steps, n), is_minor=n % 3 == 0), n % 2)
        for n, steps in enumerate(lengths)
    ]
    random = torch.Generator().manual_seed(0)
    poses = [torch.randn(2, 3, generator=random) for _ in pieces]
    for given in (None, poses):
        scored = likelihood(model, pieces, poses=given)
        assert scored.steps.tolist() == lengths
        assert scored.styles.tolist() == [n % 2 for n in range(len(pieces))]
        for number, styled in enumerate(pieces):
            pose = None if given is None else [given[number]]
            alone = likelihood(model, [styled], poses=pose)
            assert alone.nats[0] == pytest.approx(scored.nats[number], abs=1e-3)
        chosen = scored.styles == 1
        assert scored.of(1) == pytest.approx(scored.nats[chosen].sum() / scored.steps[chosen].sum())
        assert scored.of(None) == pytest.approx(scored.nats.sum() / sum(lengths))
    spread = [pose.expand(steps, -1, -1) for pose, steps in zip(poses, lengths, strict=True)]
    each_step = likelihood(model, pieces, poses=spread)
    np.testing.assert_allclose(each_step.nats, scored.nats, atol=1e-3)


def test_poses_are_spread_as_the_passages_have_them() -> None:
    made = config()
    torch.manual_seed(1)
    model = ComposerNetwork(made)
    pieces: list[StyledPiece] = [
        StyledPiece(encode(made, music(made, 40, seed)), 1) for seed in range(4)
    ]
    fit_poses(model, pieces)
    audible = []
    for styled in pieces:
        for start in range(0, 40, 8):
            frames = torch.from_numpy(styled.piece.passage(start)).float()[None]
            with torch.no_grad():
                audible.append(model.encoder(frames).poses[0, 1].double().numpy())
    table = np.array(audible)
    np.testing.assert_allclose(model.pose_mean[1], table.mean(axis=0), atol=1e-5)
    factor = model.pose_spread[1].numpy()
    np.testing.assert_allclose(factor @ factor.T, np.cov(table.T), atol=1e-5)
    assert not model.pose_mean[0].any()
    assert not model.pose_spread[0].any()
