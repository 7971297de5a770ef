"""Weights and runs on disk: one safetensors file each, with its JSON in the header, no pickle.

Because everything is in one file that is renamed into place, a kill at any moment leaves the old
checkpoint or the new one, never a mixture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from deepmusic.errors import CheckpointError, DeepMusicError
from deepmusic.files import write_atomically
from deepmusic.training.config import TrainingConfig
from deepmusic.training.weights import FORMAT, digest, read_checked, refuse_other_shapes
from deepmusic.version import __version__


def save_weights(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors and their description as one safetensors file.

    Args:
        path: the file; missing folders are made.
        weights: tensors by name, on any device, such as ``model.state_dict()``.
        metadata: JSON types.

    Raises:
        DeepMusicError: the file cannot be written; one that was there is intact.
    """
    path = Path(path)
    # safetensors refuses tensors that share memory (tied weights), hence the clones
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    text = json.dumps(metadata, ensure_ascii=False)
    header = {
        "format": f"deepmusic {FORMAT}",
        "version": __version__,
        "metadata": text,
        "sha256": _digest(tensors, text),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeepMusicError(f"{path.parent} could not be made: {error.strerror}.") from error
    with write_atomically(path, "wb") as file:
        file.write(save(tensors, header))


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the metadata that `save_weights` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, not ours, or of a newer DeepMusic.
    """
    data, metadata = read_checked(path)
    return load(data), metadata


def fill_model(
    model: nn.Module, weights: Mapping[str, Tensor], *, source: str | os.PathLike[str]
) -> None:
    """Put loaded weights into a model.

    Args:
        model: changed in place.
        weights: all of its tensors by name.
        source: where they came from, for the message.

    Raises:
        CheckpointError: names or shapes are those of another model.
    """
    refuse_other_shapes(
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        {name: tuple(tensor.shape) for name, tensor in weights.items()},
        source=source,
    )
    model.load_state_dict(dict(weights))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a run needs to go on as if it had never stopped.

    Random states are absent on purpose: order, augmentation and dropout of a step follow from the
    seed and the step's number.

    Args:
        step: steps made.
        weights: the model's tensors.
        average: their moving average, empty if there is none.
        optimizer: AdamW's tensors, named ``"PARAMETER.moment"``.
        totals: sums over the items of the epoch under way, by measure, and their ``"count"``.
        seconds: time spent in the epoch under way.
        history: one record for each finished epoch.
        config: `TrainingConfig.to_dict`.
        metadata: of the task.
    """

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    totals: dict[str, float]
    seconds: float
    history: list[dict[str, Any]]
    config: dict[str, Any]
    metadata: dict[str, Any]


_TENSORS = ("weights", "average", "optimizer")
_VALUES = ("step", "totals", "seconds", "history", "config", "metadata")


def checkpoint_path(run: Path) -> Path:
    """The file that holds a run's latest checkpoint."""
    return run / "checkpoint" / "state.safetensors"


def save_checkpoint(run: Path, checkpoint: Checkpoint) -> None:
    """Replace a run's checkpoint as a whole.

    Raises:
        CheckpointError: it cannot be written, such as on a full disk; the old one is intact.
    """
    tensors = {
        f"{part}/{name}": tensor
        for part in _TENSORS
        for name, tensor in getattr(checkpoint, part).items()
    }
    path = checkpoint_path(run)
    try:
        save_weights(path, tensors, {name: getattr(checkpoint, name) for name in _VALUES})
    except DeepMusicError as error:
        kept = "; the checkpoint before it is intact, so resume the run" if path.exists() else ""
        raise CheckpointError(f"{str(error).rstrip('.')}{kept}.") from error


def load_checkpoint(run: Path) -> Checkpoint:
    """A run's latest checkpoint, on the CPU.

    Raises:
        CheckpointError: there is none, or it is damaged or of a newer DeepMusic.
    """
    path = checkpoint_path(run)
    if not path.exists():
        raise CheckpointError(f"{run} holds no checkpoint to resume from; start without resuming.")
    tensors, values = load_weights(path)
    parts: dict[str, Any] = {part: {} for part in _TENSORS}
    try:
        for full_name, tensor in tensors.items():
            part, _, name = full_name.partition("/")
            parts[part][name] = tensor
        return Checkpoint(**parts, **values)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds weights, not the checkpoint of a run.") from error


def refuse_foreign(
    checkpoint: Checkpoint, config: TrainingConfig, metadata: Mapping[str, Any], *, run: Path
) -> None:
    """Refuse to resume a run with other settings, another model or other data.

    Raises:
        CheckpointError: names the first thing that differs.
    """
    now = {**json.loads(json.dumps(metadata)), **config.resume_key()}
    then = {**checkpoint.metadata, **TrainingConfig.from_dict(checkpoint.config).resume_key()}
    for name in sorted(now.keys() | then.keys()):
        if now.get(name) != then.get(name):
            raise CheckpointError(
                f"{run} was trained with another {name} ({_short(then.get(name))}, "
                f"now {_short(now.get(name))}); resume with the same, or start a new run."
            )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    return digest(
        (
            (name, str(tensor.dtype), tuple(tensor.shape), _bytes(tensor))
            for name, tensor in tensors.items()
        ),
        text,
    )


def _bytes(tensor: Tensor) -> Any:
    return tensor.reshape(-1).view(torch.uint8).numpy().data
