"""Equal updates of small tensors are one update of a vector, with the same numbers."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_ir.passes.common import ShapeInferencePass

from gradport.lowering.lower import REGION
from gradport.lowering.passes.aliasing import WriteInPlace, unsafe_successors
from gradport.lowering.passes.batched_updates import BatchUpdates

from .running import run

SHAPES = ([1], [3], [5], [2, 3], [4, 1], [2, 1, 3], [1, 1])
VALUES = np.array([0.0, -0.0, 1.5, -2.0, 3e38, np.inf, -np.inf, np.nan, 1e-42], np.float32)


def names(number):
    """State, its successors and the gradient of one parameter: a tensor, its moment and a count."""
    return {key: f"{key}{number}" for key in ("p", "m", "t", "g")}


def pairs(count):
    return [(f"{key}{number}", f"new_{key}{number}") for number in range(count) for key in "pmt"]


def model_of(shapes, lines):
    """The same update of a tensor of each shape; `{p}` is its parameter, `{v0}` a value of its own."""
    inputs, outputs, text = ["float lr"], [], []
    for number, shape in enumerate(shapes):
        kind = f"float[{','.join(map(str, shape))}]"
        inputs += [f"{kind} {key}{number}" for key in "pmg"] + [f"float t{number}"]
        outputs += [f"{kind} new_p{number}", f"{kind} new_m{number}", f"float new_t{number}"]
        text += [line.format(**names(number), **{f"v{k}": f"v{k}_{number}" for k in range(18)}) for line in lines]
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 20]> update ({", ".join(inputs)}) => ({", ".join(outputs)}) '
        f"{{ half = Constant<value = float {{0.5}}>() {' '.join(text)} }}"
    )
    for number, node in enumerate(model.graph):
        node.name = f"node{number}"
    return ShapeInferencePass()(model).model


ADAM = [
    "new_{t} = Add({t}, half)",
    "{v0} = Pow(half, new_{t})",
    "{v1} = Sub(half, {v0})",
    "{v2} = Div(lr, {v1})",
    "{v3} = Neg({v2})",
    "{v4} = Mul({v3}, half)",
    "{v5} = Abs({v0})",
    "{v6} = Sqrt({v5})",
    "{v7} = Mul({v6}, lr)",
    "{v8} = Sub({g}, {m})",
    "{v9} = Mul({v8}, half)",
    "new_{m} = Add({m}, {v9})",
    "{v10} = Mul(new_{m}, {v4})",
    "{v11} = Abs({v10})",
    "{v12} = Sqrt({v11})",
    "{v13} = Mul(lr, half)",
    "{v14} = Mul({p}, {v13})",
    "{v15} = Sub({v14}, {v12})",
    "new_{p} = Add({v15}, {v7})",
]


@st.composite
def updates(draw):
    """Lines of a random elementwise update. A value may be read again; scalars stay scalars."""
    tensors, scalars, lines = ["{p}", "{m}", "{g}"], ["{t}", "lr", "half"], []
    for number in range(draw(st.integers(2, 10))):
        kind = draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Neg", "Abs", "Sqrt", "Identity"]))
        to, tensor = f"{{v{number}}}", draw(st.booleans())
        first = draw(st.sampled_from(tensors if tensor else scalars))
        second = draw(st.sampled_from([*tensors, *scalars] if tensor else scalars))
        unary = kind in ("Neg", "Abs", "Sqrt", "Identity")
        lines.append(f"{to} = {kind}({first})" if unary else f"{to} = {kind}({first}, {second})")
        (tensors if tensor else scalars).append(to)
    own = [name for name in scalars if name not in ("lr", "half")]
    ends = {"p": draw(st.sampled_from(tensors)), "m": draw(st.sampled_from(tensors)), "t": draw(st.sampled_from(own))}
    return lines + [f"new_{{{key}}} = Add({value}, half)" for key, value in ends.items()]


def feeds_of(model, seed):
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        array = rng.standard_normal(value.shape.numpy()).astype(np.float32)
        feeds[value.name] = np.where(rng.random(array.shape) < 0.2, rng.choice(VALUES, array.shape), array)
    return {name: np.asarray(array, np.float32) for name, array in feeds.items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        zeros = expected[name] == 0
        np.testing.assert_array_equal(np.signbit(found[name][zeros]), np.signbit(expected[name][zeros]), err_msg=name)


@given(st.lists(st.sampled_from(SHAPES), min_size=2, max_size=6), updates(), st.integers(0, 2**16))
def test_the_numbers_stay_and_state_may_be_written_in_place(shapes, lines, seed):
    model = model_of(shapes, lines)
    feeds = feeds_of(model, seed)
    expected = run(model, feeds)
    BatchUpdates()(model)
    assert_equal(run(model, feeds), expected)
    WriteInPlace(pairs(len(shapes)))(model)
    assert unsafe_successors(model.graph, pairs(len(shapes))) == []
    assert_equal(run(model, feeds, pairs(len(shapes))), expected)


def operators(model):
    return [node.op_type for node in model.graph if node.op_type != "Constant"]


@pytest.mark.parametrize("shapes", [[[3], [5], [4]] * 4, [[2, 3], [4, 1, 2], [7, 1]] * 4])
def test_many_updates_have_the_operators_of_one(shapes):
    model = model_of(shapes, ADAM)
    before = feeds_of(model, 0)
    expected = run(model, before)
    assert BatchUpdates()(model).modified
    assert_equal(run(model, before), expected)
    for operator in ("Pow", "Sqrt", "Sub", "Add", "Mul"):
        assert operators(model).count(operator) <= sum(f" {operator}(" in line for line in ADAM)
    assert not BatchUpdates()(model).modified
    assert unsafe_successors(model.graph, pairs(len(shapes))) == []


def test_the_scalars_of_a_large_tensor_join_those_of_small_ones():
    model = model_of([[3], [5], [4], [100, 100]], ADAM)
    BatchUpdates()(model)
    assert operators(model).count("Pow") == 1
    assert operators(model).count("Sub") == 5  # one of the scalars, two of the vector, two of the large tensor


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            ["new_{t} = Add({t}, half)", "new_{m} = Add({m}, {g})", "new_{p} = Softmax({p})"],
            "Softmax sums elements",
        ),
        ([*ADAM[:-1], "{v16} = CumSum({v15}, zero)", "new_{p} = Add({v16}, {v0})"], "CumSum looks at other elements"),
    ],
)
def test_an_update_that_looks_at_other_elements_stays(lines, why):
    lines = [line.replace("zero", "{v17}") for line in lines]
    lines.insert(0, "{v17} = Constant<value = int64 {{0}}>()")
    model = model_of([[3], [5], [4]], lines)
    tensors = [operator for operator in operators(model) if operator in ("Softmax", "CumSum")]
    BatchUpdates()(model)
    assert [operator for operator in operators(model) if operator in ("Softmax", "CumSum")] == tensors, why


def test_limits_of_a_clip_are_no_vectors():
    """Each parameter has limits of its own, which Clip takes as scalars only."""
    lines = ["new_{t} = Abs({t})", "{v0} = Neg(new_{t})", "new_{m} = Clip({m}, {v0}, new_{t})"]
    lines += ["{v1} = Mul({g}, lr)", "{v2} = Sub({p}, {v1})", "new_{p} = Add({v2}, new_{m})"]
    model = model_of([[3], [5], [4]] * 3, lines)
    feeds = feeds_of(model, 1)
    expected = run(model, feeds)
    assert BatchUpdates()(model).modified
    assert operators(model).count("Clip") == 9
    assert_equal(run(model, feeds), expected)


def test_scalars_that_a_split_into_other_sizes_gives_are_read_one_by_one():
    """The second part of this vector is its third element."""
    chain = " ".join(
        f"s{k} = Reshape(part{k}, empty) a{k} = Mul(p{k}, s{k}) b{k} = Abs(a{k}) c{k} = Sqrt(b{k}) d{k} = Neg(c{k}) "
        f"e{k} = Add(d{k}, d{k}) q{k} = Mul(e{k}, e{k})"
        for k in (1, 2)
    )
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 18]> update (float[4] v, float[3] p1, float[5] p2) => '
        "(float[3] q1, float[5] q2) { sizes = Constant<value = int64[3] {2, 1, 1}>() "
        f"empty = Constant<value = int64[0] {{}}>() part0, part1, part2 = Split<axis = 0>(v, sizes) {chain} }}"
    )
    for number, node in enumerate(model.graph):
        node.name = f"node{number}"
    model = ShapeInferencePass()(model).model
    feeds = {name: np.arange(1, size + 1, dtype=np.float32) for name, size in (("v", 4), ("p1", 3), ("p2", 5))}
    expected = run(model, feeds)
    assert BatchUpdates()(model).modified
    assert_equal(run(model, feeds), expected)


def test_nodes_of_a_custom_function_stay():
    model = model_of([[3], [5], [4]], ADAM)
    for node in model.graph:
        node.metadata_props[REGION] = "1"
    assert not BatchUpdates()(model).modified


def test_nodes_that_nobody_reads_stay():
    """The border of a custom Function is such a node."""
    model = model_of([[3], [5], [4]] * 2, ADAM)
    border = ir.node("Identity", [model.graph.inputs[1]], name="border")
    model.graph.append(border)
    assert BatchUpdates()(model).modified
    assert border in list(model.graph)
    assert all(
        node is border or any(value.uses() or value.is_graph_output() for value in node.outputs)
        for node in model.graph
        if node.op_type != "Constant"
    )


def test_a_part_of_a_vector_that_an_earlier_node_overwrites_is_not_safe():
    """A planted fault: another reader of the state does not stand before the Split."""
    model = model_of([[3], [5], [4]] * 4, ADAM)
    BatchUpdates()(model)
    late = ir.node("Neg", [model.graph.inputs[1]], name="late")
    late.outputs[0].name, late.outputs[0].type = "late", model.graph.inputs[1].type
    model.graph.append(late)
    model.graph.outputs.append(late.outputs[0])
    assert [old.name for old, _ in unsafe_successors(model.graph, pairs(12))] == ["p0"]
