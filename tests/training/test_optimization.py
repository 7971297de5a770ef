"""Learning rate, decayed parameters, moving average: against the formulas written out."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from deepmusic.errors import CheckpointError
from deepmusic.training import TrainingConfig
from deepmusic.training.optimization import (
    learning_rate_at,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    update_average,
)


def rates(steps: int, **options: object) -> list[float]:
    config = TrainingConfig.from_dict({"learning_rate": 0.5, **options})
    return [learning_rate_at(step, steps, config) for step in range(steps)]


def test_warm_up_rises_to_the_peak_and_cosine_falls_to_zero() -> None:
    values = rates(100, warmup=0.1)
    assert values[:10] == pytest.approx([0.5 * (i + 1) / 11 for i in range(10)])
    assert values[10:] == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * i / 90)) for i in range(90)]
    )


def test_other_schedules() -> None:
    assert rates(4, warmup=0.0, schedule="linear") == pytest.approx([0.5, 0.375, 0.25, 0.125])
    assert rates(4, warmup=0.0, schedule="constant") == [0.5] * 4
    assert rates(1, warmup=0.9) == [pytest.approx(0.25)]  # a run of one step still learns


def test_norms_and_biases_are_not_decayed() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[2].weight.requires_grad_(False)
    decayed, plain = parameter_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [model[0].weight.shape]
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0.0
    assert len(plain["params"]) == 4


def test_the_average_is_that_of_a_hand_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average = copy.deepcopy(model)
    weight = model[0].weight.detach().double().clone()
    running = model[1].running_mean.double().clone()
    for step in range(30):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(3, 3))
        model(torch.randn(5, 3))
        update_average(average, model, decay=0.6, step=step)
        keep = min(0.6, (1 + step) / (10 + step))
        weight = keep * weight + (1 - keep) * model[0].weight.detach().double()
        running = keep * running + (1 - keep) * model[1].running_mean.double()
    torch.testing.assert_close(average[0].weight.detach().double(), weight, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(average[1].running_mean.double(), running, rtol=1e-5, atol=1e-5)
    assert average[1].num_batches_tracked == 30


def test_optimizer_state_returns_and_foreign_state_is_refused() -> None:
    def stepped(width: int) -> torch.optim.AdamW:
        layer = nn.Linear(width, 2)
        optimizer = torch.optim.AdamW(parameter_groups(layer, 0.1))
        layer(torch.ones(1, width)).sum().backward()
        optimizer.step()
        return optimizer

    first, second = stepped(3), torch.optim.AdamW(parameter_groups(nn.Linear(3, 2), 0.1))
    load_optimizer_tensors(second, optimizer_tensors(first), source="here")
    assert optimizer_tensors(first).keys() == optimizer_tensors(second).keys()
    for name, tensor in optimizer_tensors(first).items():
        assert torch.equal(tensor, optimizer_tensors(second)[name])
    with pytest.raises(CheckpointError, match="here is of another model"):
        load_optimizer_tensors(second, optimizer_tensors(stepped(4)), source="here")
