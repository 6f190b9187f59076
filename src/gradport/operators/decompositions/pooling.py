"""Pooling by gathering windows, where ONNX has no operator for it or gives no places; and the gradients by place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import for_each_axis
from gradport.operators.table import decomposition, fixed

__all__: list[str] = []

Pair = tuple[torch.Tensor, torch.Tensor]


@decomposition(_aten.adaptive_max_pool2d.default, _aten.adaptive_max_pool3d.default)
def adaptive_max_pool(self: torch.Tensor, output_size: Sequence[int]) -> Pair:
    """The largest element of each window and its place: window i of o holds floor(i n / o) up to ceil((i + 1) n / o).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html
    """
    rank = len(output_size)
    sizes = [int(length) for length in self.shape[-rank:]]
    starts = [[i * n // o for i in range(o)] for n, o in zip(sizes, output_size, strict=True)]
    ends = [[-(-(i + 1) * n // o) for i in range(o)] for n, o in zip(sizes, output_size, strict=True)]
    return _largest(self, starts, ends, sizes)


def _largest(self: torch.Tensor, starts: list[list[int]], ends: list[list[int]], sizes: list[int]) -> Pair:
    """The windows of every axis together, as flat places; a window that is shorter than the longest repeats its first
    element, which changes neither its maximum nor the first place of it."""
    places = [[0]]
    for axis_starts, axis_ends, size in zip(starts, ends, sizes, strict=True):
        longest = max(end - start for start, end in zip(axis_starts, axis_ends, strict=True))
        windows = [
            [start + step if start + step < end else start for step in range(longest)]
            for start, end in zip(axis_starts, axis_ends, strict=True)
        ]
        places = [[place * size + own for place in window for own in axis] for window in places for axis in windows]
    flat = self.flatten(-len(sizes))
    place = fixed(places, torch.int64)
    gathered = flat.index_select(-1, place.reshape(-1)).unflatten(-1, list(place.shape))
    value, which = gathered.max(-1)
    index = place.expand(gathered.shape).gather(-1, which.unsqueeze(-1)).squeeze(-1)
    shape = [*self.shape[: -len(sizes)], *map(len, starts)]
    return value.reshape(shape), index.reshape(shape)


@decomposition(_aten.adaptive_max_pool2d_backward.default)
def adaptive_max_pool2d_backward(grad_output: torch.Tensor, self: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Each cotangent to the place that its maximum came from.

    Source: as above
    """
    return _by_place(grad_output, self, indices, 2)


@decomposition(_aten.adaptive_max_pool3d_backward.default)
def adaptive_max_pool3d_backward(grad_output: torch.Tensor, self: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """As above.

    Source: as above
    """
    return _by_place(grad_output, self, indices, 3)


@decomposition(_aten.max_pool2d_with_indices_backward.default)
def max_pool2d_backward(
    grad_output: torch.Tensor, self: torch.Tensor, *options: Any, indices: torch.Tensor | None = None
) -> torch.Tensor:
    """As above; the options are those of the pooling, and the places stand behind them.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html
    """
    return _by_place(grad_output, self, options[-1] if indices is None else indices, 2)


@decomposition(_aten.max_pool3d_with_indices_backward.default)
def max_pool3d_backward(
    grad_output: torch.Tensor, self: torch.Tensor, *options: Any, indices: torch.Tensor | None = None
) -> torch.Tensor:
    """As above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool3d.html
    """
    return _by_place(grad_output, self, options[-1] if indices is None else indices, 3)


def _by_place(grad_output: torch.Tensor, self: torch.Tensor, indices: torch.Tensor, rank: int) -> torch.Tensor:
    room = torch.zeros_like(self).flatten(-rank)
    return room.scatter_add(-1, indices.flatten(-rank), grad_output.flatten(-rank)).reshape(self.shape)


@decomposition(_aten._adaptive_avg_pool3d.default)
def adaptive_avg_pool3d(self: torch.Tensor, output_size: Sequence[int]) -> torch.Tensor:
    """The mean of each window, an axis at a time: a product with a matrix of windows by elements.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool3d.html
    """
    found = self
    for axis, count in zip((-3, -2, -1), output_size, strict=True):
        size = int(self.shape[axis])
        rows = []
        for i in range(count):
            start, end = i * size // count, -(-(i + 1) * size // count)
            rows.append([1 / (end - start) if start <= at < end else 0.0 for at in range(size)])
        found = _along(found, axis, rows)
    return found


@decomposition(_aten.avg_pool2d.default)
def avg_pool2d(self: torch.Tensor, kernel_size: Sequence[int], *options: Any) -> torch.Tensor:
    """The mean of each window, as above, where the last one may be cut off or the divisor is given.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html
    """
    return _avg_pool(2, self, kernel_size, *options)


@decomposition(_aten.avg_pool3d.default)
def avg_pool3d(self: torch.Tensor, kernel_size: Sequence[int], *options: Any) -> torch.Tensor:
    """As above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool3d.html
    """
    return _avg_pool(3, self, kernel_size, *options)


def _avg_pool(
    rank: int,
    self: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> torch.Tensor:
    if divisor_override is None and not ceil_mode:
        return NotImplemented  # ONNX's AveragePool is right
    kernels, strides, pads = (for_each_axis(values, rank) for values in (kernel_size, stride or kernel_size, padding))
    found = self
    for axis, kernel, step, pad in zip(range(-rank, 0), kernels, strides, pads, strict=True):
        size = int(self.shape[axis])
        over = size + 2 * pad - kernel
        count = (-(-over // step) if ceil_mode else over // step) + 1
        count -= ceil_mode and (count - 1) * step >= size + pad  # a window may not begin in the padding behind
        rows = []
        for i in range(count):
            start = i * step - pad
            end = min(start + kernel, size + pad)
            inside = range(max(start, 0), min(end, size))
            length = end - start if count_include_pad else len(inside)
            share = 1.0 if divisor_override is not None else 1 / length
            rows.append([share if at in inside else 0.0 for at in range(size)])
        found = _along(found, axis, rows)
    return found if divisor_override is None else found / divisor_override


def _along(x: torch.Tensor, axis: int, rows: list[list[float]]) -> torch.Tensor:
    """Each element of the result along an axis is the sum of that axis weighed by a row."""
    return (x.movedim(axis, -1) @ fixed(rows, x.dtype).mT).movedim(-1, axis)


def _starts(samples: torch.Tensor, input_size: Any, window: int, output_size: Any) -> torch.Tensor:
    """Where the windows of one axis begin: a sequence of steps that a random sample shifts."""
    if output_size == 1:
        return torch.zeros_like(samples, dtype=torch.int64).unsqueeze(-1) + (input_size - window)
    alpha = (input_size - window) / (output_size - 1)
    place = torch.arange(output_size - 1, dtype=samples.dtype, device=samples.device)
    first = samples.unsqueeze(-1)
    steps = ((place + first) * alpha).to(torch.int64) - (first * alpha).to(torch.int64)
    last = torch.zeros_like(steps[..., :1]) + (input_size - window)
    return torch.cat([steps, last], -1)


@decomposition(_aten.fractional_max_pool2d.default, _aten.fractional_max_pool3d.default)
def fractional_max_pool(
    self: torch.Tensor, kernel_size: Sequence[int], output_size: Sequence[Any], random_samples: torch.Tensor
) -> Pair:
    """The largest of each window, and where it stands; the windows' places follow from random samples, one for each
    axis, of which the two last are exchanged where there are two.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.FractionalMaxPool2d.html; B. Graham, "Fractional
    Max-Pooling", 2014
    """
    axes = len(kernel_size)
    batch, sizes = self.shape[:-axes], self.shape[-axes:]
    samples = random_samples.reshape(*batch, axes)
    columns = [1, 0] if axes == 2 else list(range(axes))
    flat = torch.zeros((), dtype=torch.int64, device=self.device)
    for axis, (size, window, count) in enumerate(zip(sizes, kernel_size, output_size, strict=True)):
        starts = _starts(samples[..., columns[axis]], size, window, count)
        places = starts.unsqueeze(-1) + torch.arange(window, device=self.device)
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = count, window
        flat = flat * size + places.reshape(*batch, *shape)
    given = self.flatten(-axes)
    places = flat.reshape(*batch, -1, math.prod(kernel_size))
    values = given.gather(-1, places.flatten(-2)).reshape(places.shape)
    best = values.argmax(-1, keepdim=True)
    found = places.gather(-1, best).squeeze(-1)
    shape = [*batch, *output_size]
    return given.gather(-1, found).reshape(shape), found.reshape(shape)


@decomposition(_aten.fractional_max_pool2d_backward.default, _aten.fractional_max_pool3d_backward.default)
def fractional_max_pool_backward(
    grad_output: torch.Tensor,
    self: torch.Tensor,
    kernel_size: Sequence[int],
    output_size: Sequence[Any],
    indices: torch.Tensor,
) -> torch.Tensor:
    """Each gradient to the place that was largest.

    Source: as above
    """
    axes = len(kernel_size)
    empty = torch.zeros_like(self).flatten(-axes)
    return empty.scatter_add(-1, indices.flatten(-axes), grad_output.flatten(-axes)).reshape(self.shape)
