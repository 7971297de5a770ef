"""Trains the tiny task in a process of its own, to be killed, interrupted or run in parallel."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from tiny import TinyTask

from deepmusic.training import Progress, TrainingConfig, fit, save_weights


def main(run: Path, options: dict[str, object]) -> None:
    pause = float(options.pop("pause", 0.0))  # type: ignore[arg-type]
    resume = (run / "checkpoint" / "state.safetensors").exists()
    plain = bool(options.pop("plain", False))
    task = TinyTask(21, dropout=0.0, norm=False) if plain else TinyTask()
    rank = os.environ.get("RANK", "0")
    if rank != "0":  # other first weights: the main process's must win
        with torch.no_grad():
            for parameter in task.model.parameters():
                parameter.add_(1.0)

    def report(progress: Progress) -> None:
        print(f"{progress.epoch} {progress.step}", flush=True)
        time.sleep(pause)

    torch.set_num_threads(1)
    config = TrainingConfig.from_dict(options)
    fit(task, config, run, resume=resume, on_progress=report)
    save_weights(run.parent / f"{run.name}-{rank}.safetensors", task.model.state_dict(), {})


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), json.loads(sys.argv[2]))
    except KeyboardInterrupt as error:
        sys.exit(f"interrupted: {error}")
