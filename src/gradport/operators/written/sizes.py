"""Tensors that are made of dynamic sizes: torch reads plain numbers there, which would fix the sizes."""

from __future__ import annotations

from typing import Any

import torch

from gradport.operators.written.registry import written

__all__: list[str] = []

_tensor, _linspace = torch.tensor, torch.linspace


@written(torch.tensor)
def tensor(data: Any, *, dtype: torch.dtype | None = None, requires_grad: bool = False, **options: Any) -> torch.Tensor:
    """A tensor of numbers, sizes among them.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.tensor.html
    """
    if not _holds_a_size(data):
        return _tensor(data, dtype=dtype, requires_grad=requires_grad, **options)
    found = _stacked(data)
    return found.to(dtype=dtype or found.dtype, device=options.get("device")).requires_grad_(requires_grad)


def _holds_a_size(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return any(map(_holds_a_size, data))
    return isinstance(data, (torch.SymInt, torch.SymFloat))


def _stacked(data: Any) -> torch.Tensor:
    if isinstance(data, (list, tuple)):
        rows = [_stacked(row) for row in data]
        dtype = rows[0].dtype
        for row in rows[1:]:
            dtype = torch.promote_types(dtype, row.dtype)
        return torch.stack([row.to(dtype) for row in rows])
    return torch.full((), data)


@written(torch.linspace)
def linspace(start: Any, end: Any, steps: Any, *, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:
    """As many numbers as a dynamic size says, counted from both ends, so that the last one is `end`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.linspace.html
    """
    if not isinstance(steps, torch.SymInt):
        return _linspace(start, end, steps, dtype=dtype, **options)
    dtype = dtype or torch.get_default_dtype()
    count: Any = steps
    number = torch.arange(count, device=options.get("device"))
    step = (end - start) / torch.sym_max(steps - 1, 1)
    last = torch.full((), count - 1)
    rising, falling = start + step * number.to(dtype), end - step * (last - number).to(dtype)
    return torch.where(2 * number < count, rising, falling).to(dtype)
