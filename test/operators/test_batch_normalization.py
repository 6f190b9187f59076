"""Batch normalization with the statistics of the batch: results, new statistics and gradients."""

import onnx
import onnx_ir
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

from .proving import proved

SIZES = {2: (), 3: (4,), 4: (3, 2), 5: (2, 1, 3)}


@pytest.mark.corpus
@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(list(SIZES)),
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_layer(rank, dtype, affine, tracked, training):
    layer = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}[rank]
    layer = layer(3, affine=affine, track_running_stats=tracked, eps=1e-3).to(dtype).train(training)
    proved(layer, (torch.randn(5, 3, *SIZES[rank], dtype=dtype),), {"input": {0: "batch"}})


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_mean_costs_no_digits(mean, dtype):
    generator = torch.Generator().manual_seed(0)
    x = mean + torch.randn(8, 3, 6, 6, generator=generator, dtype=dtype)
    weight, bias = (torch.randn(3, generator=generator, dtype=dtype) for _ in range(2))
    g = torch.randn(8, 3, 6, 6, generator=generator, dtype=dtype)

    def normalize(x, weight, bias):
        return F.batch_norm(x, None, None, weight, bias, training=True)

    program = gradport.export(normalize, (x, weight, bias), wrt="inputs")
    got = program.run(x, weight, bias, g)
    wide = tuple(value.double().requires_grad_() for value in (x, weight, bias))
    result = normalize(*wide)
    exact = (result, *torch.autograd.grad(result, wide, g.double()))
    eager = tuple(value.clone().requires_grad_() for value in (x, weight, bias))
    result = normalize(*eager)
    for ours, theirs, right in zip(got, (result, *torch.autograd.grad(result, eager, g)), exact, strict=True):
        error, bound = ((value.double() - right).abs().max() for value in (ours, theirs))
        assert error <= 4 * bound + 1024 * torch.finfo(dtype).eps * right.abs().max()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_channel_that_is_not_finite_spoils_no_other(value):
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    program = gradport.export(torch.nn.BatchNorm1d(3).train(), x, wrt="inputs")
    x[1, 1, 2] = value
    result, by_x, *_ = program.run(x, torch.ones_like(x))
    for tensor in (result, by_x):
        assert tensor[:, 1].isnan().all()
        assert tensor[:, [0, 2]].isfinite().all()


def test_the_tensor_is_read_in_few_passes():
    """Sub, Mul and BatchNormalization forward; Mul, Mul, Sub and BatchNormalization backward; the rest is of one
    channel's size."""
    x = torch.randn(4, 3, 5, 5)
    program = gradport.export(torch.nn.BatchNorm2d(3).train(), x, wrt="inputs")
    model = onnx.shape_inference.infer_shapes(onnx_ir.to_proto(program.model))
    sizes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.value_info
    }
    sizes |= {value.name: [4, 3, 5, 5] for value in model.graph.output[:2]}
    whole = [node.op_type for node in model.graph.node if sizes.get(node.output[0]) == [4, 3, 5, 5]]
    assert sorted(whole) == sorted(["Sub", "Mul", "BatchNormalization", "Mul", "Mul", "Sub", "BatchNormalization"])
