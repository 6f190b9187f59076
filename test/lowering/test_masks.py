"""A select against zero as a product: the same numbers, inf and nan included."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import gradport
from gradport.lowering.lower import BACKWARD
from gradport.lowering.passes import rewrite

SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -2.5, 3e38, -3e38, 1e-45, np.inf, -np.inf, np.nan])

MODELS = {
    "kept": "d = Where(m, g, zero)",
    "masked": "d = Where(m, zero, g)",
}

FILLED = {
    "filled": "s = Shape(g) zeros = Expand(zero, s) d = Where(m, g, zeros)",
    "filled by shape": "s = Shape(g) zeros = ConstantOfShape(s) d = Where(m, zeros, g)",
}


def model_of(body):
    return onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> agraph (bool[N] m, float[N] g) => (float[N] d) '
        f"{{ zero = Constant<value_float=0.0>() {body} }}"
    )


def rewritten(proto, finite_math=False, backward=True):
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    for node in model.graph if backward else ():
        node.metadata_props[BACKWARD] = "1"
    rewrite(model, finite_math=finite_math)
    return model


def run(model, **feeds):
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("body", [*MODELS.values(), *FILLED.values()], ids=[*MODELS, *FILLED])
@given(data=st.data())
def test_the_same_numbers(body, data):
    size = data.draw(st.integers(0, 9))
    mask = data.draw(arrays.arrays(np.bool_, size))
    values = data.draw(arrays.arrays(np.float32, size, elements=st.floats(width=32) | SPECIAL.map(np.float32)))
    proto = model_of(body)
    model = rewritten(proto)
    assert [node.op_type for node in model.graph][-1] == "If"
    np.testing.assert_array_equal(run(model, m=mask, g=values), run(proto, m=mask, g=values))


@pytest.mark.parametrize("body", FILLED.values(), ids=FILLED)
def test_filled_zeros_of_a_forward_stay(body):
    assert "Where" in [node.op_type for node in rewritten(model_of(body), backward=False).graph]


def test_zeros_that_give_the_result_its_shape_stay():
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> agraph (bool[1] m, float[1] g, int64[1] s) => (float[N] d) '
        "{ zeros = ConstantOfShape(s) d = Where(m, g, zeros) }"
    )
    model = rewritten(proto)
    assert "Where" in [node.op_type for node in model.graph]
    feeds = {"m": np.array([True]), "g": np.array([2.0], np.float32), "s": np.array([3])}
    np.testing.assert_array_equal(run(model, **feeds), np.full(3, 2.0, np.float32))


def test_finite_math_takes_the_product_alone():
    model = rewritten(model_of(MODELS["kept"]), finite_math=True)
    assert [node.op_type for node in model.graph] == ["Constant", "Cast", "Mul"]
    found = run(model, m=np.array([True, False]), g=np.array([2.0, np.inf], np.float32))
    assert found[0] == 2 and np.isnan(found[1])


def test_what_is_no_select_against_zero_stays():
    for body in ("d = Where(m, g, g)", "one = Constant<value_float=1.0>() d = Where(m, g, one)"):
        assert "Where" in [node.op_type for node in rewritten(model_of(body)).graph]


class Masked(torch.autograd.Function):
    """A boolean write in the backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        cotangent = cotangent.clone()
        cotangent[x < 0] = 0
        return cotangent


@pytest.mark.parametrize("form", ["keep", "inline"])
@pytest.mark.parametrize("finite_math", [False, True])
def test_a_boolean_write_through_export(form, finite_math):
    program = gradport.export(
        Masked, torch.randn(5), wrt="inputs", functions=form, finite_math=finite_math, dynamic_shapes={"x": {0: "n"}}
    )
    kinds = {node.op_type for node in program.model.graph.all_nodes()}
    for function in program.model.functions.values():
        kinds |= {node.op_type for node in function.graph.all_nodes()}
    assert not kinds & {"NonZero", "ScatterND"}
    assert ("If" in kinds) != finite_math
    x = torch.tensor([-1.0, 2.0, -3.0, 4.0])
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), float("nan")])
    found = program.run(x, special)[-1]
    if not finite_math:
        assert torch.equal(found.nan_to_num(7.0), torch.tensor([0.0, float("inf"), 0.0, 7.0]).nan_to_num(7.0))


def test_equal_bodies_keep_one_name():
    """A subgraph inside a body is named by its place, so that the hash does not depend on what stood around it."""
    alone = gradport.export(Masked, torch.randn(5), wrt="inputs")
    among = gradport.export(lambda x: Masked.apply(torch.where(x > 1, x, 0)), torch.randn(5), wrt="inputs")
    assert {info.name for info in alone.functions} == {info.name for info in among.functions}
