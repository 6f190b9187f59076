"""Activation checkpoints: detects that a backward recomputes a forward, and which random draws the forward repeats.

`torch.utils.checkpoint` recomputes its function in the backward: the reentrant form inside a custom Function's
backward, with gradient tracking on, as users' own checkpoints do; the other form when a saved tensor is read.

Private in torch, and used here:
- `torch.utils.checkpoint._CheckpointFrame`: one call of the non-reentrant form, with its function in `recompute_fn`;
- `torch._C._current_autograd_node`: the operator whose backward is running.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils.checkpoint

from gradport.compat.torch.functions import FunctionCall, Hooks, function_calls, is_custom_node

__all__ = ["Recomputation", "running_recomputation", "track_recomputations"]


@dataclasses.dataclass(eq=False)
class Recomputation:
    """One checkpoint that a backward may recompute.

    Attributes:
        first_draw: number of random tensors drawn before the checkpoint began.
        last_draw: number of random tensors drawn before it ended; None if unknown.
        replayed: number of draws repeated in this run.
    """

    first_draw: int
    last_draw: int | None = None
    replayed: int = 0

    def next_draw(self) -> int | None:
        """The index of the next repeated draw; None if the checkpoint has no more draws."""
        number = self.first_draw + self.replayed
        self.replayed += 1
        return number if self.last_draw is None or number < self.last_draw else None


_running: list[Recomputation] = []


def running_recomputation() -> Recomputation | None:
    """The checkpoint whose forward is recomputed now; None if there is none."""
    if _running:
        return _running[-1]
    node: Any = torch._C._current_autograd_node()
    if node is None or not is_custom_node(node) or not torch.is_grad_enabled():
        return None
    return vars(node).get("_gradport_recomputation")


@contextlib.contextmanager
def track_recomputations(drawn: Callable[[], int]) -> Iterator[None]:
    """While open, checkpoints are tracked; `drawn` returns the number of random tensors drawn so far."""
    frame: Any = torch.utils.checkpoint._CheckpointFrame
    before = frame.__init__

    @functools.wraps(before)
    def init(self: Any, recompute_fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        before(self, _mark_running(recompute_fn, Recomputation(drawn())), *args, **kwargs)

    frame.__init__ = init
    try:
        with function_calls(_CheckpointHooks(drawn)):
            yield
    finally:
        frame.__init__ = before


def _mark_running(function: Callable[..., Any], recomputation: Recomputation) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        recomputation.replayed = 0
        _running.append(recomputation)
        try:
            return function(*args, **kwargs)
        finally:
            _running.remove(recomputation)

    return run


class _CheckpointHooks(Hooks):
    """Every custom Function may be a checkpoint: it is one if its backward computes with gradient tracking on."""

    def __init__(self, drawn: Callable[[], int]) -> None:
        self._drawn = drawn

    def forward(self, call: FunctionCall, run: Callable[[], Any]) -> Any:
        recomputation = call.context._gradport_recomputation = Recomputation(self._drawn())
        results = run()
        recomputation.last_draw = self._drawn()
        return results

    def backward(self, context: Any, cotangents: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        recomputation = vars(context).get("_gradport_recomputation")
        if recomputation is not None:
            recomputation.replayed = 0
        return run()
