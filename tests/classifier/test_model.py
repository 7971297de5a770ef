"""The network: segments independent of their batch, any size, finite for any input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from synthetic import tiny_config, tiny_ensemble

from deepmusic.classifier.config import ROUTINGS, ClassifierConfig
from deepmusic.classifier.model import ClassifierNetwork, NetworkOutput, views


def noise(count: int, config: ClassifierConfig, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, config.log_mel.n_mels, config.segment_frames)
    return -40 + 15 * torch.randn(shape, generator=generator)


def network(**changes: Any) -> ClassifierNetwork:
    network = tiny_ensemble(tiny_config(**changes)).networks[0]
    assert isinstance(network, ClassifierNetwork)
    return network


def assert_close(one: NetworkOutput, other: NetworkOutput) -> None:
    for name, left, right in zip(NetworkOutput._fields, one, other, strict=True):
        if left is None:
            assert right is None
        else:
            torch.testing.assert_close(left, right, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("routing", ROUTINGS)
def test_a_segment_does_not_depend_on_its_batch(routing: str) -> None:
    net = network(routing=routing)
    segments = noise(5, net.config)
    segments[2] = 0
    segments[3] *= 3
    together = net(views(segments, net.config), rebuild=torch.tensor([0, 1, 0, 1, 0]))
    for index in range(5):
        alone = net(
            views(segments[index : index + 1], net.config), rebuild=torch.tensor([index % 2])
        )
        one = NetworkOutput(*(None if t is None else t[index : index + 1] for t in together))
        assert_close(alone, one)
    turned = net(views(segments.flip(0), net.config), rebuild=torch.tensor([0, 1, 0, 1, 0]))
    assert_close(turned, NetworkOutput(*(None if t is None else t.flip(0) for t in together)))


SIZES: list[dict[str, Any]] = [
    {},
    {"position_types": 0},
    {"texture_capsules": 0},
    {"genres": tuple("abcdefg"), "bands": 64, "channels": (3, 5, 7)},
    {"segment_frames": 96, "bands": 16},
    {"segment_frames": 300, "bands": 128, "frame_step": 1, "pose_dim": 1, "genre_dim": 1},
    {"iterations": 1, "reconstruction": 0.0},
]


@pytest.mark.parametrize("changes", SIZES, ids=str)
@pytest.mark.parametrize("routing", ROUTINGS)
def test_shapes(changes: dict[str, Any], routing: str) -> None:
    config = tiny_config(routing=routing, **changes)
    net = ClassifierNetwork(config).eval()
    batch, genres = 3, len(config.genres)
    inputs = views(noise(batch, config), config)
    output = net(inputs, rebuild=torch.zeros(batch, dtype=torch.long))
    assert output.log_scores.shape == output.lengths.shape == (batch, genres)
    torch.testing.assert_close(output.log_scores.exp().sum(dim=1), torch.ones(batch))
    assert ((output.lengths >= 0) & (output.lengths <= 1)).all()
    if routing == "none":
        assert output[2:] == (None,) * 4
        return
    assert output.poses.shape == (batch, genres, config.genre_dim)
    columns = config.segment_frames // config.frame_step
    positions = ((columns + 1) // 2) // 8 if config.position_types else 0
    children = positions * config.position_types + config.texture_capsules
    assert output.coupling.shape == (batch, children, genres)
    assert output.children.shape == (batch, children)
    torch.testing.assert_close(output.coupling.sum(dim=2), torch.ones(batch, children))
    if config.reconstruction and config.position_types:
        assert output.rebuilt.shape == (batch, config.bands, 16)
        assert net.sketch(inputs.image).shape == output.rebuilt.shape
    else:
        assert output.rebuilt is None
    assert net(inputs).rebuilt is None


def test_uniform_routing_couples_equally_and_dynamic_does_not() -> None:
    for routing, alike in (("uniform", True), ("dynamic", False)):
        net = network(routing=routing)
        coupling = net(views(noise(2, net.config), net.config)).coupling
        assert torch.allclose(coupling, torch.full_like(coupling, 0.5), atol=1e-6) == alike


def test_the_reconstruction_uses_the_named_capsule_alone() -> None:
    net = network(genres=("a", "b", "c"))
    poses = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(1))
    chosen = torch.tensor([2, 0, 1, 2])
    assert net.decoder is not None
    rebuilt = net.decoder(poses, chosen)
    others = poses + 5
    others[torch.arange(4), chosen] = poses[torch.arange(4), chosen]
    torch.testing.assert_close(net.decoder(others, chosen), rebuilt)
    assert not torch.allclose(net.decoder(poses, (chosen + 1) % 3), rebuilt)
    # and so in the forward pass
    inputs = views(noise(4, net.config), net.config)
    output = net(inputs, rebuild=chosen)
    torch.testing.assert_close(output.rebuilt, net.decoder(output.poses, chosen))


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("value", [-100.0, 0.0, 1e4, -1e30])
def test_constant_input_gives_finite_gradients(routing: str, value: float) -> None:
    config = tiny_config(routing=routing)
    torch.manual_seed(0)
    for training in (True, False):
        net = ClassifierNetwork(config).train(training)
        segments = torch.full((2, 128, 128), value)
        output = net(views(segments, config), rebuild=torch.tensor([0, 1]))
        assert output.log_scores.isfinite().all()
        loss = output.log_scores[:, 0].sum() + output.lengths.sum()
        if output.rebuilt is not None:
            loss = loss + output.rebuilt.square().mean()
        loss.backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_statistics_are_clipped() -> None:
    net = network()
    inputs = views(noise(1, net.config), net.config)
    wild = inputs._replace(texture=inputs.texture + 1e6)
    wilder = inputs._replace(texture=inputs.texture + 1e9)
    assert_close(net(wild), net(wilder))


def test_scales_are_fitted_to_the_tracks() -> None:
    config = tiny_config()
    net = ClassifierNetwork(config)
    inputs = views(noise(6, config), config)
    net.fit_scales(inputs)
    scaled = net.scale(inputs.image)
    torch.testing.assert_close(scaled.mean(dim=(0, 2)), torch.zeros(32), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std(dim=(0, 2)), torch.ones(32))
    torch.testing.assert_close(net.texture_mean, inputs.texture.mean(dim=0))
    state = net.state_dict()
    assert {"image_mean", "image_std", "texture_mean", "texture_std"} <= set(state)
    # no division by zero for a band that never changes
    net.fit_scales(views(torch.zeros(3, 128, 128), config))
    assert net.scale(inputs.image).isfinite().all()


def test_dropout_is_for_training() -> None:
    net = network()
    inputs = views(noise(2, net.config), net.config)
    assert_close(net(inputs), net(inputs))
    net.train()
    assert not torch.allclose(net(inputs).lengths, net(inputs).lengths)


def test_an_ensemble_is_the_mean_of_its_networks() -> None:
    config = tiny_config(networks=1, texture_networks=2)
    ensemble = tiny_ensemble(config)
    segments = noise(4, config)
    log_scores, lengths = ensemble(segments)
    output = [network(views(segments, config)) for network in ensemble.networks]
    assert len(output) == 3
    assert [network.positions is None for network in ensemble.networks] == [False, True, True]
    torch.testing.assert_close(log_scores, sum(o.log_scores for o in output) / 3)
    torch.testing.assert_close(lengths, sum(o.lengths for o in output) / 3)
    assert not torch.allclose(output[0].lengths, output[1].lengths)
