"""Average pooling, plain and adaptive: along each axis a product with a matrix (windows, elements)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import count_up, for_each_axis, number, size_of
from gradport.operators.samples import reals, sample
from gradport.operators.table import constant, decomposition, lowering, op

__all__: list[str] = []


@decomposition(
    _aten._adaptive_avg_pool3d.default,
    samples=[sample(lambda x: F.adaptive_avg_pool3d(x, (2, 1, 2)), reals("n", 2, 4, 3, 3))],
)
def adaptive_avg_pool3d(self: torch.Tensor, output_size: Sequence[int]) -> torch.Tensor:
    """The mean of each window, one axis at a time: a product with a matrix (windows, elements).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool3d.html
    """
    pooled = self
    for axis, count in zip((-3, -2, -1), output_size, strict=True):
        size = int(self.shape[axis])
        rows = []
        for i in range(count):
            start, end = i * size // count, -(-(i + 1) * size // count)
            rows.append([1 / (end - start) if start <= at < end else 0.0 for at in range(size)])
        pooled = _weigh(pooled, axis, rows)
    return pooled


@decomposition(
    _aten.avg_pool2d.default, samples=[sample(lambda x: F.avg_pool2d(x, 2, ceil_mode=True), reals("n", 2, 5, 5))]
)
def avg_pool2d(self: torch.Tensor, kernel_size: Sequence[int], *options: Any) -> torch.Tensor:
    """The mean of each window, as above, if `ceil_mode` may cut off the last window or a divisor is given.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html
    """
    return _avg_pool(2, self, kernel_size, *options)


@decomposition(
    _aten.avg_pool3d.default, samples=[sample(lambda x: F.avg_pool3d(x, 2, divisor_override=3), reals("n", 1, 4, 4, 4))]
)
def avg_pool3d(self: torch.Tensor, kernel_size: Sequence[int], *options: Any) -> torch.Tensor:
    """As above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool3d.html
    """
    return _avg_pool(3, self, kernel_size, *options)


def _avg_pool(
    rank: int,
    self: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> torch.Tensor:
    if divisor_override is None and not ceil_mode:
        return NotImplemented  # ONNX's AveragePool is right
    kernels, strides, pads = (for_each_axis(values, rank) for values in (kernel_size, stride or kernel_size, padding))
    pooled = self
    for axis, kernel, step, pad in zip(range(-rank, 0), kernels, strides, pads, strict=True):
        size = int(self.shape[axis])
        over = size + 2 * pad - kernel
        count = (-(-over // step) if ceil_mode else over // step) + 1
        count -= ceil_mode and (count - 1) * step >= size + pad  # a window may not begin in the padding at the end
        rows = []
        for i in range(count):
            start = i * step - pad
            end = min(start + kernel, size + pad)
            inside = range(max(start, 0), min(end, size))
            length = end - start if count_include_pad else len(inside)
            share = 1.0 if divisor_override is not None else 1 / length
            rows.append([share if at in inside else 0.0 for at in range(size)])
        pooled = _weigh(pooled, axis, rows)
    return pooled if divisor_override is None else pooled / divisor_override


def _weigh(x: torch.Tensor, axis: int, rows: list[list[float]]) -> torch.Tensor:
    """Each element of the result along an axis is the sum of that axis, weighted by a row."""
    return (x.movedim(axis, -1) @ constant(rows, x.dtype).mT).movedim(-1, axis)


@lowering(
    _aten.avg_pool2d_backward.default,
    _aten.avg_pool3d_backward.default,
    samples=[sample(lambda x: F.avg_pool2d(x, 3, stride=2, padding=1), reals("n", 2, 5, 5))],
)
def avg_pool_backward(
    grad_output: ir.Value,
    self: ir.Value,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> ir.Value:
    """Adds each cotangent, divided by the size of its window, to every element of the window.

    Along each axis this is a product with a matrix (windows, elements) of zeros and ones: two or three MatMuls.
    Windows without overlap repeat their cotangent instead.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html
    """
    rank = len(kernel_size) if len(kernel_size) > 1 else (2 if len(self.shape or ()) <= 4 else 3)
    kernels = for_each_axis(kernel_size, rank)
    strides, pads = for_each_axis(stride, rank) if stride else kernels, for_each_axis(padding, rank)
    if kernels == strides and not any(pads) and not ceil_mode:
        return _repeat(grad_output, self, kernels, divisor_override)
    spread = grad_output
    for at in range(rank):
        axis = at - rank
        size, count = size_of(self, axis), size_of(grad_output, axis)
        start = op.Sub(op.Mul(count_up(count), number(strides[at])), number(pads[at]))
        end = op.Min(op.Add(start, number(kernels[at])), op.Add(size, number(pads[at])))
        first, last = op.Max(start, number(0)), op.Min(end, size)
        length = op.Sub(end, start) if count_include_pad else op.Sub(last, first)
        if divisor_override is not None:
            length = op.Max(op.Sub(length, length), number(1))
        spread = _along(spread, _windows(first, last, length, size, spread), axis)
    if divisor_override is not None:
        spread = op.Div(spread, op.CastLike(op.Constant(value_float=float(divisor_override)), spread))
    return spread


def _repeat(grad_output: ir.Value, self: ir.Value, kernels: Sequence[int], divisor: int | None) -> ir.Value:
    """Repeats each cotangent for every element of its window; zeros outside the windows."""
    count = divisor or math.prod(kernels)
    spread = op.Div(grad_output, op.CastLike(op.Constant(value_float=float(count)), grad_output))
    for at, kernel in enumerate(kernels):
        axis = at - len(kernels)
        window = op.Div(count_up(size_of(self, axis)), number(kernel))
        windows = size_of(grad_output, axis)
        covered = op.Gather(spread, op.Min(window, op.Sub(windows, number(1))), axis=axis)
        inside = op.Reshape(op.Less(window, windows), op.Constant(value_ints=[-1] + [1] * (-axis - 1)))
        spread = op.Where(inside, covered, op.CastLike(op.Constant(value_float=0.0), covered))
    return spread


@lowering(
    _aten._adaptive_avg_pool2d_backward.default,
    samples=[sample(lambda x: F.adaptive_avg_pool2d(x, (2, 3)), reals("n", 2, 5, 4))],
)
def adaptive_avg_pool2d_backward(grad_output: ir.Value, self: ir.Value) -> ir.Value:
    """As above; window i of o has the elements from floor(i n / o) up to ceil((i + 1) n / o).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html
    """
    return _spread_adaptively(grad_output, self, 2)


@lowering(
    _aten._adaptive_avg_pool3d_backward.default,
    samples=[sample(lambda x: F.adaptive_avg_pool3d(x, (2, 1, 2)), reals("n", 2, 4, 3, 3))],
)
def adaptive_avg_pool3d_backward(grad_output: ir.Value, self: ir.Value) -> ir.Value:
    """As above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool3d.html
    """
    return _spread_adaptively(grad_output, self, 3)


def _spread_adaptively(grad_output: ir.Value, self: ir.Value, rank: int) -> ir.Value:
    spread = grad_output
    for axis in range(-rank, 0):
        size, count = size_of(self, axis), size_of(grad_output, axis)
        place = count_up(count)
        first = op.Div(op.Mul(place, size), count)
        whole = op.Mul(op.Add(place, number(1)), size)
        last = op.Div(op.Add(whole, op.Sub(count, number(1))), count)
        spread = _along(spread, _windows(first, last, op.Sub(last, first), size, spread), axis)
    return spread


def _windows(first: ir.Value, last: ir.Value, length: ir.Value, size: ir.Value, like: ir.Value) -> ir.Value:
    """A matrix (windows, elements): 1 / length where the element is in the window."""
    column = op.Constant(value_ints=[1])
    element = count_up(size)
    first, last = op.Unsqueeze(first, column), op.Unsqueeze(last, column)
    inside = op.And(op.GreaterOrEqual(element, first), op.Less(element, last))
    return op.Div(op.CastLike(inside, like), op.CastLike(op.Unsqueeze(length, column), like))


def _along(x: ir.Value, matrix: ir.Value, axis: int) -> ir.Value:
    """`x` times the matrix along one axis, counted from the end."""
    if axis == -1:
        return op.MatMul(x, matrix)
    if axis == -2:
        return op.MatMul(op.Transpose(matrix, perm=[1, 0]), x)
    rank = len(x.shape or ()) or 5
    order = [*range(rank)]
    order[axis], order[-1] = order[-1], order[axis]
    return op.Transpose(op.MatMul(op.Transpose(x, perm=order), matrix), perm=order)
