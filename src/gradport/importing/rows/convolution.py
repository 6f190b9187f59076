"""Convolutions in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.importing.table import translation

Tensor = torch.Tensor


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], mode: str
) -> list[int]:
    """The pads, first those before and then those after, with which the result has ceil(size / stride) elements."""
    before, after = [], []
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
        small = total // 2
        before.append(small if mode == "SAME_UPPER" else total - small)
        after.append(total - small if mode == "SAME_UPPER" else small)
    return before + after


def pad_spatial(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads the last axes; pads are in ONNX's order."""
    rank = len(pads) // 2
    pairs = [number for at in reversed(range(rank)) for number in (pads[at], pads[at + rank])]
    return F.pad(x, pairs, value=value) if any(pairs) else x


@translation("Conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    rank = weight.dim() - 2
    dilation, stride = list(dilations or [1] * rank), list(strides or [1] * rank)
    padding = list(pads or [0] * 2 * rank)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        padding = same_pads(x.shape[2:], weight.shape[2:], stride, dilation, auto_pad)
    function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    if padding[:rank] == padding[rank:]:
        return function(x, weight, bias, stride, padding[:rank], dilation, group)
    return function(pad_spatial(x, padding), weight, bias, stride, 0, dilation, group)


@translation("ConvTranspose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The whole result without padding, cut to the pads."""
    rank = weight.dim() - 2
    dilation, stride = list(dilations or [1] * rank), list(strides or [1] * rank)
    extra, padding = list(output_padding or [0] * rank), list(pads or [0] * 2 * rank)
    whole = [
        (x.shape[at + 2] - 1) * stride[at] + (weight.shape[at + 2] - 1) * dilation[at] + 1 + extra[at]
        for at in range(rank)
    ]
    wanted = list(output_shape)[-rank:] if output_shape else None
    if wanted is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [x.shape[at + 2] * stride[at] for at in range(rank)]
    if wanted is not None:
        total = [whole[at] - wanted[at] for at in range(rank)]
        if output_shape and auto_pad == "NOTSET" and output_padding is None:
            extra = [max(-each, 0) for each in total]
            whole = [size + more for size, more in zip(whole, extra, strict=True)]
            total = [max(each, 0) for each in total]
        small = [each // 2 for each in total]
        large = [each - half for each, half in zip(total, small, strict=True)]
        padding = large + small if auto_pad == "SAME_LOWER" else small + large
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    fits = all(one < step or one == 0 for one, step in zip(extra, stride, strict=True)) and min(padding) >= 0
    if wanted is None and fits and padding[:rank] == padding[rank:]:
        return function(x, weight, bias, stride, padding[:rank], extra, group, dilation)
    result = function(x, weight, bias, stride, 0, 0, group, dilation)
    if any(extra):
        short = [whole[at] - result.shape[at + 2] for at in range(rank)]
        filled = pad_spatial(result - _spatial(bias, rank), [0] * rank + short) + _spatial(bias, rank)
        result = filled
    return pad_spatial(result, [-one for one in padding])


def _spatial(bias: Tensor | None, rank: int) -> Tensor | float:
    return 0.0 if bias is None else bias.reshape(-1, *[1] * rank)


@translation("DeformConv")
def deform_conv(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    /,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """In two dimensions: samples the image at shifted places, then one product.

    Source: J. Dai et al., "Deformable Convolutional Networks", 2017
    """
    batch, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    (down, right), (step_down, step_right) = list(dilations or [1, 1]), list(strides or [1, 1])
    top, left, _, _ = list(pads or [0] * 4)
    out_height, out_width = offset.shape[2:]
    shift = offset.reshape(batch, offset_group, rows * columns, 2, out_height, out_width)
    grid_y = torch.arange(out_height).reshape(-1, 1) * step_down - top
    grid_x = torch.arange(out_width).reshape(1, -1) * step_right - left
    tap_y = (torch.arange(rows) * down).repeat_interleave(columns).reshape(-1, 1, 1)
    tap_x = (torch.arange(columns) * right).repeat(rows).reshape(-1, 1, 1)
    y, z = shift[:, :, :, 0] + grid_y + tap_y, shift[:, :, :, 1] + grid_x + tap_x
    scaled = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], -1).to(x.dtype)
    grouped = x.reshape(batch * offset_group, channels // offset_group, height, width)
    places = scaled.reshape(batch * offset_group, rows * columns * out_height, out_width, 2)
    sampled = F.grid_sample(grouped, places, padding_mode="zeros", align_corners=False)
    sampled = sampled.reshape(batch, offset_group, channels // offset_group, rows * columns, out_height, out_width)
    if mask is not None:
        sampled = sampled * mask.reshape(batch, offset_group, 1, rows * columns, out_height, out_width)
    column = sampled.reshape(batch, group, channels // group * rows * columns, out_height * out_width)
    product = torch.matmul(weight.reshape(1, group, weight.shape[0] // group, -1), column)
    result = product.reshape(batch, weight.shape[0], out_height, out_width)
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)
