"""Examples run: those in docstrings, and the recipe of a new routing method."""

from __future__ import annotations

import doctest
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import deepmusic.capsules
from deepmusic.capsules import CapsuleLayer, ConvCapsules, Routing, RoutingRecord
from deepmusic.errors import ShapeError

RECIPE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "routing.md"
PACKAGE = deepmusic.capsules
MODULES = sorted(
    {
        PACKAGE.__name__,
        *(m.name for m in pkgutil.walk_packages(PACKAGE.__path__, "deepmusic.capsules.")),
    }
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name: str) -> None:
    names = {name: getattr(PACKAGE, name) for name in PACKAGE.__all__} | {"torch": torch}
    torch.manual_seed(0)
    failed, _ = doctest.testmod(import_module(name), extraglobs=names)
    assert not failed


@pytest.mark.parametrize("name", ["squash", "CapsuleLayer", "margin_loss", "dynamic_routing"])
def test_the_front_door_has_examples(name: str) -> None:
    assert ">>>" in getattr(PACKAGE, name).__doc__


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    """The names that the code of the recipe makes."""
    made: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", RECIPE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, made)
    return made


@pytest.mark.parametrize("name", ["cosine_routing", "cosine"])
@pytest.mark.parametrize("shape", [(3, 6, 4), (3, 2, 6, 4)])
def test_a_routing_of_your_own(recipe: dict[str, Any], name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = CapsuleLayer(6, 4, 5, 8, routing=recipe[name])
    children = torch.randn(shape, requires_grad=True)
    record = layer(children)
    assert record.poses.shape == (3, 5, 8)
    assert record.coupling.shape == (*shape[:-1], 5)
    torch.testing.assert_close(record.coupling.sum(-1), torch.ones(shape[:-1]))
    record.activations.square().sum().backward()
    for tensor in (children, *layer.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0
    assert ("log_scale" in layer.learned) == (name == "cosine")
    assert f"routing={name}," in repr(layer)
    assert layer.iterations == 2


def test_a_routing_of_your_own_is_refused_what_it_does_not_take(recipe: dict[str, Any]) -> None:
    grid = torch.randn(2, 4, 4, 3, 4)
    windows = {"kernel_size": 2, "routing": recipe["cosine"]}
    with pytest.raises(ShapeError, match="takes no compete"):
        ConvCapsules(3, 4, 5, 8, **windows)(grid)
    assert ConvCapsules(3, 4, 5, 8, competition=False, **windows)(grid).poses.isfinite().all()
    with pytest.raises(ShapeError, match="'cosine' takes no leaky"):
        CapsuleLayer(6, 4, 5, 8, routing=recipe["cosine"], leaky=True)


def test_what_does_not_take_votes_and_iterations_is_not_a_routing() -> None:
    def route(votes: torch.Tensor) -> RoutingRecord:
        raise AssertionError

    for bad in (route, lambda *votes: votes, lambda votes, iterations, bias: votes):
        with pytest.raises(ShapeError, match="takes votes and iterations"):
            Routing(bad)
