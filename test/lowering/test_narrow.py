"""Each operator that is said to lack a type is one that the installed ONNX Runtime does not load, and loads widened."""

import importlib.metadata

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from gradport.lowering.passes.narrow import LACKING, Widen

AXIS = ir.tensor(np.array([0], np.int64))
EXTRA = {
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd"), AXIS),
    "CumSum": ir.tensor(np.array(0, np.int64)),
    "Pad": ir.tensor(np.array([1, 0, 0, 0], np.int64)),
    "TopK": ir.tensor(np.array([1], np.int64)),
}
"""A constant input behind the tensor."""

SINGLE = {"ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "ReduceSum", "ReduceProd", "CumSum", "Neg", "Pad", "TopK"}
SINGLE |= {"Trilu", "NonZero"}
LATEST = tuple(map(int, importlib.metadata.version("onnxruntime").split(".")[:2])) >= (1, 32)
PAIRS = [(op, dtype) for op, dtypes in LACKING.items() for dtype in dtypes]


def model_of(op, dtype):
    def value(name, dtype):
        return ir.Value(name=name, shape=ir.Shape([2, 2]), type=ir.TensorType(dtype))

    given = [value("a", dtype)] + ([] if op in SINGLE else [value("b", dtype)])
    inputs = [value("c", ir.DataType.BOOL), *given] if op == "Where" else given
    constants = []
    if op in EXTRA:
        constants = [ir.Value(name="k", const_value=EXTRA[op], type=ir.TensorType(EXTRA[op].dtype))]
    attributes = [ir.AttrString("equation", "ij,jk->ik")] if op == "Einsum" else []
    node = ir.Node("", op, [*inputs, *constants], attributes, num_outputs=2 if op == "TopK" else 1)
    for number, output in enumerate(node.outputs):
        output.name = f"y{number}"
    graph = ir.Graph(inputs, node.outputs, nodes=[node], initializers=constants, opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=9)


def loads(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for output in model.graph.outputs:
        if output.type is None:
            output.type = ir.TensorType(ir.DataType.BOOL)
    try:
        onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    except Exception:
        return False
    return True


def typed(model):
    """The types of the outputs as the operator's schema has them."""
    from gradport.lowering.passes.types import infer_types

    for node in model.graph:
        infer_types(node, 18)
    return model


@pytest.mark.parametrize(("op", "dtype"), PAIRS, ids=lambda part: getattr(part, "name", part))
def test_it_loads_when_it_is_widened(op, dtype):
    model = typed(model_of(op, dtype))
    assert Widen()(model).modified
    assert loads(model)


@pytest.mark.skipif(not LATEST, reason="an older ONNX Runtime may have fewer kernels, or others")
@pytest.mark.parametrize(("op", "dtype"), PAIRS, ids=lambda part: getattr(part, "name", part))
def test_it_does_not_load_as_it_is(op, dtype):
    assert not loads(typed(model_of(op, dtype)))
