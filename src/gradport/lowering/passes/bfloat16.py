"""bfloat16 that only stands inside a graph is computed in float32 and rounded after every operator.

That is what torch's CPU does; ONNX Runtime's CPU has no kernels for bfloat16 but the casts. A graph that takes or gives
bfloat16 is left as it is: whoever asks for that dtype has a runtime for it.
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
    """Rewrites a graph that has bfloat16 inside it only."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether an operator was rewritten."""
        graph = model.graph
        given = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
        if any(value.dtype is _HALF for value in given) or not _has_half(graph):
            return ir.passes.PassResult(model, modified=False)
        common.ShapeInferencePass()(model)  # what a lowering makes between its nodes has no shape yet
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
    made = Replacement(node)
    if node.op_type == "CastLike":
        like = node.inputs[1]
        assert like is not None and like.dtype is not None
        node.outputs[0].dtype = like.dtype
        made.put(graph, made.add("Cast", [node.inputs[0]], like=node.outputs[0], to=like.dtype))
        return
    inputs = [
        made.add("Cast", [v], to=ir.DataType.FLOAT) if v is not None and v.dtype is _HALF else v for v in node.inputs
    ]
    found = made.copy(node, inputs)
    results = []
    for before, after in zip(node.outputs, found, strict=True):
        if before.dtype is _HALF:
            after.type = ir.TensorType(ir.DataType.FLOAT)
            results.append(made.add("Cast", [after], like=before, to=_HALF))
        else:
            results.append(after)
    made.put(graph, *results)
