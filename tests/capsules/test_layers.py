"""Layers: primary capsules where they belong, positions that share weights, the masked decoder."""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from deepmusic.capsules import (
    ROUTING,
    CapsuleLayer,
    CapsuleStack,
    MaskedDecoder,
    PrimaryCapsules,
    capsule_length,
    squash,
    squash_exp,
)
from deepmusic.errors import ShapeError


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def compiler():
    torch._dynamo.reset()  # it gives up on a function after some recompilations
    return partial(torch.compile, fullgraph=True, backend="aot_eager")


def test_primary_capsule_k_at_y_x_is_those_channels_there():
    layer = PrimaryCapsules(3, types=4, dim=5, kernel_size=3, stride=2, padding=1)
    features = torch.randn(2, 3, 7, 12)  # height is not width
    convolved = layer.conv(features)
    height, width = convolved.shape[2:]
    assert height != width
    capsules = layer(features)
    assert capsules.shape == (2, height * width, 4, 5)
    for b, y, x, k in itertools.product(range(2), range(height), range(width), range(4)):
        expected = squash(convolved[b, 5 * k : 5 * k + 5, y, x])
        torch.testing.assert_close(capsules[b, y * width + x, k], expected)


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 3),
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    types=st.integers(1, 4),
    dim=st.integers(1, 5),
)
def test_a_network_takes_maps_of_any_size(batch, height, width, types, dim):
    primary = PrimaryCapsules(2, types, dim, kernel_size=(3, 2))
    layer = CapsuleLayer(types, dim, 3, 4, stop_gradient=True)
    children = primary(torch.randn(batch, 2, height, width))
    record = layer(children)
    positions = (height - 2) * (width - 1)
    assert children.shape == (batch, positions, types, dim)
    assert record.poses.shape == (batch, 3, 4)
    assert record.activations.shape == (batch, 3)
    assert record.coupling.shape == (batch, positions, types, 3)
    record.activations.sum().backward()
    assert all(p.grad.isfinite().all() for p in (*primary.parameters(), *layer.parameters()))


def test_weights_are_shared_over_positions():
    layer = CapsuleLayer(6, 4, 3, 5)
    one, two = torch.randn(2, 1, 6, 4), torch.randn(2, 3, 6, 4)
    torch.testing.assert_close(layer(one).poses, layer(one[:, 0]).poses)
    repeated = CapsuleLayer(18, 4, 3, 5)  # own weights a place, made equal by hand
    repeated.weight = nn.Parameter(layer.weight.detach().repeat(1, 1, 1, 3))
    torch.testing.assert_close(
        layer(two).poses, repeated(two.flatten(1, 2)).poses, rtol=1e-4, atol=1e-5
    )


def test_the_decoder_sees_the_labelled_capsule_and_no_other():
    decoder = MaskedDecoder(3, 4, (2, 5), hidden=(16, 8))
    poses = torch.randn(2, 3, 4)
    labels = torch.tensor([2, 0])
    rebuilt = decoder(poses, labels)
    assert rebuilt.shape == (2, 2, 5)
    for b, capsule in itertools.product(range(2), range(3)):
        changed = poses.clone()
        changed[b, capsule] += 1
        differs = not torch.equal(decoder(changed, labels), rebuilt)
        assert differs == (capsule == labels[b])


def test_without_labels_each_item_decodes_its_longest_capsule():
    decoder = MaskedDecoder(3, 4, (6,), hidden=())
    poses = 0.1 * torch.randn(4, 3, 4)
    longest = torch.tensor([1, 2, 0, 1])
    poses[torch.arange(4), longest] = 0.4
    torch.testing.assert_close(decoder(poses), decoder(poses, longest))


@pytest.mark.parametrize("bad", [(0, 4, 3, 5), (6, 0, 3, 5), (6, 4, 0, 5), (6, 4, 3, -1)])
def test_a_layer_of_nothing_is_refused(bad):
    with pytest.raises(ShapeError, match="at least 1"):
        CapsuleLayer(*bad)


def test_bad_settings_are_refused_on_construction():
    with pytest.raises(ShapeError, match=r"dynamic, em, .*, uniform"):
        CapsuleLayer(6, 4, 3, 5, routing="nothing")
    with pytest.raises(ShapeError, match="iterations"):
        CapsuleLayer(6, 4, 3, 5, iterations=0)
    with pytest.raises(ShapeError, match="types"):
        PrimaryCapsules(3, 0, 4, kernel_size=3)
    with pytest.raises(ShapeError, match="out_shape"):
        MaskedDecoder(3, 4, (2, 0))


def test_bad_input_is_refused_by_the_shape_it_should_have():
    with pytest.raises(ShapeError, match=r"\(batch, 6, 4\)"):
        CapsuleLayer(6, 4, 3, 5)(torch.zeros(2, 4, 6))
    with pytest.raises(ShapeError, match=r"\(batch, 3, height, width\)"):
        PrimaryCapsules(3, 2, 4, kernel_size=1)(torch.zeros(2, 5, 5))
    decoder = MaskedDecoder(3, 4, (2, 5))
    with pytest.raises(ShapeError, match=r"\(batch, 3, 4\)"):
        decoder(torch.zeros(2, 4, 3))
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        decoder(torch.zeros(2, 3, 4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ShapeError, match="class indices"):
        decoder(torch.zeros(2, 3, 4), torch.zeros(2))


@pytest.mark.parametrize("shape", [(2, 16, 4), (2, 5, 16, 4)])
@pytest.mark.parametrize(
    "routing",
    [pytest.param(r, marks=[] if r == "dynamic" else pytest.mark.slow) for r in sorted(ROUTING)],
)
def test_a_layer_compiles_as_one_graph(shape, routing, compiler):
    layer = CapsuleLayer(16, 4, 3, 6, routing=routing)
    children = squash(torch.randn(shape))
    # Traced forward and backward; the back-end that writes C++ would take a minute more.
    compiled = compiler(layer)(children)
    exact = layer(children)
    for ours, theirs in zip(compiled, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(compiled.poses.square().sum(), layer.weight),
        torch.autograd.grad(exact.poses.square().sum(), layer.weight),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("routing", sorted(ROUTING))
def test_autocast_and_unequal_widths_work_with_every_method(routing):
    layer = CapsuleLayer(32, 8, 4, 16, routing=routing)
    children = squash(torch.randn(3, 32, 8)).requires_grad_()
    exact = layer(children)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        record = layer(children)
    assert record.poses.dtype == torch.float32
    torch.testing.assert_close(record.activations, exact.activations, rtol=0, atol=0.05)
    record.poses.sum().backward()
    assert layer.weight.grad.isfinite().all()
    one = layer(children[:1].detach())
    torch.testing.assert_close(one.poses[0], exact.poses[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("routing", sorted(ROUTING))
def test_a_layer_gives_what_it_learned_to_its_method(routing):
    layer = CapsuleLayer(6, 4, 3, 5, routing=routing)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    children = squash(torch.randn(2, 6, 4))
    given = dict(layer.learned)
    if layer.bias is not None:
        given["bias"] = layer.bias
    if "activations" in ROUTING[routing].options:
        given["activations"] = capsule_length(children)
    if routing == "self_routing":
        given["children"] = children
    votes = torch.einsum("bid,ohdi->bioh", children, layer.weight)
    expected = ROUTING[routing].route(votes, layer.iterations, **given)
    for ours, theirs in zip(layer(children), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    loss = sum((part * torch.randn_like(part)).sum() for part in layer(children))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_an_option_that_a_method_does_not_take_is_refused_with_those_that_do():
    with pytest.raises(ShapeError, match=r"'em' takes no leaky; these do: dynamic, uniform"):
        CapsuleLayer(6, 4, 3, 5, routing="em", leaky=True)
    with pytest.raises(ShapeError, match="takes no inverse_temperature; these do: em"):
        CapsuleLayer(6, 4, 3, 5, inverse_temperature=1.0)
    with pytest.raises(ShapeError, match="takes no bias"):
        CapsuleLayer(6, 4, 3, 5, routing="self_routing", bias=True)
    with pytest.raises(ShapeError, match="previous"):
        CapsuleLayer(6, 4, 3, 5)(torch.zeros(2, 6, 4), previous=torch.zeros(2, 3, 5))
    with pytest.raises(ShapeError, match="residual"):
        CapsuleLayer(6, 4, 3, 5, residual=True)
    hot, cold = (
        CapsuleLayer(6, 4, 3, 5, routing="em", inverse_temperature=value) for value in (1.0, 0.01)
    )
    hot.weight = cold.weight
    children = torch.randn(2, 6, 4)
    assert not torch.equal(hot(children).activations, cold(children).activations)


@pytest.mark.parametrize("routing", sorted(ROUTING))
@pytest.mark.parametrize("positions", [None, 3])
def test_a_residual_layer_of_no_weights_passes_its_children_on(routing, positions):
    layer = CapsuleLayer(6, 4, 6, 4, routing=routing, residual=True)
    nn.init.zeros_(layer.weight)
    children = 0.5 * torch.randn(2, 6, 4)
    given = children if positions is None else children.unsqueeze(1).expand(2, positions, 6, 4)
    poses = layer(given).poses
    if routing in ("dynamic", "uniform"):
        children = squash(children)
    elif routing == "self_attention":
        children = squash_exp(children)
    elif routing == "inverted_attention":
        children = nn.functional.layer_norm(children, (4,))
    torch.testing.assert_close(poses, children, rtol=1e-4, atol=1e-5)


def test_a_stack_routes_one_layer_after_another():
    layers = [CapsuleLayer(6, 4, 5, 3, routing="em"), CapsuleLayer(5, 3, 2, 7, routing="em")]
    children, active = torch.randn(2, 6, 4), torch.rand(2, 6)
    first, second = CapsuleStack(layers)(children, active)
    below = layers[0](children, active)
    above = layers[1](below.poses, below.activations)
    torch.testing.assert_close(first.poses, below.poses)
    torch.testing.assert_close(second.activations, above.activations)


def test_concurrent_routing_updates_every_layer_from_the_pass_before():
    """Algorithm 2 of Tsai et al. (2020), written out for three layers."""
    layers = [CapsuleLayer(6, 4, 5, 4, routing="inverted_attention") for _ in range(1)]
    layers += [CapsuleLayer(5, 4, 5, 4, routing="inverted_attention") for _ in range(2)]
    children = torch.randn(2, 6, 4)
    poses = [children]
    for layer in layers:
        poses.append(layer(poses[-1], iterations=1).poses)
    for _ in range(2):
        poses[1:] = [
            layer(below, previous=own, iterations=1).poses
            for layer, below, own in zip(layers, poses[:-1], poses[1:], strict=True)
        ]
    records = CapsuleStack(layers, concurrent=3)(children)
    for record, expected in zip(records, poses[1:], strict=True):
        torch.testing.assert_close(record.poses, expected)
    sequential = CapsuleStack(layers)(children)
    assert not torch.allclose(sequential[-1].poses, records[-1].poses)


def test_impossible_stacks_are_refused():
    with pytest.raises(ShapeError, match="one layer or more"):
        CapsuleStack([])
    with pytest.raises(ShapeError, match="not dynamic"):
        CapsuleStack([CapsuleLayer(6, 4, 3, 5)], concurrent=2)
    with pytest.raises(ShapeError, match="0 or more"):
        CapsuleStack([CapsuleLayer(6, 4, 3, 5)], concurrent=-1)


DISTRIBUTED = """
import os, sys, torch
from torch import nn
from deepmusic.capsules import ROUTING, CapsuleLayer, squash
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
children = squash(torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(1)))
for routing in sorted(ROUTING):
    torch.manual_seed(0)
    layer = CapsuleLayer(6, 4, 3, 5, routing=routing)
    apart = nn.parallel.DistributedDataParallel(layer)
    def loss(record):
        return record.poses.square().mean() + record.activations.square().mean()
    loss(apart(children[2 * rank : 2 * rank + 2])).backward()
    shared = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    loss(layer(children)).backward()
    for ours, whole in zip(shared, layer.parameters()):
        torch.testing.assert_close(ours, whole.grad, rtol=1e-3, atol=1e-5)
print("agree")
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_both_halves(tmp_path):
    script = tmp_path / "distributed.py"
    script.write_text(DISTRIBUTED)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(script),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agree") == 2  # the lines of two processes may run together


@pytest.mark.slow
def test_the_capsules_import_torch_and_little_of_ours():
    code = (
        "import sys, torch; before = set(sys.modules); import deepmusic.capsules.layers; "
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    ours = {name.split(".")[1] for name in loaded if name.startswith("deepmusic.")}
    assert ours == {"capsules", "errors", "extras", "version"}
    heavy = {"librosa", "soundfile", "soxr", "scipy", "sklearn", "av", "accelerate", "matplotlib"}
    assert not heavy & {name.split(".")[0] for name in loaded}
