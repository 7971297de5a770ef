"""The ensemble under onnxruntime: importing PyTorch takes longer than classifying a track."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.errors import ShapeError
from deepmusic.training.onnx_graph import OnnxNetwork, export_graph


class ExportedEnsemble:
    """`deepmusic.classifier.model.Ensemble` after training; several threads may use it.

    Args:
        config: sizes and choices.
        graph: as `ensemble_graph` gives it.
        weights: the state of the ensemble in PyTorch, as arrays.

    Raises:
        CheckpointError: the weights do not fit the graph.
        DeepMusicError: onnxruntime is missing or too old.
    """

    def __init__(
        self, config: ClassifierConfig, graph: bytes, weights: Mapping[str, NDArray[Any]]
    ) -> None:
        self.config = config
        self.graph = graph
        self.weights = dict(weights)
        self._network = OnnxNetwork(graph, weights)

    def __reduce__(self) -> tuple[Any, ...]:
        return ExportedEnsemble, (self.config, self.graph, self.weights)

    def __call__(
        self, log_mel: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean log scores and mean lengths, both ``(b, o)``, of segments ``(b, m, t)``.

        Raises:
            ShapeError: the segments have another shape.
        """
        n_mels, frames = self.config.log_mel.n_mels, self.config.segment_frames
        if log_mel.ndim != 3 or log_mel.shape[1:] != (n_mels, frames):
            raise ShapeError(
                f"segments have shape (batch, {n_mels}, {frames}); got {log_mel.shape}"
            )
        log_scores, lengths = self._network(log_mel)
        return log_scores, lengths


@lru_cache(maxsize=8)
def ensemble_graph(config: ClassifierConfig) -> bytes:
    """The graph of every ensemble of this configuration, for segments of its length.

    Raises:
        DeepMusicError: PyTorch or onnx is not installed.
    """
    import torch

    from deepmusic.classifier.model import Ensemble

    with torch.random.fork_rng():
        # decoders serve the training alone
        ensemble = Ensemble(replace(config, reconstruction=0.0)).eval()
    return export_graph(
        ensemble,
        (torch.zeros(2, config.log_mel.n_mels, config.segment_frames),),
        inputs=["log_mel"],
        outputs=["log_scores", "lengths"],
        varying=[{0: "segments"}],
        traced=True,
    )
