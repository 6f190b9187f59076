"""Replaces a select against zero by a product with the mask, if all values are finite.

ONNX Runtime's Where branches on every element, which is slow for an irregular mask; a product does not branch. But 0
times inf or nan is nan. So the product is used if the sum of the values is finite, and otherwise the select. Both give
the same numbers, except that a zero may have the sign of the masked value.

With finite_math the product is always used.

https://onnx.ai/onnx/operators/onnx__Where.html, https://onnx.ai/onnx/operators/onnx__If.html
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gradport.lowering.lower import BACKWARD
from gradport.lowering.passes.finite import replace_if_finite
from gradport.lowering.passes.replacing import Replacement, constant_value, is_node, is_zeros

__all__ = ["SelectByProduct"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Without 16-bit dtypes, because a sum in these overflows too early."""


class SelectByProduct(ir.passes.InPlacePass):
    """Rewrites every `Where(mask, x, 0)` and `Where(mask, 0, x)` of the graph; in the backward pass also those whose
    zeros are a tensor that was filled.

    Args:
        finite_math: ignore inf and nan.
    """

    def __init__(self, *, finite_math: bool) -> None:
        super().__init__()
        self._finite_math = finite_math

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a select was rewritten."""
        modified = False
        for node in list(model.graph):
            mask, one, other = node.inputs if _is_select(node) else (None, None, None)
            if mask is None or is_zeros(one) == is_zeros(other):
                continue
            kept = is_zeros(other)
            values, zeros = (one, other) if kept else (other, one)
            if not _is_scalar(zeros) and not _is_masked_gradient(node, values):
                continue
            _rewrite(model.graph, node, mask, values, kept=kept, finite_math=self._finite_math)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _is_select(node: ir.Node) -> bool:
    """Whether a node is a Where for which a product is faster."""
    result = node.outputs[0]
    if not is_node(node, "Where") or result.dtype not in _DTYPES or 0 in (result.shape or ()):
        return False
    producer = None if node.inputs[0] is None else node.inputs[0].producer()
    return producer is None or producer.op_type != "IsNaN"  # nan is rare: the branch is cheap


def _is_scalar(value: ir.Value | None) -> bool:
    constant = constant_value(value)
    return constant is not None and constant.ndim == 0


def _is_masked_gradient(select: ir.Node, values: ir.Value | None) -> bool:
    """Whether a select of the backward pass takes its shape from the values, not from the zeros.

    In the forward the sign of a zero can decide, as in the angle of a complex number.
    """
    return BACKWARD in select.metadata_props and values is not None and values.shape == select.outputs[0].shape


def _rewrite(
    graph: ir.Graph,
    select: ir.Node,
    mask: ir.Value | None,
    values: ir.Value | None,
    *,
    kept: bool,
    finite_math: bool,
) -> None:
    assert mask is not None and values is not None

    def product(inside: Replacement) -> ir.Value:
        keep = mask if kept else inside.add("Not", [mask])
        return inside.add("Mul", [values, inside.add("CastLike", [keep, values])], like=select.outputs[0])

    def select_again(inside: Replacement) -> ir.Value:
        zero = inside.add("CastLike", [inside.constant(np.float32(0)), values])  # not a tensor that is filled for it
        chosen = [values, zero] if kept else [zero, values]
        return inside.add("Where", [mask, *chosen], like=select.outputs[0])

    if finite_math:
        new = Replacement(select)
        new.replace_node(graph, product(new))
    else:
        replace_if_finite(graph, select, [values], product, select_again)
