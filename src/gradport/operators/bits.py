"""Bit shifts: ONNX has them only for unsigned integers, and the exporter's lowering loses the dtype.

Source of all: https://onnx.ai/onnx/operators/onnx__BitShift.html
"""

from __future__ import annotations

import onnx_ir as ir

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []

_LARGEST = 63


@lowering(
    _aten.__rshift__.Scalar,
    _aten.__rshift__.Tensor,
    _aten.bitwise_right_shift.Tensor,
    _aten.bitwise_right_shift.Tensor_Scalar,
    _aten.bitwise_right_shift.Scalar_Tensor,
    samples=[sample(lambda x, k: x * (k >> 1), reals("n", 4), integers("n", 4, low=-9, high=9))],
)
def right_shift(self: ir.Value | int, other: ir.Value | int) -> ir.Value:
    """`self >> other`, arithmetic: copies of the sign bit enter from the left, so for a negative number the result is
    the complement of its shifted complement."""
    dtype = _dtype(self, other)
    count = _count(other)
    if not dtype.is_signed():
        return op.Cast(op.BitShift(_bits(self), count, direction="RIGHT"), to=dtype)
    wide = _as(self, ir.DataType.INT64)
    negative = op.Less(wide, op.Constant(value_int=0))
    shifted = op.BitShift(_bits(op.Where(negative, op.BitwiseNot(wide), wide)), count, direction="RIGHT")
    plain = op.Cast(shifted, to=ir.DataType.INT64)
    return op.Cast(op.Where(negative, op.BitwiseNot(plain), plain), to=dtype)


@lowering(
    _aten.__lshift__.Scalar,
    _aten.__lshift__.Tensor,
    _aten.bitwise_left_shift.Tensor,
    _aten.bitwise_left_shift.Tensor_Scalar,
    _aten.bitwise_left_shift.Scalar_Tensor,
    samples=[sample(lambda x, k: x * (k << 2), reals("n", 4), integers("n", 4, low=-9, high=9))],
)
def left_shift(self: ir.Value | int, other: ir.Value | int) -> ir.Value:
    """`self << other`; bits beyond the dtype's width are lost."""
    dtype = _dtype(self, other)
    wide = _as(self, ir.DataType.INT64) if dtype.is_signed() else self
    shifted = op.BitShift(_bits(wide), _count(other), direction="LEFT")
    return op.Cast(op.Cast(shifted, to=ir.DataType.INT64), to=dtype)


def _dtype(self: ir.Value | int, other: ir.Value | int) -> ir.DataType:
    """The dtype of the tensors; of two, the wider."""
    types = [value.dtype for value in (self, other) if isinstance(value, ir.Value) and value.dtype is not None]
    return max(types, key=lambda dtype: dtype.bitwidth)


def _as(value: ir.Value | int, dtype: ir.DataType) -> ir.Value:
    if isinstance(value, ir.Value):
        return op.Cast(value, to=dtype)
    return op.Cast(op.Constant(value_int=value), to=dtype)


def _bits(value: ir.Value | int) -> ir.Value:
    return _as(value, ir.DataType.UINT64)


def _count(other: ir.Value | int) -> ir.Value:
    limit = op.Constant(value_int=_LARGEST)
    return op.Cast(op.Min(_as(other, ir.DataType.INT64), limit), to=ir.DataType.UINT64)
