"""A fault in a file of another exporter is found at its node, and what differs is said."""

import json
import subprocess
import sys

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import gradport

pytestmark = pytest.mark.corpus  # each searches a model for a node

X = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(0))
QUICK = {"runtimes": ["onnxruntime"], "budget": 0.2, "skip": ["edge-values", "ties"]}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 6)
        self.norm = torch.nn.LayerNorm(6)
        self.convolution = torch.nn.Conv1d(2, 3, 3, padding=1)
        self.elu = torch.nn.ELU(0.3)

    def forward(self, x):
        x = torch.nn.functional.leaky_relu(self.linear(x), 0.1)
        x = torch.nn.functional.gelu(self.norm(x))
        x = self.elu(self.convolution(x)).unsqueeze(1).squeeze(1)
        return (x.transpose(1, 2) * 0.7).softmax(1)


@pytest.fixture(scope="module")
def net():
    return Net().eval()


@pytest.fixture(scope="module", params=["torch.export", "TorchScript"])
def written(request, net, tmp_path_factory):
    """The file that one of torch's exporters writes."""
    path = tmp_path_factory.mktemp("foreign") / "model.onnx"
    torch.onnx.export(net, (X,), path, dynamo=request.param == "torch.export", opset_version=20, verbose=False)
    return path


def node(model, op_type):
    return next(node for node in model.graph if node.op_type == op_type)


def set_attribute(op_type, **values):
    def plant(model):
        for name, value in values.items():
            node(model, op_type).attributes[name] = ir.convenience.convert_attribute(name, value)
        return node(model, op_type)

    return plant


def forget_alpha(model):
    del node(model, "LeakyRelu").attributes["alpha"]
    return node(model, "LeakyRelu")


def another_operator(model):
    node(model, "Elu").op_type = "Selu"
    return node(model, "Selu")


def another_bias(model):
    return change(model, model.graph.initializers["linear.bias"], 2)


def another_weight(model):
    weight = next(value for value in model.graph.initializers.values() if list(value.shape) == [4, 6])
    return change(model, weight, 7)


def change(model, value, at):
    numbers = value.const_value.numpy().copy()
    numbers.flat[at] += 0.5
    value.const_value = ir.tensor(numbers, name=value.name)
    return next(node for node in model.graph if value in node.inputs)


FAULTS = {
    "a slope": (set_attribute("LeakyRelu", alpha=0.01), "alpha is 0.01, not 0.1; PyTorch calls leaky_relu with"),
    "a default": (forget_alpha, "alpha is 0.01, not 0.1; PyTorch calls leaky_relu with negative_slope=0.1"),
    "an axis": (set_attribute("Softmax", axis=2), "axis is 2, not 1; PyTorch calls softmax with dim=1"),
    "a dilation": (
        set_attribute("Conv", dilations=[2], pads=[2, 2]),
        ("dilations is [2], not [1]", "pads is [2, 2], not [1, 1]", "PyTorch calls convolution with stride=[1]"),
    ),
    "an epsilon": (
        set_attribute("LayerNormalization", epsilon=0.1),
        ": epsilon is 0.1; PyTorch calls native_layer_norm with normalized_shape=[6], eps=1e-05.",
    ),
    "an approximation": (set_attribute("Gelu", approximate="tanh"), "approximate is tanh, not none"),
    "an operator": (another_operator, ": PyTorch calls elu with alpha=0.3."),
    "a bias": (
        another_bias,
        "is not parameter 'linear.bias': 1 of 6 elements differ, by up to 0.5; PyTorch calls addm",
    ),
    "a weight": (another_weight, "is not parameter 'linear.weight': 1 of 24 elements differ, by up to 0.5"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_its_node_and_said(written, net, fault):
    plant, said = FAULTS[fault]
    model = ir.load(written)
    spoilt = plant(model)
    finding = first_node(gradport.verify(model, net, X, **QUICK))
    assert f"{spoilt.name!r} ({spoilt.op_type})" in finding.message
    for text in (said,) if isinstance(said, str) else said:
        assert text in finding.message
    assert "test_foreign.py:" in finding.where


def test_as_it_was_written_it_is_right(written, net):
    assert gradport.verify(ir.load(written), net, X, **QUICK).ok


def first_node(evidence):
    found = [finding for finding in evidence.findings if finding.rule == "first-node"]
    assert len(found) == 1, [f.message for f in evidence.findings if f.outcome == "failed"]
    return found[0]


def by_hand(write, shape):
    """A model of one float32 input and output, by `write(x, make)` with `make(op_type, *inputs, **attributes)`."""
    x = ir.Value(name="x", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    constants, nodes = [], []

    def make(op_type, *inputs, **attributes):
        held = [value if isinstance(value, ir.Value) else constant(value) for value in inputs]
        nodes.append(ir.node(op_type, held, attributes))
        nodes[-1].name = f"{op_type}_{len(nodes)}"
        nodes[-1].outputs[0].name = f"value_{len(nodes)}"
        return nodes[-1].outputs[0]

    def constant(numbers):
        constants.append(ir.Value(name=f"constant_{len(constants)}", const_value=ir.tensor(np.array(numbers))))
        constants[-1].shape, constants[-1].dtype = constants[-1].const_value.shape, constants[-1].const_value.dtype
        return constants[-1]

    out = write(x, make)
    out.shape, out.dtype = ir.Shape(shape), ir.DataType.FLOAT
    graph = ir.Graph([x], [out], nodes=nodes, initializers=constants, opset_imports={"": 20}, name="by_hand")
    return ir.Model(graph, ir_version=10)


def test_a_node_that_only_moves_elements_is_not_blamed():
    def write(x, make):
        wide = make("Unsqueeze", x, np.array([0]))
        return make("Squeeze", make("Mul", make("Exp", wide), np.float32(3)), np.array([0]))

    model = by_hand(write, [3, 4])
    message = first_node(gradport.verify(model, lambda x: x.exp() * 2, torch.randn(3, 4), **QUICK)).message
    assert "'Mul_3' (Mul)" in message
    assert "its constant 'constant_1' is 3.0; PyTorch calls mul with other=2" in message


def test_among_the_nodes_that_write_one_operator_the_one_that_differs_is_named():
    def write(x, make):
        turned = make("Softmax", make("Transpose", x, perm=[1, 0]), axis=1)
        return make("Transpose", turned, perm=[1, 0])

    model = by_hand(write, [3, 4])
    message = first_node(gradport.verify(model, lambda x: x.softmax(1), torch.randn(3, 4), **QUICK)).message
    assert "'Softmax_2' (Softmax)" in message or "'Transpose_1'" in message


def test_a_fault_that_no_single_operator_mends_is_given_with_its_first_node():
    def write(x, make):
        return make("Add", make("Sin", x), make("Cos", x))

    model = by_hand(write, [3, 4])
    message = first_node(
        gradport.verify(model, lambda x: x.tanh() * x.sigmoid() - x.exp(), torch.randn(3, 4), **QUICK)
    ).message
    assert "(Add)" in message or "(Sin)" in message


def test_a_reproducer_is_written(written, net, tmp_path):
    model = ir.load(written)
    set_attribute("LeakyRelu", alpha=0.01)(model)
    evidence = gradport.verify(model, net, X, **QUICK, reproducer=tmp_path / "case")
    assert evidence.series["reproducer"] == str(tmp_path / "case")
    said = json.loads((tmp_path / "case" / "versions.json").read_text())
    assert said["operator"] == "LeakyRelu"
    assert said["versions"]["onnxruntime"] == onnxruntime.__version__
    run = subprocess.run([sys.executable, tmp_path / "case" / "repro.py"], capture_output=True, text=True)
    assert run.returncode == 1
    assert "DIFFERS" in run.stdout
