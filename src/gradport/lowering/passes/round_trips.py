"""Removes casts to a wider floating-point type and back: they change nothing.

ONNX Runtime removes them too, at every level, but leaves their readers in subgraphs without input (seen in 1.32:
"Missing Input" in the body of a Scan).

https://onnx.ai/onnx/operators/onnx__Cast.html
"""

from __future__ import annotations

import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement, is_node

__all__ = ["RemoveRoundTrips"]

_WIDER = {
    ir.DataType.FLOAT16: {ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.BFLOAT16: {ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.FLOAT: {ir.DataType.DOUBLE},
}


class RemoveRoundTrips(ir.passes.InPlacePass):
    """Replaces `Cast(Cast(x))` by `x` if `x` has the type of the result and the type between is wider."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a cast was removed."""
        modified = False
        for graph in model.graphs():
            for node in list(graph):
                origin = _origin(node)
                if origin is not None and isinstance(graph, ir.Graph):
                    _replace(graph, node, origin)
                    modified = True
        return ir.passes.PassResult(model, modified=modified)


def _origin(node: ir.Node) -> ir.Value | None:
    """What a cast gives back unchanged."""
    first = node.inputs[0].producer() if is_node(node, "Cast") and node.inputs[0] is not None else None
    if first is None or not is_node(first, "Cast") or first.inputs[0] is None:
        return None
    origin, between = first.inputs[0], first.outputs[0].dtype
    same = origin.dtype is not None and origin.dtype is node.outputs[0].dtype
    return origin if same and between in _WIDER.get(origin.dtype or ir.DataType.UNDEFINED, ()) else None


def _replace(graph: ir.Graph, node: ir.Node, origin: ir.Value) -> None:
    new = Replacement(node)
    result = new.add("Identity", [origin], like=origin) if node.outputs[0].is_graph_output() else origin
    if result is not origin:
        result.name = node.outputs[0].name
    new.replace_node(graph, result)
