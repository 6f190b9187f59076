"""Tensors: write counts and shared memory.

Private in torch, and used here: `Tensor._version`, `UntypedStorage._cdata`.
"""

from __future__ import annotations

import torch

__all__ = ["storage_key", "version_of"]


def version_of(tensor: torch.Tensor) -> int:
    """A number that grows with every write to the tensor or a view of it."""
    return int(tensor._version)


def storage_key(storage: torch.UntypedStorage) -> int:
    """A number that identifies a storage during its lifetime; its Python object may be recreated."""
    return int(storage._cdata)
