"""The progress of a run: after each step, and its history, one record per epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepmusic.errors import DataError
from deepmusic.files import write_atomically

# A record: {"epoch": 3, "train": {"loss": ...}, "validation": {...}, "learning_rate": ...,
#            "seconds": of this epoch, "seconds_left": to the last epoch}
# In "train", what validation measures too is measured likewise, where the task does so; the rest
# are means over the steps: "objective", which was minimized, and the task's own.


@dataclass(frozen=True)
class Progress:
    """Where the training is after a step; epochs and steps count from 1.

    Args:
        setting: device, precision, processes and batch size, in words.
        epoch, epochs: the current epoch and the maximum.
        step, steps: the step in the epoch and the steps of an epoch.
        train: means over the epoch so far: ``"loss"`` and the task's measures.
        seconds_left: until the last epoch; early stopping may be sooner.
        record: the epoch's record of the history, after its last step only.
    """

    setting: str
    epoch: int
    epochs: int
    step: int
    steps: int
    train: Mapping[str, float]
    seconds_left: float
    record: Mapping[str, Any] | None = None


def write_history(run: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write all records to ``history.jsonl``; the file is small, and never ends in half a line.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    with write_atomically(run / "history.jsonl") as file:
        file.writelines(json.dumps(record) + "\n" for record in history)


def read_history(run: Path) -> list[dict[str, Any]]:
    """The records of a run, one per finished epoch.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = run / "history.jsonl"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise DataError(f"{run} holds no history.jsonl; is it the folder of a run?") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def draw_history(
    history: Sequence[Mapping[str, Any]], folder: Path, *, best_epoch: int = 0
) -> list[Path]:
    """Plot ``loss.png``, ``accuracy.png`` and ``nats_per_step.png``, if the history has these.

    Args:
        history: records of the epochs.
        folder: where the plots go.
        best_epoch: the epoch to mark, from 1; 0 for none.

    Returns:
        The plots that were made.

    Raises:
        DeepMusicError: a plot cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    from deepmusic.plotting import new_figure, save_png

    drawn = []
    for measure in ("loss", "accuracy", "nats_per_step"):
        figure = new_figure(7, 4.2)
        axes = figure.add_subplot()
        for part, style in (("train", "--"), ("validation", "-")):
            points = [(r["epoch"], r[part][measure]) for r in history if measure in r[part]]
            if points:
                # a line of one point would be invisible
                axes.plot(*zip(*points, strict=True), style, label=part, marker=".")
        if not axes.lines:
            continue
        if best_epoch:
            axes.axvline(best_epoch, color="grey", linewidth=1, label=f"best: epoch {best_epoch}")
        if measure == "accuracy":
            axes.set_ylim(0, 1)
        label = measure.replace("_", " ")
        axes.set(xlabel="epoch", ylabel=label, title=f"{label} by epoch".capitalize())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
        drawn.append(folder / f"{measure}.png")
        save_png(figure, drawn[-1], dpi=120)
    return drawn
