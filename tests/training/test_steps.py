"""Settings, order of items, learning rate, weight decay, average: against the formulas."""

from __future__ import annotations

import copy
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from deepmusic.errors import CheckpointError, DeepMusicError
from deepmusic.training import TrainingConfig
from deepmusic.training.checkpoint import (
    TrainState,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
)
from deepmusic.training.loop import BatchPlan

plans = st.integers(1, 4).flatmap(
    lambda processes: st.builds(
        lambda **sizes: [
            BatchPlan(**sizes, processes=processes, rank=rank) for rank in range(processes)
        ],
        items=st.integers(1, 60),
        batch_size=st.integers(1, 70),
        epochs=st.integers(1, 4),
        seed=st.integers(0, 2**32),
    )
)


@given(plans)
def test_every_item_counts_once_per_epoch_in_batches_of_nearly_one_size(
    ranks: list[BatchPlan],
) -> None:
    plan = ranks[0]
    counted: Counter[tuple[int, int]] = Counter()
    totals = set()
    for step, batches in enumerate(zip(*(rank.batches(0) for rank in ranks), strict=True)):
        shares = [rank.share(step) for rank in ranks]
        assert {total for _, total in shares} == {sum(mine for mine, _ in shares)}
        for batch, (mine, total) in zip(batches, shares, strict=True):
            assert len(batch) == max(mine, 1)  # a process without an item borrows one
            assert {epoch for epoch, _ in batch} == {step // plan.steps_per_epoch}
            assert total <= plan.batch_size
            counted.update(batch[:mine])
            totals.add(total)
    assert step + 1 == plan.steps == plan.epochs * plan.steps_per_epoch
    assert counted == {(e, i): 1 for e in range(plan.epochs) for i in range(plan.items)}
    assert max(totals) - min(totals) <= 1


@given(plans, st.data())
def test_starting_later_continues_the_same_batches(
    ranks: list[BatchPlan], data: st.DataObject
) -> None:
    plan = ranks[-1]
    start = data.draw(st.integers(0, plan.steps))
    assert list(plan.batches(start)) == list(plan.batches(0))[start:]


def test_no_two_epochs_or_seeds_share_an_order() -> None:
    orders = {
        tuple(index for _, index in batch)
        for seed in range(4)
        for batch in BatchPlan(items=20, batch_size=20, epochs=4, seed=seed).batches(0)
    }
    assert len(orders) == 16


def rates(steps: int, **options: Any) -> list[float]:
    config = TrainingConfig(learning_rate=0.5, **options)
    return [config.learning_rate_at(step, steps) for step in range(steps)]


def test_learning_rate_schedules() -> None:
    values = rates(100, warmup=0.1)
    assert values[:10] == pytest.approx([0.5 * (i + 1) / 11 for i in range(10)])
    assert values[10:] == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * i / 90)) for i in range(90)]
    )
    assert rates(4, warmup=0.0, schedule="linear") == pytest.approx([0.5, 0.375, 0.25, 0.125])
    assert rates(4, warmup=0.0, schedule="constant") == [0.5] * 4
    assert rates(1, warmup=0.9) == [pytest.approx(0.25)]  # a run of one step still learns


def test_norms_and_biases_are_not_decayed() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[2].weight.requires_grad_(False)
    decayed, plain = parameter_groups(model, 0.1)
    assert [p.shape for p in decayed["params"]] == [model[0].weight.shape]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert len(plain["params"]) == 4


def train_state(model: nn.Module, **fields: Any) -> TrainState:
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1))
    settings = {"average": None, "config": TrainingConfig(), "metadata": {}} | fields
    task: Any = SimpleNamespace(model=model, monitor="loss", higher_is_better=False)
    return TrainState(task=task, wrapped=model, optimizer=optimizer, **settings)


def test_the_moving_average_equals_a_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average = copy.deepcopy(model)
    weight = model[0].weight.detach().double().clone()
    running = model[1].running_mean.double().clone()
    state = train_state(model, average=average, config=TrainingConfig(ema_decay=0.6))
    for step in range(30):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(3, 3))
        model(torch.randn(5, 3))
        state.step = step
        state.update_average()
        keep = min(0.6, (1 + step) / (10 + step))
        weight = keep * weight + (1 - keep) * model[0].weight.detach().double()
        running = keep * running + (1 - keep) * model[1].running_mean.double()
    torch.testing.assert_close(average[0].weight.detach().double(), weight, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(average[1].running_mean.double(), running, rtol=1e-5, atol=1e-5)
    assert average[1].num_batches_tracked == 30


def test_optimizer_state_returns_and_that_of_another_model_is_refused() -> None:
    def stepped(width: int) -> torch.optim.Optimizer:
        layer = nn.Linear(width, 2)
        optimizer = train_state(layer).optimizer
        layer(torch.ones(1, width)).sum().backward()
        optimizer.step()
        return optimizer

    first, second = stepped(3), train_state(nn.Linear(3, 2)).optimizer
    load_optimizer_tensors(second, optimizer_tensors(first), source=Path("here"))
    assert optimizer_tensors(first).keys() == optimizer_tensors(second).keys()
    for name, tensor in optimizer_tensors(first).items():
        assert torch.equal(tensor, optimizer_tensors(second)[name])
    with pytest.raises(CheckpointError, match="here is of another model"):
        load_optimizer_tensors(second, optimizer_tensors(stepped(4)), source=Path("here"))


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"batch_size": 2.5},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"warmup": 1},
        {"ema_decay": 1.0},
        {"patience": 0},
        {"clip_norm": -1},
        {"schedule": "steps"},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(DeepMusicError, match=next(iter(options))):
        TrainingConfig(**options)


def test_settings_return_from_json_and_unknown_ones_are_refused() -> None:
    settings = TrainingConfig(patience=3, ema_decay=0.99, clip_norm=None)
    assert TrainingConfig.from_dict(settings.to_dict()) == settings
    with pytest.raises(DeepMusicError, match="no setting named lr"):
        TrainingConfig.from_dict({"lr": 1})
