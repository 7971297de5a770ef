"""A run that is killed, interrupted or spread over processes ends like one that is not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import child
import pytest
import torch
from tiny import TinyTask
from torch import Tensor

from deepmusic.errors import CheckpointError
from deepmusic.training import (
    Progress,
    TrainingConfig,
    checkpoint_path,
    fit,
    load_weights,
    read_history,
)
from deepmusic.training.checkpoint import load_checkpoint
from faults import FAULTS, each_fault

# 22 items in batches of 8 and less: three steps an epoch
OPTIONS: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 8,
    "learning_rate": 0.02,
    "ema_decay": 0.9,
    "device": "cpu",
    "checkpoint_minutes": 0,
}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if "seconds" not in k} for record in history]


def train(
    run: Path, *, until: tuple[int, int] | None = None, resume: bool = False, **options: Any
) -> tuple[dict[str, Tensor], list[dict[str, Any]] | None]:
    """Train here; ``until`` stops right after that epoch and step."""

    class StoppedError(Exception):
        pass

    def watch(progress: Progress) -> None:
        if (progress.epoch, progress.step) == until:
            raise StoppedError

    task = TinyTask()
    try:
        config = TrainingConfig(**{**OPTIONS, **options})
        history = fit(task, config, run, resume=resume, on_progress=watch)
    except StoppedError:
        return {}, None
    return task.model.state_dict(), history


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(run)
    return run


def assert_same_run(run: Path, whole: Path) -> None:
    for name in ("best/weights.safetensors", "checkpoint/state.safetensors"):
        assert equal(load_weights(run / name)[0], load_weights(whole / name)[0]), name
    assert timeless(read_history(run)) == timeless(read_history(whole))
    assert (run / "best/config.json").read_bytes() != b""
    assert not list(run.rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("until", [(1, 1), (2, 3), (4, 2)])
@pytest.mark.parametrize("minutes", [0, 1e9], ids=["each-step", "each-epoch"])
def test_a_run_stopped_anywhere_continues_to_the_same_weights(
    tmp_path: Path, whole: Path, until: tuple[int, int], minutes: float
) -> None:
    train(tmp_path / "run", until=until, checkpoint_minutes=minutes)
    weights, history = train(tmp_path / "run", resume=True, checkpoint_minutes=minutes)
    assert history is not None
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6]
    assert_same_run(tmp_path / "run", whole)
    best = [run / "best" / "weights.safetensors" for run in (tmp_path / "run", whole)]
    assert equal(weights, load_weights(best[1])[0])
    if minutes == OPTIONS["checkpoint_minutes"]:  # which the metadata hold
        assert best[0].read_bytes() == best[1].read_bytes()


@pytest.mark.slow
def test_the_seed_changes_the_weights_and_data_workers_do_not(tmp_path: Path, whole: Path) -> None:
    train(tmp_path / "run", workers=2)
    assert_same_run(tmp_path / "run", whole)
    weights, _ = train(tmp_path / "other", seed=1)
    assert not equal(weights, load_weights(whole / "best" / "weights.safetensors")[0])


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_the_same(tmp_path: Path, whole: Path) -> None:
    rng, run = random.Random(3), tmp_path / "run"
    for _ in range(3):
        process, reports = child.start(run, OPTIONS, pause=0.01)
        for _ in range(rng.randint(1, 5)):
            reports.recv()
        process.join(rng.uniform(0, 0.03))  # into the next step, or its checkpoint
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process, _ = child.start(run, OPTIONS)
    process.join(120)
    assert process.exitcode == 0
    assert_same_run(run, whole)


def assert_same_files(folder: Path, other: Path) -> None:
    names = [sorted(path.relative_to(root) for path in root.rglob("*")) for root in (folder, other)]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_fails_the_run_continues_to_the_same_weights(tmp_path: Path, fault: str) -> None:
    options = {"epochs": 2, "batch_size": 22}
    whole, _ = train(tmp_path / "run", **options)

    def run(folder: Path) -> None:
        resume = checkpoint_path(folder / "run").exists()
        weights, _ = train(folder / "run", resume=resume, **options)
        assert equal(weights, whole)

    def loads(folder: Path) -> None:
        for path in folder.rglob("*.safetensors"):
            load_weights(path)
        if checkpoint_path(folder / "run").exists():
            load_checkpoint(folder / "run")

    offset = FAULTS.index(fault)
    each_fault(
        run,
        loads,
        finished=lambda folder: assert_same_files(folder, tmp_path),
        faults=(fault,),
        at=lambda n: n % 11 == offset,
    )


@pytest.mark.slow
def test_ctrl_c_finishes_the_step_and_the_message_says_how_to_continue(
    tmp_path: Path, whole: Path
) -> None:
    run = tmp_path / "run"
    process, reports = child.start(run, {**OPTIONS, "checkpoint_minutes": 1e9}, pause=0.2)
    received = [reports.recv() for _ in range(4)]
    os.kill(process.pid or 0, signal.SIGINT)
    while isinstance(received[-1], tuple):
        received.append(reports.recv())
    process.join(60)
    assert process.exitcode == 1
    assert received[-1] == f"Stopped in epoch 2; resume {run} to continue."
    assert len(received) < 18
    train(run, resume=True)
    assert_same_run(run, whole)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    plain = {"count": 21, "dropout": 0.0, "norm": False}
    options = {**OPTIONS, "epochs": 3, "device": "auto"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        child.start(
            tmp_path / "two",
            options,
            environment={**shared, "RANK": rank, "LOCAL_RANK": rank, "CUDA_VISIBLE_DEVICES": ""},
            **plain,
        )
        for rank in "01"
    ]
    for process, _ in ranks:
        process.join(120)
        assert process.exitcode == 0
    assert [reports.poll() for _, reports in ranks] == [True, True]
    assert len([ranks[0][1].recv() for _ in range(9)]) == 9
    with pytest.raises(EOFError):
        ranks[1][1].recv()  # the main process alone reports
    task = TinyTask(**plain)  # type: ignore[arg-type]
    fit(task, TrainingConfig(**{**OPTIONS, "epochs": 3}), tmp_path / "one")

    first, second = (load_weights(tmp_path / f"two-{rank}.safetensors")[0] for rank in "01")
    assert equal(first, second)
    for name, tensor in task.model.state_dict().items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(
        read_history(tmp_path / "two"), read_history(tmp_path / "one"), strict=True
    ):
        assert ours["train"] == pytest.approx(theirs["train"], rel=1e-4)


@pytest.mark.slow
def test_a_finished_run_can_be_resumed_and_stays(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    train(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_best_weights_lost_to_a_kill_come_from_the_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    weights, _ = train(run, epochs=1)
    shutil.rmtree(run / "best")  # killed after the first checkpoint, before its best weights
    (run / "history.jsonl").write_text('{"epoch": 1')
    (run / "checkpoint" / ".0123.tmp").write_text("half")
    again, history = train(run, epochs=1, resume=True)
    assert equal(weights, again)
    assert read_history(run) == history
    assert not list(run.rglob(".*.tmp"))


def test_other_settings_data_and_models_are_refused(tmp_path: Path, whole: Path) -> None:
    def refused(message: str, *, task: TinyTask | None = None, **options: Any) -> None:
        with pytest.raises(CheckpointError, match=message):
            fit(task or TinyTask(), TrainingConfig(**{**OPTIONS, **options}), whole, resume=True)

    refused("trained with another learning_rate", learning_rate=0.1)
    refused("trained with another ema_decay", ema_decay=None)
    task = TinyTask()
    task.metadata = {**task.metadata, "fingerprint": "4567"}
    refused('another fingerprint \\("0123", now "4567"\\)', task=task)
    refused("another training_items", task=TinyTask(21))
    refused(r"another model: it also has 1\.bias and 4 more", task=TinyTask(norm=False))
    with pytest.raises(CheckpointError, match="already holds a run"):
        train(whole)
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        train(tmp_path / "none", resume=True)
