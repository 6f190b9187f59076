"""A planted fault is found at its node, in all forms, in the forward and in the backward half, and with its line."""

import importlib
import random

import onnx_ir as ir
import pytest
import torch

import gradport
from gradport.operators import table
from gradport.proving.intermediates import flat

from ..exporting import functions as fn
from . import planting

pytestmark = pytest.mark.corpus  # each searches a model for a node

room = importlib.import_module("gradport.verifying.localise")
X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
QUICK = {"runtimes": ["onnxruntime"], "budget": 0.2, "skip": ["edge-values", "ties"]}


@pytest.fixture(scope="module")
def net():
    return planting.Deep()


@pytest.fixture(
    scope="module", params=["keep", *(pytest.param(form, marks=pytest.mark.slow) for form in ("inline", "opaque"))]
)
def program(request, net):
    return gradport.export(net, X, wrt="inputs", functions=request.param)


def first_node(model, subject, x=X, **options):
    evidence = gradport.verify(model, subject, x, **{**QUICK, **options})
    assert not evidence.ok
    found = [finding for finding in evidence.findings if finding.rule == "first-node"]
    assert len(found) == 1, [f.message for f in evidence.findings if f.outcome == "failed"]
    return found[0]


def spoilt(program, kind, seed, half):
    """A copy with one fault at a random place of a half, and the node."""
    model = copied = planting.copied(program)
    backward = flat(program.model).backward()
    nodes = []
    for body in planting.bodies(copied):
        for node in body:
            inside = body is not copied.graph
            name = next((f.name for f in copied.functions.values() if f.graph is body), "") if inside else ""
            is_backward = ".backward" in name if inside else node.name in backward
            nodes += [node] if is_backward == (half == "backward") else []
    random.Random(seed).shuffle(nodes)
    node = next(node for node in nodes if planting.plant(node, kind))
    return model, node


def test_the_backward_has_five_hundred_nodes(program):
    assert len(flat(program.model).backward()) >= 500


@pytest.mark.parametrize("kind", ["operator", "edge", "constant"])
def test_a_fault_in_the_backward_is_found_at_its_node(program, net, kind):
    model, node = spoilt(program, kind, kind, "backward")
    finding = first_node(model, net)
    assert f"{node.name!r} ({node.op_type})" in finding.message
    assert "in the backward pass" in finding.message
    assert finding.kind == f"backward {node.op_type}"
    assert "planting.py:" in finding.where


@pytest.mark.parametrize("kind", ["operator", "attribute"])
def test_a_fault_in_the_forward_is_found_at_its_node(program, net, kind):
    model, node = spoilt(program, kind, 7, "forward")
    finding = first_node(model, net)
    assert f"{node.name!r} ({node.op_type})" in finding.message
    assert "in the forward pass" in finding.message


def test_the_module_and_the_function_are_named(net):
    program = gradport.export(net, X, wrt="inputs")
    model = planting.copied(program)
    function = next(f for f in model.functions.values() if ".backward" in f.name)
    node = next(node for node in function.graph if planting.plant(node, "operator"))
    message = first_node(model, net).message
    assert f"{node.name!r}" in message
    assert f"of the function {planting.__name__}::{function.name}" in message
    model = planting.copied(program)
    gemm = [node for node in model.graph if node.op_type == "Gemm"][3]
    planting.plant(gemm, "attribute")
    assert "in module 'layers.3'" in first_node(model, net).message


def test_another_weight_is_found_where_it_is_read(net):
    model = planting.copied(gradport.export(net, X, wrt="inputs"))
    weight = model.graph.initializers["layers.5.bias"]
    weight.const_value = ir.tensor(weight.const_value.numpy()[::-1].copy(), name="layers.5.bias")
    assert "in module 'layers.5'" in first_node(model, net).message


def test_a_model_too_large_for_its_values_is_bisected(net, monkeypatch):
    program = gradport.export(net, X, wrt="inputs", functions="inline")
    model, node = spoilt(program, "operator", 3, "backward")
    fetched = []
    fetch = room.fetch_values
    monkeypatch.setattr(room, "_BYTES", 0)
    monkeypatch.setattr(room, "fetch_values", lambda *args: fetched.append(len(args[3])) or fetch(*args))
    finding = first_node(model, net)
    assert f"{node.name!r}" in finding.message
    assert max(fetched) < len(list(model.graph)) / 2
    assert len(fetched) < 40


def test_a_wrong_lowering_is_found_by_the_trace(monkeypatch):
    def wrong(x):
        from gradport.operators.table import op

        return op.Add(op.Exp(x), op.CastLike(op.Constant(value_float=1e-2), x))

    monkeypatch.setattr(table, "_ROWS", list(table._ROWS))
    table.lowering(torch.ops.aten.exp.default)(wrong)
    program = gradport.export(fn.Swish, X, wrt="inputs", verify=False)
    finding = first_node(program, fn.Swish)
    assert "aten.exp.default in the forward of Swish" in finding.message
    assert "its lowering is wrong" in finding.message
    assert "functions.py:" in finding.where


def test_how_far_each_node_departs_is_kept_for_a_plot(net):
    model, node = spoilt(gradport.export(net, X, wrt="inputs", functions="inline"), "operator", 5, "backward")
    series = gradport.verify(model, net, X, **QUICK).series["divergence"]
    departed = [entry["node"] for entry in series if entry["relative"] > 0]
    assert departed[0] == node.name
    assert len(series) == len(list(model.graph))


def test_a_fault_that_only_other_weights_show_is_found_at_its_node():
    """A factor of 1 in place of a weight that is 1: the new export of the subject has the weights of the case too."""
    norm = torch.nn.LayerNorm(6)
    model = planting.copied(gradport.export(norm, X, wrt="inputs"))
    (node,) = [
        node
        for node in model.graph
        if node.op_type == "Mul" and any(value.name == "weight" for value in node.inputs if value is not None)
    ]
    place = next(place for place, value in enumerate(node.inputs) if value.name == "weight")
    one = ir.node("Constant", [], {"value": ir.tensor(1.0)}, name="one")
    model.graph.insert_before(node, one)
    node.replace_input_with(place, one.outputs[0])
    finding = first_node(model, norm)
    assert f"{node.name!r} (Mul)" in finding.message
