"""Order without arithmetic: a number that needs other values, and is the same whatever they hold.

ONNX Runtime folds and merges values that it can compute before a run. It cannot compute this number.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement

__all__ = ["count_nan", "zero_after"]


def count_nan(replacement: Replacement, values: Iterable[ir.Value]) -> ir.Value:
    """How many of the first elements of these values are nan: int64 without dimensions, never below 0."""
    return replacement.add("ReduceSum", [_nan_as_int(replacement, values)], keepdims=0)


def zero_after(replacement: Replacement, values: Iterable[ir.Value]) -> ir.Value:
    """0 as int64 `(1,)`, once these values are there."""
    count = replacement.add("ReduceSum", [_nan_as_int(replacement, values)])
    return replacement.add("Mul", [count, replacement.constant(np.array([0], dtype=np.int64))])


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
