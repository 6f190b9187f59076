"""Tensors inside `torch.vmap`: which dimension is the batch, and the tensor with it.

Private in torch, and used here: `torch._C._functorch` with `is_batchedtensor`, `maybe_get_bdim`, `maybe_get_level`,
`get_unwrapped` and `_add_batch_dim`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch._C import _functorch

__all__ = ["over_batch"]


def over_batch(
    tensors: Sequence[torch.Tensor], function: Callable[[list[torch.Tensor]], torch.Tensor]
) -> torch.Tensor | None:
    """What a function gives of the tensors with their batch in front, as a tensor inside the innermost `vmap`; None
    where none of them is batched. A tensor that is the same for the whole batch is expanded."""
    levels = [_functorch.maybe_get_level(tensor) if _functorch.is_batchedtensor(tensor) else -1 for tensor in tensors]
    innermost = max(levels, default=-1)
    if innermost < 0:
        return None
    whole = [
        _functorch.get_unwrapped(tensor).movedim(_functorch.maybe_get_bdim(tensor), 0) if level == innermost else None
        for tensor, level in zip(tensors, levels, strict=True)
    ]
    size = next(tensor.shape[0] for tensor in whole if tensor is not None)
    given = [
        tensor.expand(size, *tensor.shape) if batched is None else batched
        for tensor, batched in zip(tensors, whole, strict=True)
    ]
    return _functorch._add_batch_dim(function(given), 0, innermost)  # type: ignore[no-any-return]
