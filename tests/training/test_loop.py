"""The loop: what it learns, when it stops, what it leaves behind, and how it fails."""

from __future__ import annotations

import copy
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from tiny import TinyTask
from torch import Tensor, nn

from deepmusic.errors import CheckpointError, DataError, DeepMusicError
from deepmusic.training import (
    Progress,
    TrainingConfig,
    draw_history,
    fit,
    load_weights,
    read_history,
)
from deepmusic.training.checkpoint import load_checkpoint
from deepmusic.training.optimization import learning_rate_at, update_average


def config(**options: Any) -> TrainingConfig:
    return TrainingConfig(
        **{"epochs": 3, "batch_size": 8, "learning_rate": 0.02, "device": "cpu", **options}
    )


class Scripted(TinyTask):
    """Validation gives the listed values, one an epoch."""

    def __init__(self, *values: float, higher_is_better: bool = True) -> None:
        super().__init__()
        self.values = list(values)
        self.higher_is_better = higher_is_better
        self.states: list[dict[str, Tensor]] = []

    def validate(self, model: nn.Module) -> dict[str, float]:
        self.states.append({n: t.clone() for n, t in model.state_dict().items()})
        return {"accuracy": self.values[len(self.states) - 1]}


def test_it_learns_and_leaves_a_whole_run(tmp_path: Path) -> None:
    task = TinyTask(200)
    result = fit(task, config(epochs=8), tmp_path / "run")
    assert result.history[-1]["train"]["loss"] < result.history[0]["train"]["loss"]
    assert result.best["accuracy"] > 0.75  # the blobs overlap
    assert result.setting == "cpu, float32, batches of 8"
    assert not task.model.training
    with torch.no_grad():
        accuracy = task.validate(task.model)["accuracy"]
    assert accuracy == result.best["accuracy"]
    assert read_history(tmp_path / "run") == result.history
    files = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*.*")}
    assert {f.replace(os.sep, "/") for f in files} == {
        "config.json",
        "history.jsonl",
        "checkpoint/state.safetensors",
        "best/weights.safetensors",
        "best/config.json",
        "loss.png",
        "accuracy.png",
    }
    _, metadata = load_weights(tmp_path / "run" / "best" / "weights.safetensors")
    assert metadata["classes"] == ["a", "b"]
    assert metadata["epoch"] == result.best_epoch
    assert TrainingConfig.from_dict(metadata["training"]) == config(epochs=8)


@pytest.mark.parametrize("decay", [None, 0.7])
def test_the_weights_are_those_of_a_loop_written_out(tmp_path: Path, decay: float | None) -> None:
    options = config(ema_decay=decay, epochs=4, clip_norm=0.5, weight_decay=0.3)
    # One batch an epoch: its order only rounds differently. No norm: the gradient of a bias before
    # one is zero but for rounding, which Adam would blow up to full steps.
    task = TinyTask(6, dropout=0.0, norm=False)
    task.validate = lambda model: {"accuracy": float(next(steps))}  # type: ignore[method-assign]
    steps = iter(range(4))  # the last is the best
    fit(task, options, tmp_path / "run")

    plain = TinyTask(6, dropout=0.0, norm=False)
    model = plain.model.train()
    average = TinyTask(6, dropout=0.0, norm=False).model
    vectors = [p for p in model.parameters() if p.ndim < 2]
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    )
    for step in range(4):
        items = [plain.dataset[step, index] for index in range(6)]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, 4, options)
        optimizer.zero_grad()
        plain.loss(model, plain.collate(items))[0].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        update_average(average, model, decay=decay or 0.5, step=step)
    for name, tensor in (average if decay else model).state_dict().items():
        torch.testing.assert_close(task.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_patience_stops_and_the_best_weights_stay(tmp_path: Path) -> None:
    task = Scripted(0.5, 0.7, 0.6, 0.7, 0.9)
    result = fit(task, config(epochs=5, patience=2), tmp_path / "run")
    assert result.stopped_early
    assert len(result.history) == 4
    assert result.best_epoch == 2  # an equal later one is not better
    for name, tensor in task.model.state_dict().items():
        assert torch.equal(tensor, task.states[1][name])
    again = fit(Scripted(), config(epochs=5, patience=2), tmp_path / "run", resume=True)
    assert again.history == result.history  # and it stays stopped


def test_lower_can_be_better(tmp_path: Path) -> None:
    result = fit(Scripted(0.5, 0.3, 0.4, higher_is_better=False), config(), tmp_path / "run")
    assert result.best_epoch == 2
    assert not result.stopped_early


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_data_sets_smaller_than_a_batch_or_just_above(tmp_path: Path, count: int) -> None:
    task = TinyTask(count, norm=False)
    result = fit(task, config(epochs=2), tmp_path / "run")
    assert len(result.history) == 2


def test_an_empty_data_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the training set is empty"):
        fit(TinyTask(0), config(), tmp_path / "run")


def test_a_loss_without_value_stops_before_it_spoils_the_weights(tmp_path: Path) -> None:
    task = TinyTask()
    task.dataset.points[task.dataset.labels == 1] = np.nan
    with pytest.raises(DeepMusicError, match=r"no longer finite \(epoch 1, step 1\)"):
        fit(task, config(), tmp_path / "run")
    saved = load_checkpoint(tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in saved[0]["weights"].values())


def test_a_validation_without_value_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeepMusicError, match="no finite 'accuracy' \\(epoch 2\\)"):
        fit(Scripted(0.5, float("nan")), config(), tmp_path / "run")


def test_a_full_disk_in_mid_run_keeps_a_run_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(progress: Progress) -> None:
        if progress.epoch == 2:
            monkeypatch.setattr(os, "fsync", full)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"disk is full.*so resume the run"):
        fit(TinyTask(), config(), run, on_progress=fill_the_disk)
    monkeypatch.undo()
    assert load_checkpoint(run)[1]["step"] == 3
    assert not list(run.rglob(".*.tmp"))
    task, whole = TinyTask(), TinyTask()
    fit(task, config(), run, resume=True)
    fit(whole, config(), tmp_path / "whole")
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(task.model.state_dict()[name], tensor)


def test_global_settings_and_random_states_are_left_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = torch.rand(1), np.random.random()  # noqa: NPY002
    task = TinyTask()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    fit(task, config(epochs=1), tmp_path / "run")
    assert (torch.rand(1), np.random.random()) == expected  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()


def test_bf16_trains_and_leaves_a_plain_float32_model(tmp_path: Path) -> None:
    task = TinyTask()
    result = fit(task, config(precision="bf16", ema_decay=0.9), tmp_path / "run")
    assert result.setting == "cpu, bf16, batches of 8"
    assert {p.dtype for p in task.model.parameters()} == {torch.float32}
    fresh = TinyTask().model.eval()
    fresh.load_state_dict(task.model.state_dict())
    points = torch.randn(5, 4)
    assert torch.equal(fresh(points), task.model(points))  # no bf16 left in its forward
    # and the next run in this process may have another precision
    fit(TinyTask(), config(epochs=1), tmp_path / "next")


def test_a_compiled_model_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # with a back-end that needs no C++ compiler
    compile_ = torch.nn.Module.compile
    calls = []

    def watched(module: torch.nn.Module, **options: Any) -> None:
        calls.append(options)
        compile_(module, backend="aot_eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", watched)
    plain, compiled = TinyTask(dropout=0), TinyTask(dropout=0)
    fit(plain, config(ema_decay=0.9), tmp_path / "plain")
    result = fit(compiled, config(ema_decay=0.9, compiled=True), tmp_path / "compiled")
    assert calls == [{}]
    assert result.setting == "cpu, float32, compiled, batches of 8"
    for name, weights in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], weights)
    copied = copy.deepcopy(compiled.model)
    points = torch.randn(5, 4)
    assert torch.equal(copied(points), compiled.model(points))
    # how it is computed may change when a run is resumed
    fit(compiled, config(ema_decay=0.9), tmp_path / "compiled", resume=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_device_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeepMusicError, match="no cuda device"):
        fit(TinyTask(), config(device="cuda"), tmp_path / "run")


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


def test_a_missing_or_broken_history_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no history\.jsonl"):
        read_history(tmp_path)
    (tmp_path / "history.jsonl").write_text('{"epoch": 1')
    with pytest.raises(DataError, match="cannot be read"):
        read_history(tmp_path)


def test_pictures_show_both_lines(tmp_path: Path) -> None:
    history = [
        {"epoch": n, "train": {"loss": 1 / n, "accuracy": 0.5}, "validation": {"loss": 2 / n}}
        for n in (1, 2, 3)
    ]
    assert draw_history(history, tmp_path, best_epoch=2) == [
        tmp_path / "loss.png",
        tmp_path / "accuracy.png",
    ]

    def colours(path: Path) -> set[tuple[int, ...]]:
        pixels = (imread(path)[..., :3] * 255).round().astype(int)
        return {tuple(c) for c in pixels.reshape(-1, 3)}

    blue, orange = (31, 119, 180), (255, 127, 14)  # matplotlib's first two lines
    assert {blue, orange} <= colours(tmp_path / "loss.png")
    assert blue in colours(tmp_path / "accuracy.png")
    assert orange not in colours(tmp_path / "accuracy.png")
    assert draw_history([{"epoch": 1, "train": {}, "validation": {}}], tmp_path / "none") == []
