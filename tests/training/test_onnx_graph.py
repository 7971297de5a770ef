"""Exported networks against the same networks in PyTorch."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from deepmusic.capsules import CapsuleLayer
from deepmusic.errors import CheckpointError
from deepmusic.training.onnx_graph import OnnxNetwork, export_graph


class Head(nn.Module):
    """A linear layer, normalised, and capsules routed from it; a counter that is never read."""

    def __init__(self, routing: str) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 12)
        self.norm = nn.BatchNorm1d(12)
        self.genres = CapsuleLayer(4, 3, 5, 7, routing=routing)
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        children = self.norm(self.linear(features)).reshape(features.shape[0], 4, 3)
        return self.genres(children).activations


def arrays(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def exported(network: nn.Module) -> bytes:
    return export_graph(
        network.eval(),
        (torch.zeros(2, 6),),
        inputs=["features"],
        outputs=["lengths"],
        varying=[{0: "batch"}],
    )


@pytest.mark.slow
@pytest.mark.parametrize("routing", ["dynamic", "self_attention", "uniform"])
def test_equals_pytorch(routing: str) -> None:
    torch.manual_seed(0)
    network = Head(routing)
    graph = exported(network)
    other = Head(routing).eval()  # the graph serves every network of this configuration
    for one in (network, other):
        for batch in (1, 5):
            features = torch.randn(batch, 6)
            (lengths,) = OnnxNetwork(graph, arrays(one))(features.numpy())
            with torch.no_grad():
                np.testing.assert_allclose(lengths, one(features).numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_graph_holds_no_weight_and_survives_pickling() -> None:
    network = Head("uniform")
    graph = exported(network)
    assert network.linear.weight.detach().numpy().tobytes() not in graph
    restored = pickle.loads(pickle.dumps(OnnxNetwork(graph, arrays(network))))
    assert restored(np.ones((2, 6), np.float32))[0].shape == (2, 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("linear.weight"),
        lambda weights: weights.update({"linear.weight": np.zeros((3, 3), np.float32)}),
    ],
    ids=["missing", "of another shape"],
)
def test_weights_that_do_not_fit_are_refused(change) -> None:  # type: ignore[no-untyped-def]
    network = Head("uniform")
    weights = arrays(network)
    change(weights)
    with pytest.raises(CheckpointError, match="do not fit"):
        OnnxNetwork(exported(network), weights)
