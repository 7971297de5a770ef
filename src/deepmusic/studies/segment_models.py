"""The study's models of log-mel segments: networks and the shipped classifier.

The entries can be listed without PyTorch; only fitting and loading import it.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from deepmusic.studies.models import StudyModel

_NETWORKS = {
    "cnn": "Plain convolutional network: the capsules' stem, one more convolution, mean over time.",
    "alexnet": "AlexNet-like: five convolutions and three fully connected layers, scaled down "
    "(Krizhevsky et al. 2012).",
    "lstm": "Two LSTM layers over the frames, mean of their states (Hochreiter and Schmidhuber "
    "1997).",
    "gru": "Two GRU layers over the frames, mean of their states (Cho et al. 2014).",
    "crnn": "Four convolutions, then two GRU layers (Choi et al. 2017).",
    "capsules-dynamic": "One routed layer of genre capsules, dynamic routing (Sabour et al. 2017).",
    "capsules-em": "The same with EM routing (Hinton et al. 2018).",
    "capsules-self": "The same with self-routing (Hahn et al. 2019).",
    "capsules-variational": "The same with variational Bayes routing (Ribeiro et al. 2020).",
    "capsules-inverted-attention": "The same with inverted dot-product attention (Tsai et al. "
    "2020).",
    "capsules-self-attention": "The same with self-attention routing (Mazzia et al. 2021).",
    "capsules-uniform": "The same with equal couplings: no routing.",
}
_SHIPPED = "The shipped classifier: an ensemble of capsule networks on segments and on textures."


def study_models() -> tuple[StudyModel, ...]:
    """Entries of ``deepmusic.studies.models.MODELS``, in the order of the report."""
    networks = [
        StudyModel(name, "segments", summary, _later("fit_network", name), _later("load_network"))
        for name, summary in _NETWORKS.items()
    ]
    fit, load = _later("fit_classifier"), _later("load_classifier")
    return (*networks, StudyModel("capsules", "segments", _SHIPPED, fit, load))


def _later(function: str, *arguments: Any) -> partial[Any]:
    return partial(_call, function, *arguments)


def _call(function: str, *arguments: Any) -> Any:
    """Call a function of the module that imports PyTorch."""
    return getattr(import_module("deepmusic.studies.segment_training"), function)(*arguments)
