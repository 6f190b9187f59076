"""The gradient that autograd gives for the forward's own operators, with the custom backward bypassed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from gradport.check.trial import Trial
from gradport.errors import Error
from gradport.joint import Slot
from gradport.torch_internals import function_calls

__all__ = ["bypassed", "own_gradients"]


@contextlib.contextmanager
def bypassed() -> Iterator[None]:
    """While open, forwards of custom Functions run as plain code, and autograd records their operators."""
    with function_calls(_bypassed, lambda context, given, run: run()):
        yield


def own_gradients(
    trial: Trial, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor]
) -> dict[Slot, torch.Tensor | None] | None:
    """Gradients through the forward's operators; None where they do not run under autograd."""
    with bypassed():
        try:
            return trial.gradients(tensors, cotangents)
        except Error:
            return None


def _bypassed(function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
    """Runs the forward as plain code, so that autograd records its operators."""
    own_context = function.setup_context is torch.autograd.Function.setup_context
    context = _Context(args)
    result = function.forward(context, *args) if own_context else function.forward(*args)
    if isinstance(result, tuple):
        return tuple(_as_output(value, args, context) for value in result)
    return _as_output(result, args, context)


def _as_output(value: Any, args: tuple[Any, ...], context: _Context) -> Any:
    """An output that is an input is a view of it, as autograd makes it."""
    if any(value is other for other in context.not_differentiable):
        return value.detach()
    if isinstance(value, torch.Tensor) and any(value is argument for argument in args):
        return value.view_as(value)
    return value


class _Context:
    """What a forward does with its ctx, kept and otherwise without effect."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.needs_input_grad = tuple(isinstance(value, torch.Tensor) and value.requires_grad for value in args)
        self.saved_tensors: tuple[Any, ...] = ()
        self.not_differentiable: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps the tensors."""
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Not needed for a gradient in reverse mode."""

    def mark_dirty(self, *tensors: Any) -> None:
        """Autograd sees the writes by itself."""

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Those outputs carry no gradient."""
        self.not_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Only a backward would notice."""
