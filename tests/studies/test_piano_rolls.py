"""Likelihood on piano rolls: simple models against loops, the published figures, and learning."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deepmusic.datasets.symbolic import load_symbolic
from deepmusic.studies.piano_rolls import KEY_MODELS
from deepmusic.training import TrainingConfig, fit

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from roll_networks import PianoRollTask, RecurrentComposer, nats_per_step

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "symbolic"


def rolls(count: int, keys: int = 6, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.random((int(random.integers(5, 20)), keys)) < 0.3 for _ in range(count)]


@pytest.mark.parametrize("name", KEY_MODELS)
def test_simple_models_equal_loops(name: str) -> None:
    train, test = rolls(4), rolls(3, seed=1)
    counts: dict[object, list[int]] = {}

    def situation(key: int, before: bool) -> object:
        return {"unigram": key, "copy-previous": before, "markov": (key, before)}.get(name, "all")

    for roll in train:
        for t, step in enumerate(roll):
            for key, sounds in enumerate(step):
                seen = counts.setdefault(situation(key, t > 0 and bool(roll[t - 1, key])), [0, 0])
                seen[0] += int(sounds)
                seen[1] += 1
    nats, steps = 0.0, 0
    for roll in test:
        for t, step in enumerate(roll):
            steps += 1
            for key, sounds in enumerate(step):
                on, all_ = counts[situation(key, t > 0 and bool(roll[t - 1, key]))]
                rate = 0.5 if name == "uniform" else (on + 1) / (all_ + 2)
                nats -= math.log(rate if sounds else 1 - rate)
    assert KEY_MODELS[name](train, test) == pytest.approx(nats / steps)


@pytest.mark.skipif(not DATA.is_dir(), reason="the symbolic data are not here")
def test_simple_models_reach_the_published_figure() -> None:
    dataset = load_symbolic("jsb", DATA)
    train, test = ([p.grid.roll() for p in side] for side in (dataset.train, dataset.test))
    # 11.06: Boulanger-Lewandowski et al. (2012); the others were measured for this project
    assert KEY_MODELS["unigram"](train, test) == pytest.approx(11.06, abs=0.005)
    assert KEY_MODELS["markov"](train, test) == pytest.approx(10.476, abs=0.005)


@pytest.mark.parametrize("head", ["sets", "keys"])
def test_a_step_depends_on_those_before_it_alone(head: str) -> None:
    torch.manual_seed(0)
    model = RecurrentComposer(keys=6, hidden=12, head=head).eval()
    roll = torch.from_numpy(rolls(1)[0].astype(np.float32))[None]
    length = torch.tensor([roll.shape[1]])
    whole = model(roll, length)
    changed = roll.clone()
    changed[0, 3] = 1 - changed[0, 3]
    other = model(changed, length)
    torch.testing.assert_close(other[:3], whole[:3])
    assert (other[3:] - whole[3:]).abs().min() > 0


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = RecurrentComposer(keys=6, hidden=12).eval()
    pieces = rolls(20)
    alone = [
        -model(torch.from_numpy(p.astype(np.float32))[None], torch.tensor([len(p)])).sum().item()
        for p in pieces
    ]
    expected = sum(alone) / sum(map(len, pieces))
    assert nats_per_step(model, pieces) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_pattern_is_learned_and_excerpts_follow_from_their_key(tmp_path: Path) -> None:
    cycle = (
        np.eye(6, dtype=bool)[np.arange(24) % 6] | np.eye(6, dtype=bool)[(np.arange(24) + 2) % 6]
    )
    pieces = [np.roll(cycle, n, axis=0) for n in range(6)]
    task = PianoRollTask(pieces, pieces[:2], seed=0, steps=16, shift=2)
    one, again = task.dataset[3, 1], task.dataset[3, 1]
    assert torch.equal(one, again)
    assert one.shape == (16, 6)
    assert int(one.sum()) == 32  # moved in pitch, no note is lost
    plain = PianoRollTask(pieces, pieces[:2], seed=0)
    config = TrainingConfig(epochs=30, batch_size=3, learning_rate=0.03, device="cpu")
    fit(plain, config, tmp_path / "run")
    assert nats_per_step(plain.model.eval(), pieces) < 0.5  # 4.2 for even chances
