"""Order without arithmetic: a number that needs other values, and is the same whatever they hold.

ONNX Runtime folds and merges values that it can compute before a run. It cannot compute this number.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement

__all__ = ["UNARY", "count_nan", "hold_until", "operand_beside", "zero_after"]

UNARY = frozenset({"Cast", "Identity", "Reshape", "Transpose", "Unsqueeze"})
"""Operators between a weight and the consumer whose other operand is waited for."""


def count_nan(replacement: Replacement, values: Iterable[ir.Value]) -> ir.Value:
    """How many of the first elements of these values are nan: int64 without dimensions, never below 0."""
    return replacement.add("ReduceSum", [_nan_as_int(replacement, values)], keepdims=0)


def zero_after(replacement: Replacement, values: Iterable[ir.Value]) -> ir.Value:
    """0 as int64 `(1,)`, once these values are there."""
    count = replacement.add("ReduceSum", [_nan_as_int(replacement, values)])
    return replacement.add("Mul", [count, replacement.constant(np.array([0], dtype=np.int64))])


def hold_until(replacement: Replacement, value: ir.Value, awaited: ir.Value) -> ir.Value:
    """The value, on its own memory, once another one is there."""
    shape = replacement.constant(np.array(value.shape.numpy() if value.shape else (), np.int64))
    return replacement.add(
        "Reshape", [value, replacement.add("Add", [shape, zero_after(replacement, [awaited])])], like=value
    )


def operand_beside(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other floating-point operand of the operator that reads a weight, through transpositions."""
    others = [
        other
        for other in node.inputs
        if other is not None and other is not value and other.const_value is None and other.dtype is not None
    ]
    others = [other for other in others if other.dtype is not None and other.dtype.is_floating_point()]
    if others:
        return others[0]
    if node.domain == "" and node.op_type in UNARY:
        readers = {later for later, _ in node.outputs[0].uses()}
        first = next((later for later in node.graph or () if later in readers), None)  # its operand reads none of them
        return None if first is None else operand_beside(first, node.outputs[0])
    return None


def _nan_as_int(replacement: Replacement, values: Iterable[ir.Value]) -> ir.Value:
    """For the first element of each value 1 if it is nan, else 0; an empty value has none."""
    flat = replacement.constant(np.array([-1], dtype=np.int64))
    start, end = replacement.constant(np.array([0], np.int64)), replacement.constant(np.array([1], np.int64))
    firsts = [
        replacement.add(
            "Cast",
            [replacement.add("Slice", [replacement.add("Reshape", [value, flat]), start, end])],
            to=ir.DataType.FLOAT,
        )
        for value in values
    ]
    together = replacement.add("Concat", firsts, axis=0)
    return replacement.add("Cast", [replacement.add("IsNaN", [together])], to=ir.DataType.INT64)
