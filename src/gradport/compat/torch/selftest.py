"""Tests, once per process, whether the installed torch calls gradport's hooks.

A private name that moved raises an error by itself. The dangerous change is a hook that is never called: a custom
Function is then silently exported as plain code. So the hooks must see a probe Function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from gradport.compat.torch.functions import FunctionCall, Hooks, function_calls, function_of, tensors_to_save
from gradport.compat.torch.tracing import current_forward_sequence, current_sequence
from gradport.compat.torch.versions import SUPPORTED, require_supported
from gradport.errors import CompatibilityError

__all__ = ["incompatibility", "require_hooks"]


def incompatibility(what: str) -> CompatibilityError:
    """The error of a failed self-test; `what` describes torch's behavior."""
    return CompatibilityError(
        f"gradport does not work with torch {torch.__version__}: {what}. It supports {SUPPORTED}; "
        "install one of them, for example with pip install 'torch>=2.11,<2.16'."
    )


@functools.cache
def require_hooks() -> None:
    """Runs a probe Function and checks that every hook sees it.

    Raises:
        CompatibilityError: a hook does not see it, or torch is too old.
    """
    require_supported()
    seen = _Seen()
    apply = _Probe.apply  # bound before the hooks are opened, as users' modules do
    x = torch.ones(2, requires_grad=True)
    with torch.enable_grad(), function_calls(seen):
        apply(x).sum().backward()
    expected = ["forward", "setup_context", "backward"]
    if seen.methods != expected:
        missed = ", ".join(name for name in expected if name not in seen.methods) or "the order of the calls"
        raise incompatibility(f"hooks of a custom autograd.Function are not called ({missed})")
    if seen.saved != 1:
        raise incompatibility("the arguments of save_for_backward cannot be read from ctx")
    if seen.sequences[0] != seen.sequences[1]:
        raise incompatibility("a backward and its forward have different sequence numbers")


class _Probe(torch.autograd.Function):
    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return cotangents[0] * 2


class _Seen(Hooks):
    """Records the calls of the hooks."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.saved = 0
        self.sequences: list[int | None] = []

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        self.methods.append("forward" if call.function is _Probe else "?")
        self.sequences.append(current_forward_sequence())
        return run()

    def setup(self, call: FunctionCall, run: Callable[[], None]) -> None:
        run()
        self.methods.append("setup_context")
        self.saved = len(tensors_to_save(call.context))

    def backward(self, context: Any, cotangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        self.methods.append("backward" if function_of(context) is _Probe else "?")
        self.sequences.append(current_sequence())
        return run()
