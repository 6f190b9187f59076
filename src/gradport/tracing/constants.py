"""Tracks the values of small tensors that do not depend on inputs, so that code that reads them (`.tolist()`,
`.item()`, `bool()`) runs as in eager.

A tensor that depends on an input has no value here: reading it is data-dependent, and the export refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from gradport.compat.torch.modes import TorchDispatchMode
from gradport.compat.torch.operators import has_body, tensors_written_by
from gradport.compat.torch.tracing import has_data, without_modes
from gradport.compat.torch.trees import tree_leaves, tree_map_only

__all__ = ["KnownConstants"]

_LARGEST = 4096


class KnownConstants(TorchDispatchMode):
    """Intercepts every operator before the trace; if all its inputs are known, also runs it on their values.

    Views of known tensors are views of their values, so in-place writes stay consistent. After a write of an unknown
    value into a known tensor, the tensor and all tensors that share its memory are unknown.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self._values: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if has_body(func):
            return func(*args, **kwargs)
        known = self._known(func, args, kwargs)
        if known is None:
            self._forget_written(func, args)
            return func(*args, **kwargs)
        with without_modes():
            value = func(*known[0], **known[1])
        if not isinstance(value, (torch.Tensor, tuple, list)):
            return value
        result = func(*args, **kwargs)
        for fake, known_value in zip(tree_leaves(result), tree_leaves(value), strict=True):
            if isinstance(fake, torch.Tensor) and not has_data(fake) and known_value.numel() <= _LARGEST:
                self._values[fake] = known_value
        return result

    def _known(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """The arguments with values for tensors; None if a tensor is unknown or the operator draws random numbers."""
        if torch.Tag.nondeterministic_seeded in func.tags or func.namespace not in ("aten", "prims"):
            return None
        leaves = tree_leaves((args, kwargs))
        if any(isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool)) for leaf in leaves):
            return None
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if not all(tensor in self._values or _is_small(tensor) for tensor in tensors):
            return None
        if not tensors and not _is_small_factory(leaves):
            return None
        value: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: self._values.get(tensor, tensor)  # noqa: E731
        return tree_map_only(torch.Tensor, value, (args, kwargs))

    def _forget_written(self, func: Any, args: Any) -> None:
        for written in tensors_written_by(func, args):
            if written in self._values:
                storage = self._values[written].untyped_storage().data_ptr()
                for tensor, value in list(self._values.items()):
                    if value.untyped_storage().data_ptr() == storage:
                        del self._values[tensor]


def _is_small(tensor: torch.Tensor) -> bool:
    return has_data(tensor) and tensor.numel() <= _LARGEST


def _is_small_factory(leaves: list[Any]) -> bool:
    size = 1
    for leaf in leaves:
        if isinstance(leaf, int) and not isinstance(leaf, bool):
            size *= max(abs(leaf), 1)
    return size <= _LARGEST
