"""Losses: the margin loss against a loop by hand, the weights of the reconstruction."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from deepmusic.capsules import margin_loss, reconstruction_loss, spread_loss
from deepmusic.errors import ShapeError


def by_hand(lengths, shares, upper=0.9, lower=0.1, down_weight=0.5):
    total = 0.0
    for row, wanted in zip(lengths, shares, strict=True):
        for length, share in zip(row, wanted, strict=True):
            total += share * max(0.0, upper - length) ** 2
            total += down_weight * (1 - share) * max(0.0, length - lower) ** 2
    return total / len(lengths)


unit = st.floats(0, 1)


@settings(deadline=None)  # the first call warms torch up
@given(
    rows=st.integers(1, 5).flatmap(
        lambda k: st.lists(
            st.tuples(st.lists(unit, min_size=k, max_size=k), st.integers(0, k - 1)),
            min_size=1,
            max_size=4,
        )
    )
)
def test_margin_loss_equals_the_sum_by_hand(rows):
    lengths = [row for row, _ in rows]
    labels = [label for _, label in rows]
    shares = [[float(k == label) for k in range(len(row))] for row, label in rows]
    loss = margin_loss(torch.tensor(lengths, dtype=torch.float64), torch.tensor(labels))
    assert float(loss) == pytest.approx(by_hand(lengths, shares), abs=1e-12)


def test_margin_loss_takes_shares_and_margins():
    lengths, shares = [[0.3, 0.8, 0.05]], [[0.25, 0.7, 0.05]]
    loss = margin_loss(
        torch.tensor(lengths), torch.tensor(shares), upper=0.95, lower=0.2, down_weight=0.3
    )
    assert float(loss) == pytest.approx(by_hand(lengths, shares, 0.95, 0.2, 0.3), rel=1e-6)


def test_losses_of_half_tensors_are_float32():
    lengths = torch.tensor([[0.5, 0.5]], dtype=torch.bfloat16)
    assert margin_loss(lengths, torch.tensor([0])).dtype == torch.float32
    assert reconstruction_loss(lengths, torch.zeros(1, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("lengths", "targets"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(2, 3), torch.zeros(2)),
        (torch.zeros(2, 3), torch.zeros(2, 4)),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long)),
        (torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3)),
    ],
)
def test_what_does_not_fit_is_refused(lengths, targets):
    with pytest.raises(ShapeError, match="shape"):
        margin_loss(lengths, targets)


def test_reconstruction_weight_equals_the_one_of_the_paper():
    rebuilt, original = torch.rand(4, 28, 28), torch.rand(4, 28, 28)
    paper = 0.0005 * (rebuilt - original).square().flatten(1).sum(1).mean()
    torch.testing.assert_close(0.392 * reconstruction_loss(rebuilt, original), paper)


def test_reconstructions_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(2, 4\)"):
        reconstruction_loss(torch.zeros(2, 3), torch.zeros(2, 4))


def test_spread_loss_is_the_sum_of_the_paper():
    active = torch.tensor([[0.9, 0.2, 0.5], [0.1, 0.3, 0.8]], dtype=torch.float64)
    targets = torch.tensor([0, 1])
    total = 0.0
    for row, true in zip(active.tolist(), targets.tolist(), strict=True):
        for k, value in enumerate(row):
            if k != true:
                total += max(0.0, 0.6 - (row[true] - value)) ** 2
    assert spread_loss(active, targets, margin=0.6).item() == pytest.approx(total / 2)
    active.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: spread_loss(a, targets, margin=0.6), (active,))


def test_spread_loss_refuses_what_does_not_fit():
    with pytest.raises(ShapeError, match=r"\(batch, classes\)"):
        spread_loss(torch.zeros(3), torch.zeros(3).long())
    for targets in (torch.zeros(3).long(), torch.zeros(2), torch.zeros(2, 4).long()):
        with pytest.raises(ShapeError, match=r"\(2,\)"):
            spread_loss(torch.zeros(2, 4), targets)
