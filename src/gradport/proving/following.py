"""Runs a training step repeatedly and checks that the file follows torch.

Every run starts, in the file and in eager, from the last state of the file, so that each run is compared with the same
step of torch. Then rounding that an optimizer amplifies (Adam divides a gradient that is zero in theory by its own
size) does not accumulate. In addition eager runs freely from its own state. The file must stay near the loss and the
optimizer's scalars (its counters) of this free run, within a factor of torch's own drift from a start a few ULPs away.
"""

from __future__ import annotations

import dataclasses

import torch

from gradport.eager.joint import CallResults, Joint, Slot
from gradport.eager.run import ones, run_eager
from gradport.errors import Error, ExportError
from gradport.proving.answers import InputSet, Reference, move_by_ulps
from gradport.subject.ports import Role

__all__ = ["Following"]

_CLOSE = 1e-3
"""Relative distance that is always accepted."""

_FACTOR = 16.0
"""Allowed ratio of the file's distance from torch to torch's own drift."""

Tensors = dict[Slot, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class _Run:
    """The inputs of one run without the state, to repeat it from another state."""

    tensors: Tensors
    answer: Reference


class Following:
    """Checks successive runs of a training step.

    Args:
        joint: the training step.
    """

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._state: Tensors = {}
        self._free: Tensors = {}
        self._runs: list[_Run] = []

    def start_from_state(self, case: InputSet) -> InputSet:
        """The case with the last state of the file; every second run has half the learning rate."""
        rates = {
            slot: tensor / 2
            for slot, tensor in case.tensors.items()
            if slot.role == Role.LEARNING_RATE and len(self._runs) % 2
        }
        return dataclasses.replace(case, tensors={**case.tensors, **self._state, **rates})

    def record(self, case: InputSet, answer: Reference, results: dict[str, torch.Tensor]) -> None:
        """Records the results of the file for a case.

        Raises:
            ExportError: the loss or a counter differs from torch's.
        """
        names = [name for name, role in answer.roles.items() if role == Role.NEW_STATE]
        self._state = {slot: results[name] for slot, name in zip(answer.new_state, names, strict=True)}
        inputs = {slot: tensor for slot, tensor in case.tensors.items() if slot not in self._state}
        self._runs.append(_Run(inputs, answer))
        call_results = self._step(self._runs[-1], self._free)
        self._free = _detach(call_results)
        loss = next((results[name] for name, role in answer.roles.items() if role == Role.LOSS), None)
        scalars = _scalars(self._state) | ({_LOSS: loss} if loss is not None else {})
        for slot, value in _select_runs(call_results).items():
            self._require_near(slot, float(scalars[slot]), float(value))

    def _require_near(self, slot: Slot, got: float, wanted: float) -> None:
        gap = abs(got - wanted)
        if gap <= _CLOSE * max(abs(wanted), 1e-6) or (got != got and wanted != wanted):
            return
        if gap <= _FACTOR * self._drift(slot, wanted):
            return
        what = "the loss" if slot == _LOSS else f"the state {slot.name!r}"
        raise ExportError(
            f"{self._joint.subject.name} was not exported: after {len(self._runs)} successive runs {what} is "
            f"{got:.9g} in the file and {wanted:.9g} in torch. verify=False returns the Program without this check."
        )

    def _drift(self, slot: Slot, wanted: float) -> float:
        """The distance of torch from itself after the same runs, if its parameters start a few ULPs away."""
        generator = torch.Generator().manual_seed(0)
        examples = self._joint.examples()
        state = {
            moving: move_by_ulps(examples[moving], generator) if moving.role == Role.PARAMETER else examples[moving]
            for moving in self._free
        }
        call_results = None
        for run in self._runs:
            try:
                call_results = self._step(run, state)
            except Error:
                return 0.0
            state = _detach(call_results)
        return 0.0 if call_results is None else abs(float(_select_runs(call_results)[slot]) - wanted)

    def _step(self, run: _Run, state: Tensors) -> CallResults:
        return run_eager(self._joint, {**self._joint.examples(), **run.tensors, **state}, ones, run.answer.again.random)


_LOSS = Slot(Role.LOSS, "loss")


def _detach(call_results: CallResults) -> Tensors:
    return {slot: tensor.detach() for slot, tensor in call_results.new_state.items()}


def _select_runs(call_results: CallResults) -> Tensors:
    """The loss and the scalars of a free run, which the file must match."""
    assert call_results.loss is not None
    return {_LOSS: call_results.loss.detach()} | _scalars(_detach(call_results))


def _scalars(state: Tensors) -> Tensors:
    """The counters: optimizer state with one element."""
    return {slot: tensor for slot, tensor in state.items() if slot.role == Role.STATE and tensor.numel() == 1}
