"""Replaces CastLike by Cast, and the cast of a constant by a constant of this type.

ONNX Runtime has no kernel for CastLike: it expands the operator, and its constant folding first prints a warning for
each CastLike.

https://onnx.ai/onnx/operators/onnx__CastLike.html, https://onnx.ai/onnx/operators/onnx__Cast.html
"""

from __future__ import annotations

import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement, constant_value, is_node
from gradport.lowering.passes.types import infer_types

__all__ = ["WriteCasts"]

_FOLDED = 64
"""Maximum number of elements of a constant that this pass casts."""


class WriteCasts(ir.passes.InPlacePass):
    """Rewrites every CastLike whose type is known, also in subgraphs."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a CastLike was rewritten."""
        opset, modified = model.opset_imports[""], False
        for graph in model.graphs():
            for node in list(graph):
                infer_types(node, opset)
                if is_node(node, "CastLike"):
                    modified |= _write_cast(graph, node)
        return ir.passes.PassResult(model, modified=modified)


def _write_cast(graph: ir.Graph | ir.Function | ir.GraphView, node: ir.Node) -> bool:
    """Rewrites one CastLike; returns whether its type is known."""
    value, like = node.inputs
    if value is None or like is None or like.dtype is None or not isinstance(graph, ir.Graph):
        return False
    new = Replacement(node)
    numbers = constant_value(value)
    if value.dtype is like.dtype:
        result = value
    elif numbers is not None and numbers.size <= _FOLDED and _is_plain(like.dtype):
        tensor = ir.tensor(numbers.astype(like.dtype.numpy()), dtype=like.dtype)
        result = new.add("Constant", [], value=tensor)
        result.dtype, result.shape = like.dtype, ir.Shape(numbers.shape)
    else:
        result = new.add("Cast", [value], to=like.dtype)
        result.dtype, result.shape = like.dtype, value.shape
    if node.outputs[0].is_graph_output() and result is value:
        result = new.add("Identity", [value], like=value)
    if result is not value:
        result.name = node.outputs[0].name  # values in subgraphs are not named later
    new.replace_node(graph, result)
    return True


def _is_plain(dtype: ir.DataType) -> bool:
    """Whether numpy with ml_dtypes casts to this type in the same way as ONNX."""
    return dtype.is_floating_point() or dtype.is_integer() or dtype is ir.DataType.BOOL
