"""Operators that have no backward which a graph could hold, written with operators that have one.

The trace meets them above autograd, so their gradient is that of the operators they are written with, kinks as eager
has them. Eager itself runs the original, so the proof holds one against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

__all__ = ["SparseLayout", "Written", "written"]

_WRITTEN: dict[Any, Callable[..., Any]] = {}


class SparseLayout(Exception):
    """The code makes a sparse tensor, on which torch's trace crashes the process."""


class Written(TorchFunctionMode):
    """While open, the functions of this room run as they are written here.

    Raises:
        SparseLayout: what makes a sparse tensor is called.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name.startswith(("sparse_", "_sparse", "to_sparse", "_to_sparse")) and name != "sparse_dim":
            raise SparseLayout(name)
        return _WRITTEN.get(func, func)(*args, **(kwargs or {}))


def written(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers how a function of torch is written."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        _WRITTEN.update(dict.fromkeys(functions, rule))
        return rule

    return register
