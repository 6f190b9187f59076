"""Remembers the arithmetic of symbolic sizes while a trace runs.

A tensor of symbolic size computes its strides and its number of elements by some thirty operations on sizes, mostly
those of the tensors before it. An operation of the same expressions has the same result.

Private in torch, and used here:
- `torch.fx.experimental.sym_node.SymNode._add` and others: one operation of two symbolic numbers;
- `SymNode._expr`, `pytype` and `shape_env`: what its result depends on;
- `torch.fx.experimental.proxy_tensor.get_proxy_mode`: a trace that sees operations on sizes must see each of them.

Where a name is missing, the operation is not remembered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.fx.experimental.sym_node import SymNode

__all__ = ["OPERATIONS", "remember_size_arithmetic"]

OPERATIONS = ("_add", "_sub", "_mul", "_eq", "_ne", "_lt", "_le", "_gt", "_ge", "_sym_max", "_sym_min", "_int_floordiv")
"""The methods whose results are remembered."""


@contextlib.contextmanager
def remember_size_arithmetic() -> Iterator[None]:
    """While open, an operation on sizes that was done before, outside the graph, gives the earlier result."""
    originals = {name: getattr(SymNode, name) for name in OPERATIONS if hasattr(SymNode, name)}
    for name, original in originals.items():
        setattr(SymNode, name, _remember(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(SymNode, name, original)


def _remember(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    results: dict[Hashable, Any] = {}

    def remembered(self: Any, other: Any) -> Any:
        if get_proxy_mode() is not None:
            return original(self, other)
        key = (self.shape_env, self._expr, self.pytype, other._expr, other.pytype)
        result = results.get(key)
        if result is None:
            result = results[key] = original(self, other)
        return result

    return remembered
