"""References: slow torch versions of Functions that cannot be traced (CUDA, Triton, C++).

A trace runs the reference in place of the Function; so does eager if the Function cannot run. Otherwise eager runs the
Function, so the proof of an export also proves the reference, forward and backward.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from gradport.compat.torch.functions import FunctionCall, Hooks
from gradport.eager.custom_operators import has_reference_of_operator, register_reference, stand_in_of
from gradport.errors import TargetError
from gradport.subject.subject import as_function
from gradport.subject.wrt import differentiable

__all__ = ["ReferenceHooks", "has_reference", "reference"]

Slow = TypeVar("Slow", bound=Callable[..., Any])

_REFERENCES: weakref.WeakKeyDictionary[type, _Reference] = weakref.WeakKeyDictionary()


def reference(function: object) -> Callable[[Slow], Slow]:
    """Registers a slow reference: `@gradport.reference(Fn)` above a torch function of the same arguments.

    For an operator of `torch.library` the reference replaces the forward, and the registered backward stays. For a
    Function the reference also replaces the backward: its gradient is computed by autograd. If the Function's gradient
    is not the derivative (straight-through), let the reference call its own plain `autograd.Function`.

    Args:
        function: an `autograd.Function` class, or its `.apply`; or an operator: the result of
            `torch.library.custom_op`, or `torch.ops.<namespace>.<name>`.

    Raises:
        TargetError: `function` is neither.
    """
    operator = stand_in_of(function)
    if operator is not None:

        def register_operator(slow: Slow) -> Slow:
            register_reference(operator, slow)
            return slow

        return register_operator
    target = as_function(function)
    if not (isinstance(target, type) and issubclass(target, torch.autograd.Function)):
        raise TargetError(
            "A reference belongs to an autograd.Function or an operator of torch.library, "
            f"not to {type(function).__name__}."
        )

    def register(slow: Slow) -> Slow:
        _REFERENCES[target] = _as_methods(slow)
        return slow

    return register


def has_reference(function: type) -> bool:
    """Whether the Function, or the operator of this class, has a reference."""
    return function in _REFERENCES or has_reference_of_operator(function)


class ReferenceHooks(Hooks):
    """Runs references in place of their Functions, forward and backward.

    Args:
        always: run every reference (for a trace); otherwise only if the Function itself fails.

    Attributes:
        replaced: the Functions that a reference replaced.
    """

    def __init__(self, *, always: bool) -> None:
        self.replaced: set[type] = set()
        self._always = always

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        """Runs the Function's forward, or its reference's."""
        reference = _REFERENCES.get(call.function)
        if reference is None:
            return run()
        if not self._always:
            with contextlib.suppress(Exception):  # the user's own mistakes also fail in the reference
                return run()
        self.replaced.add(call.function)
        call.context._gradport_reference = reference
        return reference.forward(call.context, *call.args)

    def setup(self, call: FunctionCall, run: Callable[[], None]) -> None:
        """Runs the Function's `setup_context`, unless a reference ran: it has already saved its tensors."""
        if _reference_of(call.context) is None:
            run()

    def backward(self, context: Any, cotangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Runs the Function's backward, or that of the reference that ran."""
        reference = _reference_of(context)
        return run() if reference is None else reference.backward(context, *cotangents)


def _reference_of(context: Any) -> _Reference | None:
    reference: _Reference | None = vars(context).get("_gradport_reference")
    return reference


@dataclasses.dataclass(frozen=True)
class _Reference:
    """A reference as methods of a Function; the backward differentiates a second run by autograd."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


def _as_methods(slow: Callable[..., Any]) -> _Reference:

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
                value.detach().requires_grad_(differentiable(value) and wanted[position])
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
        gradients = iter(
            torch.autograd.grad([r for r, _ in pairs], leaves, [c for _, c in pairs], allow_unused=True)
            if pairs and leaves
            else [None] * len(leaves)
        )
        return tuple(
            next(gradients) if isinstance(value, torch.Tensor) and value.requires_grad else None for value in args
        )

    return _Reference(forward, torch.autograd.function.once_differentiable(backward))
