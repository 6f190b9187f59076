"""The input gradient of a convolution: a transposed convolution, or a convolution with the flipped kernel."""

from __future__ import annotations

import math

import onnx_ir as ir

from gradport.operators.axes import numbers
from gradport.operators.convolution_forms import Convolution, InputForm
from gradport.operators.table import op

__all__ = ["differentiate_input", "fit"]

_BEFORE_FIRST = -(2**31)
"""The end of a Slice that steps backward, so that it contains the first element."""


def differentiate_input(
    signal: ir.Value,
    cotangent: ir.Value,
    weight: ir.Value,
    convolution: Convolution,
    form: InputForm,
) -> ir.Value:
    """The gradient of the signal (N, I, *size).

    Args:
        signal: for its shape.
        cotangent: (N, O, *positions), of the result.
        weight: (O, I / groups, *kernel).
        convolution: its attributes.
        form: a form that `choose_forms` returns for these arguments.
    """
    if form is InputForm.FLIPPED:
        return _by_flipped(cotangent, weight, convolution)
    return _by_transposed(signal, cotangent, weight, convolution)


def _by_flipped(cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """The convolution of the cotangent with the kernel's places in reverse order, and its channels exchanged."""
    rank = convolution.rank
    kernel = [int(size) for size in weight.shape[2:]]  # type: ignore[index, arg-type]
    space = list(range(2, rank + 2))
    weight = _exchange_channels(weight, convolution.groups)
    if math.prod(kernel) > 1:
        back = numbers([-1] * rank)
        weight = op.Slice(weight, back, numbers([_BEFORE_FIRST] * rank), numbers(space), back)
    pads = [
        dilation * (size - 1) - pad
        for dilation, size, pad in zip(convolution.dilations, kernel, convolution.pads, strict=True)
    ]
    return op.Conv(cotangent, weight, pads=pads * 2, dilations=convolution.dilations, group=convolution.groups)


def _exchange_channels(weight: ir.Value, groups: int) -> ir.Value:
    """(I, O / groups, *kernel) of a weight (O, I / groups, *kernel)."""
    shape = list(weight.shape or ())
    space = range(2, len(shape))
    if groups == 1:
        return op.Transpose(weight, perm=[1, 0, *space])
    outputs, channels, *kernel = (int(size) for size in shape)  # type: ignore[arg-type]
    if channels == 1 and outputs == groups:
        return weight
    by_group = op.Reshape(weight, numbers([groups, outputs // groups, channels, *kernel]))
    exchanged = op.Transpose(by_group, perm=[0, 2, 1, *(axis + 1 for axis in space)])
    return op.Reshape(exchanged, numbers([groups * channels, outputs // groups, *kernel]))


def _by_transposed(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    missing = _missing(signal, cotangent, weight, convolution)
    more = [stride - 1 for stride in convolution.strides] if missing is None else missing
    moved = op.ConvTranspose(cotangent, weight, **convolution.attributes, output_padding=more)
    return fit(moved, signal, convolution.rank) if missing is None else moved


def _missing(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> list[int] | None:
    """How much larger the signal is, on each axis, than the transposed convolution of the cotangent without output
    padding; None if it is not known."""
    more = []
    for axis, (stride, pad, dilation) in enumerate(
        zip(convolution.strides, convolution.pads, convolution.dilations, strict=True), start=2
    ):
        if stride == 1:
            more.append(0)
            continue
        whole, part, kernel = (value.shape[axis] for value in (signal, cotangent, weight))  # type: ignore[index]
        if not (isinstance(whole, int) and isinstance(part, int) and isinstance(kernel, int)):
            return None
        more.append(whole - ((part - 1) * stride - 2 * pad + dilation * (kernel - 1) + 1))
    return more


def fit(moved: ir.Value, like: ir.Value, rank: int) -> ir.Value:
    """The leading part of `moved` with the spatial size of `like`."""
    return op.Slice(moved, numbers([0] * rank), op.Shape(like, start=2), numbers(range(2, rank + 2)))
