"""The gradient that autograd gives for the forward's own operators, with the custom backward bypassed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from gradport.checking.probes.calls import is_own
from gradport.checking.probes.trial import Trial
from gradport.compat.torch.functions import FunctionCall, Hooks, function_calls, has_setup_context
from gradport.eager.joint import Slot
from gradport.errors import Error

__all__ = ["bypass_functions", "own_gradients"]


@contextlib.contextmanager
def bypass_functions() -> Iterator[None]:
    """Inside this context, forwards of custom Functions run as plain code, and autograd records their operators."""
    function = torch.autograd.Function
    apply = vars(function)["apply"]
    function.apply = classmethod(_plain_apply)  # type: ignore[method-assign, assignment]
    try:
        with function_calls(_Bypass()):
            yield
    finally:
        function.apply = apply  # type: ignore[method-assign]


def own_gradients(
    trial: Trial, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor]
) -> dict[Slot, torch.Tensor | None] | None:
    """Gradients of the forward's operators by autograd; None if the operators do not run under autograd."""
    with bypass_functions():
        try:
            return trial.gradients(tensors, cotangents)
        except Error:
            return None


def _plain_apply(function: Any, *args: Any) -> Any:
    """Runs the forward as plain code; replaces `apply`."""
    result, context = _call_plainly(function, args)
    if isinstance(result, tuple):
        return tuple(_as_output(value, args, context) for value in result)
    return _as_output(result, args, context)


def _call_plainly(function: Any, args: tuple[Any, ...]) -> tuple[Any, _Context]:
    context = _Context(args)
    return function.forward(*args) if has_setup_context(function) else function.forward(context, *args), context


class _Bypass(Hooks):
    """For an `apply` that was bound before the patch: the backward is autograd of the forward's operators on copies."""

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        if is_own(call.function):
            return run()
        leaves = [_leaf(value) for value in call.args]
        with torch.enable_grad():
            given = tuple(value.clone() if isinstance(value, torch.Tensor) else value for value in leaves)
            result, context = _call_plainly(call.function, given)
        call.context._gradport_plain = leaves, result if isinstance(result, tuple) else (result,)
        written = {id(there): here for here, there in zip(call.args, given, strict=True)}
        for tensor in context.dirty:
            written[id(tensor)].copy_(tensor.detach())
        call.context.mark_dirty(*(written[id(tensor)] for tensor in context.dirty))
        dirty = {id(tensor) for tensor in context.dirty}

        def detach_result(value: Any) -> Any:
            if id(value) in dirty:
                return written[id(value)]
            return value.detach() if isinstance(value, torch.Tensor) else value

        return tuple(map(detach_result, result)) if isinstance(result, tuple) else detach_result(result)

    def setup(self, call: FunctionCall, run: Callable[[], None]) -> None:
        if is_own(call.function):
            run()

    def backward(self, context: Any, cotangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        plain = vars(context).get("_gradport_plain")
        if plain is None:
            return run()
        leaves, results = plain
        pairs = [
            (result, cotangent)
            for result, cotangent in zip(results, cotangents, strict=True)
            if isinstance(result, torch.Tensor) and result.requires_grad and cotangent is not None
        ]
        wanted = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        outs, seeds = zip(*pairs, strict=True) if pairs else ((), ())
        grads = iter(torch.autograd.grad(outs, wanted, seeds, allow_unused=True, retain_graph=True) if pairs else ())
        return tuple(
            next(grads, None) if isinstance(leaf, torch.Tensor) and leaf.requires_grad else None for leaf in leaves
        )


def _leaf(value: Any) -> Any:
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, torch.Tensor) else value


def _as_output(value: Any, args: tuple[Any, ...], context: _Context) -> Any:
    """An output that is an input becomes a view of it, as in autograd."""
    if any(value is other for other in context.not_differentiable):
        return value.detach()
    if isinstance(value, torch.Tensor) and any(value is argument for argument in args):
        return value.view_as(value)
    return value


class _Context:
    """A ctx that records the calls of a forward and has no other effect."""

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.needs_input_grad = tuple(isinstance(value, torch.Tensor) and value.requires_grad for value in args)
        self.saved_tensors: tuple[Any, ...] = ()
        self.not_differentiable: tuple[Any, ...] = ()
        self.dirty: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps the tensors."""
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Not needed for a gradient in reverse mode."""

    def mark_dirty(self, *tensors: Any) -> None:
        """Stores the tensors; autograd records the writes itself."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Marks outputs without a gradient."""
        self.not_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """No effect; only a custom backward depends on it."""
