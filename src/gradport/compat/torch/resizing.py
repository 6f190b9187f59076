"""torch's operators for resizing, kept whole in a trace.

Private in torch, and used here: `py_kernels` and `_dispatch_cache` of an overload, and `torch._C.DispatchKey`: its
bodies in Python, which a trace runs in place of the operator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

__all__ = ["keep_whole", "known_gradients"]

_NAMES = (
    *(f"upsample_nearest{axes}d" for axes in (1, 2, 3)),
    *(f"_upsample_nearest_exact{axes}d" for axes in (1, 2, 3)),
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
    "upsample_bicubic2d",
)


@contextlib.contextmanager
def keep_whole(overload: Any) -> Iterator[None]:
    """While open, a trace records this overload of an operator, not its body in Python."""
    with _kernels_restored([overload]):
        for key in (torch._C.DispatchKey.Autograd, torch._C.DispatchKey.CompositeImplicitAutograd):
            overload.py_kernels.pop(key, None)
        yield


@contextlib.contextmanager
def known_gradients() -> Iterator[None]:
    """While open, a trace knows the shapes of the gradients of resizing; the kernels in C++ would fix dynamic sizes."""
    overloads = [getattr(torch.ops.aten, f"{name}_backward").default for name in _NAMES]
    with _kernels_restored(overloads):
        for overload in overloads:
            overload.py_kernels[torch._C.DispatchKey.Meta] = _empty_gradient
        yield


def _empty_gradient(
    grad_output: torch.Tensor, output_size: Sequence[Any], input_size: Sequence[Any], *more: Any, **scales: Any
) -> torch.Tensor:
    return grad_output.new_empty(input_size)


@contextlib.contextmanager
def _kernels_restored(overloads: Sequence[Any]) -> Iterator[None]:
    kept = [(overload, dict(overload.py_kernels)) for overload in overloads]
    try:
        for overload in overloads:
            overload._dispatch_cache.clear()
        yield
    finally:
        for overload, kernels in kept:
            overload.py_kernels.clear()
            overload.py_kernels.update(kernels)
            overload._dispatch_cache.clear()
