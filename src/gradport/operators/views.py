"""Views and their gradients: the cotangent of a view goes to the places that the view reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.operators import prims as _prims
from gradport.compat.torch.sizes import surely_equal
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition, replacement

__all__: list[str] = []


@decomposition(_aten.diagonal.default, samples=[sample(torch.diagonal, reals("n", 4))])
def diagonal(self: torch.Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> torch.Tensor:
    """The diagonal, read by index: the exporter's lowering sums a product with a unit matrix, where one nan spreads to
    all elements.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.diagonal.html
    """
    moved = self.movedim((dim1, dim2), (-2, -1))
    rows, columns = moved.shape[-2], moved.shape[-1]
    down, right = max(-offset, 0), max(offset, 0)
    count = torch.sym_max(torch.sym_min(rows - down, columns - right), 0)
    place = torch.arange(count, device=self.device)
    flat = moved.reshape(*moved.shape[:-2], rows * columns)
    return flat.index_select(-1, (place + down) * columns + place + right)


@decomposition(_aten.trace.default, samples=[sample(lambda x: x * torch.ops.aten.trace(x.detach()), reals(4, "n"))])
def aten_trace(self: torch.Tensor) -> torch.Tensor:
    """The sum of the diagonal.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.trace.html
    """
    return diagonal(self).sum()


@replacement(torch.trace, torch.Tensor.trace, samples=[sample(torch.trace, reals(4, "n"))])
def trace(self: torch.Tensor) -> torch.Tensor:
    """The sum of the diagonal: torch's gradient fixes the size of the diagonal.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.trace.html
    """
    return torch.diagonal(self).sum()


@decomposition(_aten.diagonal_backward.default, samples=[sample(torch.diagonal, reals("n", 4))])
def diagonal_backward(
    grad_output: torch.Tensor, input_sizes: Sequence[int], offset: int, dim1: int, dim2: int
) -> torch.Tensor:
    """The cotangent on the diagonal, zeros elsewhere.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.diagonal.html
    """
    return torch.diagonal_scatter(grad_output.new_zeros(input_sizes), grad_output, offset, dim1, dim2)


@decomposition(_aten.diagonal_scatter.default, samples=[sample(torch.diagonal_scatter, reals(3, 4), reals(3))])
def diagonal_scatter(
    self: torch.Tensor, src: torch.Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> torch.Tensor:
    """`self` with `src` on the diagonal: spreads `src` along the rows, then selects by column minus row.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.diagonal_scatter.html
    """
    moved = self.movedim((dim1, dim2), (-2, -1))
    rows, columns = moved.shape[-2], moved.shape[-1]
    row, column = torch.arange(rows, device=self.device), torch.arange(columns, device=self.device)
    on = column[None, :] - row[:, None] == offset
    if src.shape[-1] == 0:
        return self.clone()
    place = (row - max(-offset, 0)).clamp(0, src.shape[-1] - 1)
    laid = src.index_select(-1, place).unsqueeze(-1)
    return torch.where(on, laid, moved).movedim((-2, -1), (dim1, dim2))


@decomposition(
    _aten.slice_scatter.default,
    samples=[
        sample(lambda x, y: torch.slice_scatter(x, y, 1, 1, 3), reals("n", 4), reals("n", 2)),
        sample(lambda x, y: torch.slice_scatter(x, y, 1, -3, None, 2), reals("n", 4), reals("n", 2)),
    ],
)
def slice_scatter(
    self: torch.Tensor, src: torch.Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> torch.Tensor:
    """`self` with `src` at every `step`-th place of a dimension.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.slice_scatter.html
    """
    if isinstance(start, torch.SymInt):
        return NotImplemented  # from which end it counts is not known; the exporter's lowering asks at run time
    size, own = self.shape[dim], src.shape[dim]
    first = _place(start, size)
    if surely_equal(own, size):
        return src.clone()
    if step == 1 or surely_equal(own, 1):
        before, after = _aten.slice.Tensor(self, dim, 0, first), _aten.slice.Tensor(self, dim, first + own)
        return torch.cat([part for part in (before, src, after) if not surely_equal(part.shape[dim], 0)], dim)
    shape = [1] * self.dim()
    shape[dim] = -1
    place = torch.arange(size, device=self.device) - first
    here = (place >= 0) & (place < own * step) & (place % step == 0)
    return torch.where(here.reshape(shape), slice_backward(src, self.shape, dim, start, end, step), self)


@decomposition(
    _aten.slice_backward.default,
    samples=[sample(lambda x: x[:, 1:3], reals("n", 4)), sample(lambda x: x[:, -3::2], reals("n", 4))],
)
def slice_backward(
    grad_output: torch.Tensor, input_sizes: Sequence[Any], dim: int, start: Any, end: Any, step: int
) -> torch.Tensor:
    """The cotangent at every `step`-th place of a dimension, zeros elsewhere.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.narrow.html
    """
    if isinstance(start, torch.SymInt):
        zeros = grad_output.new_zeros(input_sizes)
        return _aten.slice_scatter.default(zeros, grad_output, dim, start, end, step)  # type: ignore[no-any-return]
    axis, size, own = dim % grad_output.dim(), input_sizes[dim], grad_output.shape[dim]
    if surely_equal(own, size):
        return grad_output.clone()
    first = _place(start, size)
    after_axis = [0, 0] * (grad_output.dim() - 1 - axis)
    spread = grad_output
    if step > 1:
        spread = F.pad(grad_output.unsqueeze(axis + 1), [*after_axis, 0, step - 1]).flatten(axis, axis + 1)
    if isinstance(size, int):
        return F.pad(spread, [*after_axis, first, size - first - own * step])
    zeros = grad_output.new_zeros(input_sizes)  # a difference of dynamic sizes can be wrong for size 0
    longer = torch.cat([_aten.slice.Tensor(zeros, axis, 0, first), spread, zeros], axis)
    return _aten.slice.Tensor(longer, axis, 0, size)


@decomposition(
    _aten.select_scatter.default,
    samples=[sample(lambda x, y: torch.select_scatter(x, y, 1, 2), reals("n", 4), reals("n"))],
)
def select_scatter(self: torch.Tensor, src: torch.Tensor, dim: int, index: Any) -> torch.Tensor:
    """`self` with `src` at one place of a dimension.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.select_scatter.html
    """
    if isinstance(index, int):
        return slice_scatter(self, src.unsqueeze(dim), dim, index)
    size = self.shape[dim]
    shape = [1] * self.dim()
    shape[dim] = -1
    here = torch.arange(size, device=self.device) == (index if index >= 0 else index + size)
    return torch.where(here.reshape(shape), src.unsqueeze(dim), self)


@decomposition(_aten.select_backward.default, samples=[sample(lambda x: x[:, 2], reals("n", 4))])
def select_backward(grad_output: torch.Tensor, input_sizes: Sequence[Any], dim: int, index: Any) -> torch.Tensor:
    """The cotangent at one place of a dimension, zeros elsewhere.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.select.html
    """
    if not isinstance(index, int):
        return select_scatter(grad_output.new_zeros(input_sizes), grad_output, dim, index)
    axis = dim % len(input_sizes)
    return slice_backward(grad_output.unsqueeze(axis), input_sizes, axis, index, None, 1)


def _place(start: int | None, size: Any) -> Any:
    """The first place of a slice."""
    if not start:
        return 0
    if isinstance(size, int):
        return min(max(start + size if start < 0 else start, 0), size)
    return torch.sym_max(start + size, 0) if start < 0 else torch.sym_min(start, size)


@decomposition(_aten.diagonal_copy.default, samples=[sample(torch.diagonal_copy, reals("n", 4))])
def diagonal_copy(self: torch.Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> torch.Tensor:
    """The diagonal, read through an index.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.diagonal.html
    """
    return torch.diagonal(self, offset, dim1, dim2).clone()


@decomposition(_aten.split_copy.Tensor, samples=[sample(lambda x: _aten.split_copy.Tensor(x, 3, 1), reals("n", 7))])
def split_copy(self: torch.Tensor, split_size: int, dim: int = 0) -> list[torch.Tensor]:
    """Pieces of `split_size`, the last one may be smaller; the body of a scan has copies in place of views.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.split.html
    """
    return [piece.clone() for piece in torch.split(self, split_size, dim)]


@decomposition(_aten.select_copy.int, samples=[sample(lambda x: _aten.select_copy.int(x, 1, 2), reals("n", 4))])
def select_copy(self: torch.Tensor, dim: int, index: int) -> torch.Tensor:
    """One place of a dimension.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.select.html
    """
    return self.select(dim, index).clone()


@decomposition(
    _aten.slice_copy.Tensor, samples=[sample(lambda x: _aten.slice_copy.Tensor(x, 1, 1, 6, 2), reals("n", 7))]
)
def slice_copy(
    self: torch.Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> torch.Tensor:
    """Every `step`-th place of a dimension.

    Source: https://numpy.org/doc/stable/user/basics.indexing.html#slicing-and-striding
    """
    return _aten.slice.Tensor(self, dim, start, end, step).clone()


@decomposition(_aten._neg_view_copy.default, samples=[sample(_aten._neg_view_copy.default, reals("n", 4))])
def neg_view_copy(self: torch.Tensor) -> torch.Tensor:
    """The negative.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.neg.html
    """
    return -self


def _places(size: Sequence[int], stride: Sequence[int], offset: int, device: torch.device) -> torch.Tensor:
    """The flat place of every element of a strided view."""
    place = torch.full((), offset, dtype=torch.int64, device=device)
    for length, step in zip(size, stride, strict=True):
        place = place.unsqueeze(-1) + torch.arange(length, device=device) * step
    return place.expand(size)


@decomposition(
    _aten.as_strided_scatter.default,
    _prims.as_strided_scatter.default,
    samples=[sample(lambda x, y: torch.as_strided_scatter(x, y, (2, 2), (1, 2)), reals(4, 4), reals(2, 2))],
)
def as_strided_scatter(
    self: torch.Tensor, src: torch.Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> torch.Tensor:
    """`self` with `src` at the places of the view; `self` counts as contiguous, as in ONNX.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.as_strided_scatter.html
    """
    place = _places(size, stride, storage_offset or 0, self.device).reshape(-1)
    return self.reshape(-1).index_put((place,), src.reshape(-1)).reshape(self.shape)


@decomposition(
    _aten.put.default, samples=[sample(lambda x, place, y: x.put(place, y), reals("n", 4), integers(1), reals(1))]
)
def put(self: torch.Tensor, index: torch.Tensor, source: torch.Tensor, accumulate: bool = False) -> torch.Tensor:
    """Writes `source` at flat indices.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.put_.html
    """
    written = self.reshape(-1).index_put((index.reshape(-1),), source.reshape(-1), accumulate)
    return written.reshape(self.shape)
