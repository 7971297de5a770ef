"""The ensemble under onnxruntime, held to the ensemble in PyTorch."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from synthetic import chords, clicks, tiny_config, tiny_ensemble

from deepmusic.audio import log_mel
from deepmusic.classifier.config import ROUTINGS, ClassifierConfig
from deepmusic.classifier.exported import ExportedEnsemble, ensemble_graph
from deepmusic.classifier.model import Ensemble
from deepmusic.errors import ShapeError

CONFIGS: dict[str, dict[str, Any]] = {
    "both": {},
    "positions only": {"texture_capsules": 0},
    "textures only": {"position_types": 0},
    "a mixed ensemble": {"networks": 2, "texture_networks": 2},
    **{routing: {"routing": routing} for routing in ROUTINGS},
    "one pass": {"iterations": 1},
    "five passes": {"iterations": 5},
    "plain, image only": {"routing": "none", "texture_capsules": 0},
    "plain, textures only": {"routing": "none", "position_types": 0},
    "without a decoder": {"reconstruction": 0.0},
    "odd sizes": {
        "genres": ("a", "b", "c"),
        "segment_frames": 131,
        "bands": 64,
        "frame_step": 1,
        "channels": (3, 5, 7),
        "position_types": 3,
        "pose_dim": 3,
        "genre_dim": 5,
    },
    "few bands, long frames": {"bands": 16, "frame_step": 3, "segment_frames": 260},
    "as shipped": {
        "segment_frames": 258,
        "bands": 64,
        "channels": (16, 32, 64),
        "position_types": 16,
        "texture_capsules": 32,
        "pose_dim": 8,
        "genre_dim": 16,
        "texture_networks": 3,
    },
}


def segments(frames: int) -> NDArray[np.float32]:
    """Sound, noise, silence, a constant, a single click, and levels no recording has."""
    rng = np.random.default_rng(0)
    shape = (128, frames)
    click = np.full(shape, -100.0)
    click[:, frames // 2] = 20.0
    kinds = [
        *(np.tile(log_mel(make(1, 6.5)), 1)[:, :frames] for make in (chords, clicks)),
        rng.normal(-40, 12, shape),
        np.full(shape, -100.0),
        np.full(shape, 7.0),
        click,
        rng.normal(0, 1000, shape),
        np.full(shape, 1e6),
    ]
    return np.stack(kinds).astype(np.float32)


def exported(ensemble: Ensemble) -> ExportedEnsemble:
    weights = {name: tensor.numpy() for name, tensor in ensemble.state_dict().items()}
    return ExportedEnsemble(ensemble.config, ensemble_graph(ensemble.config), weights)


def shaken(config: ClassifierConfig) -> Ensemble:
    """With a batch norm that does something, as after training."""
    ensemble = tiny_ensemble(config)
    rng = torch.Generator().manual_seed(1)
    for module in ensemble.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                tensor.data += torch.rand(tensor.shape, generator=rng)
    return ensemble


@pytest.mark.slow
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_equals_the_ensemble_in_torch(changes: dict[str, Any]) -> None:
    config = tiny_config(**changes)
    ensemble = shaken(config)
    kinds = segments(config.segment_frames)
    for batch in (kinds[:1], kinds[:3].repeat(6, axis=0), kinds):
        with torch.inference_mode():
            expected = [tensor.numpy() for tensor in ensemble(torch.from_numpy(batch))]
        log_scores, lengths = exported(ensemble)(batch)
        np.testing.assert_allclose(log_scores, expected[0], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(lengths, expected[1], atol=1e-5)
        assert log_scores.dtype == lengths.dtype == np.float32
    # the test would prove little if every segment had the same scores
    if config.routing != "inverted_attention":  # without its read-out every length is a half
        assert np.ptp(log_scores[:3], axis=0).max() > 1e-3


@pytest.mark.slow
def test_a_graph_depends_on_the_configuration_alone() -> None:
    config = tiny_config()
    before = torch.random.get_rng_state()
    graph = ensemble_graph(config)
    ensemble_graph.cache_clear()
    assert ensemble_graph(config) == graph
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(graph) < 100_000  # it holds no weights


def test_it_survives_pickling() -> None:
    ensemble = exported(shaken(tiny_config()))
    again = pickle.loads(pickle.dumps(ensemble))
    batch = segments(128)
    for ours, theirs in zip(ensemble(batch), again(batch), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(128, 128), (1, 64, 128), (1, 128, 127), (1, 1, 128, 128)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(batch, 128, 128\); got \(" + str(shape[0])):
        exported(tiny_ensemble(tiny_config()))(np.zeros(shape, np.float32))
