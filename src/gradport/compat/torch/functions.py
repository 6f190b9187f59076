"""Custom autograd Functions: hooks around every forward, every setup_context and every backward.

torch calls a Function from C++ (`THPFunction_apply`), which looks up its methods on the class. The lookup goes through
the metaclass `FunctionMeta`; while hooks are open it returns wrapped methods. So the hooks see every call, also if
`Fn.apply` was bound to another name before they were opened.

Private in torch, and used here:
- `torch.autograd.function.FunctionMeta`: the metaclass of every Function;
- the order of the lookups in C++: `_backward_cls`, whose instance becomes ctx, then `forward`, then `setup_context`;
- `BackwardCFunction.apply` and `apply_boxed`: the methods that the engine calls in the backward; `_forward_cls` on ctx;
- `to_save`, `dirty_tensors` and `non_differentiable` on ctx: the arguments of `save_for_backward`, `mark_dirty` and
  `mark_non_differentiable`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction, FunctionMeta

__all__ = [
    "FunctionCall",
    "Hooks",
    "backward_of",
    "function_calls",
    "function_of",
    "has_setup_context",
    "is_custom_node",
    "tensors_marked_dirty",
    "tensors_marked_non_differentiable",
    "tensors_to_save",
]


@dataclasses.dataclass(eq=False)
class FunctionCall:
    """One call of a custom Function.

    Attributes:
        function: the Function class.
        context: its ctx; the same object in forward, setup_context and backward.
        args: the arguments of `apply`, defaults included if the Function has a `setup_context`.
    """

    function: Any
    context: Any
    args: tuple[Any, ...]


class Hooks:
    """Hooks around custom Functions. Each method calls `run()`, which runs the original, and returns its result or
    another. `forward` and `setup` run inside `apply`, without gradient tracking."""

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        """Runs around `forward`; returns its results."""
        return run()

    def setup(self, call: FunctionCall, run: Callable[[], None]) -> None:
        """Runs around `setup_context`, if the Function has one."""
        run()

    def backward(self, context: Any, cotangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Runs around `backward`; returns its gradients."""
        return run()


@contextlib.contextmanager
def function_calls(hooks: Hooks) -> Iterator[None]:
    """While open, the methods of every custom Function run through `hooks`, on every thread; the hooks opened last are
    the outermost."""
    _OPEN.append(hooks)
    if len(_OPEN) == 1:
        _install()
    try:
        yield
    finally:
        _OPEN.remove(hooks)
        if not _OPEN:
            _uninstall()


def function_of(context: Any) -> Any:
    """The Function class of a ctx."""
    return context._forward_cls


def backward_of(function: Any) -> Any:
    """The method that computes a Function's gradient: `backward`, or `vjp`, its alias."""
    base = torch.autograd.Function
    return function.vjp if function.vjp is not base.vjp else function.backward


def has_setup_context(function: Any) -> bool:
    """Whether the Function has a `setup_context`, and its forward takes no ctx."""
    return function.setup_context is not torch.autograd.Function.setup_context


def is_custom_node(node: Any) -> bool:
    """Whether a node of the autograd graph belongs to a custom Function."""
    return isinstance(node, BackwardCFunction)


def tensors_marked_dirty(context: Any) -> tuple[Any, ...]:
    """The arguments of `mark_dirty`; available when `tensors_to_save` is."""
    return tuple(context.dirty_tensors or ())


def tensors_marked_non_differentiable(context: Any) -> tuple[Any, ...]:
    """The arguments of `mark_non_differentiable`; available when `tensors_to_save` is."""
    return tuple(context.non_differentiable or ())


def tensors_to_save(context: Any) -> tuple[Any, ...]:
    """The arguments of `save_for_backward`; available in a hook's `forward` or `setup`, after `run()`."""
    return tuple(context.to_save or ())


_OPEN: list[Hooks] = []


class _Pending(threading.local):
    """The state of a call between two lookups by C++, per thread."""

    called: tuple[Any, Any] | None = None  # (Function, its new ctx): the next lookup is of forward
    forwarded: FunctionCall | None = None  # the next lookup is of setup_context


_pending = _Pending()


def _install() -> None:
    FunctionMeta.__getattribute__ = _look_up  # type: ignore[method-assign, assignment]
    for name in _BACKWARDS:
        setattr(BackwardCFunction, name, _around_backward(_BACKWARDS[name]))


def _uninstall() -> None:
    del FunctionMeta.__getattribute__
    for name, original in _BACKWARDS.items():
        setattr(BackwardCFunction, name, original)


_BACKWARDS = {
    name: vars(BackwardCFunction)[name] for name in ("apply", "apply_boxed") if name in vars(BackwardCFunction)
}


def _look_up(cls: Any, name: str) -> Any:
    """Looks up an attribute of a Function class while hooks are open; methods are wrapped."""
    attribute = type.__getattribute__(cls, name)
    if name == "_backward_cls":
        return functools.partial(_new_context, cls, attribute)
    if name == "forward" and _pending.called is not None and _pending.called[0] is cls:
        context, _pending.called = _pending.called[1], None
        return _around_forward(cls, context, attribute)
    if name == "setup_context" and _pending.forwarded is not None and _pending.forwarded.function is cls:
        call, _pending.forwarded = _pending.forwarded, None
        return _around_setup(call, attribute)
    return attribute


def _new_context(cls: Any, backward_cls: Any, *args: Any, **kwargs: Any) -> Any:
    context = backward_cls(*args, **kwargs)
    _pending.called = (cls, context)
    return context


def _around_forward(cls: Any, context: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    has_setup = has_setup_context(cls)

    @functools.wraps(method)
    def forward(*args: Any, **kwargs: Any) -> Any:
        call = FunctionCall(cls, context, args if has_setup else args[1:])
        run: Callable[[], Any] = functools.partial(method, *args, **kwargs)
        for hooks in tuple(_OPEN):
            run = functools.partial(hooks.forward, call, run)
        results = run()
        _pending.forwarded = call if has_setup else None
        return results

    return forward


def _around_setup(call: FunctionCall, method: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(method)
    def setup_context(*args: Any, **kwargs: Any) -> None:
        run: Callable[[], None] = functools.partial(method, *args, **kwargs)
        for hooks in tuple(_OPEN):
            run = functools.partial(hooks.setup, call, run)
        run()

    return setup_context


def _around_backward(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def apply(context: Any, *cotangents: Any) -> Any:
        boxed = len(cotangents) == 1 and isinstance(cotangents[0], list)
        flat = tuple(cotangents[0]) if boxed else cotangents
        run: Callable[[], Any] = functools.partial(method, context, *cotangents)
        for hooks in tuple(_OPEN):
            run = functools.partial(hooks.backward, context, flat, run)
        return run()

    return apply
