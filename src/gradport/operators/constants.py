"""Tensors from numbers and dynamic sizes, in the precision of their dtype: the exporter's lowerings go through float32,
and torch reads a dynamic size as a plain number, which fixes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import sizes_of
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op, replacement

__all__: list[str] = []

_COMPLEX = {ir.DataType.COMPLEX64: ir.DataType.FLOAT, ir.DataType.COMPLEX128: ir.DataType.DOUBLE}

_DEFAULTS = {bool: ir.DataType.BOOL, int: ir.DataType.INT64, float: ir.DataType.FLOAT, complex: ir.DataType.COMPLEX64}


@lowering(
    _aten.scalar_tensor.default,
    samples=[sample(lambda x: x.masked_fill(x > 0, 0.1), reals("n", 4, dtype=torch.float64))],
)
def scalar_tensor(s: Any, dtype: int = -1, **options: Any) -> ir.Value:
    """A number as a tensor without dimensions.

    Source: https://onnx.ai/onnx/operators/onnx__Constant.html
    """
    return _constant(s, dtype)


@lowering(_aten.full.default, samples=[sample(lambda x: x + torch.full((x.shape[0], 1), 0.1), reals("n", 4))])
def full(size: Sequence[int | ir.Value], fill_value: Any, dtype: int = -1, **options: Any) -> ir.Value:
    """A tensor filled with a number.

    Source: https://onnx.ai/onnx/operators/onnx__Expand.html
    """
    return _expand(_constant(fill_value, dtype), sizes_of(size), dtype)


@lowering(_aten.full_like.default, samples=[sample(lambda x: x * torch.full_like(x, 0.1), reals("n", 4))])
def full_like(self: ir.Value, fill_value: Any, dtype: int = -1, **options: Any) -> ir.Value:
    """A tensor filled with a number, with the shape of `self`, and its dtype if `dtype` is not given.

    Source: https://onnx.ai/onnx/operators/onnx__Expand.html
    """
    assert self.dtype is not None
    return op.Expand(_constant(fill_value, dtype if dtype not in (-1, None) else self.dtype.value), op.Shape(self))


@lowering(_aten.pow.Scalar, samples=[sample(lambda x: 2.5**x, reals("n", 4))])
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


def _expand(value: ir.Value, shape: ir.Value, dtype: int | None) -> ir.Value:
    if dtype not in (-1, None) and ir.DataType(dtype) in _COMPLEX:
        shape = op.Concat(shape, op.Constant(value_ints=[2]), axis=0)  # each complex number is a pair
    return op.Expand(value, shape)


_tensor, _linspace = torch.tensor, torch.linspace


@replacement(torch.tensor, samples=[sample(lambda x: x * torch.tensor([1.0, x.shape[0]]), reals("n", 2))])
def tensor(data: Any, *, dtype: torch.dtype | None = None, requires_grad: bool = False, **options: Any) -> torch.Tensor:
    """A tensor of numbers, some of which may be dynamic sizes.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.tensor.html
    """
    if not _holds_a_size(data):
        return _tensor(data, dtype=dtype, requires_grad=requires_grad, **options)
    stacked = _stack(data)
    return stacked.to(dtype=dtype or stacked.dtype, device=options.get("device")).requires_grad_(requires_grad)


def _holds_a_size(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return any(map(_holds_a_size, data))
    return isinstance(data, (torch.SymInt, torch.SymFloat))


def _stack(data: Any) -> torch.Tensor:
    if isinstance(data, (list, tuple)):
        rows = [_stack(row) for row in data]
        dtype = rows[0].dtype
        for row in rows[1:]:
            dtype = torch.promote_types(dtype, row.dtype)
        return torch.stack([row.to(dtype) for row in rows])
    return torch.full((), data)


@replacement(torch.linspace, samples=[sample(lambda x: x * torch.linspace(0, 1, x.shape[1]), reals(4, "n"))])
def linspace(start: Any, end: Any, steps: Any, *, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:
    """`steps` numbers, where `steps` is a dynamic size; counted from both ends, so that the last number is `end`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linspace.html
    """
    if not isinstance(steps, torch.SymInt):
        return _linspace(start, end, steps, dtype=dtype, **options)
    dtype = dtype or torch.get_default_dtype()
    count: Any = steps
    number = torch.arange(count, device=options.get("device"))
    step = (end - start) / torch.sym_max(steps - 1, 1)
    last = torch.full((), count - 1)
    rising, falling = start + step * number.to(dtype), end - step * (last - number).to(dtype)
    return torch.where(2 * number < count, rising, falling).to(dtype)
