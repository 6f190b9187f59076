"""Functions whose code no trace can follow (CUDA, Triton, C++), each with a slow reference in torch beside it.

A trace runs the reference in the Function's place, and so does eager where the Function itself cannot run. Where it
can, eager runs the Function, so that the proof of an export is a proof of the reference, forward and backward.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from gradport.errors import TargetError
from gradport.subject import as_function

__all__ = ["in_place_of", "or_reference", "original_of", "reference", "runs_here"]

_REFERENCES: weakref.WeakKeyDictionary[type, type] = weakref.WeakKeyDictionary()

_DOES_NOT_RUN: weakref.WeakSet[type] = weakref.WeakSet()
"""Functions that failed in eager, so that their reference ran there as well."""


def reference(function: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a slow reference: `@gradport.reference(Fn)` above a torch function of the same arguments.

    The gradient of the reference, which torch's autograd finds, stands for the backward of `Fn`; where that is not the
    derivative (a straight-through one), let the reference call a plain `autograd.Function` of its own.

    Args:
        function: an `autograd.Function` class, or its `.apply`.

    Raises:
        TargetError: it is no autograd.Function.
    """
    target = as_function(function)
    if not (isinstance(target, type) and issubclass(target, torch.autograd.Function)):
        raise TargetError(f"A reference belongs to an autograd.Function, not to {type(function).__name__}.")

    def register(slow: Callable[..., Any]) -> Callable[..., Any]:
        _REFERENCES[target] = _as_function_of(target, slow)
        return slow

    return register


def in_place_of(function: type) -> Any:
    """The Function that runs the reference, under the name of its original; None where there is none."""
    return _REFERENCES.get(function)


def original_of(function: type) -> type:
    """The Function that a reference stands for; any other is itself."""
    found: type = vars(function).get("original", function)
    return found


def runs_here(function: type) -> bool:
    """Whether eager runs the Function itself, so that its reference is held against it."""
    return function not in _DOES_NOT_RUN


def or_reference(function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
    """In eager: the Function, or its reference where it has one and fails itself."""
    slow = in_place_of(function)
    if slow is None:
        return run()
    try:
        return run()
    except Exception:
        _DOES_NOT_RUN.add(function)
        return slow.apply(*args)  # type: ignore[attr-defined]


def _as_function_of(function: type, slow: Callable[..., Any]) -> type:
    """The reference as a Function: its backward is autograd of a second run."""

    def forward(ctx: Any, *args: Any) -> Any:
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        ctx.save_for_backward(*tensors)
        ctx.statics = [None if isinstance(value, torch.Tensor) else (value,) for value in args]
        return slow(*args)

    def backward(ctx: Any, *cotangents: Any) -> Any:
        saved = iter(ctx.saved_tensors)
        args = [next(saved) if static is None else static[0] for static in ctx.statics]
        wanted = ctx.needs_input_grad
        with torch.enable_grad():
            args = [
                value.detach().requires_grad_(value.is_floating_point() and wanted[position])
                if isinstance(value, torch.Tensor)
                else value
                for position, value in enumerate(args)
            ]
            results = slow(*args)
        leaves = [value for value in args if isinstance(value, torch.Tensor) and value.requires_grad]
        pairs = [
            (result, cotangent)
            for result, cotangent in zip(results if isinstance(results, tuple) else (results,), cotangents, strict=True)
            if isinstance(result, torch.Tensor) and result.requires_grad and cotangent is not None
        ]
        found = iter(
            torch.autograd.grad([r for r, _ in pairs], leaves, [c for _, c in pairs], allow_unused=True)
            if pairs and leaves
            else [None] * len(leaves)
        )
        return tuple(next(found) if isinstance(value, torch.Tensor) and value.requires_grad else None for value in args)

    return type(
        function.__name__,
        (torch.autograd.Function,),
        {
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__doc__": f"The reference of {function.__qualname__}.",
            "forward": staticmethod(forward),
            "backward": staticmethod(torch.autograd.function.once_differentiable(backward)),
            "original": function,
        },
    )
