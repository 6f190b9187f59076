"""The mode that runs replacements of torch functions during a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

from gradport.operators.table import replacements

__all__ = ["Replacing", "SparseLayout"]


class SparseLayout(Exception):
    """The code creates a sparse tensor; torch's trace of it crashes the process."""


class Replacing(TorchFunctionMode):
    """While open, replacement rows run in place of their torch functions.

    Raises:
        SparseLayout: the code calls a function that creates a sparse tensor.
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
