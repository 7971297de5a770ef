"""The study's networks: equal in size, sound in shape and gradient, one segment at a time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from made_study import small_config
from torch import Tensor

from deepmusic.classifier.config import ClassifierConfig
from deepmusic.classifier.model import ImageNetwork, Views
from deepmusic.errors import RequestError
from deepmusic.studies.segment_networks import (
    CAPSULE_ROUTINGS,
    NETWORKS,
    CapsuleNetwork,
    build_network,
    count_parameters,
    width_scale,
)

ROOT = Path(__file__).resolve().parents[2]


def study_config(genres: int) -> ClassifierConfig:
    names = tuple(map(str, range(genres)))
    return ClassifierConfig(genres=names, texture_capsules=0, texture_networks=0)


def image(batch: int, columns: int = 64, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 8 * torch.randn(batch, 64, columns, generator=generator) - 40


def made_network(
    name: str, config: ClassifierConfig | None = None, *, columns: int = 64
) -> ImageNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = build_network(name, config or small_config(("a", "b", "c")))
    network.fit_scales(inputs(image(40, columns)))
    return network


def inputs(pixels: Tensor) -> Views:
    return Views(pixels, pixels.new_zeros(0))


@pytest.mark.parametrize("genres", [2, pytest.param(10, marks=pytest.mark.slow), 161])
def test_all_have_equal_numbers_of_parameters_within_a_tenth(genres: int) -> None:
    config = study_config(genres)
    sizes = {name: count_parameters(build_network(name, config)) for name in NETWORKS}
    assert max(sizes.values()) <= 1.1 * min(sizes.values()), sizes


@pytest.mark.slow
def test_the_table_of_the_documentation_is_up_to_date() -> None:
    path = ROOT / "scripts" / "write_study_networks.py"
    spec = importlib.util.spec_from_file_location("write_study_networks", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / "docs" / "study-networks.md").read_text(encoding="utf-8")
    assert script.with_table(page) == page
    with pytest.raises(SystemExit, match="lacks the markers"):
        script.with_table("no markers")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("columns", [64, 129])
def test_a_segment_is_classified_alone_and_scores_are_logarithms_of_shares(
    name: str, columns: int
) -> None:
    network, pixels = made_network(name).eval(), image(3, columns)
    output = network(inputs(pixels))
    assert output.log_scores.shape == output.lengths.shape == (3, 3)
    assert torch.allclose(output.log_scores.exp().sum(dim=1), torch.ones(3), atol=1e-5)
    assert (output.log_scores.argmax(dim=1) == output.lengths.argmax(dim=1)).all()
    assert ((output.lengths >= 0) & (output.lengths <= 1)).all()
    for row in range(3):
        alone = network(inputs(pixels[row : row + 1])).log_scores[0]
        assert torch.allclose(alone, output.log_scores[row], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns_and_gradients_are_finite_even_in_silence(name: str) -> None:
    network = made_network(name)
    for pixels in (image(6), torch.full((6, 64, 64), -80.0)):
        network.zero_grad()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # dropout may leave nothing of so small a network
            output = network(inputs(pixels))
        output.log_scores[torch.arange(6), torch.arange(6) % 3].sum().backward()
        learned = {n: p for n, p in network.named_parameters() if p.requires_grad}
        for part, parameter in learned.items():
            assert parameter.grad is not None, part
            assert parameter.grad.isfinite().all(), part
            if pixels[0, 0, 0] != -80:
                assert parameter.grad.abs().max() > 0, part


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_each_band_is_standardized(name: str) -> None:
    """Scaled bands make no difference to a network with scaled means and deviations."""
    gain = torch.linspace(0.5, 2, 64).unsqueeze(1)
    first, second = made_network(name), made_network(name)
    second.load_state_dict(first.state_dict())
    second.image_mean.copy_(3 + gain[:, 0] * first.image_mean)
    second.image_std.copy_(gain[:, 0] * first.image_std)
    pixels = image(4)
    a = first.eval()(inputs(pixels)).log_scores
    b = second.eval()(inputs(3 + gain * pixels)).log_scores
    assert torch.allclose(a, b, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CAPSULE_ROUTINGS)
def test_capsules_start_neither_dead_nor_saturated(name: str) -> None:
    network = made_network(name, study_config(4), columns=129)
    assert isinstance(network, CapsuleNetwork)
    output = network(inputs(image(20, 129, seed=9)))
    assert output.coupling is not None
    assert output.children is not None
    assert 0.3 < float(output.children.detach().mean()) < 0.7
    assert 0.2 < float(output.lengths.detach().mean()) < 0.8
    # 8 time steps, some capsules at each, and couplings sum to one
    assert output.coupling.shape == (*output.children.shape, 4)
    assert output.children.shape == (20, 8 * network.primary.types)
    assert torch.allclose(output.coupling.sum(dim=2), torch.ones(output.children.shape), atol=1e-4)


def test_silent_training_tracks_leave_capsules_as_they_were() -> None:
    network = build_network("capsules-dynamic", small_config())
    before = network.genres.weight.detach().clone()
    network.fit_scales(inputs(torch.full((10, 64, 64), -80.0)))
    assert torch.equal(network.genres.weight, before)
    assert network(inputs(image(2))).log_scores.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["capsules-dynamic", "capsules-self-attention"])
def test_genres_without_length_are_equally_likely(name: str) -> None:
    network = made_network(name).eval()
    with torch.no_grad():
        for parameter in network.genres.parameters():
            parameter.zero_()
    output = network(inputs(image(2)))
    assert float(output.lengths.detach().max()) < 1e-3
    assert torch.allclose(output.log_scores.exp(), torch.full((2, 3), 1 / 3))


def test_an_unknown_network_is_named_in_one_sentence() -> None:
    for make in (build_network, width_scale):
        with pytest.raises(RequestError, match=r"There is no network 'vgg'; there are cnn, "):
            make("vgg", small_config())
