"""CastLike becomes Cast, and a constant that is cast becomes a constant of that type.

ONNX Runtime has no kernel for CastLike: it expands the operator, and before that its constant folding prints a warning
for each one.

https://onnx.ai/onnx/operators/onnx__CastLike.html, https://onnx.ai/onnx/operators/onnx__Cast.html
"""

from __future__ import annotations

import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement, constant_value
from gradport.lowering.passes.types import infer_types

__all__ = ["WriteCasts"]

_FOLDED = 64
"""Elements up to which a constant is cast here."""


class WriteCasts(ir.passes.InPlacePass):
    """Rewrites every CastLike whose type is known, those of subgraphs too."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a CastLike was rewritten."""
        opset, modified = model.opset_imports[""], False
        for graph in model.graphs():
            for node in list(graph):
                infer_types(node, opset)
                if node.op_type == "CastLike" and not node.domain:
                    modified |= _write_cast(graph, node)
        return ir.passes.PassResult(model, modified=modified)


def _write_cast(graph: ir.Graph | ir.Function | ir.GraphView, node: ir.Node) -> bool:
    """Whether the type is known."""
    value, like = node.inputs
    if value is None or like is None or like.dtype is None or not isinstance(graph, ir.Graph):
        return False
    made = Replacement(node)
    numbers = constant_value(value)
    if value.dtype is like.dtype:
        result = value
    elif numbers is not None and numbers.size <= _FOLDED and _is_plain(like.dtype):
        tensor = ir.tensor(numbers.astype(like.dtype.numpy()), dtype=like.dtype)
        result = made.add("Constant", [], value=tensor)
        result.dtype, result.shape = like.dtype, ir.Shape(numbers.shape)
    else:
        result = made.add("Cast", [value], to=like.dtype)
        result.dtype, result.shape = like.dtype, value.shape
    if node.outputs[0].is_graph_output() and result is value:
        result = made.add("Identity", [value], like=value)
    if result is not value:
        result.name = node.outputs[0].name  # within a subgraph nobody names it later
    made.put(graph, result)
    return True


def _is_plain(dtype: ir.DataType) -> bool:
    """Whether numpy, with the help of ml_dtypes, casts to it as ONNX does."""
    return dtype.is_floating_point() or dtype.is_integer() or dtype is ir.DataType.BOOL
