"""The loop: what it learns, when it stops, which files it writes, and how it fails."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from tiny import TinyTask
from torch import Tensor, nn

from deepmusic.errors import DataError, DeepMusicError
from deepmusic.training import (
    Progress,
    TrainingConfig,
    best_path,
    draw_history,
    fit,
    load_weights,
    read_history,
)
from deepmusic.training.checkpoint import load_checkpoint


def config(**options: Any) -> TrainingConfig:
    return TrainingConfig(
        **{"epochs": 3, "batch_size": 8, "learning_rate": 0.02, "device": "cpu", **options}
    )


class Scripted(TinyTask):
    """Validation gives the listed values, one per epoch."""

    def __init__(self, *values: float, higher_is_better: bool = True) -> None:
        super().__init__()
        self.values = list(values)
        self.higher_is_better = higher_is_better
        self.states: list[dict[str, Tensor]] = []

    def validate(self, model: nn.Module) -> dict[str, float]:
        self.states.append({n: t.clone() for n, t in model.state_dict().items()})
        return {"accuracy": self.values[len(self.states) - 1]}


@pytest.mark.slow
def test_it_learns_and_leaves_a_complete_run(tmp_path: Path) -> None:
    task = TinyTask(200)
    reports: list[Progress] = []
    history = fit(task, config(epochs=8), tmp_path / "run", on_progress=reports.append)
    assert history[-1]["train"]["loss"] < history[0]["train"]["loss"]
    assert reports[-1].setting == "cpu, float32, batches of 8"
    assert not task.model.training
    with torch.no_grad():
        accuracy = task.validate(task.model)["accuracy"]
    assert accuracy == max(record["validation"]["accuracy"] for record in history)
    assert accuracy > 0.75  # the blobs overlap
    assert read_history(tmp_path / "run") == history
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
    assert metadata["validation"]["accuracy"] == accuracy
    assert TrainingConfig.from_dict(metadata["training"]) == config(epochs=8)


@pytest.mark.slow
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
    average = copy.deepcopy(model)
    vectors = [p for p in model.parameters() if p.ndim < 2]
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    )
    for step in range(4):
        items = [plain.dataset[step, index] for index in range(6)]
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate_at(step, 4)
        optimizer.zero_grad()
        plain.loss(model, plain.collate(items))[0].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        keep = min(decay or 0.0, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(weight, 1 - keep)
    for name, tensor in average.state_dict().items():
        torch.testing.assert_close(task.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_patience_stops_and_the_best_weights_stay(tmp_path: Path) -> None:
    task = Scripted(0.5, 0.7, 0.6, 0.7, 0.9)
    history = fit(task, config(epochs=5, patience=2), tmp_path / "run")
    assert len(history) == 4
    for name, tensor in task.model.state_dict().items():
        assert torch.equal(tensor, task.states[1][name])  # an equal later epoch is not better
    again = fit(Scripted(), config(epochs=5, patience=2), tmp_path / "run", resume=True)
    assert again == history  # and it stays stopped


def test_lower_can_be_better(tmp_path: Path) -> None:
    fit(Scripted(0.5, 0.3, 0.4, higher_is_better=False), config(), tmp_path / "run")
    assert load_weights(best_path(tmp_path / "run"))[1]["epoch"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_data_sets_smaller_than_a_batch_or_just_above(tmp_path: Path, count: int) -> None:
    assert len(fit(TinyTask(count, norm=False), config(epochs=2), tmp_path / "run")) == 2


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the training set is empty"):
        fit(TinyTask(0), config(), tmp_path / "run")
    if not torch.cuda.is_available():
        with pytest.raises(DeepMusicError, match="no cuda device"):
            fit(TinyTask(), config(device="cuda"), tmp_path / "run")
    task = TinyTask()
    task.dataset.points[task.dataset.labels == 1] = np.nan
    with pytest.raises(DeepMusicError, match=r"no longer finite \(epoch 1, step 1\)"):
        fit(task, config(), tmp_path / "run")
    weights = load_checkpoint(tmp_path / "run")[0]["weights"]
    assert all(tensor.isfinite().all() for tensor in weights.values())  # stopped before the step
    with pytest.raises(DeepMusicError, match="no finite 'accuracy' \\(epoch 2\\)"):
        fit(Scripted(0.5, float("nan")), config(), tmp_path / "other")


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


@pytest.mark.slow
def test_bf16_trains_and_leaves_a_plain_float32_model(tmp_path: Path) -> None:
    task = TinyTask()
    reports: list[Progress] = []
    options = config(precision="bf16", ema_decay=0.9)
    fit(task, options, tmp_path / "run", on_progress=reports.append)
    assert reports[-1].setting == "cpu, bf16, batches of 8"
    assert {p.dtype for p in task.model.parameters()} == {torch.float32}
    fresh = TinyTask().model.eval()
    fresh.load_state_dict(task.model.state_dict())
    points = torch.randn(5, 4)
    assert torch.equal(fresh(points), task.model(points))  # no bf16 left in its forward
    # and the next run in this process may have another precision
    fit(TinyTask(), config(epochs=1), tmp_path / "next")


@pytest.mark.slow
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
    reports: list[Progress] = []
    options = config(ema_decay=0.9, compiled=True)
    fit(compiled, options, tmp_path / "compiled", on_progress=reports.append)
    assert calls == [{}]
    assert reports[-1].setting == "cpu, float32, compiled, batches of 8"
    for name, weights in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], weights)
    copied = copy.deepcopy(compiled.model)
    points = torch.randn(5, 4)
    assert torch.equal(copied(points), compiled.model(points))
    # how it is computed may change when a run is resumed
    fit(compiled, config(ema_decay=0.9), tmp_path / "compiled", resume=True)


def test_a_missing_or_broken_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no history\.jsonl"):
        read_history(tmp_path)
    (tmp_path / "history.jsonl").write_text('{"epoch": 1')
    with pytest.raises(DataError, match="cannot be read"):
        read_history(tmp_path)


@pytest.mark.slow
def test_plots_show_both_lines(tmp_path: Path) -> None:
    history = [
        {"epoch": n, "train": {"loss": 1 / n, "accuracy": 0.5}, "validation": {"loss": 2 / n}}
        for n in (1, 2, 3)
    ]
    assert draw_history(history, tmp_path, best_epoch=2) == [
        tmp_path / "loss.png",
        tmp_path / "accuracy.png",
    ]

    def colors(path: Path) -> set[tuple[int, ...]]:
        pixels = (imread(path)[..., :3] * 255).round().astype(int)
        return {tuple(c) for c in pixels.reshape(-1, 3)}

    blue, orange = (31, 119, 180), (255, 127, 14)  # matplotlib's first two lines
    assert {blue, orange} <= colors(tmp_path / "loss.png")
    assert blue in colors(tmp_path / "accuracy.png")
    assert orange not in colors(tmp_path / "accuracy.png")
    assert draw_history([{"epoch": 1, "train": {}, "validation": {}}], tmp_path / "none") == []
