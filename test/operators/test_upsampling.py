"""Resizing between known sizes: one operator, and a gradient by matrices or windows, with torch's numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

MODES = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "trilinear": (3,),
    "bicubic": (2,),
}

SPECIAL = st.sampled_from([None, math.inf, -math.inf, math.nan])


def compare(resize, x, places=(), exact_specials=True, **options):
    """The result and the gradient of an exported call beside those of torch, with special values at some places."""
    program = gradport.export(resize, x, wrt="inputs", functions="inline", **options)
    cotangent = torch.randn(resize(x).shape, generator=torch.Generator().manual_seed(1))
    for tensor, at, value in places:
        values = x if tensor == "x" else cotangent
        values.view(-1)[at % values.numel()] = value
    eager = x.clone().requires_grad_()
    result = resize(eager)
    (gradient,) = torch.autograd.grad(result, eager, cotangent)
    got, by_x = program.run(x, cotangent)
    for ours, torchs in ((got, result.detach()), (by_x, gradient)):
        if not exact_specials:
            ours, torchs = (torch.where(value.isfinite(), value, torch.nan) for value in (ours, torchs))
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-5, equal_nan=True)
    return program


@st.composite
def resizings(draw):
    mode = draw(st.sampled_from(list(MODES)))
    rank = draw(st.sampled_from(MODES[mode]))
    sizes = st.lists(st.integers(1, 7), min_size=rank, max_size=rank)
    old, options = draw(sizes), {"mode": mode}
    if draw(st.booleans()):
        options["scale_factor"] = draw(st.sampled_from([1, 2.0, 3]))
    else:
        options["size"] = draw(sizes)
    if mode.endswith(("linear", "cubic")):
        options["align_corners"] = draw(st.booleans())
    return (draw(st.integers(1, 2)), 2, *old), options


@pytest.mark.corpus
@settings(max_examples=30, deadline=None)
@given(resizings(), st.lists(st.tuples(st.sampled_from(["x", "cotangent"]), st.integers(0, 99), SPECIAL), max_size=3))
def test_results_and_gradients(resizing, places):
    shape, options = resizing
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    special = [place for place in places if place[2] is not None]
    cubic = options["mode"] == "bicubic"  # sums inf - inf in another order
    compare(lambda x: F.interpolate(x, **options), x, special, exact_specials=not cubic)


@pytest.mark.parametrize("options", [{"mode": "nearest"}, {"mode": "bilinear"}, {"mode": "bicubic"}])
def test_no_pixel_is_read_by_index(options):
    program = compare(lambda x: F.interpolate(x, scale_factor=2, **options), torch.randn(2, 3, 4, 5))
    assert not {node.op_type for node in program.model.graph.all_nodes()} & {"GatherND", "ScatterElements", "Gather"}


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_a_batch_of_any_size(mode):
    program = compare(
        lambda x: F.interpolate(x, (7, 3), mode=mode), torch.randn(2, 3, 4, 5), dynamic_shapes=({0: "batch"},)
    )
    for batch in (0, 1, 5):
        x, g = torch.randn(batch, 3, 4, 5, requires_grad=True), torch.randn(batch, 3, 7, 3)
        result = F.interpolate(x, (7, 3), mode=mode)
        expected = (result.detach(), *torch.autograd.grad(result, x, g))
        torch.testing.assert_close(program.run(x.detach(), g), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_inside_transforms_of_functions(mode):
    def double(x):
        return F.interpolate(x, scale_factor=2, mode=mode)

    x = torch.randn(3, 2, 2, 4, 4)
    batched = gradport.export(torch.vmap(double), x, wrt="inputs", functions="inline")
    g = torch.randn(3, 2, 2, 8, 8)
    expected = (torch.vmap(double)(x), torch.func.vjp(torch.vmap(double), x)[1](g)[0])
    torch.testing.assert_close(batched.run(x, g), expected, rtol=1e-4, atol=1e-5)

    def pushed(x):
        return torch.func.jvp(double, (x,), (x.sin(),))[1]

    compare(pushed, torch.randn(1, 2, 3, 3))


def test_a_trace_leaves_torch_as_it_was():
    operator = torch.ops.aten.upsample_nearest2d.default
    before = dict(operator.py_kernels)
    gradport.export(lambda x: F.interpolate(x, scale_factor=2), torch.randn(1, 1, 2, 2), wrt="inputs")
    assert before and operator.py_kernels == before
