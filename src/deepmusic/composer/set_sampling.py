"""Sampling sets of notes, symbol by symbol, from exact probabilities and within constraints.

The network gives the probabilities (see ``note_sets``); masks and random draws are here, in NumPy.

Axes: n sets, r sets not yet ended, y symbols (pitches by states), the end symbol after them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


def sample_sets(
    next_symbol: Callable[[Floats, Floats, Bools, NDArray[np.int64]], Floats],
    start: Floats,
    bias: Floats,
    random: np.random.Generator,
    *,
    states: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    wanted: Bools | None = None,
    required: Bools | None = None,
    is_filled: Bools | None = None,
) -> tuple[Bools, NDArray[np.float64]]:
    """Sample a set for each context.

    Temperature and top-p act on which pitches get an onset (the last state), not on how many:
    favouring the end, the likeliest symbol of most steps, would make music fall silent.

    Args:
        next_symbol: ``NoteSetHead.next_symbol`` on arrays.
        start: what ``NoteSetHead.begin`` gives, n rows.
        bias: what it gives, n rows.
        random: draws the symbols.
        states: of a pitch; symbol ``pitch * states + state`` stands for one.
        temperature: above 0; below 1 favours likely pitches.
        top_p: sample from the fewest pitches with this total probability, in (0, 1].
        wanted: ``(n, y)``, the symbols to sample from; None samples from all.
        required: ``(n, y)``, wanted symbols that must be in the set.
        is_filled: ``(n,)``, sets that must not be empty if any symbol is possible.

    Returns:
        The sets, ``(n, y)``, and their log probabilities without constraints and temperature.

    Raises:
        ValueError: temperature or top_p out of range.
    """
    if temperature <= 0 or not 0 < top_p <= 1:
        raise ValueError("temperature is above 0 and top_p in (0, 1]")
    count, end = len(bias), bias.shape[1] - 1
    onsets = slice(states - 1, end, states)
    sets, log_prob = np.zeros((count, end), np.bool_), np.zeros(count)
    active, before = np.arange(count), np.full(count, -1)
    while len(active):
        log_probs = next_symbol(start[active], bias[active], sets[active], before)
        is_closed = np.zeros(log_probs.shape, np.bool_)
        if wanted is not None:
            is_closed[:, :end] = ~wanted[active]
        if is_filled is not None:
            # no end to an empty set where another symbol is possible
            can = (np.isfinite(log_probs) & ~is_closed)[:, :end].any(axis=1)
            is_closed[:, end] = is_filled[active] & (before < 0) & can
        if required is not None:
            is_closed |= _skips(required[active], before, states)
        probabilities = _softmax(np.where(is_closed, -np.inf, log_probs))
        probabilities[:, onsets] = _sharpened(probabilities[:, onsets], temperature, top_p)
        drawn = _draw(probabilities, random)
        log_prob[active] += log_probs[np.arange(len(active)), drawn]
        active, before = active[drawn != end], drawn[drawn != end]
        sets[active, before] = True
    return sets, log_prob


def _skips(required: Bools, before: NDArray[np.int64], states: int) -> Bools:
    """Symbols ``(r, y+1)`` that would skip the next required one, or take its pitch."""
    end = required.shape[1]
    order = np.arange(end + 1)
    due = required & (order[:end] > before[:, None])
    next_due = np.where(due.any(axis=1), due.argmax(axis=1), end)[:, None]
    skips: Bools = (order >= next_due // states * states) & (order != next_due)
    return skips


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def _draw(probabilities: Floats, random: np.random.Generator) -> NDArray[np.int64]:
    """One symbol ``(r,)`` for each row ``(r, y+1)``, by inverting the cumulative distribution."""
    sums = probabilities.cumsum(axis=1, dtype=np.float64)
    drawn = (sums <= random.random((len(sums), 1)) * sums[:, -1:]).sum(axis=1)
    # rounding may lead past the last symbol that has any probability
    last = sums.shape[1] - 1 - (probabilities > 0)[:, ::-1].argmax(axis=1)
    symbols: NDArray[np.int64] = np.minimum(drawn, last)
    return symbols


def _sharpened(probabilities: Floats, temperature: float, top_p: float) -> Floats:
    """Probabilities ``(r, k)`` with the same sum, redistributed by temperature and top-p."""
    if temperature == top_p == 1:
        return probabilities
    total = probabilities.sum(axis=1, keepdims=True)
    likeliest = probabilities.max(axis=1, keepdims=True)
    # relative to the likeliest, so that not all powers are zero
    shares = (probabilities / np.where(total > 0, likeliest, 1)) ** (1 / temperature)
    if top_p < 1:
        shares /= np.where(total > 0, shares.sum(axis=1, keepdims=True), 1)
        order = np.argsort(-shares, axis=1, kind="stable")
        ordered = np.take_along_axis(shares, order, axis=1)
        # the first that reaches it stays
        ordered[ordered.cumsum(axis=1) - ordered >= top_p] = 0
        np.put_along_axis(shares, order, ordered, axis=1)
    sharpened: Floats = total * shares / np.where(total > 0, shares.sum(axis=1, keepdims=True), 1)
    return sharpened
