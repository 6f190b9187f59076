"""Half precision in lowerings: computed in float32, as in torch's kernels."""

from __future__ import annotations

import onnx_ir as ir

from gradport.operators.table import op

__all__ = ["kind_of", "narrow", "scalar", "shaped", "widen"]

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def kind_of(x: ir.Value) -> ir.DataType:
    """The dtype of the computation."""
    return ir.DataType.DOUBLE if x.dtype is ir.DataType.DOUBLE else ir.DataType.FLOAT


def widen(value: ir.Value | None) -> ir.Value:
    """A value of a narrow dtype as float32; others stay."""
    assert value is not None
    return op.Cast(value, to=ir.DataType.FLOAT) if value.dtype in _NARROW else value


def narrow(value: ir.Value, like: ir.Value | None) -> ir.Value:
    """The value in the dtype of `like`, if that is a narrow one."""
    if like is None or like.dtype not in _NARROW:
        return value
    return op.Cast(value, to=like.dtype)


def shaped(value: ir.Value, like: ir.Value) -> ir.Value:
    """The value, which has the shape and dtype of `like`: passes look at them, and results of `op` have none."""
    value.shape, value.type = like.shape, like.type
    return value


def scalar(value: float, kind: ir.DataType) -> ir.Value:
    """A constant without dimensions."""
    return op.Constant(value=ir.tensor(value, dtype=kind))
