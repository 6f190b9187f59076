"""Pooling over windows and over whole images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.importing.rows.convolution import pad_spatial, same_pads
from gradport.importing.sizes import Sizes
from gradport.importing.table import translation

Tensor = torch.Tensor


def _pads_of(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int] | None,
    auto_pad: str,
    ceil_mode: int,
) -> tuple[list[int], list[int]]:
    """The declared pads, and further ones at the end where a window may begin inside but end outside."""
    rank = len(kernel)
    padding = list(pads or [0] * 2 * rank)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        padding = same_pads(x.shape[2:], kernel, strides, dilations, auto_pad)
    further = [0] * rank
    if ceil_mode:
        for at in range(rank):
            size = x.shape[at + 2] + padding[at] + padding[at + rank]
            span = (kernel[at] - 1) * dilations[at] + 1
            count = -(-(size - span) // strides[at]) + 1
            if (count - 1) * strides[at] >= x.shape[at + 2] + padding[at]:
                count -= 1
            further[at] = max((count - 1) * strides[at] + span - size, 0)
    return padding, further


def _windows(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """(N, C, counts..., places of a window)."""
    rank = len(kernel)
    for at in range(rank):
        span = (kernel[at] - 1) * dilations[at] + 1
        x = x.unfold(at + 2, span, strides[at])
    for at in range(rank):
        if dilations[at] > 1:
            x = x[(slice(None),) * (at + 2 + rank) + (slice(None, None, dilations[at]),)]
    return x.flatten(-rank)


@translation("MaxPool")
def max_pool(
    x: Tensor,
    /,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Values, and indices into the whole flattened input; with storage_order 1 an image is counted by columns."""
    rank = len(kernel_shape)
    stride, dilation = list(strides or [1] * rank), list(dilations or [1] * rank)
    padding, further = _pads_of(x, kernel_shape, stride, dilation, pads, auto_pad, ceil_mode)
    whole = [*padding[:rank], *(a + b for a, b in zip(padding[rank:], further, strict=True))]
    narrow = all(2 * one <= length for one, length in zip(whole, kernel_shape, strict=False))
    if x.is_floating_point() and whole[:rank] == whole[rank:] and rank <= 3 and narrow:
        return _max_pool_of_torch(x, list(kernel_shape), stride, whole[:rank], dilation, storage_order)
    low = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    values, which = _windows(pad_spatial(x, whole, low), kernel_shape, stride, dilation).max(-1)
    place = torch.arange(math.prod(x.shape[2:])).reshape(1, 1, *x.shape[2:])
    own = _windows(pad_spatial(place, whole, -1), kernel_shape, stride, dilation)
    image = own.expand(*which.shape, own.shape[-1]).gather(-1, which.unsqueeze(-1)).squeeze(-1)
    return values, _global(image, x, storage_order)


def _max_pool_of_torch(
    x: Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int], order: int
) -> tuple[Tensor, Tensor]:
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    values, image = function(x, kernel, stride, padding, dilation, return_indices=True)
    return values, _global(image, x, order)


def _global(image: Tensor, x: Tensor, order: int) -> Tensor:
    """Indices over the batch from indices in each image."""
    if order:
        rows, columns = x.shape[2], x.shape[3]
        image = image % columns * rows + image // columns
    first = torch.arange(x.shape[0] * x.shape[1]).reshape(x.shape[0], x.shape[1], *[1] * (x.dim() - 2))
    return image + first * math.prod(x.shape[2:])


@translation("AveragePool")
def average_pool(
    x: Tensor,
    /,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The sum of a window over the number of its elements: those of the image, or the declared padding with them."""
    rank = len(kernel_shape)
    stride, dilation = list(strides or [1] * rank), list(dilations or [1] * rank)
    padding, further = _pads_of(x, kernel_shape, stride, dilation, pads, auto_pad, ceil_mode)
    simple = padding[:rank] == padding[rank:] and not any(further) and set(dilation) == {1} and rank <= 3
    if simple and all(2 * one <= length for one, length in zip(padding, kernel_shape, strict=False)):
        function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
        include = bool(count_include_pad)
        return function(x, list(kernel_shape), stride, padding[:rank], count_include_pad=include)
    ones = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype)
    counted = pad_spatial(ones, padding, float(bool(count_include_pad)))
    after = [0] * rank + further
    total = _windows(pad_spatial(pad_spatial(x, padding), after), kernel_shape, stride, dilation).sum(-1)
    return total / _windows(pad_spatial(counted, after), kernel_shape, stride, dilation).sum(-1)


@translation("LpPool")
def lp_pool(
    x: Tensor,
    /,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    rank = len(kernel_shape)
    stride, dilation = list(strides or [1] * rank), list(dilations or [1] * rank)
    padding, further = _pads_of(x, kernel_shape, stride, dilation, pads, auto_pad, ceil_mode)
    whole = [*padding[:rank], *(a + b for a, b in zip(padding[rank:], further, strict=True))]
    return _windows(pad_spatial(x.abs() ** p, whole), kernel_shape, stride, dilation).sum(-1) ** (1 / p)


@translation("GlobalAveragePool")
def global_average_pool(x: Tensor, /) -> Tensor:
    return x.mean(list(range(2, x.dim())), keepdim=True)


@translation("GlobalMaxPool")
def global_max_pool(x: Tensor, /) -> Tensor:
    return x.amax(list(range(2, x.dim())), keepdim=True)


@translation("GlobalLpPool")
def global_lp_pool(x: Tensor, /, *, p: int = 2) -> Tensor:
    return (x.abs() ** p).sum(list(range(2, x.dim())), keepdim=True) ** (1 / p)


@translation("MaxUnpool")
def max_unpool(
    x: Tensor,
    indices: Tensor,
    shape: Sizes | None = None,
    /,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """The indices count in the result that the kernel implies; a given shape is cut from it."""
    rank = len(kernel_shape)
    stride, padding = list(strides or [1] * rank), list(pads or [0] * 2 * rank)
    implied = [
        (x.shape[at + 2] - 1) * stride[at] + kernel_shape[at] - padding[at] - padding[at + rank] for at in range(rank)
    ]
    own = [x.shape[0], x.shape[1], *implied]
    flat = x.new_zeros(math.prod(own)).scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(own)
    if shape is None:
        return flat
    wanted = shape.numbers()
    return pad_spatial(flat, [0] * rank + [wanted[at + 2] - implied[at] for at in range(rank)])
