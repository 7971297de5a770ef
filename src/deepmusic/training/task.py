"""The interface between a model and the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn


class Items(Protocol):
    """Training items by epoch and index.

    An item must depend on its key alone, so that a resumed run sees the items of an uninterrupted
    one: randomness comes from ``numpy.random.default_rng([seed, epoch, index])`` or the like.
    """

    def __len__(self) -> int:
        """Number of items in an epoch, at least one."""
        ...

    def __getitem__(self, key: tuple[int, int], /) -> Any:
        """The item for ``(epoch, index)``, both from zero."""
        ...


class Task(Protocol):
    """A model, its data, its loss and its validation, for `deepmusic.training.fit`.

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
        """Whether a higher value of that measure is better."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Saved with the weights, as JSON types: configuration, classes, digest of the data.

        A run is resumed only by a task with equal metadata.
        """
        ...

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Mean loss over a batch, and further means to report, such as the accuracy.

        Call ``model(...)`` itself, not its methods: it may be wrapped for several processes. Each
        trainable parameter must take part. Randomness may come from the global generators of
        torch, numpy and Python, which are seeded before every step.
        """
        ...

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Measures on the validation data, by name; the model is in evaluation mode.

        Runs in the main process alone, without gradients.
        """
        ...

    def collate(self, items: list[Any], /) -> Any:
        """Items to a batch; ``torch.utils.data.default_collate`` does for tensors of one size."""
        ...
