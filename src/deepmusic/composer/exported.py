"""A trained composer's network as onnxruntime runs it, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.composer.config import ComposerConfig
from deepmusic.errors import CheckpointError
from deepmusic.training.onnx_graph import OnnxNetwork

Array = NDArray[Any]


class ExportedNetwork:
    """The parts of a `ComposerNetwork` that write music.

    Args:
        config: sizes and choices.
        weights: arrays by their names in the state of the network in PyTorch.
        graphs: what ``export_graphs`` made of the configuration.

    Attributes:
        pose_mean, pose_spread, pose_directions: as in `ComposerNetwork`, float32.

    Raises:
        CheckpointError: weights or graphs are missing, or do not fit each other.
    """

    def __init__(
        self, config: ComposerConfig, weights: Mapping[str, Array], graphs: Mapping[str, bytes]
    ) -> None:
        self.config, self.weights, self.graphs = config, weights, graphs
        if not graphs:
            raise CheckpointError("it is of an earlier version, without graphs; train it again")
        self.pose_mean, self.pose_spread, self.pose_directions = (
            np.asarray(weights[f"pose_{name}"], np.float32)
            for name in ("mean", "spread", "directions")
        )
        self._step = OnnxNetwork(graphs["step"], weights)
        self._symbol = OnnxNetwork(graphs["symbol"], weights)
        self._encoder = OnnxNetwork(graphs["encoder"], weights) if config.capsules else None

    def encode(self, passages: NDArray[np.bool_]) -> tuple[Array, Array]:
        """The lengths ``(n, s)`` and poses ``(n, s, d)`` of passages, as ``CapsuleEncoder``."""
        assert self._encoder is not None
        lengths, poses = self._encoder(passages)
        return lengths, poses

    def step(self, *inputs: Array) -> list[Array]:
        """One step of n pieces, as ``StepDecoder.step``.

        Args:
            inputs: the fields of an ``Excerpt`` but the target, n rows each; weights of styles
                ``(n, s)``, poses ``(n, s, d)``, ``is_minor`` ``(n,)``; and the memory, twice
                ``(n, hidden)``.

        Returns:
            ``start``, ``bias`` and the memory after the step.
        """
        return self._step(*inputs)

    def next_symbol(self, start: Array, bias: Array, sets: Array, before: Array) -> Array:
        """Log probabilities of the next symbol of sets, as ``NoteSetHead.next_symbol``."""
        return self._symbol(start, bias, sets, before)[0]
