"""torch.cond, scan and while_loop without the compilation that torch runs first in eager.

Private in torch, and used here:
- `torch._higher_order_ops.utils._hop_compile_and_call`: where operators with bodies are compiled since torch 2.12;
- `torch._higher_order_ops.cond` and `while_loop`: where torch 2.11 calls `torch.compile` itself.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch._higher_order_ops import utils as control_flow_utils

from gradport.compat.torch.versions import installed_minor

__all__ = ["skip_compilation"]


def skip_compilation() -> contextlib.AbstractContextManager[None]:
    """While open, torch.cond, scan and while_loop call their operator without compiling it first."""
    return _since_2_12() if installed_minor() >= (2, 12) else _in_2_11()


@contextlib.contextmanager
def _since_2_12() -> Iterator[None]:
    compiles = control_flow_utils._hop_compile_and_call
    control_flow_utils._hop_compile_and_call = lambda fn, args, kwargs=None: fn(*args, **(kwargs or {}))
    try:
        yield
    finally:
        control_flow_utils._hop_compile_and_call = compiles


class _TorchWithoutCompiler:
    """torch, except that `compile` returns the function unchanged."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def compile(self, function: Any, **options: Any) -> Any:
        """Returns the function."""
        return function


@contextlib.contextmanager
def _in_2_11() -> Iterator[None]:
    names = ("cond", "while_loop", "utils")
    modules: list[Any] = [importlib.import_module(f"torch._higher_order_ops.{name}") for name in names]
    for module in modules:
        module.torch = _TorchWithoutCompiler()
    try:
        yield
    finally:
        for module in modules:
            module.torch = torch
