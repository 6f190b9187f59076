"""The weight gradient of a convolution as one matrix product of shifted copies, for stride 1 and two spatial axes.

A place (r, c) of the kernel multiplies the cotangent by the signal, moved by r rows and c columns. With the rows of an
image one after the other in memory, both moves are one number of elements. Copies of the cotangent are moved by the
rows of the kernel, copies of the signal by its columns: one product of all copies has all places. A copy moves by the
number of zeros before it, and so all copies are one concatenation:

    cotangent   g 0 0 0 | 0 g 0 0 | 0 0 g 0 ...      (N, O * rows, length)
    signal      x0 x1 x2 | x1 x2 x3 | x2 x3 x4 ...   (N, I * columns, length)

Each row of an image ends with the zeros of its padding, which are the padding before the next row as well. The zeros of
the cotangent meet values of the signal: one inf or nan there makes the gradient nan in other places than the direct sum
does. If the result is not finite, a branch computes the direct sum.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from gradport.operators.axes import numbers
from gradport.operators.convolution_forms import Convolution
from gradport.operators.finiteness import choose_if_finite
from gradport.operators.table import op

__all__ = ["copies", "differentiate_by_shifts", "known_sizes", "zeros"]


def differentiate_by_shifts(
    signal: ir.Value,
    cotangent: ir.Value,
    weight: ir.Value,
    convolution: Convolution,
    direct: Callable[[], ir.Value],
) -> ir.Value:
    """The gradient of a weight (O, I, rows, columns).

    Args:
        signal: (N, I, H, W), float32; all sizes but N are known.
        cotangent: (N, O, *positions), of the result.
        weight: for its shape.
        convolution: its attributes, with stride 1, and no padding beyond the kernel.
        direct: adds the nodes of the direct sum.
    """
    channels, height, width = known_sizes(signal)
    outputs, positions, _ = known_sizes(cotangent)
    _, rows, columns = known_sizes(weight)
    (top, left), (down, right) = convolution.pads, convolution.dilations
    wide = width + left  # of a row with its padding
    size = (height + 2 * top) * wide + left
    length = size + right  # of a copy: one more than the image for each step between columns
    image = _flat(_widened(signal, wide), height * wide)
    between = [zeros(signal, channels, 2 * top * wide + left)] if top or left else []
    first = [zeros(signal, channels, top * wide + left)] if top or left else []
    last = zeros(signal, channels, top * wide + columns * right)
    x = copies(image, columns, first, between, last, [channels * columns, length])
    given = _flat(_widened(cotangent, wide), positions * wide)
    space = length - positions * wide
    between = [zeros(cotangent, outputs, space + wide * down)]
    last = zeros(cotangent, outputs, space - (rows - 1) * wide * down)
    g = copies(given, rows, [], between, last, [outputs * rows, length])
    product = op.MatMul(g, op.Transpose(x, perm=[0, 2, 1]))
    sums = op.ReduceSum(product, numbers([0]), keepdims=0)

    def by_place() -> ir.Value:
        places = op.Reshape(sums, numbers([outputs, rows, channels, columns]))
        return op.Transpose(places, perm=[0, 2, 1, 3])

    return choose_if_finite(sums, by_place, direct)


def known_sizes(value: ir.Value) -> list[int]:
    """All but the first."""
    return [int(size) for size in list(value.shape or ())[1:]]  # type: ignore[arg-type]


def _widened(values: ir.Value, width: int) -> ir.Value:
    """(N, channels, H, width): each row with zeros at its end."""
    channels, height, own = known_sizes(values)
    if own == width:
        return values
    return op.Concat(values, zeros(values, channels, height, width - own), axis=3)


def _flat(values: ir.Value, length: int) -> ir.Value:
    """(N, channels, length)."""
    return op.Reshape(values, numbers([0, 0, length]))


def zeros(like: ir.Value, *sizes: int) -> ir.Value:
    """(N, *sizes)."""
    shape = op.Concat(op.Shape(like, end=1), numbers(sizes), axis=0)
    return op.Expand(op.Constant(value_float=0.0), shape)


def copies(
    image: ir.Value,
    count: int,
    first: list[ir.Value],
    between: list[ir.Value],
    last: ir.Value | None,
    shape: list[int],
) -> ir.Value:
    """(N, channels * count, length): the copies of each channel, with zeros before, between and after them.

    Args:
        image: (N, channels, values of an image).
        count: of the copies.
        first: zeros before the first copy, if any.
        between: zeros between two copies, if any.
        last: zeros after the last copy, if any.
        shape: channels * count and length.
    """
    parts = [*first, image, *(part for _ in range(count - 1) for part in (*between, image))]
    parts += [] if last is None else [last]
    return op.Reshape(op.Concat(*parts, axis=2), numbers([0, *shape]))
