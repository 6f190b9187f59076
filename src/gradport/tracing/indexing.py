"""Integer tensors without dimensions in place of a number: `x[t]` and `torch.zeros(n, t)`.

As a size, the value is read: that works for constants, and is refused if it depends on data. As an index the value is
not read: `x[t, 1:, j] = v` equals an indexed write to the view `x[:, 1:]` at the tensors `t` and `j`, which a graph can
express.

Index tensors without dimensions add no dimension: https://numpy.org/doc/stable/user/basics.indexing.html
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradport.compat.torch.trees import tree_map_only

__all__ = ["IndexByTensor"]


_MASKED_SELECT = (torch.masked_select, torch.Tensor.masked_select)
"""torch's backward of it reads sizes as plain numbers; the backward of `x[mask]`, the same function, does not."""


_FACTORIES = (torch.zeros, torch.ones, torch.empty, torch.full, torch.rand, torch.randn)


class IndexByTensor(TorchFunctionMode):
    """While open, integer tensors without dimensions are used as index tensors, and read as numbers for sizes."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.__getitem__ and _has_tensor_number(args[1]):
            view, indices = _split_index(args[0], args[1])
            return torch.ops.aten.index.Tensor(view, indices)
        if func is torch.Tensor.__setitem__ and _has_tensor_number(args[1]):
            view, indices = _split_index(args[0], args[1])
            value = args[2] if isinstance(args[2], torch.Tensor) else torch.full((), args[2], dtype=view.dtype)
            torch.ops.aten.index_put_.default(view, indices, value.to(view.dtype))
            return None
        if func in _MASKED_SELECT:
            return operator.getitem(*torch.broadcast_tensors(*args, **(kwargs or {})))
        if func in _FACTORIES:
            args = tree_map_only(torch.Tensor, lambda size: size.item() if _is_tensor_number(size) else size, args)
        return func(*args, **(kwargs or {}))


def _has_tensor_number(index: Any) -> bool:
    entries = index if isinstance(index, tuple) else (index,)
    return any(map(_is_tensor_number, entries)) and all(
        _is_tensor_number(entry) or entry is None or entry is Ellipsis or isinstance(entry, (int, slice))
        for entry in entries
    )


def _is_tensor_number(entry: Any) -> bool:
    return (
        isinstance(entry, torch.Tensor)
        and entry.dim() == 0
        and entry.dtype in (torch.int64, torch.int32, torch.int16, torch.int8)
    )


def _split_index(tensor: torch.Tensor, index: Any) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """The view by the slices of an index, and the tensors that index the view."""
    entries = list(index) if isinstance(index, tuple) else [index]
    basic = tuple(
        entry if entry is None or entry is Ellipsis or isinstance(entry, slice) else slice(None) for entry in entries
    )
    if any(entry is Ellipsis for entry in entries):
        at = next(place for place, entry in enumerate(entries) if entry is Ellipsis)
        indexed = sum(entry is not None for entry in entries) - 1
        entries[at : at + 1] = [slice(None)] * (tensor.dim() - indexed)
    indices: list[torch.Tensor | None] = []
    for entry in entries:
        if isinstance(entry, bool) or entry is None or isinstance(entry, slice):
            indices.append(None)
        else:
            indices.append(entry.long() if isinstance(entry, torch.Tensor) else torch.tensor(entry))
    return tensor[basic], indices
