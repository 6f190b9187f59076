"""Cost: time and memory of forward and backward, compared with autograd of the same operators.

Times are the minimum of several runs, alternating with the operators, so that a busy machine affects both equally.
Memory is the size of all storages that operators allocated and that are still alive.
"""

from __future__ import annotations

import dataclasses
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from gradport.checking.probes.bypass import bypass_functions
from gradport.checking.probes.calls import call, cotangents_for
from gradport.checking.probes.judging import note, skip
from gradport.checking.probes.trial import LOSS, Trial
from gradport.checking.table import Topic, rule
from gradport.compat.torch.modes import TorchDispatchMode
from gradport.compat.torch.tensors import storage_key
from gradport.compat.torch.trees import tree_leaves
from gradport.eager.joint import Slot
from gradport.errors import Error
from gradport.evidence.evidence import Finding
from gradport.isolation.effort import Profile
from gradport.subject.ports import Role

__all__ = ["cost"]

_RUNS = 15

Cotangents = dict[str, torch.Tensor]


@dataclasses.dataclass
class _Cost:
    """One call: seconds of forward and backward, bytes at the peak, bytes saved for the backward."""

    forward: float = float("inf")
    backward: float = float("inf")
    peak: int = 0
    saved: int = 0


@rule(
    Topic.COST,
    "cost",
    "What do forward and backward cost compared with autograd of the same operators?",
    shrinks=False,
    least=Profile.THOROUGH,
)
def cost(trial: Trial) -> Iterator[Finding]:
    """Yields one Finding each for time, peak memory and saved bytes, all for information."""
    try:
        ours, theirs = _measure(trial)
    except Error:
        yield skip(trial, "cost", "", "the forward's own operators do not run under autograd")
        return
    for about, a, b in (("forward", ours.forward, theirs.forward), ("backward", ours.backward, theirs.backward)):
        message = f"The {about} takes {_ratio(a, b)} the time of its operators under autograd ({1e6 * a:.3g} µs)."
        yield note(trial, "cost", about, message, kind="time", figure=a / b if b else None)
    for about, m, n in (("peak", ours.peak, theirs.peak), ("saved", ours.saved, theirs.saved)):
        what = "Its peak memory is" if about == "peak" else "It saves for the backward"
        message = f"{what} {m} bytes, {_ratio(m, n)} that of its operators under autograd ({n} bytes)."
        yield note(trial, "cost", about, message, kind="memory", figure=m / n if n else None)


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2f} times" if b else "more than"


def _measure(trial: Trial) -> tuple[_Cost, _Cost]:
    """Measures the cost of the Function and of its operators.

    Raises:
        Error: one of them fails.
    """
    ours, theirs = _Cost(), _Cost()
    cotangents = cotangents_for(call(trial, trial.inputs[0]).outputs, trial.seed)

    def measure() -> None:
        _weigh(trial, cotangents, ours)
        with bypass_functions():
            _weigh(trial, cotangents, theirs)
        for _ in range(_RUNS):
            _clock(trial, cotangents, ours)
            with bypass_functions():
                _clock(trial, cotangents, theirs)

    trial.run_guarded(trial.inputs[0], measure)
    return ours, theirs


def _clock(trial: Trial, cotangents: Cotangents, into: _Cost) -> None:
    given = _make_arguments(trial)
    started = time.perf_counter()
    outputs = _forward(trial, given)
    between = time.perf_counter()
    _backward(trial, outputs, given, cotangents)
    into.backward = min(into.backward, time.perf_counter() - between)
    into.forward = min(into.forward, between - started)


def _weigh(trial: Trial, cotangents: Cotangents, into: _Cost) -> None:
    saved: dict[int, int] = {}
    given = _make_arguments(trial)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with _Live() as live, saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = _forward(trial, given)
        _backward(trial, outputs, given, cotangents)
        del outputs
    into.peak, into.saved = live.peak, sum(saved.values())


def _make_arguments(trial: Trial) -> dict[Slot, torch.Tensor]:
    """Arguments that require a gradient; not leaves, so that a subject may write into them."""
    wanted = trial.joint.wanted
    leaves = {s: t.detach().clone().requires_grad_(s in wanted) for s, t in trial.inputs[0].items()}
    return {slot: leaf * 1 if slot in wanted and slot.role != Role.PARAMETER else leaf for slot, leaf in leaves.items()}


def _forward(trial: Trial, given: dict[Slot, torch.Tensor]) -> dict[str, torch.Tensor]:
    outputs, loss = trial.joint.forward(given)
    return outputs if loss is None else {LOSS: loss}


def _backward(
    trial: Trial, outputs: dict[str, torch.Tensor], given: dict[Slot, torch.Tensor], cotangents: Cotangents
) -> None:
    leaves = [given[slot] for slot in trial.joint.wanted]
    torch.autograd.grad([outputs[name] for name in cotangents], leaves, [*cotangents.values()], allow_unused=True)


class _Live(TorchDispatchMode):
    """Counts the bytes of the storages that operators allocated and that are still referenced."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(results):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        size, key = storage.nbytes(), storage_key(storage)
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._release_later(key, size))

    def _release_later(self, key: int, size: int) -> Callable[[], None]:
        def forget() -> None:
            self._known.discard(key)
            self._now -= size

        return forget
