"""Sets of notes: their probabilities are exact, and samples follow them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from deepmusic.composer.note_sets import NoteSetHead, set_sequences
from deepmusic.composer.set_sampling import sample_sets
from deepmusic.errors import ShapeError


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def every_set(pitches: int, states: int = 1) -> torch.Tensor:
    """All sets with at most one symbol per pitch, ``(sets, pitches * states)``."""
    rows = []
    for choice in itertools.product(range(-1, states), repeat=pitches):
        row = [False] * (pitches * states)
        for key, state in enumerate(choice):
            if state >= 0:
                row[key * states + state] = True
        rows.append(row)
    return torch.tensor(rows)


def head(pitches: int = 6, states: int = 1, suggestions: int = 0, seed: int = 0) -> NoteSetHead:
    torch.manual_seed(seed)
    made = NoteSetHead(
        5, pitches=pitches, states=states, hidden=16, embedding=8, suggestions=suggestions
    ).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.6)  # far from uniform
    with torch.no_grad():
        made.embed.weight[made.symbols] = 0  # the start, which adds nothing
    return made


def context_for(made: NoteSetHead, count: int, *, masked: bool = True) -> dict[str, torch.Tensor]:
    """One context for all rows, with allowed and suggested symbols."""
    options = {"context": torch.randn(1, 5, dtype=torch.float64).expand(count, -1)}
    if masked:
        options["allowed"] = (torch.rand(1, made.symbols) > 0.4).expand(count, -1)
    if made.suggestions:
        shape = (1, made.suggestions, made.symbols)
        options["suggested"] = (torch.rand(shape) > 0.5).expand(count, -1, -1)
    return options


@torch.no_grad()
def sample(
    made: NoteSetHead,
    context: torch.Tensor,
    generator: np.random.Generator,
    *,
    allowed: torch.Tensor | None = None,
    **options: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sets and log probabilities that the network in PyTorch gives."""

    def next_symbol(*arrays: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return made.next_symbol(*map(torch.from_numpy, arrays)).numpy()

    start, bias = made.begin(context, allowed=allowed)
    arrays = {n: o.numpy() if isinstance(o, torch.Tensor) else o for n, o in options.items()}
    sets, log_probs = sample_sets(
        next_symbol, start.numpy(), bias.numpy(), generator, states=made.states, **arrays
    )
    return torch.from_numpy(sets), torch.from_numpy(log_probs)


@settings(deadline=None, max_examples=40)
@given(
    pitches=st.integers(1, 5),
    states=st.integers(1, 2),
    suggestions=st.integers(0, 2),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_all_sets_together_have_probability_one(
    pitches: int, states: int, suggestions: int, masked: bool, seed: int
) -> None:
    made = head(pitches, states, suggestions, seed)
    rolls = every_set(pitches, states)
    options = context_for(made, len(rolls), masked=masked)
    chances = made(sets=rolls, **options).exp()
    assert chances.sum().item() == pytest.approx(1, abs=1e-9)
    if masked:
        is_barred = (rolls & ~options["allowed"]).any(dim=1)
        assert (chances[is_barred] == 0).all()
        assert (chances[~is_barred] > 0).all()


@pytest.mark.parametrize(("states", "suggestions"), [(1, 0), (2, 0), (2, 3)])
def test_probability_is_the_product_of_the_masked_conditionals(
    states: int, suggestions: int
) -> None:
    made = head(4, states, suggestions)
    end = made.symbols
    rolls = every_set(4, states)
    options = context_for(made, len(rolls))
    got = made(sets=rolls, **options).tolist()
    weights = {name: p.detach().numpy() for name, p in made.named_parameters()}
    context = options["context"][0].numpy()
    allowed = options["allowed"][0].tolist()

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0.0)

    for roll, log_prob in zip(rolls, got, strict=True):
        summed, last = np.zeros(8), np.zeros(8)
        least, expected = 0, 0.0
        for symbol in [*roll.nonzero().flatten().tolist(), end]:
            hidden = np.maximum(
                linear("start", context) + linear("join", np.concatenate([summed, last])), 0
            )
            hidden = hidden + np.maximum(linear("middle", hidden), 0)
            scores = linear("read", hidden) + linear("read_context", context)
            if suggestions:
                trust = linear("trust", context)
                for number in range(suggestions):
                    for y in range(end):
                        scores[y] += trust[number] * float(options["suggested"][0, number, y])
            may = [(y >= least and allowed[y]) for y in range(end)] + [True]
            total = sum(math.exp(s) for s, ok in zip(scores, may, strict=True) if ok)
            expected += math.log(math.exp(scores[symbol]) / total) if may[symbol] else -math.inf
            if symbol != end:
                # what stands for a symbol: one half is summed, the other is of the last alone
                summed = summed + weights["embed.weight"][symbol, :8]
                last = weights["embed.weight"][symbol, 8:]
                least = (symbol // states + 1) * states
        assert log_prob == pytest.approx(expected, abs=1e-9)


def test_sets_are_written_as_ascending_symbols() -> None:
    rolls = every_set(5)
    symbols = set_sequences(rolls)
    assert symbols.shape == (32, 6)
    for roll, word in zip(rolls, symbols.tolist(), strict=True):
        notes = roll.nonzero().flatten().tolist()
        assert word == notes + [5] * (6 - len(notes))
    assert set_sequences(torch.zeros(3, 5)).tolist() == [[5]] * 3
    assert set_sequences(torch.zeros(0, 5)).shape == (0, 1)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(
    states=st.integers(1, 2),
    seed=st.integers(0, 10_000),
    top_p=st.sampled_from([0.5, 1.0]),
    temperature=st.sampled_from([0.7, 1.0]),
)
def test_samples_hold_required_symbols_and_otherwise_only_wanted_ones(
    states: int, seed: int, top_p: float, temperature: float
) -> None:
    made = head(6, states, seed=seed)
    generator = random(seed)
    wanted = torch.from_numpy(generator.random((40, made.symbols)) > 0.5)
    required = torch.from_numpy(generator.random((40, 6)) > 0.7)
    state = torch.from_numpy(generator.integers(0, states, (40, 6)))
    required = required.unsqueeze(2) & (torch.arange(states) == state.unsqueeze(2))
    # a pitch required in one state may not be in another
    wanted = (wanted.unflatten(1, (6, states)) & ~required.any(dim=2, keepdim=True)).flatten(1)
    required = required.flatten(1)
    allowed = torch.from_numpy(generator.random((40, made.symbols)) > 0.2) | required
    context = torch.randn(40, 5, dtype=torch.float64)
    options = {"allowed": allowed, "wanted": wanted | required, "required": required}
    sets, log_probs = sample(
        made, context, generator, top_p=top_p, temperature=temperature, **options
    )
    assert (sets & required == required).all()
    assert not (sets & ~required & ~(allowed & wanted)).any()
    assert sets.unflatten(1, (6, states)).sum(dim=2).max() <= 1
    # whatever the constraints, the probability is that of the set
    torch.testing.assert_close(log_probs, made(context, sets, allowed=allowed))


def test_equal_random_states_give_equal_samples() -> None:
    made = head()
    context = torch.randn(50, 5, dtype=torch.float64)
    first, again, other = (sample(made, context, random(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    generator = random(1)
    assert torch.equal(sample(made, context, generator)[0], first)
    assert not torch.equal(sample(made, context, generator)[0], first)  # it continues
    assert sample(made, context[:0], generator)[0].shape == (0, 6)


def sharpened(following: list[float], states: int, temperature: float, top_p: float) -> list[float]:
    """Probabilities of the next symbol, those of onsets redistributed."""
    onsets = range(states - 1, len(following) - 1, states)
    total = sum(following[y] for y in onsets)
    result = list(following)
    if total == 0:
        return result
    weights = {y: (following[y] / total) ** (1 / temperature) for y in onsets}
    shares = {y: weight / sum(weights.values()) for y, weight in weights.items()}
    kept, reached = {}, 0.0
    for y in sorted(shares, key=shares.__getitem__, reverse=True):
        if reached < top_p:
            kept[y] = shares[y]
        reached += shares[y]
    for y in onsets:
        result[y] = total * kept.get(y, 0) / sum(kept.values())
    return result


@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1, 1), (0.5, 1), (2, 1), (1, 0.6), (0.7, 0.8), (1, 0.01)]
)
def test_samples_follow_the_probabilities_temperature_and_top_p(
    states: int, temperature: float, top_p: float
) -> None:
    made = head(3, states)
    end, count = made.symbols, 8_000
    rolls = every_set(3, states)
    context = torch.randn(1, 5, dtype=torch.float64)
    chances = made(context.expand(len(rolls), -1), rolls).exp().tolist()
    words = [[*roll.nonzero().flatten().tolist(), end] for roll in rolls]
    expected = []
    for word in words:
        chance = 1.0
        for position, symbol in enumerate(word):
            following = [0.0] * (end + 1)
            for other, its in zip(words, chances, strict=True):
                if other[:position] == word[:position] and len(other) > position:
                    following[other[position]] += its
            following = [its / sum(following) for its in following]
            chance *= sharpened(following, states, temperature, top_p)[symbol]
        expected.append(chance)
    assert sum(expected) == pytest.approx(1)
    draws, _ = sample(
        made, context.expand(count, -1), random(), temperature=temperature, top_p=top_p
    )
    positions = {tuple(roll.tolist()): n for n, roll in enumerate(rolls)}
    drawn = np.bincount([positions[tuple(d)] for d in draws.tolist()], minlength=len(rolls)) / count
    wanted = np.array(expected)
    # six standard deviations of a share of ``count`` samples
    assert (np.abs(drawn - wanted) <= 6 * np.sqrt(wanted * (1 - wanted) / count) + 1e-9).all()


@pytest.mark.parametrize("states", [1, 2])
def test_a_set_that_must_not_be_empty_has_a_symbol_where_one_is_possible(states: int) -> None:
    made = head(3, states)
    with torch.no_grad():
        made.read.bias[-1] += 5  # the end is likely
    generator = random()
    context = torch.from_numpy(generator.standard_normal((300, 5)))
    is_filled = torch.from_numpy(generator.random(300) > 0.5)
    wanted = torch.from_numpy(generator.random((300, made.symbols)) > 0.7)
    sets, log_probs = sample(made, context, generator, is_filled=is_filled, wanted=wanted)
    can = wanted.any(dim=1)
    assert sets[is_filled & can].any(dim=1).all()
    assert not sets[~can].any()
    assert not sets[~is_filled].any(dim=1).all()
    torch.testing.assert_close(log_probs, made(context, sets))


def test_bad_input_is_refused() -> None:
    made = head()
    good = torch.zeros(2, 5).double()
    for call, message in (
        (lambda: made(torch.zeros(2, 4), torch.zeros(2, 6)), r"context must .* \(2, 5\)"),
        (lambda: made(torch.zeros(2, 5), torch.zeros(2, 7)), r"sets must .* \(2, 6\)"),
        (lambda: made(good, torch.zeros(2, 6), allowed=torch.ones(2, 5)), "allowed"),
        (lambda: made(good, torch.zeros(2, 6), suggested=torch.zeros(2, 1, 6)), "suggested"),
        (lambda: head(suggestions=2)(good, torch.zeros(2, 6)), "suggested must hold 2 sets"),
        (lambda: NoteSetHead(0), "at least 1"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
    for bad in ({"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(ValueError, match="above 0"):
            sample(made, good, random(), **bad)
