"""The weight gradient of a depthwise convolution from the products of all rows, for steps of 1 and two spatial axes.

For one image of one channel, the product of the padded signal with copies of the cotangent, each moved by one column
more, has the sums over columns for each pair of rows; the gradient is their sum over the pairs whose distance is that
of a row of the kernel. The second sum is a product with ones and zeros. There are more multiplications than in the
direct sum, and far fewer passes over memory: for large kernels on small images it is the fastest.

    signal      (N, C, H + rows - 1, W + columns - 1)
    cotangent   g 0 0 | 0 g 0 | 0 0 g     (N, C, H * columns, W + columns - 1)

The zeros meet values of the signal. If the result is not finite, a branch computes the direct sum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from gradport.operators.axes import numbers
from gradport.operators.convolution_forms import Convolution
from gradport.operators.convolution_shifts import copies, known_sizes, zeros
from gradport.operators.finiteness import choose_if_finite
from gradport.operators.table import op

__all__ = ["differentiate_by_diagonals"]


def differentiate_by_diagonals(
    signal: ir.Value,
    cotangent: ir.Value,
    weight: ir.Value,
    convolution: Convolution,
    direct: Callable[[], ir.Value],
) -> ir.Value:
    """The gradient of a weight (C, 1, rows, columns).

    Args:
        signal: (N, C, H, W), float32; all sizes but N are known.
        cotangent: (N, C, *positions), of the result.
        weight: for its shape.
        convolution: its attributes, with strides and dilations of 1.
        direct: adds the nodes of the direct sum.
    """
    channels, height, width = known_sizes(cotangent)
    _, rows, columns = known_sizes(weight)
    tall, wide = height + rows - 1, width + columns - 1
    x = op.Pad(signal, numbers([0, 0, *convolution.pads] * 2)) if any(convolution.pads) else signal
    lines = op.Reshape(cotangent, numbers([0, channels * height, width]))
    moved = copies(lines, columns, [], [zeros(cotangent, channels * height, columns)], None, [channels * height, -1])
    g = op.Reshape(moved, numbers([0, channels, height * columns, wide]))
    products = op.MatMul(x, op.Transpose(g, perm=[0, 1, 3, 2]))
    pairs = op.Reshape(products, numbers([0, channels, tall * height, columns]))
    distances = np.zeros((rows, tall, height), np.float32)
    for row in range(rows):
        distances[row, np.arange(height) + row, np.arange(height)] = 1
    chosen = op.Constant(value=ir.tensor(distances.reshape(rows, tall * height)))
    sums = op.ReduceSum(op.MatMul(chosen, pairs), numbers([0]), keepdims=0)
    return choose_if_finite(sums, lambda: op.Reshape(sums, op.Shape(weight)), direct)
