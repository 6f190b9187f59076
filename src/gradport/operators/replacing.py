"""Replacements in force: the mode in which a trace meets functions of torch above autograd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

from gradport.operators.table import replacements

__all__ = ["Replacing", "SparseLayout"]


class SparseLayout(Exception):
    """The code makes a sparse tensor, on which torch's trace crashes the process."""


class Replacing(TorchFunctionMode):
    """While open, the rows that replace a function of torch run in its place.

    Raises:
        SparseLayout: a function that makes a sparse tensor is called.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows = replacements()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name.startswith(("sparse_", "_sparse", "to_sparse", "_to_sparse")) and name != "sparse_dim":
            raise SparseLayout(name)
        return self._rows.get(func, func)(*args, **(kwargs or {}))
