"""CastLike becomes Cast: stock ONNX Runtime has nothing to say of a file."""

import collections

import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

DTYPES = (torch.float32, torch.float64, torch.float16)


def count(program):
    return collections.Counter(node.op_type for graph in program.model.graphs() for node in graph)


class Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, limit):
        ctx.save_for_backward(x)
        ctx.limit = limit
        return torch.where(x > limit, x, torch.zeros_like(x)) * 1.5 + limit

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.where(x > ctx.limit, g, torch.zeros_like(g)) * 1.5, None


@pytest.mark.parametrize("form", ["keep", "inline"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_castlike_is_left_and_a_stock_session_is_silent(form, dtype, tmp_path, capfd):
    x = torch.randn(3, 4).to(dtype)
    program = gradport.export(Gated, (x, 0.5), wrt="inputs", functions=form)
    assert count(program)["CastLike"] == 0
    program.save(tmp_path / "gated.onnx")
    onnxruntime.InferenceSession(tmp_path / "gated.onnx", providers=["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")


def test_those_inside_of_branches_are_written_too():
    program = gradport.export(torch.nn.ReLU6(), torch.randn(3, 4), wrt="inputs", functions="inline")
    assert count(program)["CastLike"] == 0


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    scale=st.floats(-3, 3, width=16),
    limit=st.floats(-1, 1, width=16),
    steps=st.lists(st.sampled_from(["add", "mul", "clamp", "where", "pow"]), min_size=1, max_size=4),
)
def test_values_and_gradients_stay(dtype, scale, limit, steps):
    def chain(x):
        for step in steps:
            if step == "add":
                x = x + scale
            elif step == "mul":
                x = x * scale
            elif step == "clamp":
                x = x.clamp(min=limit)
            elif step == "where":
                x = torch.where(x > limit, x, limit)
            else:
                x = x.square()
        return x

    generator = torch.Generator().manual_seed(0)
    program = gradport.export(chain, torch.randn(5, generator=generator).to(dtype), wrt="inputs")  # export proves it
    assert count(program)["CastLike"] == 0
