"""Weights and runs on disk: one safetensors file each, with its JSON in the header, no pickle.

Because everything is in one file that is renamed into place, a kill at any moment leaves the old
checkpoint or the new one, never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from deepmusic.errors import CheckpointError, DeepMusicError
from deepmusic.files import write_atomically
from deepmusic.training.config import TrainingConfig
from deepmusic.version import __version__

__all__ = [
    "Checkpoint",
    "checkpoint_path",
    "fill_model",
    "load_checkpoint",
    "load_weights",
    "refuse_foreign",
    "save_checkpoint",
    "save_weights",
]

FORMAT = 1


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
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"There are no weights at {path}.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    damaged = f"{path} is damaged or not a DeepMusic model; use another copy or train again."
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(damaged) from error
    kind, _, number = header.get("format", "").partition(" ")
    if kind != "deepmusic" or not number.isdecimal():
        raise CheckpointError(damaged)
    if int(number) > FORMAT:
        raise CheckpointError(
            f"{path} was written by DeepMusic {header.get('version')}, this is {__version__}; "
            "update DeepMusic to read it."
        )
    if header.get("sha256") != _digest(tensors, header.get("metadata", "")):
        raise CheckpointError(damaged)
    return tensors, json.loads(header["metadata"])


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
    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    reshaped = [n for n in own if n in weights and own[n].shape != weights[n].shape]
    for what, names in (("lacks", missing), ("also has", extra), ("has another size of", reshaped)):
        if names:
            raise CheckpointError(
                f"{source} is of another model: it {what} {names[0]}"
                + (f" and {len(names) - 1} more." if len(names) > 1 else ".")
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
    now = {**json.loads(json.dumps(metadata)), **config.outcome()}
    then = {**checkpoint.metadata, **TrainingConfig.from_dict(checkpoint.config).outcome()}
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
    """Of names, types, shapes, values and metadata, so that one flipped bit is noticed."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
