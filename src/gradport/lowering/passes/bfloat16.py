"""Computes bfloat16 inside a graph in float32, and rounds after every operator.

torch does the same on the CPU; ONNX Runtime's CPU has only casts for bfloat16. A graph with bfloat16 inputs, outputs or
initializers does not change: it needs a runtime with kernels for bfloat16.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from gradport.lowering.passes.replacing import Replacement
from gradport.lowering.passes.types import infer_types

__all__ = ["RoundInside"]

_HALF = ir.DataType.BFLOAT16
_PLAIN = ("Cast", "Constant", "Identity")
"""Operators that ONNX Runtime's CPU has in every dtype."""


class RoundInside(ir.passes.InPlacePass):
    """Rewrites a graph that uses bfloat16 only inside."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether an operator was rewritten."""
        graph = model.graph
        given = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
        if any(value.dtype is _HALF for value in given) or not _has_half(graph):
            return ir.passes.PassResult(model, modified=False)
        common.ShapeInferencePass()(model)  # values inside a lowering have no shape yet
        modified = False
        for node in list(graph):
            infer_types(node, model.opset_imports[""])
            if node.op_type in _PLAIN or node.domain:
                continue
            if any(value is not None and value.dtype is _HALF for value in (*node.inputs, *node.outputs)):
                _round(graph, node)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _has_half(graph: ir.Graph) -> bool:
    return any(value.dtype is _HALF for node in graph for value in node.outputs)


def _round(graph: ir.Graph, node: ir.Node) -> None:
    new = Replacement(node)
    if node.op_type == "CastLike":
        like = node.inputs[1]
        assert like is not None and like.dtype is not None
        node.outputs[0].dtype = like.dtype
        new.replace_node(graph, new.add("Cast", [node.inputs[0]], like=node.outputs[0], to=like.dtype))
        return
    inputs = [
        new.add("Cast", [v], to=ir.DataType.FLOAT) if v is not None and v.dtype is _HALF else v for v in node.inputs
    ]
    outputs = new.copy(node, inputs)
    results = []
    for before, after in zip(node.outputs, outputs, strict=True):
        if before.dtype is _HALF:
            after.type = ir.TensorType(ir.DataType.FLOAT)
            results.append(new.add("Cast", [after], like=before, to=_HALF))
        else:
            results.append(after)
    new.replace_node(graph, *results)
