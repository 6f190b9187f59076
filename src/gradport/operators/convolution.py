"""Gradients of convolutions and transposed convolutions, in one, two and three dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import onnx_ir as ir
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import for_each_axis
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []

_MOST_PLACES = 27
"""Largest number of kernel places (3 x 3 x 3) for which the gradient is computed place by place."""

_MANY_CHANNELS = 16
"""Number of channels from which one product per place is faster than one product for all places."""


@lowering(
    _aten.convolution_backward.default, samples=[sample(F.conv2d, reals("n", 2, 5, 5), reals(3, 2, 3, 3), reals(3))]
)
def convolution_backward(
    grad_output: ir.Value,
    input: ir.Value,
    weight: ir.Value,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Gradients of input, weight and bias.

    The input gradient of a convolution is the transposed convolution of the cotangent; the weight gradient is the
    convolution of input and cotangent over the batch. For a transposed convolution the two are exchanged.

    Source: V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285;
    https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
    """
    rank = len(weight.shape or ()) - 2
    strides, pads, dilations = (for_each_axis(values, rank) for values in (stride, padding, dilation))
    by_input, by_weight, by_bias = (op.Constant(value_float=0.0) for _ in range(3))  # others are not read
    if output_mask[0]:
        if transposed:
            moved = _convolve(grad_output, weight, strides, pads, dilations, groups)
        else:
            moved = _transposed_convolution(grad_output, weight, strides, pads, dilations, groups)
        by_input = _fit(moved, input, rank)
    if output_mask[1]:
        signal, cotangent = (grad_output, input) if transposed else (input, grad_output)
        if groups > 1 or not _is_small(weight):
            by_weight = _over_the_batch(signal, cotangent, weight, strides, pads, dilations, groups)
        else:
            by_weight = _by_patches(signal, cotangent, weight, strides, pads, dilations)
    if output_mask[2]:
        axes = [0, *range(2, rank + 2)]
        by_bias = op.ReduceSum(grad_output, op.Constant(value_ints=axes), keepdims=0)
    return by_input, by_weight, by_bias


def _convolve(
    x: ir.Value, weight: ir.Value, strides: list[int], pads: list[int], dilations: list[int], groups: int
) -> ir.Value:
    return op.Conv(x, weight, strides=strides, pads=pads * 2, dilations=dilations, group=groups)


def _transposed_convolution(
    x: ir.Value, weight: ir.Value, strides: list[int], pads: list[int], dilations: list[int], groups: int
) -> ir.Value:
    """The transposed convolution with the largest output size; `_fit` cuts it to the input's size."""
    more = [stride - 1 for stride in strides]
    return op.ConvTranspose(
        x, weight, strides=strides, pads=pads * 2, dilations=dilations, group=groups, output_padding=more
    )


def _fit(moved: ir.Value, like: ir.Value, rank: int) -> ir.Value:
    """The leading part of `moved` with the spatial size of `like`."""
    axes = list(range(2, rank + 2))
    return op.Slice(moved, op.Constant(value_ints=[0] * rank), op.Shape(like, start=2), op.Constant(value_ints=axes))


def _is_small(weight: ir.Value) -> bool:
    """Whether a kernel has a static size and few enough places for one product per place."""
    kernel = list(weight.shape or ())[2:]
    places = math.prod(size for size in kernel if isinstance(size, int))
    return all(isinstance(size, int) for size in kernel) and 0 < places <= _MOST_PLACES


def _by_patches(
    signal: ir.Value,
    cotangent: ir.Value,
    weight: ir.Value,
    strides: list[int],
    pads: list[int],
    dilations: list[int],
) -> ir.Value:
    """For each kernel place, the product of the cotangent with the part of the signal that the place reads.

    Many channels: one product per place; few: one product with all parts concatenated (im2col). ONNX Runtime runs both
    faster than a convolution whose kernel is a whole image.
    """
    rank = len(strides)
    channels, kernel = weight.shape[1], [int(size) for size in weight.shape[2:]]  # type: ignore[index, arg-type]
    if any(pads):
        signal = op.Pad(signal, op.Constant(value_ints=[0, 0, *pads] * 2))
    keep = op.Constant(value_ints=[0, 0])
    flat = op.Concat(keep, op.ReduceProd(op.Shape(cotangent, start=2), keepdims=1), axis=0)
    rows = op.Reshape(cotangent, flat)
    last = op.Sub(op.Shape(cotangent, start=2), op.Constant(value_ints=[1]))
    reach = op.Add(op.Mul(last, op.Constant(value_ints=strides)), op.Constant(value_ints=[1]))
    axes, steps = op.Constant(value_ints=list(range(2, rank + 2))), op.Constant(value_ints=strides)
    parts = []
    for place in itertools.product(*map(range, kernel)):
        start = op.Constant(value_ints=[at * dilation for at, dilation in zip(place, dilations, strict=True)])
        parts.append(op.Reshape(op.Slice(signal, start, op.Add(start, reach), axes, steps), flat))
    shape = op.Concat(op.Shape(weight, end=1), op.Constant(value_ints=[-1, *kernel]), axis=0)
    if isinstance(channels, int) and channels < _MANY_CHANNELS:
        total = _sum_products(rows, op.Concat(*parts, axis=1) if len(parts) > 1 else parts[0])
        by_place = op.Concat(op.Shape(weight, end=1), op.Constant(value_ints=[len(parts), -1]), axis=0)
        return op.Reshape(op.Transpose(op.Reshape(total, by_place), perm=[0, 2, 1]), shape)
    products = [op.Unsqueeze(_sum_products(rows, part), op.Constant(value_ints=[2])) for part in parts]
    return op.Reshape(op.Concat(*products, axis=2) if len(products) > 1 else products[0], shape)


def _sum_products(rows: ir.Value, columns: ir.Value) -> ir.Value:
    """(O, I): the products of rows (N, O, P) and columns (N, I, P), summed over batch and space."""
    product = op.MatMul(rows, op.Transpose(columns, perm=[0, 2, 1]))
    return op.ReduceSum(product, op.Constant(value_ints=[0]), keepdims=0)


def _over_the_batch(
    signal: ir.Value,
    cotangent: ir.Value,
    weight: ir.Value,
    strides: list[int],
    pads: list[int],
    dilations: list[int],
    groups: int,
) -> ir.Value:
    """A convolution with batch and channels exchanged, and stride and dilation: (I/g, g*N, ...) with (O, N, ...)."""
    rank = len(strides)
    space = list(range(2, rank + 2))
    rows = op.Transpose(signal, perm=[1, 0, *space])
    if groups > 1:
        parts = op.Concat(op.Constant(value_ints=[groups, -1]), op.Shape(rows, start=1), axis=0)
        by_group = op.Transpose(op.Reshape(rows, parts), perm=[1, 0, *range(2, rank + 3)])
        size = op.Concat(op.Shape(by_group, end=1), op.Constant(value_ints=[-1]), op.Shape(rows, start=2), axis=0)
        rows = op.Reshape(by_group, size)
    kernels = op.Transpose(cotangent, perm=[1, 0, *space])
    gradient = op.Conv(rows, kernels, strides=dilations, pads=pads * 2, dilations=strides, group=groups)
    return _fit(op.Transpose(gradient, perm=[1, 0, *space]), weight, rank)
