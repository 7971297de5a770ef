"""The record of a run: ``history.jsonl``, one line an epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepmusic.errors import DataError
from deepmusic.files import write_atomically

# A record: {"epoch": 3, "train": {"loss": ...}, "validation": {...}, "learning_rate": ...,
#            "seconds": of this epoch, "seconds_left": to the last epoch}


def write_history(run: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write all records; the file is small, and written whole it never ends in half a line.

    Raises:
        DeepMusicError: the file cannot be written.
    """
    with write_atomically(run / "history.jsonl") as file:
        file.writelines(json.dumps(record) + "\n" for record in history)


def read_history(run: Path) -> list[dict[str, Any]]:
    """The records of a run, one for each finished epoch.

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


def best_epoch(
    history: Sequence[Mapping[str, Any]], *, monitor: str, higher_is_better: bool
) -> int:
    """The first epoch, counted from 1, with the best validation; 0 for an empty history."""
    sign = 1.0 if higher_is_better else -1.0
    measures = [sign * record["validation"][monitor] for record in history]
    return measures.index(max(measures)) + 1 if measures else 0
