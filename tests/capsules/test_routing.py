"""Routing: equal to the papers written as loops, and free of the bugs of public code."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from papers import PAPERS

from deepmusic.capsules import (
    ROUTING,
    FoldedVotes,
    em_routing,
    inverted_attention_routing,
    self_attention_routing,
    self_routing,
    variational_routing,
)
from deepmusic.capsules.convolution import window_competition
from deepmusic.capsules.routing import as_routing
from deepmusic.capsules.routing.method import Sizes
from deepmusic.errors import ShapeError

METHODS = sorted(ROUTING)
FORMS = ("plain", "folded")
SQUASHED = ("dynamic", "uniform")
WITH_BIAS = [name for name in METHODS if "bias" in ROUTING[name].options]
STOPPABLE = [name for name in METHODS if "stop_gradient" in ROUTING[name].options]
WEIGHING = [name for name in METHODS if "activations" in ROUTING[name].options]


def vote(children, weight):
    """Votes (b, i, o, h) of children (b, i, d), the weights (o, h, d, i) unfolded."""
    return torch.einsum("bid,ohdi->bioh", children, weight)


class Case:
    """Children, weights and all that a method learns, random, in float64, needing gradients."""

    def __init__(
        self, method, batch=2, children=4, in_dim=3, parents=3, out_dim=3, *, positions=None, seed=0
    ):
        generator = torch.Generator().manual_seed(seed)

        def leaf(*shape):
            drawn = torch.randn(*shape, dtype=torch.float64, generator=generator)
            return drawn.requires_grad_()

        where = (batch, children) if positions is None else (batch, positions, children)
        self.method = method
        self.children = leaf(*where, in_dim)
        self.weight = leaf(parents, out_dim, in_dim, children)
        sizes = Sizes(children, in_dim, parents, out_dim)
        self.learned = {
            name: (value.double() + 0.5 * leaf(*value.shape)).detach().requires_grad_()
            for name, value in ROUTING[method].learned(sizes).items()
        }
        if "bias" in ROUTING[method].options:
            self.learned["bias"] = leaf(parents, out_dim)
        if "activations" in ROUTING[method].options:
            self.learned["activations"] = leaf(*where).detach().sigmoid().requires_grad_()

    @property
    def leaves(self):
        return (self.children, self.weight, *self.learned.values())

    def votes(self):
        if self.children.ndim == 3:
            return vote(self.children, self.weight)
        cast = torch.einsum("bpid,ohdi->bpioh", self.children, self.weight)
        return cast.flatten(1, 2)

    def given(self):
        """What the plain form takes: children at p positions are p * i children."""
        learned = dict(self.learned)
        if self.method == "self_routing":
            learned["children"] = self.children
        if self.children.ndim == 4:
            positions = self.children.shape[1]
            for name in ("activations", "children"):
                if name in learned:
                    learned[name] = learned[name].flatten(1, 2)
            for name in ("prior", "route_weight", "route_bias"):
                if name in learned:
                    learned[name] = learned[name].repeat(positions, *[1] * (learned[name].ndim - 1))
        return learned

    def run(self, form, iterations=None, **options):
        routing = ROUTING[self.method]
        iterations = routing.iterations if iterations is None else iterations
        if form == "plain":
            return routing.route(self.votes(), iterations, **self.given(), **options)
        return routing(self.children, self.weight, iterations, **self.learned, **options)

    def to(self, dtype, size=1.0):
        """Everything in another type, the children scaled by ``size``."""
        self.children = (size * self.children.detach()).to(dtype).requires_grad_()
        self.weight = self.weight.detach().to(dtype).requires_grad_()
        self.learned = {
            name: value.detach().to(dtype).requires_grad_() for name, value in self.learned.items()
        }
        return self


def gradients(record, leaves):
    """Gradients of an uneven sum of all outputs, so that no symmetry hides an error."""
    total = 0
    for number, output in enumerate(record):
        if output.requires_grad:
            ramp = torch.linspace(-1, 2 + number, output.numel(), dtype=output.dtype)
            total = total + (output * ramp.view_as(output)).sum()
    return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


def assert_same(ours, theirs, leaves, tolerance=1e-10):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other.reshape(one.shape), rtol=1e-9, atol=tolerance)
    for one, other in zip(gradients(ours, leaves), gradients(theirs, leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=10 * tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_equals_the_loop_of_its_paper(method, iterations, form):
    case = Case(method)
    record = case.run(form, iterations)
    expected = PAPERS[method](case.votes(), iterations, **case.given())
    assert_same(record, expected, case.leaves)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", STOPPABLE)
def test_with_stopped_gradients_too(method, form):
    case = Case(method)
    record = case.run(form, 3, stop_gradient=True)
    expected = PAPERS[method](case.votes(), 3, stop_gradient=True, **case.given())
    # what is learned for the couplings alone has then no gradient
    assert_same(record[:2], expected[:2], case.leaves)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stop_gradient", [False, True])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("method", SQUASHED)
def test_leaky_routing_equals_its_loop(method, iterations, stop_gradient, form):
    case = Case(method)
    options = {"leaky": True, "stop_gradient": stop_gradient}
    record = case.run(form, iterations, **options)
    expected = PAPERS[method](case.votes(), iterations, **options, **case.given())
    assert_same(record[:2], expected[:2], case.leaves)
    torch.testing.assert_close(record.coupling, expected[2], rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_inverted_attention_goes_on_from_previous_poses(form):
    case = Case("inverted_attention")
    previous = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    record = case.run(form, 2, previous=previous)
    expected = PAPERS["inverted_attention"](case.votes(), 2, previous=previous, **case.given())
    assert_same(record, expected, (*case.leaves, previous))


@pytest.mark.slow
@pytest.mark.parametrize("positions", [None, 2])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_finite_differences(method, form, positions):
    case = Case(method, batch=2, children=3, in_dim=2, parents=2, out_dim=2, positions=positions)
    names = list(case.learned)

    def routed(children, weight, *learned):
        case.children, case.weight = children, weight
        case.learned = dict(zip(names, learned, strict=True))
        return tuple(output for output in case.run(form) if output.requires_grad)

    assert torch.autograd.gradcheck(routed, case.leaves)


@pytest.mark.slow
@pytest.mark.parametrize("positions", [None, 2])
@pytest.mark.parametrize("method", ["dynamic", "inverted_attention", "self_attention"])
def test_gradients_of_gradients_too(method, positions):
    """What gradient penalties, as of capsule GANs, need."""
    case = Case(method, batch=2, children=2, in_dim=2, parents=2, out_dim=3, positions=positions)

    def poses(children, weight):
        case.children, case.weight = children, weight
        return case.run("folded", 2).poses

    assert torch.autograd.gradgradcheck(poses, (case.children, case.weight))


sizes = st.integers(1, 6)


@pytest.mark.slow
@settings(deadline=None)
@given(
    method=st.sampled_from(METHODS),
    batch=st.integers(1, 3),
    children=sizes,
    in_dim=sizes,
    parents=sizes,
    out_dim=sizes,
    positions=st.one_of(st.none(), st.integers(1, 4)),
    iterations=st.integers(1, 4),
    leaky=st.booleans(),
    stop_gradient=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_folded_equals_plain_at_any_shape(
    method,
    batch,
    children,
    in_dim,
    parents,
    out_dim,
    positions,
    iterations,
    leaky,
    stop_gradient,
    seed,
):
    case = Case(method, batch, children, in_dim, parents, out_dim, positions=positions, seed=seed)
    asked = {"leaky": leaky, "stop_gradient": stop_gradient}
    options = {name: value for name, value in asked.items() if name in ROUTING[method].options}
    plain = case.run("plain", iterations, **options)
    folded = case.run("folded", iterations, **options)
    assert folded.poses.shape == (batch, parents, out_dim)
    assert folded.activations.shape == (batch, parents)
    where = () if positions is None else (positions,)
    assert folded.coupling.shape == (batch, *where, children, parents)
    # one number in a pose has no variance, and its layer norm multiplies rounding by 300
    assert_same(folded, plain, case.leaves, tolerance=1e-7 if out_dim == 1 else 1e-9)


def test_a_batch_larger_than_the_cache_is_worked_off_in_parts(monkeypatch):
    from deepmusic.capsules.routing import folding

    case = Case("dynamic", batch=3, children=6, in_dim=4, parents=7, out_dim=5)
    whole = case.run("folded")
    expected = gradients(whole, case.leaves)
    monkeypatch.setattr(folding, "_CPU_NUMBERS", 2 * 3 * 4 * 6)  # two parents at a time
    parts = case.run("folded")
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    for one, other in zip(gradients(parts, case.leaves), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


# The bugs of the public implementations, one test each.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMS)
def test_couplings_sum_to_one_over_parents_for_each_item_and_child(method, form):
    case = Case(method, batch=3, children=5, parents=4)
    if method == "self_attention":
        case.learned["prior"] = torch.zeros(5, 4, dtype=torch.float64)
    coupling = case.run(form).coupling
    torch.testing.assert_close(
        coupling.sum(dim=2), torch.ones(3, 5, dtype=torch.float64), rtol=0, atol=1e-12
    )
    if method != "uniform":
        over_children = coupling.sum(dim=1)
        assert (over_children - over_children[0, 0]).abs().max() > 0.01
        assert (coupling[0] - coupling[1]).abs().max() > 0.01


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_children_does_not_matter(method, form):
    case = Case(method, children=5)
    record = case.run(form)
    order = torch.tensor([3, 0, 4, 1, 2])
    case.children, case.weight = case.children[:, order], case.weight[..., order]
    for name in ("prior", "route_weight", "route_bias"):
        if name in case.learned:
            case.learned[name] = case.learned[name][order]
    if "activations" in case.learned:
        case.learned["activations"] = case.learned["activations"][:, order]
    shuffled = case.run(form)
    torch.testing.assert_close(record.poses, shuffled.poses, rtol=0, atol=1e-10)
    torch.testing.assert_close(record.activations, shuffled.activations, rtol=0, atol=1e-10)
    torch.testing.assert_close(record.coupling[:, order], shuffled.coupling, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMS)
def test_an_item_is_routed_as_if_it_were_alone(method, form):
    case = Case(method, batch=5)
    together = case.run(form)
    children, learned = case.children, dict(case.learned)
    for b in range(5):
        case.children = children[b : b + 1]
        if "activations" in learned:
            case.learned["activations"] = learned["activations"][b : b + 1]
        for alone, among in zip(case.run(form), together, strict=True):
            torch.testing.assert_close(alone[0], among[b], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", WEIGHING)
@pytest.mark.parametrize("form", FORMS)
def test_an_absent_child_counts_for_nothing(method, form):
    case = Case(method, children=5)
    present = case.learned["activations"].detach().clone()
    present[:, 2] = 0
    case.learned["activations"] = present
    record = case.run(form)
    case.children = case.children.detach().clone()
    case.children[:, 2] = 17.0
    other = case.run(form)
    torch.testing.assert_close(record.poses, other.poses, rtol=0, atol=1e-9)
    torch.testing.assert_close(record.activations, other.activations, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMS)
def test_nan_stays_in_its_own_item(method, form):
    case = Case(method, batch=3)
    expected = case.run(form)
    case.children = case.children.detach().clone()
    case.children[1, 2, 0] = math.nan
    record = case.run(form)
    for ours, clean in zip(record, expected, strict=True):
        torch.testing.assert_close(ours[[0, 2]], clean[[0, 2]], rtol=0, atol=1e-12)
    assert record.poses[1].isnan().all()
    # self-routing asks no vote how present a parent is, but its routing is broken likewise
    assert record.activations[1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0.0, 1e20])
@pytest.mark.parametrize("method", METHODS)
def test_extreme_children_give_finite_poses_and_gradients(method, size, form, dtype):
    for options in ({}, {"stop_gradient": True} if method in STOPPABLE else {}):
        case = Case(method).to(dtype, size)
        record = case.run(form, 3, **options)
        (record.poses.float().sum() + record.activations.float().sum()).backward()
        for tensor in (*record, case.children.grad, case.weight.grad):
            assert tensor.dtype == dtype
            assert tensor.isfinite().all()
        for value in case.learned.values():
            assert value.grad is None or value.grad.isfinite().all()


@pytest.mark.parametrize("method", [m for m in METHODS if m != "inverted_attention"])
def test_zero_children_give_zero_poses(method):
    case = Case(method).to(torch.float32, 0.0)
    if "bias" in case.learned:
        case.learned["bias"] = torch.zeros(3, 3)
    assert (case.run("folded").poses.abs() < 1e-6).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMS)
def test_half_precision_stays_near_full_precision(method, form):
    case = Case(method, children=64)
    case.children = 0.2 * case.children.detach()
    exact = case.run(form)
    half = case.to(torch.bfloat16).run(form)
    size = exact.poses.detach().abs().max().item()
    torch.testing.assert_close(half.poses.double(), exact.poses, rtol=0, atol=0.04 * max(size, 1))
    torch.testing.assert_close(half.activations.double(), exact.activations, rtol=0, atol=0.04)


# Competition of windows: what convolutions need.


def test_windows_that_hold_a_child_share_it_and_padding_gets_nothing():
    child_of = torch.tensor([[0, 1, 4], [1, 2, 3]])  # 4 is padding
    logits = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)  # two items
    coupling = window_competition(child_of, 4)(logits)
    items = logits.reshape(2, 2, 3, 2)
    for b in range(2):
        total = [0.0] * 4
        for w in range(2):
            for i in range(3):
                if child_of[w, i] < 4:
                    total[child_of[w, i]] += items[b, w, i].exp().sum()
        for w in range(2):
            for i in range(3):
                got = coupling.reshape(2, 2, 3, 2)[b, w, i]
                child = int(child_of[w, i])
                expected = items[b, w, i].exp() / total[child] if child < 4 else 0 * items[b, w, i]
                torch.testing.assert_close(got, expected)
    assert torch.autograd.gradcheck(window_competition(child_of, 4), (logits,))


def test_a_child_in_windows_has_one_leaky_slot():
    child_of = torch.tensor([[0, 1], [1, 2]])
    logits = torch.tensor([[[1e4], [-1e4]], [[-1e4], [0.0]]]).double()  # one item, one parent
    coupling = window_competition(child_of, 3, leaky=True)(logits)
    torch.testing.assert_close(
        coupling.flatten(), torch.tensor([1, 0, 0, 0.5], dtype=torch.float64)
    )
    equal = window_competition(child_of, 3)(logits).flatten()
    torch.testing.assert_close(equal, torch.tensor([1, 0.5, 0.5, 1], dtype=torch.float64))


# Bad input.


@pytest.mark.parametrize("method", METHODS)
def test_bad_votes_and_children_are_refused_by_the_shape_they_should_have(method):
    case = Case(method)
    for shape in ((2, 3, 4), (2, 3, 4, 5, 6), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)):
        with pytest.raises(ShapeError, match=r"\(batch, children, parents, dim\)"):
            ROUTING[method].route(torch.zeros(shape), **case.given())
    with pytest.raises(ShapeError, match="floating"):
        ROUTING[method].route(torch.zeros(2, 3, 4, 5).long(), **case.given())
    for shape in ((2, 3), (2, 5, 3, 4, 1), (2, 4, 3), (2, 3, 5), (2, 0, 4), (2, 0, 3, 4)):
        with pytest.raises(ShapeError, match=r"\(batch, 3, 4\) or \(batch, positions, 3, 4\)"):
            ROUTING[method](torch.zeros(shape), torch.zeros(2, 5, 4, 3), **case.learned)
    for weight in (torch.zeros(4, 3, 5), torch.zeros(0, 4, 3, 5), torch.zeros(2, 5, 4, 3).long()):
        with pytest.raises(ShapeError, match=r"\(parents, out_dim, in_dim, children\)"):
            ROUTING[method](torch.zeros(2, 3, 4), weight, **case.learned)
    for form in FORMS if method != "uniform" else ():
        with pytest.raises(ShapeError, match="at least 1"):
            case.run(form, 0)


@pytest.mark.parametrize(
    "bias",
    [torch.zeros(4), torch.zeros(5, 4), torch.zeros(3, 4, 5), torch.zeros(4, 5).long()],
)
@pytest.mark.parametrize("method", WITH_BIAS)
def test_a_bias_that_does_not_fit_is_refused(method, bias):
    with pytest.raises(ShapeError, match=r"\(4, 5\)"):
        ROUTING[method].route(torch.zeros(2, 3, 4, 5), bias=bias)
    with pytest.raises(ShapeError, match=r"\(4, 5\)"):
        ROUTING[method](torch.zeros(2, 3, 6), torch.zeros(4, 5, 6, 3), bias=bias)


def test_what_is_learned_must_fit():
    votes, three = torch.zeros(2, 3, 4, 5), torch.zeros(3)
    for bad in (
        lambda: em_routing(votes, beta_u=three),
        lambda: em_routing(votes, activations=torch.zeros(2, 4)),
        lambda: variational_routing(votes, gain=three),
        lambda: variational_routing(votes, activations=torch.zeros(3, 2)),
        lambda: self_attention_routing(votes, prior=torch.zeros(4, 3)),
        lambda: inverted_attention_routing(votes, previous=torch.zeros(2, 3, 5)),
        lambda: inverted_attention_routing(
            FoldedVotes(torch.zeros(2, 3, 6), torch.zeros(4, 5, 6, 3)),
            previous=torch.zeros(2, 5, 4),
        ),
        lambda: self_routing(
            votes,
            children=torch.zeros(2, 3, 6),
            route_weight=torch.zeros(3, 5, 4),
            route_bias=torch.zeros(3, 4),
        ),
        lambda: self_routing(
            votes,
            children=torch.zeros(2, 4, 6),
            route_weight=torch.zeros(4, 6, 4),
            route_bias=torch.zeros(4, 4),
        ),
    ):
        with pytest.raises(ShapeError, match="shape"):
            bad()


def test_an_unknown_method_is_refused_with_the_names_of_all():
    with pytest.raises(ValueError, match=", ".join(METHODS)):
        as_routing("agreement")


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_batch_is_routed(method):
    record = Case(method, batch=0).run("folded")
    assert record.poses.shape == (0, 3, 3)
    assert record.coupling.shape == (0, 4, 3)
