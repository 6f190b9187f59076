"""A faster form for finite values, and an exact one for all others."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from gradport.compat.onnxscript import branch
from gradport.operators.table import op

__all__ = ["choose_if_finite"]


def choose_if_finite(values: ir.Value, finite: Callable[[], ir.Value], other: Callable[[], ir.Value]) -> ir.Value:
    """One of two results of the same shape, in branches of an If.

    Args:
        values: what decides: a sum that overflows counts as not finite.
        finite: adds the nodes of the result if the sum of all values is finite.
        other: adds the nodes of the result if it is not.
    """
    total = op.ReduceSum(values, keepdims=0)
    nothing = op.Sub(total, total)  # nan if the sum is not finite
    is_finite = op.Equal(nothing, op.CastLike(op.Constant(value_float=0.0), nothing))
    return op.If(is_finite, then_branch=branch(finite), else_branch=branch(other))
