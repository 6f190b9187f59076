"""Updates in rows: the same numbers, also with outputs that lie on inputs."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir.passes.common import ShapeInferencePass

from gradport.lowering.passes.aliasing import WriteInPlace, unsafe_successors
from gradport.lowering.passes.rows import ScanRows

from .running import run

NEW = {"p": "new_p", "m": "new_m"}
TYPE = "float[3,5]"


def infer_shapes(model):
    return ShapeInferencePass()(model).model


def model_of(text):
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 18]> update ({TYPE} p, {TYPE} m, {TYPE} g, float lr) => '
        f"({TYPE} new_p, {TYPE} new_m) {{ {text} }}"
    )
    return infer_shapes(model)


@st.composite
def updates(draw):
    """The text of a random elementwise update; every name may be read again."""
    names, lines = ["p", "m", "g"], []
    for number in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["Add", "Sub", "Mul", "Max", "Neg", "Abs", "Sigmoid"]))
        first, second = draw(st.sampled_from(names)), draw(st.sampled_from([*names, "lr"]))
        operands = first if kind in ("Neg", "Abs", "Sigmoid") else f"{first}, {second}"
        lines.append(f"v{number} = {kind}({operands})")
        names.append(f"v{number}")
    for new in NEW.values():
        lines.append(f"{new} = Add({draw(st.sampled_from(names))}, {draw(st.sampled_from(names))})")
    return " ".join(lines)


@settings(max_examples=60, deadline=None)
@given(text=updates(), seed=st.integers(0, 99))
def test_rows_give_the_same_numbers_and_may_lie_on_the_state(text, seed):
    model, rng = model_of(text), np.random.default_rng(seed)
    feeds = {name: rng.standard_normal((3, 5)).astype(np.float32) for name in ("p", "m", "g")}
    feeds["lr"] = np.array(rng.standard_normal(), np.float32)
    expected = run(model, feeds)
    ScanRows([tuple(NEW.values())])(model)
    WriteInPlace(list(NEW.items()))(model)
    assert unsafe_successors(model.graph, list(NEW.items())) == []
    operators = [node.op_type for node in model.graph]
    assert "Scan" in operators or "Identity" in operators  # two equal outputs are one and its copy
    for onto in ((), NEW.items()):
        found = run(model, feeds, onto)
        for name in NEW.values():
            np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("new_p = Add(p, g) new_m = CumSum(m, axis)", "CumSum looks at other elements"),
        ("row = ReduceMax(g) new_p = Add(p, row) s = Softmax(m) new_m = Add(s, m) new_p2 = Neg(new_p)", "Softmax"),
    ],
)
def test_an_update_that_looks_at_whole_tensors_stays(text, why):
    model = model_of(text.replace("new_m = CumSum", "axis = Constant<value = int64 {0}>() new_m = CumSum"))
    modified = ScanRows([tuple(NEW.values())])(model).modified
    assert modified is False or "Softmax" in why
    assert "CumSum" not in str(model.graph) or not modified


def test_a_norm_of_all_elements_stays_outside():
    model = model_of("norm = ReduceL2<keepdims = 0>(g) c = Div(g, norm) new_p = Sub(p, c) new_m = Add(m, c)")
    assert ScanRows([tuple(NEW.values())])(model).modified
    assert [node.op_type for node in model.graph] == ["ReduceL2", "Scan"]


def test_a_state_that_the_body_reads_as_a_whole_is_not_safe():
    """A planted fault: the body of a Scan reads the whole tensor on which a row is written."""
    model = model_of("new_p = Add(p, g) new_m = Add(m, g)")
    ScanRows([tuple(NEW.values())])(model)
    body = next(node for node in model.graph if node.op_type == "Scan").attributes["body"].as_graph()
    whole = model.graph.inputs[0]
    total = ir.node("ReduceSum", [whole], {"keepdims": 0}, name="total")
    total.outputs[0].name = "total"
    body.insert_before(body[0], total)
    assert [old.name for old, _ in unsafe_successors(model.graph, list(NEW.items()))] == ["p"]
