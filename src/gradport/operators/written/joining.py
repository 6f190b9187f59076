"""Joining tensors inside `torch.vmap`, whose own rule asks for plain sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradport.compat.torch.batching import over_batch
from gradport.operators.written.registry import written

__all__: list[str] = []

_cat: Any = torch.cat


@written(torch.cat, torch.concat, torch.concatenate)
def cat(tensors: Sequence[torch.Tensor], dim: int = 0, **options: object) -> torch.Tensor:
    """The tensors one after another; in a batch each element's.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cat.html
    """
    if not isinstance(tensors, (list, tuple)) or not tensors or options:
        return _cat(tensors, dim, **options)
    rank = tensors[0].dim()
    found = over_batch(tensors, lambda whole: cat(whole, dim % max(rank, 1) + 1))
    return _cat(tensors, dim) if found is None else found
