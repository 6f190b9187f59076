"""Slices, single places, writes to them, and their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

from .proving import proved

pytestmark = pytest.mark.corpus

places = st.none() | st.integers(-7, 7)


@settings(max_examples=25, deadline=None)
@given(places, places, st.integers(1, 4), st.integers(0, 2), st.booleans(), st.booleans())
def test_slices(start, stop, step, axis, dynamic, written):
    index = (slice(None),) * axis + (slice(start, stop, step),)

    def change(x):
        if not written:
            return x[index].sin()
        y = x.sin()
        y[index] = x[index] * 2
        return y * y

    other = (axis + 1) % 3  # torch assumes that a dynamic slice which is written has more than one place
    proved(change, torch.randn(5, 6, 5), ({axis if dynamic and not written else other: "size"},))


@settings(max_examples=15, deadline=None)
@given(st.integers(-5, 4), st.integers(0, 2), st.booleans(), st.booleans())
def test_single_places(at, axis, dynamic, written):
    def change(x):
        if not written:
            return x.select(axis, at).sin()
        y = x.sin()
        y.select(axis, at).copy_(x.select(axis, 0) * 2)
        return y * y

    shapes = None if not dynamic else ({(axis + 1) % 3: "size"},)
    proved(change, torch.randn(5, 5, 5), shapes)


@pytest.mark.parametrize("index", [slice(None, -1), slice(1, None), slice(-2, None), slice(None, 3), slice(1, None, 2)])
def test_a_dynamic_size(index):
    program = gradport.export(
        lambda x: x[index].sin(), torch.randn(5, 2), wrt="inputs", functions="inline", dynamic_shapes=({0: "size"},)
    )
    for size in range(8):
        x = torch.randn(size, 2, requires_grad=True)
        result = x[index].sin()
        cotangent = torch.randn(result.shape)
        expected = (result.detach(), *torch.autograd.grad(result, x, cotangent))
        torch.testing.assert_close(program.run(x.detach(), cotangent), expected)


def test_a_gradient_of_a_slice_is_a_padding():
    for read in (lambda x: x[:, 1:3].sin(), lambda x: x[:, -1].sin(), lambda x: x[..., :4].sin()):
        program = gradport.export(read, torch.randn(3, 6), wrt="inputs", functions="inline")
        kinds = [node.op_type for node in program.model.graph]
        assert kinds.count("Pad") == 1
        assert not {"ScatterND", "ScatterElements", "Transpose", "Where"} & set(kinds)


def test_a_write_to_a_slice_is_a_concatenation():
    def write(x, y):
        z = x * 1
        z[:, 1:3] = y
        return z * z

    program = gradport.export(write, (torch.randn(3, 6), torch.randn(3, 2)), wrt="inputs", functions="inline")
    assert not {"ScatterND", "Transpose", "Where"} & {node.op_type for node in program.model.graph}


def read_end(x, y):
    return x[:, -y.shape[0] :].sin() * y.sum()


def read_from(x, y):
    return x[:, y.shape[0] - 2 :].sin() * y.sum()


def write_end(x, y):
    z = x.sin()
    z[:, -y.shape[0] :] = z[:, -y.shape[0] :] * 2 * y.sum()
    return z * z


@pytest.mark.parametrize("change", [read_end, read_from, write_end])
def test_a_start_that_another_size_gives(change):
    args = (torch.randn(3, 6), torch.randn(3))
    program = gradport.export(change, args, wrt="inputs", functions="inline", dynamic_shapes=(None, {0: "count"}))
    for count in (1, 2, 3, 5):
        x, y = torch.randn(3, 6, requires_grad=True), torch.randn(count, requires_grad=True)
        result = change(x, y)
        cotangent = torch.randn(result.shape)
        expected = (result.detach(), *torch.autograd.grad(result, (x, y), cotangent))
        torch.testing.assert_close(program.run(x.detach(), y.detach(), cotangent), expected, rtol=1e-4, atol=1e-4)
