"""How a model is trained: every choice of the loop in one frozen, JSON-ready record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from deepmusic.errors import DeepMusicError

Schedule = Literal["cosine", "linear", "constant"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bf16"]

# These change how fast a run goes, not what comes out, so a run may be resumed with others.
_FREE_ON_RESUME = {"compiled", "device", "workers", "checkpoint_minutes"}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of one training run.

    Args:
        epochs: the most passes over the data.
        batch_size: items in one step, over all processes together: with two processes each gets
            half, and the result stays that of one.
        learning_rate: the highest learning rate, reached after the warm-up.
        weight_decay: decoupled decay (AdamW) of matrices and filters; never of biases and norms.
        clip_norm: longest allowed gradient, or None for any.
        warmup: share of all steps, in [0, 1), in which the learning rate rises from zero.
        schedule: how the learning rate falls to zero afterwards, or ``"constant"``.
        patience: stop after so many epochs without a better validation, or None to go on.
        ema_decay: decay in (0, 1) of the moving average of the weights, which is then what
            is validated and kept as best; None for the weights themselves.
        seed: of the order of items and of all randomness inside the loss.
        device: ``"auto"`` is a GPU where there is one.
        precision: ``"auto"`` is bf16 on a GPU that has it, float32 elsewhere.
        compiled: whether torch compiles the model first, which takes minutes; on the CPU it needs a
            C++ compiler, and gains nothing.
        workers: processes that prepare items; 0 prepares them in the main process.
        checkpoint_minutes: time between checkpoints inside an epoch (each epoch ends with one
            anyway); 0 is after every step.

    Raises:
        DeepMusicError: a value is out of its range.
    """

    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    warmup: float = 0.05
    schedule: Schedule = "cosine"
    patience: int | None = None
    ema_decay: float | None = None
    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    compiled: bool = False
    workers: int = 0
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        _whole("epochs", self.epochs, least=1)
        _whole("batch_size", self.batch_size, least=1)
        _whole("seed", self.seed, least=0)
        _whole("workers", self.workers, least=0)
        if self.patience is not None:
            _whole("patience", self.patience, least=1)
        _within("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        _within("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        _within("warmup", self.warmup, 0 <= self.warmup < 1, "in [0, 1)")
        _within("checkpoint_minutes", self.checkpoint_minutes, self.checkpoint_minutes >= 0, "≥ 0")
        if self.clip_norm is not None:
            _within("clip_norm", self.clip_norm, self.clip_norm > 0, "above 0, or None")
        if self.ema_decay is not None:
            decay = self.ema_decay
            _within("ema_decay", decay, 0 < decay < 1, "between 0 and 1, or None")
        _one_of("schedule", self.schedule, get_args(Schedule))
        _one_of("device", self.device, get_args(Device))
        _one_of("precision", self.precision, get_args(Precision))

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """The settings that `to_dict` wrote.

        Raises:
            DeepMusicError: a name is unknown or a value out of its range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise DeepMusicError(f"Training has no setting named {', '.join(unknown)}.")
        return cls(**values)

    def resume_key(self) -> dict[str, Any]:
        """The settings on which the trained weights depend."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE_ON_RESUME}


def _whole(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise DeepMusicError(f"{name} is a whole number from {least} up; got {value!r}.")


def _within(name: str, value: float, good: bool, meant: str) -> None:
    if not good or not math.isfinite(value):
        raise DeepMusicError(f"{name} is {meant}; got {value!r}.")


def _one_of(name: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise DeepMusicError(f"{name} is one of {', '.join(names)}; got {value!r}.")
