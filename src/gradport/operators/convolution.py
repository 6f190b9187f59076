"""Gradients of convolutions and transposed convolutions, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import for_each_axis
from gradport.operators.convolution_forms import Convolution, choose_forms
from gradport.operators.convolution_inputs import differentiate_input, fit
from gradport.operators.convolution_weights import differentiate_weight
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

    The input gradient of a convolution is the transposed convolution of the cotangent, and that of a transposed one is
    the convolution. The weight gradient is the convolution of input and cotangent over the batch; for a transposed
    convolution the two are exchanged.

    Source: V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285;
    https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
    """
    rank = len(weight.shape or ()) - 2
    strides, pads, dilations = (for_each_axis(values, rank) for values in (stride, padding, dilation))
    convolution = Convolution(strides, pads, dilations, groups)
    asked_input, asked_weight, asked_bias = output_mask
    by_input, by_weight, by_bias = (op.Constant(value_float=0.0) for _ in range(3))  # others are not read
    signal, cotangent = (grad_output, input) if transposed else (input, grad_output)
    weight_form, input_form = choose_forms(signal, cotangent, weight, convolution)
    if asked_input and transposed:
        by_input = fit(op.Conv(grad_output, weight, **convolution.attributes), input, rank)
    elif asked_input:
        by_input = differentiate_input(signal, cotangent, weight, convolution, input_form)
    if asked_weight:
        by_weight = differentiate_weight(signal, cotangent, weight, convolution, weight_form)
    if asked_bias:
        axes = [0, *range(2, rank + 2)]
        by_bias = op.ReduceSum(grad_output, op.Constant(value_ints=axes), keepdims=0)
    return by_input, by_weight, by_bias
