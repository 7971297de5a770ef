"""What a model brings to be trained: its data, its loss, and how it is validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn


class Items(Protocol):
    """Training items by epoch and index.

    An item must follow from its key alone, so that a resumed run sees the items that an
    uninterrupted one would have seen: randomness comes from a generator made on the spot, such as
    ``numpy.random.default_rng([seed, epoch, index])``.
    """

    def __len__(self) -> int:
        """Number of items in an epoch, at least one."""
        ...

    def __getitem__(self, key: tuple[int, int], /) -> Any:
        """The item for ``(epoch, index)``, both from zero; index is below the length."""
        ...


class Task(Protocol):
    """One model's side of the training; `deepmusic.training.fit` is the other.

    Any class with these members will do; plain attributes serve as well as properties.
    """

    @property
    def model(self) -> nn.Module:
        """The network; after the training it holds the best weights."""
        ...

    @property
    def dataset(self) -> Items:
        """The training items."""
        ...

    @property
    def monitor(self) -> str:
        """Name of the validation measure that decides which epoch was best."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether more of that measure is better."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is saved with the weights, in JSON types.

        Such as the configuration, the names of the classes and a fingerprint of the data. A run is
        resumed only by a task with equal metadata.
        """
        ...

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Mean loss over a batch, and further means to report, such as the accuracy.

        Call ``model(...)`` itself, not its methods: it may be wrapped for several processes. Each
        trainable parameter must take part. Randomness may come from torch's, numpy's or Python's
        global generators, which are seeded before every step.
        """
        ...

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Measures on the validation data, by name; the model is in evaluation mode.

        Runs in the main process alone, without gradients.
        """
        ...

    def collate(self, items: list[Any], /) -> Any:
        """Items into a batch; ``torch.utils.data.default_collate`` does for tensors of one size."""
        ...
