"""Numbers as tensors, in the precision of their dtype: the exporter's lowerings go through float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import sizes_of
from gradport.operators.table import lowering, op

__all__: list[str] = []

_COMPLEX = {ir.DataType.COMPLEX64: ir.DataType.FLOAT, ir.DataType.COMPLEX128: ir.DataType.DOUBLE}

_DEFAULTS = {bool: ir.DataType.BOOL, int: ir.DataType.INT64, float: ir.DataType.FLOAT, complex: ir.DataType.COMPLEX64}


@lowering(_aten.scalar_tensor.default)
def scalar_tensor(s: Any, dtype: int = -1, **options: Any) -> ir.Value:
    """A number as a tensor without dimensions.

    Source: https://onnx.ai/onnx/operators/onnx__Constant.html
    """
    return _constant(s, dtype)


@lowering(_aten.full.default)
def full(size: Sequence[int | ir.Value], fill_value: Any, dtype: int = -1, **options: Any) -> ir.Value:
    """A number, everywhere.

    Source: https://onnx.ai/onnx/operators/onnx__Expand.html
    """
    return _expanded(_constant(fill_value, dtype), sizes_of(size), dtype)


@lowering(_aten.full_like.default)
def full_like(self: ir.Value, fill_value: Any, dtype: int = -1, **options: Any) -> ir.Value:
    """A number in the shape of a tensor, and in its dtype where no other is named.

    Source: https://onnx.ai/onnx/operators/onnx__Expand.html
    """
    assert self.dtype is not None
    return op.Expand(_constant(fill_value, dtype if dtype not in (-1, None) else self.dtype.value), op.Shape(self))


@lowering(_aten.pow.Scalar)
def pow_scalar(self: float, exponent: ir.Value) -> ir.Value:
    """A number to the power of a tensor.

    Source: https://onnx.ai/onnx/operators/onnx__Pow.html
    """
    assert exponent.dtype is not None
    whole = not exponent.dtype.is_floating_point() and isinstance(self, float)
    kind = ir.DataType.FLOAT if whole else exponent.dtype
    return op.Pow(_constant(self, kind.value), op.Cast(exponent, to=kind.value) if whole else exponent)


def _constant(value: Any, dtype: int | None) -> ir.Value:
    if isinstance(value, ir.Value):
        return value if dtype in (-1, None) else op.Cast(value, to=dtype)
    kind = _DEFAULTS[type(value)] if dtype in (-1, None) else ir.DataType(dtype)
    if kind in _COMPLEX:
        pair = [complex(value).real, complex(value).imag]
        return op.Constant(value=ir.tensor(pair, dtype=_COMPLEX[kind]))
    if kind == ir.DataType.BOOL:
        value = bool(value)
    elif not kind.is_floating_point():
        value = int(value)
    return op.Constant(value=ir.tensor(value, dtype=kind))


def _expanded(value: ir.Value, shape: ir.Value, dtype: int | None) -> ir.Value:
    if dtype not in (-1, None) and ir.DataType(dtype) in _COMPLEX:
        shape = op.Concat(shape, op.Constant(value_ints=[2]), axis=0)  # a pair of numbers each
    return op.Expand(value, shape)
