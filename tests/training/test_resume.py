"""A run that is killed, interrupted or spread over processes ends like one that is not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyTask
from torch import Tensor

from deepmusic.errors import CheckpointError
from deepmusic.training import (
    FitResult,
    Progress,
    TrainingConfig,
    fit,
    load_weights,
    read_history,
)

CHILD = Path(__file__).with_name("child.py")
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
) -> tuple[dict[str, Tensor], FitResult | None]:
    """Train here; ``until`` breaks off right after that epoch and step."""

    class BrokenOffError(Exception):
        pass

    def watch(progress: Progress) -> None:
        if (progress.epoch, progress.step) == until:
            raise BrokenOffError

    task = TinyTask()
    try:
        config = TrainingConfig(**{**OPTIONS, **options})
        result = fit(task, config, run, resume=resume, on_progress=watch)
    except BrokenOffError:
        return {}, None
    return task.model.state_dict(), result


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


def child(run: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(run), json.dumps({**OPTIONS, **options})],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("until", [(1, 1), (2, 3), (4, 2)])
@pytest.mark.parametrize("minutes", [0, 1e9], ids=["each-step", "each-epoch"])
def test_a_run_broken_off_anywhere_goes_on_to_the_same_weights(
    tmp_path: Path, whole: Path, until: tuple[int, int], minutes: float
) -> None:
    train(tmp_path / "run", until=until, checkpoint_minutes=minutes)
    weights, result = train(tmp_path / "run", resume=True, checkpoint_minutes=minutes)
    assert result is not None
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4, 5, 6]
    assert_same_run(tmp_path / "run", whole)
    assert equal(weights, load_weights(whole / "best" / "weights.safetensors")[0])


def test_data_workers_change_nothing(tmp_path: Path, whole: Path) -> None:
    train(tmp_path / "run", workers=2)
    assert_same_run(tmp_path / "run", whole)


def test_another_seed_changes_the_weights(tmp_path: Path, whole: Path) -> None:
    weights, _ = train(tmp_path / "run", seed=1)
    assert not equal(weights, load_weights(whole / "best" / "weights.safetensors")[0])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_kill_9_at_random_moments(tmp_path: Path, whole: Path) -> None:
    rng, run = random.Random(3), tmp_path / "run"
    kills = 0
    while kills < 3:
        process = child(run, pause=0.01)
        assert process.stdout is not None
        for _ in range(rng.randint(1, 5)):
            process.stdout.readline()
        # somewhere in the next step, or in its checkpoint
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.03))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        kills += 1
    process = child(run)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert_same_run(run, whole)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a child here")
def test_ctrl_c_finishes_the_step_and_says_how_to_go_on(tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    process = child(run, pause=0.2, checkpoint_minutes=1e9)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"interrupted: Stopped in epoch 2; resume {run} to continue." in errors
    assert "Traceback" not in errors
    assert len(lines) + len(rest.splitlines()) < 18
    train(run, resume=True)
    assert_same_run(run, whole)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    options = {**OPTIONS, "epochs": 3, "plain": True, "device": "auto"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", str(CHILD), str(tmp_path / "two"), json.dumps(options)]
    done = subprocess.run(torchrun, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 9  # the main process alone reports
    alone = child(tmp_path / "one", epochs=3, plain=True)
    _, errors = alone.communicate(timeout=120)
    assert alone.returncode == 0, errors

    first, second, one = (
        load_weights(tmp_path / f"{name}.safetensors")[0] for name in ("two-0", "two-1", "one-0")
    )
    assert equal(first, second)
    for name in one:
        torch.testing.assert_close(first[name], one[name], rtol=1e-4, atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["one", "two"]
    for ours, theirs in zip(
        read_history(tmp_path / "two"), read_history(tmp_path / "one"), strict=True
    ):
        assert ours["train"] == pytest.approx(theirs["train"], rel=1e-4)


def test_a_finished_run_can_be_resumed_and_stays(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    _, result = train(tmp_path / "run", resume=True)
    assert result is not None
    assert_same_run(tmp_path / "run", whole)


def test_best_weights_lost_to_a_kill_come_from_the_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    weights, _ = train(run, epochs=1)
    shutil.rmtree(run / "best")  # killed after the first checkpoint, before its best weights
    (run / "history.jsonl").write_text('{"epoch": 1')
    (run / "checkpoint" / ".0123.tmp").write_text("half")
    again, result = train(run, epochs=1, resume=True)
    assert equal(weights, again)
    assert result is not None
    assert read_history(run) == result.history
    assert not list(run.rglob(".*.tmp"))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"learning_rate": 0.1}, "learning_rate"), ({"ema_decay": None}, "ema_decay")],
)
def test_other_settings_are_refused(whole: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match=f"trained with another {named}"):
        train(whole, resume=True, **options)


def test_other_data_and_another_model_are_refused(whole: Path) -> None:
    config = TrainingConfig(**OPTIONS)
    task = TinyTask()
    task.metadata = {**task.metadata, "fingerprint": "4567"}
    with pytest.raises(CheckpointError, match='another fingerprint \\("0123", now "4567"\\)'):
        fit(task, config, whole, resume=True)
    with pytest.raises(CheckpointError, match="another training_items"):
        fit(TinyTask(21), config, whole, resume=True)
    with pytest.raises(CheckpointError, match=r"another model: it also has 1\.bias and 4 more"):
        fit(TinyTask(norm=False), config, whole, resume=True)


def test_a_run_in_the_way_or_missing_is_said(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(CheckpointError, match="already holds a run"):
        train(whole)
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        train(tmp_path / "none", resume=True)
