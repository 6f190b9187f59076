"""Gives a scalar the rank of the tensor that it meets, where the shape of that tensor ends in ones.

ONNX Runtime walks two shapes from the back to find how far it may go in one loop. Where a shape ends in ones, a scalar
of a lower rank stops it after one element: 4 ms instead of 0.05 for [1280, 320, 1, 1] times a scalar (1.32).

https://onnx.ai/onnx/repo-docs/Broadcasting.html
"""

from __future__ import annotations

import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement, is_scalar

__all__ = ["MatchRanks"]

_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where"})

_LONG = 64
"""Elements from which a tensor is worth a Reshape of the scalar."""


class MatchRanks(ir.passes.InPlacePass):
    """Reshapes scalars that meet a tensor whose last size is 1, once for each scalar and rank."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a scalar was reshaped."""
        reshaped: dict[tuple[ir.Value, int], ir.Value] = {}
        for node in list(model.graph):
            rank = _rank_to_match(node)
            if rank is None:
                continue
            for index, value in enumerate(node.inputs):
                if value is not None and is_scalar(value):
                    if (value, rank) not in reshaped:
                        reshaped[value, rank] = _reshape(model.graph, node, value, rank)
                    node.replace_input_with(index, reshaped[value, rank])
        return ir.passes.PassResult(model, modified=bool(reshaped))


def _rank_to_match(node: ir.Node) -> int | None:
    """The rank of the tensor that an elementwise operator reads, if it is long and its last size is 1."""
    if node.domain or node.op_type not in _BINARY:
        return None
    shapes = [value.shape for value in node.inputs if value is not None and value.shape is not None]
    longest = max(shapes, key=len, default=None)
    if longest is None or len(longest) < 2 or longest[-1] != 1:
        return None
    sizes = [size if isinstance(size, int) else _LONG for size in longest]
    elements = 1
    for size in sizes:
        elements *= size
    return len(longest) if elements >= _LONG else None


def _reshape(graph: ir.Graph, node: ir.Node, value: ir.Value, rank: int) -> ir.Value:
    """The scalar with as many dimensions of size 1, before its first reader."""
    new = Replacement(node)
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None:
        array = constant.numpy().reshape([1] * rank)
        result = new.add("Constant", [], value=ir.tensor(array, dtype=constant.dtype))
        result.type, result.shape = ir.TensorType(constant.dtype), ir.Shape([1] * rank)
    else:
        result = new.add("Reshape", [value, new.constant([1] * rank)])
        result.type, result.shape = value.type, ir.Shape([1] * rank)
    graph.insert_before(node, new.nodes)
    return result
