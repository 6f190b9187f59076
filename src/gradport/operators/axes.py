"""Axes of operators: one number per axis, and sizes that may be static or dynamic."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gradport.operators.table import op

__all__ = ["count_up", "for_each_axis", "number", "numbers", "size_of", "sizes_of"]


def for_each_axis(values: Sequence[int], rank: int) -> list[int]:
    """One number for each of `rank` axes; a single number is repeated."""
    return list(values) * rank if len(values) == 1 else list(values)


def sizes_of(sizes: Sequence[int | ir.Value]) -> ir.Value:
    """The sizes as one tensor: a constant if all are static."""
    if all(isinstance(size, int) for size in sizes):
        return numbers(sizes)  # type: ignore[arg-type]
    one = op.Constant(value_ints=[1])
    parts = {
        size: op.Constant(value_ints=[size]) if isinstance(size, int) else op.Reshape(size, one)
        for size in dict.fromkeys(sizes)
    }
    return op.Concat(*(parts[size] for size in sizes), axis=0)


def size_of(value: ir.Value, axis: int) -> ir.Value:
    """The size along an axis counted from the end, [1]."""
    rank = len(value.shape or ())
    return op.Shape(value, start=rank + axis, end=rank + axis + 1)


def count_up(count: ir.Value) -> ir.Value:
    """0, 1, ..., count - 1; `count` is [1]."""
    return op.Range(op.Constant(value_int=0), op.Squeeze(count), op.Constant(value_int=1))


def number(value: int) -> ir.Value:
    """An integer constant, [1]."""
    return numbers([value])


def numbers(values: Sequence[int]) -> ir.Value:
    """Integer constants, [n]."""
    return op.Constant(value_ints=list(values))
