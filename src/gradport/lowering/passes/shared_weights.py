"""Keeps a runtime from copying large weights that several sessions share.

ONNX Runtime folds the transposition of a constant, and packs the constant operand of a matrix product: copies of a
weight in each session. Here each use passes a Reshape to the shape of the weight plus a zero that is computed from the
other operand; no runtime folds or packs that.
"""

from __future__ import annotations

import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement
from gradport.lowering.passes.waiting import hold_until, operand_beside

__all__ = ["ShareWeights"]

_LARGE = 2**16
"""Elements of a weight from which it is shared."""


class ShareWeights(ir.passes.InPlacePass):
    """Holds each use of a large floating-point initializer of two dimensions by a matrix product until it runs."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for value in list(model.graph.initializers.values()):
            if _is_large_matrix(value):
                for node, index in list(value.uses()):
                    modified |= _hold(model.graph, node, index, value)
        if modified:
            model.graph.sort()  # a transposition may stand before the operand that its weight waits for
        return ir.passes.PassResult(model, modified=modified)


def _is_large_matrix(value: ir.Value) -> bool:
    tensor = value.const_value
    return (
        tensor is not None
        and tensor.dtype.is_floating_point()
        and len(tensor.shape) == 2
        and tensor.size >= _LARGE
        and value.shape is not None
    )


def _hold(graph: ir.Graph, node: ir.Node, index: int, value: ir.Value) -> bool:
    if node.graph is not graph or node.domain or node.op_type not in ("Gemm", "MatMul", "Transpose"):
        return False
    awaited = operand_beside(node, value)
    if awaited is None:
        return False
    replacement = Replacement(node)
    node.replace_input_with(index, hold_until(replacement, value, awaited))
    graph.insert_before(node, replacement.nodes)
    return True
