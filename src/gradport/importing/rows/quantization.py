"""Quantized values, per tensor, per axis and in blocks."""

from __future__ import annotations

import torch

from gradport.importing.rows.convolution import conv
from gradport.importing.table import translation

Tensor = torch.Tensor


def spread(parameter: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """A scale or zero point in the shape of `x`: one number, one for each place of an axis, or one for each block."""
    if parameter.dim() == 0 or (parameter.dim() == 1 and parameter.numel() == 1 and not block_size):
        return parameter.reshape(())
    axis %= x.dim()
    if parameter.dim() == 1 and not block_size:
        shape = [1] * x.dim()
        shape[axis] = -1
        return parameter.reshape(shape)
    return parameter.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])


@translation("QuantizeLinear")
def quantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    /,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: torch.dtype | None = None,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    """`saturate(round(x / scale) + zero point)`, halves to even."""
    dtype = (output_dtype or torch.uint8) if zero_point is None else zero_point.dtype
    divided = x / spread(scale, x, axis, block_size).to(x.dtype)
    if dtype.is_floating_point:
        return divided.to(dtype)
    limits = torch.iinfo(dtype)
    zero = 0 if zero_point is None else spread(zero_point.to(torch.int32), x, axis, block_size).to(divided.dtype)
    return torch.clamp(torch.round(divided) + zero, limits.min, limits.max).to(torch.int32).to(dtype)


@translation("DequantizeLinear")
def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    /,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: torch.dtype | None = None,
) -> Tensor:
    """`(x - zero point) scale`."""
    dtype = output_dtype or scale.dtype
    wide = x.float()
    if zero_point is not None:
        wide = wide - spread(zero_point.float(), x, axis, block_size)
    return (wide * spread(scale.float(), x, axis, block_size)).to(dtype)


@translation("DynamicQuantizeLinear")
def dynamic_quantize_linear(x: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
    """To uint8, with a range that holds zero and all values."""
    low, high = torch.clamp(x.amin(), max=0), torch.clamp(x.amax(), min=0)
    scale = (high - low) / 255
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / safe), 0, 255).to(torch.int32).to(torch.uint8)
    return quantize_linear(x, safe, zero), scale, zero


@translation("QLinearMatMul")
def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    scale: Tensor,
    zero: Tensor,
    /,
) -> Tensor:
    """The product of whole numbers, scaled once."""
    x = a.double() - _rows(a_zero.double(), a)
    y = b.double() - b_zero.double()
    product = torch.matmul(x, y) * (_rows(a_scale.double(), a) * b_scale.double()).double() / scale.double()
    limits = torch.iinfo(zero.dtype)
    return torch.clamp(torch.round(product) + zero.double(), limits.min, limits.max).to(torch.int32).to(zero.dtype)


def _rows(parameter: Tensor, x: Tensor) -> Tensor:
    return parameter.unsqueeze(-1) if parameter.dim() == 1 and parameter.numel() > 1 else parameter


@translation("MatMulInteger")
def matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None, /) -> Tensor:
    x, y = a.to(torch.int32), b.to(torch.int32)
    if a_zero is not None:
        x = x - _rows(a_zero.to(torch.int32), a)
    if b_zero is not None:
        y = y - b_zero.to(torch.int32)
    return torch.matmul(x, y)


@translation("ConvInteger")
def conv_integer(
    x: Tensor,
    weight: Tensor,
    x_zero: Tensor | None = None,
    weight_zero: Tensor | None = None,
    /,
    **attributes: object,
) -> Tensor:
    """Computed in float64, which is exact for sums of products of bytes."""
    wide = x.double() if x_zero is None else x.double() - x_zero.double()
    kernel = weight.double()
    if weight_zero is not None:
        zero = weight_zero.double()
        kernel = kernel - (zero.reshape(-1, *[1] * (weight.dim() - 1)) if zero.numel() > 1 else zero)
    return conv(wide, kernel, None, **attributes).to(torch.int32)  # type: ignore[arg-type]


@translation("QLinearConv")
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero: Tensor,
    scale: Tensor,
    zero: Tensor,
    bias: Tensor | None = None,
    /,
    **attributes: object,
) -> Tensor:
    shape = (-1, *[1] * (weight.dim() - 1))
    kernel = weight.double() - weight_zero.double().reshape(shape if weight_zero.numel() > 1 else ())
    added = None if bias is None else bias.double()
    product = conv(x.double() - x_zero.double(), kernel, added, **attributes)  # type: ignore[arg-type]
    factor = x_scale.double() * weight_scale.double() / scale.double()
    product = product * (factor.reshape(1, -1, *[1] * (weight.dim() - 2)) if factor.numel() > 1 else factor)
    limits = torch.iinfo(zero.dtype)
    return torch.clamp(torch.round(product) + zero.double(), limits.min, limits.max).to(torch.int32).to(zero.dtype)
