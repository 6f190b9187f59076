"""Sums of products over long rows become dot products, with the same values."""

import math

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport
from gradport.lowering.passes.dot_products import SumProductsByDot


def model_of(shape, axes, *, op="ReduceSum", keepdims=False, dtype="float", second=None, more=""):
    sizes = ",".join(map(str, shape))
    others = ",".join(map(str, shape if second is None else second))
    kept = ",".join("?" for _ in range(len(shape) if keepdims else len(shape) - len(axes or shape)))
    given_axes = ", axes" if axes else ""
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 18]> '
        f"g ({dtype}[{sizes}] a, {dtype}[{others}] b) => ({dtype}[{kept}] y{', ' + dtype + '[] z' if more else ''}) "
        f"{{ product = Mul(a, b) "
        f"axes = Constant<value = int64[{len(axes)}] {{{','.join(map(str, axes))}}}>() "
        f"y = {op}<keepdims = {int(keepdims)}>(product{given_axes}) {more} }}"
    )
    ir.passes.common.ShapeInferencePass()(model)
    return model


def run(model, **values):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, values)[0]


@settings(max_examples=60, deadline=None)
@given(
    leading=st.lists(st.integers(1, 4), max_size=2),
    trailing=st.sampled_from([(1024,), (32, 32), (8, 128), (2, 16, 64), (1023,), (5, 7)]),
    batch=st.integers(0, 3),
    dynamic=st.booleans(),
    reduced=st.sets(st.integers(0, 2)),
    negative=st.booleans(),
    op=st.sampled_from(["ReduceSum", "ReduceMean"]),
    keepdims=st.booleans(),
    special=st.sampled_from([None, np.inf, -np.inf, np.nan]),
)
def test_results_stay(leading, trailing, batch, dynamic, reduced, negative, op, keepdims, special):
    shape = [batch, *leading, *trailing]
    rank = len(shape)
    before = len(shape) - len(trailing)
    axes = [*sorted(axis for axis in reduced if axis < before), *range(before, rank)]
    if op == "ReduceMean" and batch == 0 and 0 in axes:
        return  # the mean of no element
    named = ["n" if dynamic else batch, *shape[1:]]
    model = model_of(named, [axis - rank if negative else axis for axis in axes], op=op, keepdims=keepdims)
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    if special is not None and a.size:
        a.flat[0] = special
    expected = run(model, a=a, b=b)
    long = 1024
    for axis in range(before - 1, -1, -1):  # axes before the row may belong to it
        if axis not in axes or isinstance(named[axis], str):
            break
        trailing = (named[axis], *trailing)
    assert SumProductsByDot()(model).modified == (math.prod(trailing) >= long)
    result = run(model, a=a, b=b)
    assert result.shape == expected.shape and result.dtype == expected.dtype
    with np.errstate(invalid="ignore"):
        products = np.abs(a * b)
    largest = products[np.isfinite(products)].sum() if a.size else 0
    np.testing.assert_allclose(result, expected, rtol=0, atol=float(4 * np.finfo(np.float32).eps * largest))


def test_a_sum_over_everything_becomes_one_dot_product():
    model = model_of([3, 1024], [])
    values = np.random.default_rng(0).normal(size=(2, 3, 1024)).astype(np.float32)
    expected = run(model, a=values[0], b=values[1])
    assert SumProductsByDot()(model).modified
    np.testing.assert_allclose(run(model, a=values[0], b=values[1]), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "axes", "options"),
    [
        ([2, 1024], [0], {}),
        ([2, 1024, 3], [0, 1], {}),
        ([2, 512], [1], {}),
        (["n", "m"], [1], {}),
        ([2, 1024], [1], {"dtype": "double"}),
        ([2, 1024], [1], {"second": [1, 1024]}),
        (["n", 1024], [1], {"second": ["m", 1024]}),
        ([2, 1024], [1], {"op": "ReduceMax"}),
        ([2, 1024], [1], {"more": "z = ReduceSum<keepdims = 0>(product)"}),
    ],
)
def test_other_reductions_stay(shape, axes, options):
    assert not SumProductsByDot()(model_of(shape, axes, **options)).modified


@pytest.mark.parametrize(
    ("norm", "dots"),
    [(torch.nn.BatchNorm2d(3), 2), (torch.nn.InstanceNorm2d(3), 2), (torch.nn.GroupNorm(1, 3), 1)],
)
def test_norms_have_dot_products(norm, dots):
    x, cotangent = torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    program = gradport.export(norm, x, wrt="inputs", functions="inline")
    assert [node.op_type for node in program.model.graph].count("MatMul") == dots
    result = norm(x.requires_grad_())
    (expected,) = torch.autograd.grad(result, x, cotangent)
    got, by_x, *_ = program.run(x, cotangent)
    torch.testing.assert_close((got, by_x), (result.detach(), expected), rtol=1e-5, atol=1e-5)
