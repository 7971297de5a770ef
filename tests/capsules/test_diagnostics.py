"""Diagnostics: entropy of the couplings between its ends, and capsules that never wake."""

from __future__ import annotations

import math

import pytest
import torch

from deepmusic.capsules import coupling_entropy, dead_share
from deepmusic.errors import ShapeError


def test_entropy_is_one_for_averaging_and_zero_for_a_choice():
    assert float(coupling_entropy(torch.full((2, 5, 4), 0.25))) == pytest.approx(1)
    assert float(coupling_entropy(torch.eye(4).expand(2, 4, 4))) == 0
    assert float(coupling_entropy(torch.ones(2, 5, 1))) == 0


def test_entropy_equals_its_formula_averaged_over_children():
    coupling = torch.tensor([[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]])
    second = -sum(p * math.log(p) for p in (0.2, 0.3, 0.5))
    expected = (math.log(2) + second) / 2 / math.log(3)
    assert float(coupling_entropy(coupling)) == pytest.approx(expected, rel=1e-6)


def test_negative_couplings_count_as_none():
    coupling = torch.tensor([[0.6, 0.6, -0.2], [-1.0, 0.0, 0.0]])
    expected = (math.log(2) / math.log(3) + 0) / 2
    assert float(coupling_entropy(coupling)) == pytest.approx(expected, rel=1e-5)


def test_a_capsule_is_dead_when_no_item_wakes_it():
    activations = torch.tensor([[0.9, 0.01, 0.02, 0.0], [0.01, 0.02, 0.06, 0.04]])
    assert float(dead_share(activations)) == 0.5
    assert float(dead_share(activations, 0.5)) == 0.75
    assert float(dead_share(activations, 0.0)) == 0


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match="parents"):
        coupling_entropy(torch.tensor(1.0))
    with pytest.raises(ShapeError, match="capsules"):
        dead_share(torch.zeros(3))
