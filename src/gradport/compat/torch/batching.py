"""Tensors inside `torch.vmap`: their batch dimension, and the whole tensor.

Private in torch, and used here: `torch._C._functorch` with `is_batchedtensor`, `maybe_get_bdim`, `maybe_get_level`,
`get_unwrapped` and `_add_batch_dim`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch._C import _functorch

__all__ = ["apply_over_batch"]


def apply_over_batch(
    tensors: Sequence[torch.Tensor], function: Callable[[list[torch.Tensor]], torch.Tensor]
) -> torch.Tensor | None:
    """Calls `function` on the whole tensors, batch dimension first, and returns the result as a tensor of the innermost
    `vmap`; None if no tensor is batched. Tensors without a batch dimension are expanded."""
    levels = [_functorch.maybe_get_level(tensor) if _functorch.is_batchedtensor(tensor) else -1 for tensor in tensors]
    innermost = max(levels, default=-1)
    if innermost < 0:
        return None
    whole = [
        _functorch.get_unwrapped(tensor).movedim(_functorch.maybe_get_bdim(tensor), 0) if level == innermost else None
        for tensor, level in zip(tensors, levels, strict=True)
    ]
    size = next(tensor.shape[0] for tensor in whole if tensor is not None)
    batches = [
        tensor.expand(size, *tensor.shape) if batched is None else batched
        for tensor, batched in zip(tensors, whole, strict=True)
    ]
    return _functorch._add_batch_dim(function(batches), 0, innermost)  # type: ignore[no-any-return]
