"""A select between two tensors of the backward pass as a sum of products: the same numbers, inf and nan included."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport
from gradport.lowering.lower import BACKWARD
from gradport.lowering.passes.selects import SelectBySum

SPECIAL = st.sampled_from([0.0, -0.0, 3e38, -3e38, 1e-45, np.inf, -np.inf, np.nan])


def model_of(shapes, *, dtype="float", backward=True, body="z = Where(m, x, y)"):
    m, x, y, z = ("[" + ",".join(map(str, shape)) + "]" for shape in shapes)
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 18]> '
        f"g (bool{m} m, {dtype}{x} x, {dtype}{y} y) => ({dtype}{z} z) {{ {body} }}"
    )
    for node in model.graph if backward else ():
        node.metadata_props[BACKWARD] = "1"
    return model


def run(model, **values):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, values)[0]


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.sampled_from(
        [
            [(64, 64)] * 4,
            [("n", 64)] * 4,
            [(64, 64), (), (64, 64), (64, 64)],
            [(64, 1), (64, 64), (64, 64), (64, 64)],
            [(64, 64), (64, 1), (1, 64), (64, 64)],
        ]
    ),
    double=st.booleans(),
    finite_math=st.booleans(),
    specials=st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 4095), SPECIAL), max_size=3),
)
def test_results_stay(shapes, double, finite_math, specials):
    model = model_of(shapes, dtype="double" if double else "float")
    rng = np.random.default_rng(0)
    mask, *tensors = (rng.normal(size=[64 if size == "n" else size for size in shape]) for shape in shapes[:3])
    values = {
        name: tensor.astype(np.float64 if double else np.float32) for name, tensor in zip("xy", tensors, strict=True)
    }
    for name, at, value in specials:
        if np.isfinite(value) or not finite_math:
            values[name].flat[at % values[name].size] = value
    expected = run(model, m=mask > 0, **values)
    assert SelectBySum(finite_math=finite_math)(model).modified
    assert ("If" in {node.op_type for node in model.graph}) != finite_math
    np.testing.assert_array_equal(run(model, m=mask > 0, **values), expected)


def test_two_numbers_need_no_branch():
    body = "a = Constant<value_float = 1.0>() b = Constant<value_float = 0.1>() z = Where(m, a, b)"
    model = model_of([(64, 64)] * 4, body=body)
    ir.passes.common.ShapeInferencePass()(model)
    values = np.zeros((64, 64), np.float32)
    mask = np.random.default_rng(0).normal(size=(64, 64)) > 0
    assert SelectBySum(finite_math=False)(model).modified
    assert not {node.op_type for node in model.graph} & {"Where", "If"}
    expected = np.where(mask, np.float32(1), np.float32(0.1))
    np.testing.assert_array_equal(run(model, m=mask, x=values, y=values), expected)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        ([(64, 64)] * 4, {"backward": False}),
        ([(8, 8)] * 4, {}),
        ([(64, 64)] * 4, {"dtype": "float16"}),
        ([(64, 64)] * 4, {"dtype": "int64"}),
        ([(64, 64)] * 4, {"body": "i = Constant<value = float {inf}>() z = Where(m, x, i)"}),
        ([(64, 64)] * 4, {"body": "k = IsNaN(x) z = Where(k, x, y)"}),
    ],
)
def test_other_selects_stay(shapes, options):
    assert not SelectBySum(finite_math=False)(model_of(shapes, **options)).modified


@pytest.mark.parametrize("activate", [F.leaky_relu, F.elu, F.selu, F.hardswish])
def test_gradients_of_activations_do_not_branch_on_elements(activate):
    x, g = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    program = gradport.export(activate, x, wrt="inputs", functions="inline")
    for node in program.model.graph:
        assert node.op_type != "Where" or BACKWARD not in node.metadata_props
    x.requires_grad_()
    result = activate(x)
    expected = (result.detach(), *torch.autograd.grad(result, x, g))
    torch.testing.assert_close(program.run(x.detach(), g), expected, rtol=1e-6, atol=1e-6)
