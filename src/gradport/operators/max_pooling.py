"""Max pooling with the indices of the maxima, plain, adaptive and fractional, and its gradients, by index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import count_up, for_each_axis, number
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import constant, decomposition, lowering, op

__all__: list[str] = []

_FRACTIONAL = sample(
    lambda x, k: F.fractional_max_pool2d(x, 2, output_size=(2, 2), _random_samples=k / 10),
    reals("n", 2, 5, 5),
    integers("n", 2, 2, high=9),
)


@lowering(_aten.max_pool2d_with_indices.default, samples=[sample(lambda x: F.max_pool2d(x, 2), reals("n", 2, 5, 5))])
def max_pool2d_with_indices(
    self: ir.Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[ir.Value, ir.Value]:
    """The maxima, and their indices within each image; ONNX counts indices over the whole batch.

    Source: https://onnx.ai/onnx/operators/onnx__MaxPool.html
    """
    return _max_pool(self, 2, kernel_size, stride, padding, dilation, ceil_mode)


@lowering(_aten.max_pool3d_with_indices.default, samples=[sample(lambda x: F.max_pool3d(x, 2), reals("n", 1, 4, 4, 4))])
def max_pool3d_with_indices(
    self: ir.Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[ir.Value, ir.Value]:
    """As above.

    Source: https://onnx.ai/onnx/operators/onnx__MaxPool.html
    """
    return _max_pool(self, 3, kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool(
    x: ir.Value,
    rank: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[ir.Value, ir.Value]:
    kernels = for_each_axis(kernel_size, rank)
    alone = len(x.shape or ()) == rank + 1
    batch = op.Unsqueeze(x, number(0)) if alone else x
    maxima, places = op.MaxPool(
        batch,
        kernel_shape=kernels,
        strides=for_each_axis(stride, rank) if stride else kernels,
        pads=for_each_axis(padding, rank) * 2,
        dilations=for_each_axis(dilation, rank),
        ceil_mode=int(ceil_mode),
    )
    images = op.Shape(batch, start=0, end=2)
    image = count_up(op.ReduceProd(images))
    before = op.Mul(image, op.ReduceProd(op.Shape(batch, start=2)))
    within = op.Sub(places, op.Reshape(before, op.Concat(images, op.Constant(value_ints=[1] * rank), axis=0)))
    return (op.Squeeze(maxima, number(0)), op.Squeeze(within, number(0))) if alone else (maxima, within)


Pair = tuple[torch.Tensor, torch.Tensor]


@decomposition(
    _aten.adaptive_max_pool2d.default,
    _aten.adaptive_max_pool3d.default,
    samples=[sample(lambda x: F.adaptive_max_pool2d(x, (2, 3)), reals("n", 2, 5, 5))],
)
def adaptive_max_pool(self: torch.Tensor, output_size: Sequence[int]) -> Pair:
    """The largest element of each window and its index; window i of o has floor(i n / o) up to ceil((i + 1) n / o).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html
    """
    rank = len(output_size)
    sizes = [int(length) for length in self.shape[-rank:]]
    starts = [[i * n // o for i in range(o)] for n, o in zip(sizes, output_size, strict=True)]
    ends = [[-(-(i + 1) * n // o) for i in range(o)] for n, o in zip(sizes, output_size, strict=True)]
    return _largest(self, starts, ends, sizes)


def _largest(self: torch.Tensor, starts: list[list[int]], ends: list[list[int]], sizes: list[int]) -> Pair:
    """The maximum of each window and its flat index. A window shorter than the longest repeats its first element, which
    changes neither its maximum nor the first index of it."""
    places = [[0]]
    for axis_starts, axis_ends, size in zip(starts, ends, sizes, strict=True):
        longest = max(end - start for start, end in zip(axis_starts, axis_ends, strict=True))
        windows = [
            [start + step if start + step < end else start for step in range(longest)]
            for start, end in zip(axis_starts, axis_ends, strict=True)
        ]
        places = [[place * size + own for place in window for own in axis] for window in places for axis in windows]
    flat = self.flatten(-len(sizes))
    place = constant(places, torch.int64)
    gathered = flat.index_select(-1, place.reshape(-1)).unflatten(-1, list(place.shape))
    value, which = gathered.max(-1)
    index = place.expand(gathered.shape).gather(-1, which.unsqueeze(-1)).squeeze(-1)
    shape = [*self.shape[: -len(sizes)], *map(len, starts)]
    return value.reshape(shape), index.reshape(shape)


@decomposition(
    _aten.adaptive_max_pool2d_backward.default,
    samples=[sample(lambda x: F.adaptive_max_pool2d(x, (2, 3)), reals("n", 2, 5, 5))],
)
def adaptive_max_pool2d_backward(grad_output: torch.Tensor, self: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Adds each cotangent at the index of its maximum.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html
    """
    return _by_place(grad_output, self, indices, 2)


@decomposition(
    _aten.adaptive_max_pool3d_backward.default,
    samples=[sample(lambda x: F.adaptive_max_pool3d(x, (2, 1, 3)), reals("n", 1, 4, 4, 4))],
)
def adaptive_max_pool3d_backward(grad_output: torch.Tensor, self: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """As above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html
    """
    return _by_place(grad_output, self, indices, 3)


@decomposition(
    _aten.max_pool2d_with_indices_backward.default,
    samples=[sample(lambda x: F.max_pool2d(x, 3, stride=1, padding=1), reals("n", 2, 5, 5))],
)
def max_pool2d_backward(
    grad_output: torch.Tensor, self: torch.Tensor, *options: Any, indices: torch.Tensor | None = None
) -> torch.Tensor:
    """As above; the options are those of the pooling, and the indices follow them.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html
    """
    return _by_place(grad_output, self, options[-1] if indices is None else indices, 2)


@decomposition(
    _aten.max_pool3d_with_indices_backward.default,
    samples=[sample(lambda x: F.max_pool3d(x, 2, stride=1), reals("n", 1, 4, 4, 4))],
)
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


def _starts(samples: torch.Tensor, input_size: Any, window: int, output_size: Any) -> torch.Tensor:
    """The first places of the windows along one axis: a sequence of steps, shifted by a random sample."""
    if output_size == 1:
        return torch.zeros_like(samples, dtype=torch.int64).unsqueeze(-1) + (input_size - window)
    alpha = (input_size - window) / (output_size - 1)
    place = torch.arange(output_size - 1, dtype=samples.dtype, device=samples.device)
    first = samples.unsqueeze(-1)
    steps = ((place + first) * alpha).to(torch.int64) - (first * alpha).to(torch.int64)
    last = torch.zeros_like(steps[..., :1]) + (input_size - window)
    return torch.cat([steps, last], -1)


@decomposition(
    _aten.fractional_max_pool2d.default,
    _aten.fractional_max_pool3d.default,
    samples=[_FRACTIONAL],
)
def fractional_max_pool(
    self: torch.Tensor, kernel_size: Sequence[int], output_size: Sequence[Any], random_samples: torch.Tensor
) -> Pair:
    """The maximum of each window and its index. The windows are placed by random samples, one per axis; with two axes
    the samples are exchanged.

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
    elements = self.flatten(-axes)
    places = flat.reshape(*batch, -1, math.prod(kernel_size))
    values = elements.gather(-1, places.flatten(-2)).reshape(places.shape)
    best = values.argmax(-1, keepdim=True)
    index = places.gather(-1, best).squeeze(-1)
    shape = [*batch, *output_size]
    return elements.gather(-1, index).reshape(shape), index.reshape(shape)


@decomposition(
    _aten.fractional_max_pool2d_backward.default,
    _aten.fractional_max_pool3d_backward.default,
    samples=[_FRACTIONAL],
)
def fractional_max_pool_backward(
    grad_output: torch.Tensor,
    self: torch.Tensor,
    kernel_size: Sequence[int],
    output_size: Sequence[Any],
    indices: torch.Tensor,
) -> torch.Tensor:
    """Adds each cotangent at the index of its maximum.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.FractionalMaxPool2d.html
    """
    axes = len(kernel_size)
    empty = torch.zeros_like(self).flatten(-axes)
    return empty.scatter_add(-1, indices.flatten(-axes), grad_output.flatten(-axes)).reshape(self.shape)
