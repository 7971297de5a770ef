"""What is trained, and how: the interface to a model, and the settings of the loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from deepmusic.errors import DeepMusicError

if TYPE_CHECKING:
    from torch import Tensor, nn

Schedule = Literal["cosine", "linear", "constant"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bf16"]

# These change the speed of a run, not its result, so a run may be resumed with others.
_FREE_ON_RESUME = {"compiled", "device", "workers", "checkpoint_minutes"}
_WHOLE = {"epochs": 1, "batch_size": 1, "patience": 1, "seed": 0, "workers": 0}  # minima


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of one training run.

    Args:
        epochs: maximum passes over the data.
        batch_size: items in one step, over all processes together.
        learning_rate: the peak, reached after the warm-up.
        weight_decay: decoupled decay (AdamW) of matrices and filters; never of biases and norms.
        clip_norm: maximum norm of the gradient, or None for any.
        warmup: share of all steps, in [0, 1), in which the learning rate rises from zero.
        schedule: how the learning rate falls to zero afterwards, or ``"constant"``.
        patience: stop after this many epochs without a better validation; None never stops.
        ema_decay: decay in (0, 1) of a moving average of the weights, which is then validated and
            kept as best; None takes the weights themselves.
        seed: of the order of items and of all randomness inside the loss.
        device: ``"auto"`` is a GPU if there is one.
        precision: ``"auto"`` is bf16 on a GPU that supports it, float32 elsewhere.
        compiled: whether torch compiles the model first, which takes minutes; on the CPU it needs a
            C++ compiler, and gains nothing.
        workers: processes that prepare items; 0 prepares them in the main process.
        checkpoint_minutes: time between checkpoints inside an epoch (each epoch ends with one
            anyway); 0 is after every step.

    Raises:
        DeepMusicError: a value is out of range.
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
        for name, minimum in _WHOLE.items():
            value = getattr(self, name)
            if name == "patience" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise DeepMusicError(f"{name} is a whole number from {minimum} up; got {value!r}.")
        ranges = {
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "warmup": (0 <= self.warmup < 1, "in [0, 1)"),
            "checkpoint_minutes": (self.checkpoint_minutes >= 0, "0 or more"),
            "clip_norm": (self.clip_norm is None or self.clip_norm > 0, "above 0, or None"),
            "ema_decay": (self.ema_decay is None or 0 < self.ema_decay < 1, "in (0, 1), or None"),
        }
        for name, (is_inside, allowed) in ranges.items():
            value = getattr(self, name)
            if not is_inside or (value is not None and not math.isfinite(value)):
                raise DeepMusicError(f"{name} is {allowed}; got {value!r}.")
        for name, choices in (("schedule", Schedule), ("device", Device), ("precision", Precision)):
            if getattr(self, name) not in get_args(choices):
                allowed = ", ".join(get_args(choices))
                raise DeepMusicError(f"{name} is one of {allowed}; got {getattr(self, name)!r}.")

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, from 0 to ``steps - 1``; it depends on nothing else."""
        warm = round(self.warmup * steps)
        if step < warm:
            return self.learning_rate * (step + 1) / (warm + 1)
        progress = (step - warm) / max(1, steps - warm)  # in [0, 1)
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        if self.schedule == "linear":
            return self.learning_rate * (1 - progress)
        return self.learning_rate

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """The inverse of `to_dict`.

        Raises:
            DeepMusicError: a name is unknown or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise DeepMusicError(f"Training has no setting named {', '.join(unknown)}.")
        return cls(**values)

    def resume_key(self) -> dict[str, Any]:
        """The settings that determine the weights; a run is resumed only with the same."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE_ON_RESUME}


class Items(Protocol):
    """Training items by epoch and index.

    An item must depend on its key alone, so that a resumed run sees the items of an uninterrupted
    one: randomness comes from ``numpy.random.default_rng([seed, epoch, index])`` or the like.
    """

    def __len__(self) -> int:
        """Number of items in an epoch, at least one."""

    def __getitem__(self, key: tuple[int, int], /) -> Any:
        """The item for ``(epoch, index)``, both from zero."""


class Task(Protocol):
    """A model, its data, its loss and its validation, for `deepmusic.training.fit`.

    Any class with these members will do; plain attributes serve as well as properties.
    """

    @property
    def model(self) -> nn.Module:
        """The network; after the training it holds the best weights."""

    @property
    def dataset(self) -> Items:
        """The training items."""

    @property
    def monitor(self) -> str:
        """Name of the validation measure that decides which epoch was best."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of that measure is better."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Saved with the weights, as JSON types: configuration, classes, digest of the data.

        A run is resumed only by a task with equal metadata.
        """

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Mean loss over a batch, and further means to report, such as the accuracy.

        Call ``model(...)`` itself, not its methods: it may be wrapped for several processes. Each
        trainable parameter must take part. Randomness may come from the global generators of
        torch, numpy and Python, which are seeded before every step.
        """

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Measures on the validation data, by name; the model is in evaluation mode.

        Runs in the main process alone, without gradients. A measure ``train_X`` is X on training
        data, computed likewise; only such curves can be laid over those of validation, as the loss
        of the steps may include augmentation, dropout and further terms.
        """

    def collate(self, items: list[Any], /) -> Any:
        """Items to a batch; ``torch.utils.data.default_collate`` does for tensors of one size."""
