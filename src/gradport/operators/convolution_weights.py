"""The weight gradient of a convolution: a sum of products of the cotangent with the signal at each place.

ONNX has no operator for it. A convolution over the batch is right for all kernels, but its kernel is a whole image,
which ONNX Runtime runs slowly. The other forms are matrix products or sums.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import onnx_ir as ir

from gradport.operators.axes import numbers
from gradport.operators.convolution_diagonals import differentiate_by_diagonals
from gradport.operators.convolution_forms import TILES, Convolution, WeightForm, static_sizes
from gradport.operators.convolution_shifts import differentiate_by_shifts
from gradport.operators.table import op
from gradport.operators.winograd import differentiate_by_tiles

__all__ = ["differentiate_weight"]

_PIECE = 2**18
"""Elements of a piece of a depthwise convolution's cotangent."""


def differentiate_weight(
    signal: ir.Value,
    cotangent: ir.Value,
    weight: ir.Value,
    convolution: Convolution,
    form: WeightForm,
) -> ir.Value:
    """The gradient of a weight (O, I / groups, *kernel).

    Args:
        signal: (N, I, *size), what the convolution reads.
        cotangent: (N, O, *positions), of its result.
        weight: for its shape.
        convolution: its attributes.
        form: a form that `choose_forms` returns for these arguments.
    """
    if form is WeightForm.BATCH:
        return _by_batch(signal, cotangent, weight, convolution)
    if form is WeightForm.DEPTHWISE:
        return _by_channel(signal, cotangent, weight, convolution)
    if form is WeightForm.DOTS:
        return _by_dots(signal, cotangent, weight, convolution)
    if form is WeightForm.FOLDED:
        return _reshape_like(op.MatMul(_rows_of(cotangent), _last_channels(signal)), weight)
    if form is WeightForm.ROWS:
        return _by_rows(signal, cotangent, weight, convolution)
    direct = functools.partial(_by_batch, signal, cotangent, weight, convolution)
    if form is WeightForm.DIAGONALS:
        return differentiate_by_diagonals(signal, cotangent, weight, convolution, direct)
    if form is WeightForm.SHIFTS:
        return differentiate_by_shifts(signal, cotangent, weight, convolution, direct)
    if form in TILES:
        return differentiate_by_tiles(signal, cotangent, weight, convolution.pads, TILES[form], direct)
    return _by_places(signal, cotangent, weight, convolution, together=form is WeightForm.PATCHES)


def _reshape_like(value: ir.Value, weight: ir.Value) -> ir.Value:
    return op.Reshape(value, op.Shape(weight))


def _rows_of(cotangent: ir.Value) -> ir.Value:
    """(O, N * P): the cotangent of each output channel."""
    rank = len(cotangent.shape or ())
    rows = op.Transpose(cotangent, perm=[1, 0, *range(2, rank)])
    return op.Reshape(rows, op.Concat(op.Shape(rows, end=1), numbers([-1]), axis=0))


def _last_channels(signal: ir.Value) -> ir.Value:
    """(N * P, I): the channels of each position."""
    rank = len(signal.shape or ())
    last = op.Transpose(signal, perm=[0, *range(2, rank), 1])
    return op.Reshape(last, op.Concat(numbers([-1]), op.Shape(last, start=rank - 1), axis=0))


def _reach(positions: ir.Value, convolution: Convolution) -> ir.Value:
    """One more than the last position that the first place of the kernel reads, on each spatial axis.

    Args:
        positions: the spatial sizes of the cotangent.
        convolution: its strides.
    """
    last = op.Sub(positions, numbers([1]))
    return op.Add(op.Mul(last, numbers(convolution.strides)), numbers([1]))


def _by_channel(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """Depthwise: with the channels last, each product and each sum runs along memory; a large tensor is cut into pieces
    that stay in the cache between its places."""
    rank = convolution.rank
    last = [0, *range(2, rank + 2), 1]
    x, g = op.Transpose(signal, perm=last), op.Transpose(cotangent, perm=last)
    if any(convolution.pads):
        x = op.Pad(x, numbers([0, *convolution.pads, 0] * 2))
    sums = (
        _sum_by_channel(*piece, weight, convolution) for piece in _pieces(x, g, weight, convolution, _cuts(cotangent))
    )
    return _reshape_like(functools.reduce(op.Add, sums), weight)


def _cuts(cotangent: ir.Value) -> list[int]:
    """The rows at which the pieces of a large tensor begin, and its last row; empty if it stays whole."""
    sizes = static_sizes(list(cotangent.shape or ()))
    pieces = 1 if sizes is None else min(round(math.prod(sizes) / _PIECE), sizes[2])
    return [sizes[2] * index // pieces for index in range(pieces + 1)] if sizes and pieces > 1 else []


def _pieces(
    x: ir.Value, g: ir.Value, weight: ir.Value, convolution: Convolution, cuts: list[int]
) -> list[tuple[ir.Value, ir.Value]]:
    """Rows of the cotangent with the rows of the signal that they read."""
    if not cuts:
        return [(x, g)]
    stride, rows = convolution.strides[0], numbers([1])
    more = convolution.dilations[0] * (int(weight.shape[2]) - 1) + 1  # type: ignore[index, arg-type]
    return [
        (
            op.Slice(x, numbers([start * stride]), numbers([(end - 1) * stride + more]), rows),
            op.Slice(g, numbers([start]), numbers([end]), rows),
        )
        for start, end in itertools.pairwise(cuts)
    ]


def _sum_by_channel(x: ir.Value, g: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """(C, places): the sums of the products with channels last.

    A sum over rows is their product with ones: ONNX Runtime's ReduceSum takes twice as long, and with two threads up to
    eight times.
    """
    rank = convolution.rank
    kernel = [int(size) for size in weight.shape[2:]]  # type: ignore[index, arg-type]
    reach = _reach(op.Shape(g, start=1, end=rank + 1), convolution)
    axes, steps = numbers(range(1, rank + 1)), numbers(convolution.strides)
    rows = op.Concat(numbers([-1]), op.Shape(g, start=rank + 1), axis=0)
    count = op.ReduceProd(op.Shape(g, end=rank + 1), keepdims=1)
    ones = op.Expand(op.CastLike(op.Constant(value_float=1.0), g), op.Concat(numbers([1]), count, axis=0))
    sums = []
    for place in itertools.product(*map(range, kernel)):
        start = numbers([at * dilation for at, dilation in zip(place, convolution.dilations, strict=True)])
        product = op.Mul(g, op.Slice(x, start, op.Add(start, reach), axes, steps))
        sums.append(op.MatMul(ones, op.Reshape(product, rows)))
    return op.Transpose(op.Concat(*sums, axis=0) if len(sums) > 1 else sums[0], perm=[1, 0])


def _by_rows(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """With the channels last, the places of a kernel row stand side by side: one product for each row."""
    if _is_pointwise(weight, convolution):
        return _reshape_like(op.MatMul(_rows_of(cotangent), _last_channels(signal)), weight)
    height, width = (int(size) for size in weight.shape[2:])  # type: ignore[index, arg-type]
    (down, right), (step_down, step_right) = convolution.dilations, convolution.strides
    x = op.Transpose(signal, perm=[0, 2, 3, 1])
    if any(convolution.pads):
        x = op.Pad(x, numbers([0, *convolution.pads, 0] * 2))
    reach = _reach(op.Shape(cotangent, start=2), convolution)
    tall, wide = op.Slice(reach, numbers([0]), numbers([1])), op.Slice(reach, numbers([1]), numbers([2]))
    columns = [
        op.Slice(x, numbers([at * right]), op.Add(numbers([at * right]), wide), numbers([2]), numbers([step_right]))
        for at in range(width)
    ]
    beside = op.Concat(*columns, axis=3) if width > 1 else columns[0]
    flat = op.Concat(numbers([-1]), op.Shape(beside, start=3), axis=0)
    g = _rows_of(cotangent)
    parts = []
    for at in range(height):
        start = numbers([at * down])
        row = op.Slice(beside, start, op.Add(start, tall), numbers([1]), numbers([step_down]))
        parts.append(op.Reshape(row, flat))
    if _has_more_outputs_than_positions(cotangent):  # then the signal is smaller than the gradient
        whole = op.Concat(*parts, axis=1) if height > 1 else parts[0]
        split = op.Reshape(whole, op.Concat(numbers([0, height * width]), op.Shape(weight, start=1, end=2), axis=0))
        columns_last = op.Reshape(op.Transpose(split, perm=[0, 2, 1]), numbers([0, -1]))
        return _reshape_like(op.MatMul(g, columns_last), weight)
    by_row = [op.Unsqueeze(op.MatMul(g, part), numbers([1])) for part in parts]
    whole = op.Concat(*by_row, axis=1) if height > 1 else by_row[0]
    places = op.Concat(op.Shape(weight, end=1), numbers([height * width]), op.Shape(weight, start=1, end=2), axis=0)
    return _reshape_like(op.Transpose(op.Reshape(whole, places), perm=[0, 2, 1]), weight)


def _has_more_outputs_than_positions(cotangent: ir.Value) -> bool:
    """Whether the channels are more than the positions of all images; False if a size is 0 or not known."""
    sizes = static_sizes(list(cotangent.shape or ()))
    return sizes is not None and 0 < math.prod(sizes) < sizes[1] ** 2


def _by_places(
    signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution, *, together: bool
) -> ir.Value:
    """For each kernel place, the product of the cotangent with the part of the signal that the place reads; or one
    product with all parts."""
    groups = convolution.groups
    by_group = [[0, 0], [0, 0]]
    if groups > 1:
        outputs, channels = (int(size) for size in list(weight.shape or ())[:2])  # type: ignore[arg-type]
        by_group = [[0, groups, outputs // groups], [0, groups, channels]]
    rows, parts = _parts(signal, cotangent, weight, convolution, *by_group)
    rank = len(by_group[0]) + 1
    if together:
        total = _sum_products(rank, rows, op.Concat(*parts, axis=-2) if len(parts) > 1 else parts[0])
        by_place = op.Concat(op.Shape(weight, end=1), numbers([len(parts), -1]), axis=0)
        return _reshape_like(op.Transpose(op.Reshape(total, by_place), perm=[0, 2, 1]), weight)
    products = [op.Unsqueeze(_sum_products(rank, rows, part), numbers([-1])) for part in parts]
    return _reshape_like(op.Concat(*products, axis=-1) if len(products) > 1 else products[0], weight)


def _by_dots(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """Depthwise: for each kernel place, one dot product of two rows for each channel."""
    rows, parts = _parts(signal, cotangent, weight, convolution, [0, 0, 1], [0, 0, 1])
    products = [op.MatMul(rows, op.Transpose(part, perm=[0, 1, 3, 2])) for part in parts]
    by_place = op.Concat(*products, axis=3) if len(products) > 1 else products[0]
    return _reshape_like(op.ReduceSum(by_place, numbers([0]), keepdims=0), weight)


def _parts(
    signal: ir.Value,
    cotangent: ir.Value,
    weight: ir.Value,
    convolution: Convolution,
    of_cotangent: list[int],
    of_signal: list[int],
) -> tuple[ir.Value, list[ir.Value]]:
    """The cotangent, and the part of the signal that each kernel place reads, both with the positions as one axis.

    Args:
        of_cotangent: the sizes before the positions, as for Reshape.
        of_signal: the same.
    """
    rank = convolution.rank
    kernel = [int(size) for size in weight.shape[2:]]  # type: ignore[index, arg-type]
    if any(convolution.pads):
        signal = op.Pad(signal, numbers([0, 0, *convolution.pads] * 2))
    positions = op.ReduceProd(op.Shape(cotangent, start=2), keepdims=1)
    rows = op.Reshape(cotangent, op.Concat(numbers(of_cotangent), positions, axis=0))
    flat = op.Concat(numbers(of_signal), positions, axis=0)
    if _is_pointwise(weight, convolution):
        return rows, [op.Reshape(signal, flat)]
    reach = _reach(op.Shape(cotangent, start=2), convolution)
    axes, steps = numbers(range(2, rank + 2)), numbers(convolution.strides)
    parts = []
    for place in itertools.product(*map(range, kernel)):
        start = numbers([at * dilation for at, dilation in zip(place, convolution.dilations, strict=True)])
        parts.append(op.Reshape(op.Slice(signal, start, op.Add(start, reach), axes, steps), flat))
    return rows, parts


def _is_pointwise(weight: ir.Value, convolution: Convolution) -> bool:
    """Whether the only place of the kernel reads the whole signal."""
    kernel = list(weight.shape or ())[2:]
    return all(size == 1 for size in (*kernel, *convolution.strides)) and not any(convolution.pads)


def _sum_products(rank: int, rows: ir.Value, columns: ir.Value) -> ir.Value:
    """(..., O, I): the products of rows (N, ..., O, P) and columns (N, ..., I, P), summed over batch and space.

    Args:
        rank: of rows and of columns.
    """
    product = op.MatMul(rows, op.Transpose(columns, perm=[*range(rank - 2), rank - 1, rank - 2]))
    return op.ReduceSum(product, numbers([0]), keepdims=0)


def _by_batch(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """A convolution with batch and channels exchanged, and stride and dilation: (I/g, g*N, ...) with (O, N, ...)."""
    rank, groups = convolution.rank, convolution.groups
    space = list(range(2, rank + 2))
    rows = op.Transpose(signal, perm=[1, 0, *space])
    if groups > 1:
        parts = op.Concat(numbers([groups, -1]), op.Shape(rows, start=1), axis=0)
        by_group = op.Transpose(op.Reshape(rows, parts), perm=[1, 0, *range(2, rank + 3)])
        size = op.Concat(op.Shape(by_group, end=1), numbers([-1]), op.Shape(rows, start=2), axis=0)
        rows = op.Reshape(by_group, size)
    kernels = op.Transpose(cotangent, perm=[1, 0, *space])
    exchanged = dataclasses.replace(convolution, strides=convolution.dilations, dilations=convolution.strides)
    gradient = op.Conv(rows, kernels, **exchanged.attributes)
    axes = numbers(space)
    return op.Slice(op.Transpose(gradient, perm=[1, 0, *space]), numbers([0] * rank), op.Shape(weight, start=2), axes)
