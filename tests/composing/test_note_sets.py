"""The sets of notes: their probabilities are exact, and what is drawn follows them."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmusic.composing import NoteSetHead, spelled
from deepmusic.errors import ShapeError


def every_set(keys: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([0, 1], repeat=keys)), dtype=torch.bool)


def head(keys: int = 6, seed: int = 0) -> NoteSetHead:
    torch.manual_seed(seed)
    made = NoteSetHead(5, keys=keys, hidden=16, embedding=8)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.8)  # far from even chances
    return made.double()


@settings(deadline=None, max_examples=30)
@given(keys=st.integers(1, 7), seed=st.integers(0, 1000))
def test_all_sets_together_have_probability_one(keys: int, seed: int) -> None:
    made = head(keys, seed)
    rolls = every_set(keys)
    context = torch.randn(1, 5, dtype=torch.float64).expand(len(rolls), -1)
    total = made(context, rolls).double().exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-9)


def test_probability_is_the_product_of_the_masked_conditionals() -> None:
    made = head()
    context = torch.randn(1, 5, dtype=torch.float64)
    for roll in every_set(6)[[0, 1, 21, 63]]:
        notes = roll.nonzero().flatten().tolist()
        state = torch.tanh(made.start(context)).unsqueeze(0)
        before, told, expected = -1, 6, 0.0
        for symbol in [*notes, 6]:
            states, state = made.memory(made.embed(torch.tensor([[told]])), state)
            logits = (made.read(states[0, 0]) + made.read_context(context)[0]).tolist()
            weights = [
                torch.tensor(x).exp().item() if k > before else 0.0 for k, x in enumerate(logits)
            ]
            expected += torch.tensor(weights[symbol] / sum(weights)).log().item()
            before = told = symbol
        got = made(context, roll.unsqueeze(0)).item()
        assert got == pytest.approx(expected, abs=1e-5)


def test_nothing_can_follow_the_highest_key_but_the_end() -> None:
    made = head()
    context = torch.randn(3, 5, dtype=torch.float64)
    roll = torch.zeros(3, 6, dtype=torch.bool)
    roll[:, 5] = True
    without_end = made._masked(torch.zeros(3, 7), torch.tensor([5, 5, 5])).softmax(dim=1)
    assert without_end.tolist() == [[0.0] * 6 + [1.0]] * 3
    assert made(context, roll).isfinite().all()


def test_a_set_is_scored_alike_beside_larger_ones() -> None:
    made = head()
    context = torch.randn(2, 5, dtype=torch.float64)
    small, large = torch.tensor([[0, 1, 0, 0, 0, 0]]), torch.ones(1, 6, dtype=torch.long)
    alone = made(context[:1], small)
    together = made(context, torch.cat([small, large]))
    torch.testing.assert_close(alone[0], together[0])


def test_spelling_and_back() -> None:
    rolls = every_set(5)
    symbols = spelled(rolls)
    assert symbols.shape == (32, 6)
    for roll, word in zip(rolls, symbols.tolist(), strict=True):
        notes = roll.nonzero().flatten().tolist()
        assert word == notes + [5] * (6 - len(notes))
    assert spelled(torch.zeros(3, 5)).tolist() == [[5]] * 3
    assert spelled(torch.zeros(0, 5)).shape == (0, 1)


def test_gradients_reach_every_parameter() -> None:
    made = head()
    made(torch.randn(8, 5, dtype=torch.float64), torch.rand(8, 6) > 0.5).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_what_is_drawn_follows_the_probabilities() -> None:
    made = head(3)
    context = torch.randn(1, 5, dtype=torch.float64)
    draws = made.sample(context.expand(20_000, -1), generator=torch.Generator().manual_seed(0))
    for roll in every_set(3):
        share = (draws == roll).all(dim=1).double().mean().item()
        chance = made(context, roll.unsqueeze(0)).exp().item()
        assert abs(share - chance) < 0.015


def test_drawing_keeps_to_what_is_allowed_and_to_the_seed() -> None:
    made = head()
    context = torch.randn(50, 5, dtype=torch.float64)
    allowed = torch.rand(50, 6) > 0.5
    first, again, other = (
        made.sample(context, allowed=allowed, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert not (first & ~allowed).any()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_cold_and_narrow_draws_are_the_likeliest() -> None:
    made = head()
    context = torch.randn(1, 5, dtype=torch.float64).expand(20, -1)
    cold = made.sample(context, temperature=1e-4)
    narrow = made.sample(context, top_p=1e-6)
    assert (cold == cold[0]).all()
    assert torch.equal(cold, narrow)


def test_bad_input_is_refused() -> None:
    made = head()
    with pytest.raises(ShapeError, match=r"\(steps, 5\)"):
        made(torch.zeros(2, 4), torch.zeros(2, 6))
    with pytest.raises(ShapeError, match=r"\(2, 6\)"):
        made(torch.zeros(2, 5), torch.zeros(2, 7))
    with pytest.raises(ShapeError, match="allowed"):
        made.sample(torch.zeros(2, 5).double(), allowed=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ShapeError, match="at least 1"):
        NoteSetHead(0)
    with pytest.raises(ShapeError, match=r"\(steps, keys\)"):
        spelled(torch.zeros(3))
    for bad in ({"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(ValueError, match="above 0"):
            made.sample(torch.zeros(2, 5).double(), **bad)
