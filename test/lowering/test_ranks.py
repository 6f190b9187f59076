"""Scalars get the rank of a tensor whose shape ends in ones; results stay."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir.passes.common import ShapeInferencePass

from gradport.lowering.passes.ranks import MatchRanks

OPERATORS = ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"]


def model_of(text, shape, scalar):
    sizes = ",".join(map(str, shape))
    return ShapeInferencePass()(
        ir.from_onnx_text(
            f'<ir_version: 10, opset_import: ["" : 18]> g (float[{sizes}] x, float{scalar} s) => (float[{sizes}] y) '
            f"{{ c = Constant<value_float = 2.5>() {text} }}"
        )
    ).model


def run(model, x, s):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x, "s": s})[0]


@settings(max_examples=30, deadline=None)
@given(
    operators=st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=4),
    scalars=st.lists(st.sampled_from(["s", "c"]), min_size=4, max_size=4),
    swapped=st.lists(st.booleans(), min_size=4, max_size=4),
    shape=st.sampled_from([(64, 1), (16, 4, 1, 1), (64, 2, 1), (3, 5, 7)]),
    rank=st.sampled_from(["", "[1]"]),
)
def test_results_stay(operators, scalars, swapped, shape, rank):
    lines, last = [], "x"
    for number, (operator, scalar, swap) in enumerate(zip(operators, scalars, swapped)):  # noqa: B905
        name = "y" if number == len(operators) - 1 else f"v{number}"
        lines.append(f"{name} = {operator}({', '.join([scalar, last] if swap else [last, scalar])})")
        last = name
    model = model_of(" ".join(lines), shape, rank)
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    s = np.full(() if rank == "" else (1,), 1.5, np.float32)
    expected = run(model, x, s)
    assert MatchRanks()(model).modified == (shape[-1] == 1)
    np.testing.assert_array_equal(run(model, x, s), expected)
    assert not MatchRanks()(model).modified


@pytest.mark.parametrize("shape", [(3, 1), (100,), (4, 32)])
def test_other_tensors_stay(shape):
    assert not MatchRanks()(model_of("y = Mul(x, s)", shape, "")).modified


def test_a_scalar_is_reshaped_once():
    model = model_of("a = Mul(x, s) b = Add(a, s) y = Sub(s, b)", (64, 1, 1), "")
    MatchRanks()(model)
    assert [node.op_type for node in model.graph].count("Reshape") == 1
