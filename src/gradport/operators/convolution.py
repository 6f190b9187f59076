"""Gradients of convolutions and transposed convolutions, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import for_each_axis
from gradport.operators.convolution_weights import Convolution, choose_form, differentiate_weight
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []


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
    convolution = Convolution(strides, pads, dilations, groups)
    by_input, by_weight, by_bias = (op.Constant(value_float=0.0) for _ in range(3))  # others are not read
    if output_mask[0]:
        differentiate = _differentiate_transposed if transposed else _differentiate_input
        by_input = differentiate(grad_output, input, weight, convolution)
    if output_mask[1]:
        signal, cotangent = (grad_output, input) if transposed else (input, grad_output)
        form = choose_form(signal, cotangent, weight, convolution)
        by_weight = differentiate_weight(signal, cotangent, weight, convolution, form)
    if output_mask[2]:
        axes = [0, *range(2, rank + 2)]
        by_bias = op.ReduceSum(grad_output, op.Constant(value_ints=axes), keepdims=0)
    return by_input, by_weight, by_bias


def _differentiate_input(cotangent: ir.Value, x: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """The input gradient of a convolution: the transposed convolution; of a plain one with one place, a convolution."""
    kernel = list(weight.shape or ())[2:]
    if convolution.is_plain and all(size == 1 for size in kernel):
        return op.Conv(cotangent, op.Transpose(weight, perm=[1, 0, *range(2, len(kernel) + 2)]))
    missing = _missing(cotangent, x, weight, convolution)
    more = [stride - 1 for stride in convolution.strides] if missing is None else missing
    moved = op.ConvTranspose(cotangent, weight, **convolution.attributes, output_padding=more)
    return _fit(moved, x, convolution.rank) if missing is None else moved


def _differentiate_transposed(cotangent: ir.Value, x: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """The input gradient of a transposed convolution: the convolution."""
    moved = op.Conv(cotangent, weight, **convolution.attributes)
    return _fit(moved, x, convolution.rank)


def _missing(cotangent: ir.Value, x: ir.Value, weight: ir.Value, convolution: Convolution) -> list[int] | None:
    """How much larger the input is, on each axis, than the transposed convolution of the cotangent without output
    padding; None if it is not known."""
    more = []
    for axis, (stride, pad, dilation) in enumerate(
        zip(convolution.strides, convolution.pads, convolution.dilations, strict=True), start=2
    ):
        if stride == 1:
            more.append(0)
            continue
        whole, part, kernel = (value.shape[axis] for value in (x, cotangent, weight))  # type: ignore[index]
        if not (isinstance(whole, int) and isinstance(part, int) and isinstance(kernel, int)):
            return None
        more.append(whole - ((part - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1))
    return more


def _fit(moved: ir.Value, like: ir.Value, rank: int) -> ir.Value:
    """The leading part of `moved` with the spatial size of `like`."""
    axes = list(range(2, rank + 2))
    return op.Slice(moved, op.Constant(value_ints=[0] * rank), op.Shape(like, start=2), op.Constant(value_ints=axes))
