"""What operators say of axes: a number for each, and sizes that may be known or not."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gradport.operators.table import op

__all__ = ["for_each_axis", "sizes_of"]


def for_each_axis(values: Sequence[int], rank: int) -> list[int]:
    """One number for each of `rank` axes, where torch takes one for all."""
    return list(values) * rank if len(values) == 1 else list(values)


def sizes_of(sizes: Sequence[int | ir.Value]) -> ir.Value:
    """The sizes as one tensor: a constant where all are known."""
    if all(isinstance(size, int) for size in sizes):
        return op.Constant(value_ints=list(sizes))
    one = op.Constant(value_ints=[1])
    parts = {
        size: op.Constant(value_ints=[size]) if isinstance(size, int) else op.Reshape(size, one)
        for size in dict.fromkeys(sizes)
    }
    return op.Concat(*(parts[size] for size in sizes), axis=0)
