"""Max pooling with the places of the maxima, and gradients of average pooling, fixed and adaptive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import for_each_axis
from gradport.operators.table import lowering, op

__all__: list[str] = []


@lowering(_aten.max_pool2d_with_indices.default)
def max_pool2d_with_indices(
    self: ir.Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[ir.Value, ir.Value]:
    """Maxima, and their places counted within each image; ONNX counts them over the whole batch.

    Source: https://onnx.ai/onnx/operators/onnx__MaxPool.html
    """
    return _max_pool(self, 2, kernel_size, stride, padding, dilation, ceil_mode)


@lowering(_aten.max_pool3d_with_indices.default)
def max_pool3d_with_indices(
    self: ir.Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[ir.Value, ir.Value]:
    """As above.

    Source: as above
    """
    return _max_pool(self, 3, kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool(
    x: ir.Value,
    rank: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[ir.Value, ir.Value]:
    kernels = for_each_axis(kernel_size, rank)
    alone = len(x.shape or ()) == rank + 1
    batch = op.Unsqueeze(x, _number(0)) if alone else x
    maxima, places = op.MaxPool(
        batch,
        kernel_shape=kernels,
        strides=for_each_axis(stride, rank) if stride else kernels,
        pads=for_each_axis(padding, rank) * 2,
        dilations=for_each_axis(dilation, rank),
        ceil_mode=int(ceil_mode),
    )
    images = op.Shape(batch, start=0, end=2)
    number = _range(op.ReduceProd(images))
    before = op.Mul(number, op.ReduceProd(op.Shape(batch, start=2)))
    within = op.Sub(places, op.Reshape(before, op.Concat(images, op.Constant(value_ints=[1] * rank), axis=0)))
    return (op.Squeeze(maxima, _number(0)), op.Squeeze(within, _number(0))) if alone else (maxima, within)


@lowering(_aten.avg_pool2d_backward.default, _aten.avg_pool3d_backward.default)
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
    """Each cotangent, over the size of its window, added to every element of the window.

    Along each axis that is a matrix of zeros and ones, windows by elements, so it is two or three MatMuls; windows
    that lie side by side repeat their cotangent.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html
    """
    rank = len(kernel_size) if len(kernel_size) > 1 else (2 if len(self.shape or ()) <= 4 else 3)
    kernels = for_each_axis(kernel_size, rank)
    strides, pads = for_each_axis(stride, rank) if stride else kernels, for_each_axis(padding, rank)
    if kernels == strides and not any(pads) and not ceil_mode:
        return _repeated(grad_output, self, kernels, divisor_override)
    spread = grad_output
    for at in range(rank):
        axis = at - rank
        size, count = _size(self, axis), _size(grad_output, axis)
        start = op.Sub(op.Mul(_range(count), _number(strides[at])), _number(pads[at]))
        end = op.Min(op.Add(start, _number(kernels[at])), op.Add(size, _number(pads[at])))
        first, last = op.Max(start, _number(0)), op.Min(end, size)
        length = op.Sub(end, start) if count_include_pad else op.Sub(last, first)
        if divisor_override is not None:
            length = op.Max(op.Sub(length, length), _number(1))
        spread = _along(spread, _windows(first, last, length, size, spread), axis)
    if divisor_override is not None:
        spread = op.Div(spread, op.CastLike(op.Constant(value_float=float(divisor_override)), spread))
    return spread


def _repeated(grad_output: ir.Value, self: ir.Value, kernels: Sequence[int], divisor: int | None) -> ir.Value:
    """Each cotangent once for every element of its window; zeros where no window is."""
    count = divisor or math.prod(kernels)
    spread = op.Div(grad_output, op.CastLike(op.Constant(value_float=float(count)), grad_output))
    for at, kernel in enumerate(kernels):
        axis = at - len(kernels)
        window = op.Div(_range(_size(self, axis)), _number(kernel))
        windows = _size(grad_output, axis)
        covered = op.Gather(spread, op.Min(window, op.Sub(windows, _number(1))), axis=axis)
        inside = op.Reshape(op.Less(window, windows), op.Constant(value_ints=[-1] + [1] * (-axis - 1)))
        spread = op.Where(inside, covered, op.CastLike(op.Constant(value_float=0.0), covered))
    return spread


@lowering(_aten._adaptive_avg_pool2d_backward.default)
def adaptive_avg_pool2d_backward(grad_output: ir.Value, self: ir.Value) -> ir.Value:
    """As above, window i of o being the elements from floor(i n / o) up to ceil((i + 1) n / o).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html
    """
    return _spread_adaptively(grad_output, self, 2)


@lowering(_aten._adaptive_avg_pool3d_backward.default)
def adaptive_avg_pool3d_backward(grad_output: ir.Value, self: ir.Value) -> ir.Value:
    """As above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool3d.html
    """
    return _spread_adaptively(grad_output, self, 3)


def _spread_adaptively(grad_output: ir.Value, self: ir.Value, rank: int) -> ir.Value:
    spread = grad_output
    for axis in range(-rank, 0):
        size, count = _size(self, axis), _size(grad_output, axis)
        place = _range(count)
        first = op.Div(op.Mul(place, size), count)
        whole = op.Mul(op.Add(place, _number(1)), size)
        last = op.Div(op.Add(whole, op.Sub(count, _number(1))), count)
        spread = _along(spread, _windows(first, last, op.Sub(last, first), size, spread), axis)
    return spread


def _windows(first: ir.Value, last: ir.Value, length: ir.Value, size: ir.Value, like: ir.Value) -> ir.Value:
    """Windows by elements: 1 / length where the element is in the window."""
    column = op.Constant(value_ints=[1])
    element = _range(size)
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


def _size(value: ir.Value, axis: int) -> ir.Value:
    rank = len(value.shape or ())
    return op.Shape(value, start=rank + axis, end=rank + axis + 1)


def _range(count: ir.Value) -> ir.Value:
    return op.Range(_number(0, scalar=True), op.Squeeze(count), _number(1, scalar=True))


def _number(value: int, scalar: bool = False) -> ir.Value:
    return op.Constant(value_int=value) if scalar else op.Constant(value_ints=[value])
