"""Sums of rows in the backward pass become products with ones, with the same values."""

import math

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport
from gradport.lowering.lower import BACKWARD
from gradport.lowering.passes.row_sums import SumRowsByProduct


def model_of(shape, axes, keepdims, dtype="float", backward=True):
    kept = ",".join("?" for _ in range(len(shape) if keepdims else len(shape) - len(axes)))
    listed = ",".join(map(str, axes))
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 18]> '
        f"g ({dtype}[{','.join(map(str, shape))}] x) => ({dtype}[{kept}] y) "
        f"{{ axes = Constant<value = int64[{len(axes)}] {{{listed}}}>() "
        f"y = ReduceSum<keepdims = {int(keepdims)}>(x, axes) }}"
    )
    for node in model.graph:
        if backward:
            node.metadata_props[BACKWARD] = "1"
    return model


def run(model, x):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x})[0]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    columns=st.sampled_from([2, 3, 64]),
    keepdims=st.booleans(),
    double=st.booleans(),
    dynamic=st.booleans(),
    negative=st.booleans(),
    batch=st.integers(0, 300),
    special=st.sampled_from([None, np.inf, -np.inf, np.nan]),
)
def test_results_stay(sizes, columns, keepdims, double, dynamic, negative, batch, special):
    shape = [batch, *sizes, columns]
    rank = len(shape)
    axes = [axis - rank if negative else axis for axis in range(rank - 1)]
    named = ["n" if dynamic else batch, *shape[1:]]
    model = model_of(named, axes, keepdims, "double" if double else "float")
    x = np.random.default_rng(0).normal(size=shape).astype(np.float64 if double else np.float32)
    if special is not None and x.size:
        x.flat[0] = special
    expected = run(model, x)
    guessed = math.prod([64 if dynamic else batch, *shape[1:]])
    assert SumRowsByProduct()(model).modified == (guessed >= 4096)
    result = run(model, x)
    assert result.shape == expected.shape and result.dtype == expected.dtype
    largest = np.abs(x[np.isfinite(x)]).sum() if x.size else 0
    np.testing.assert_allclose(result, expected, rtol=0, atol=float(np.finfo(x.dtype).eps * largest))


@pytest.mark.parametrize(
    ("shape", "axes", "dtype", "backward"),
    [
        ([64, 64, 32], [0, 1], "float", False),  # forward
        ([64, 64, 32], [1], "float", True),
        ([64, 64, 32], [0, 2], "float", True),
        ([64, 64, 32], [0], "float", True),
        ([64, 64], [1], "float", True),
        ([8, 64], [0], "float", True),  # small
        ([8192, 1], [0], "float", True),  # one column
        (["n", "c"], [0], "float", True),
        ([64, 64, 32], [0, 1], "int64", True),
    ],
)
def test_other_sums_stay(shape, axes, dtype, backward):
    assert not SumRowsByProduct()(model_of(shape, axes, False, dtype, backward)).modified


def test_the_gradient_of_a_bias_has_no_reduction():
    linear = torch.nn.Linear(64, 128)
    x = torch.randn(8, 16, 64)
    program = gradport.export(linear, x, wrt="parameters", functions="inline", dynamic_shapes=({0: "batch"},))
    assert "ReduceSum" not in {node.op_type for node in program.model.graph}
