"""Activation checkpoints: whether a forward is being run anew inside of a backward, and which draws it repeats.

`torch.utils.checkpoint` runs its function anew in the backward: in its reentrant form inside of a custom Function's
backward, with gradient tracking on, as checkpoints of users' own do; in its other form whenever a saved tensor is asked
for.

Private in torch, and used here:
- `torch.utils.checkpoint._CheckpointFrame`: one call of the form that is not reentrant, with its function in
  `recompute_fn`;
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

__all__ = ["Recomputation", "recomputations", "running_recomputation"]


@dataclasses.dataclass(eq=False)
class Recomputation:
    """One checkpoint that may be run anew.

    Attributes:
        first_draw: how many random tensors the call had drawn when the checkpoint began.
        last_draw: how many it had drawn when it ended; None while it is not known.
        replayed: how many of them were asked for again in this run.
    """

    first_draw: int
    last_draw: int | None = None
    replayed: int = 0

    def next_draw(self) -> int | None:
        """The number of the draw that is repeated now; None where the checkpoint had drawn no more."""
        number = self.first_draw + self.replayed
        self.replayed += 1
        return number if self.last_draw is None or number < self.last_draw else None


_running: list[Recomputation] = []


def running_recomputation() -> Recomputation | None:
    """The checkpoint whose forward is being run anew; None where none is."""
    if _running:
        return _running[-1]
    node: Any = torch._C._current_autograd_node()
    if node is None or not is_custom_node(node) or not torch.is_grad_enabled():
        return None
    return vars(node).get("_gradport_recomputation")


@contextlib.contextmanager
def recomputations(drawn: Callable[[], int]) -> Iterator[None]:
    """While open, checkpoints are noticed; `drawn` says how many random tensors were drawn so far."""
    frame: Any = torch.utils.checkpoint._CheckpointFrame
    before = frame.__init__

    @functools.wraps(before)
    def noticed(self: Any, recompute_fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        before(self, _noticed(recompute_fn, Recomputation(drawn())), *args, **kwargs)

    frame.__init__ = noticed
    try:
        with function_calls(_Noticed(drawn)):
            yield
    finally:
        frame.__init__ = before


def _noticed(function: Callable[..., Any], recomputation: Recomputation) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        recomputation.replayed = 0
        _running.append(recomputation)
        try:
            return function(*args, **kwargs)
        finally:
            _running.remove(recomputation)

    return run


class _Noticed(Hooks):
    """Any custom Function may be a checkpoint: it is one if its backward computes with gradient tracking on."""

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
