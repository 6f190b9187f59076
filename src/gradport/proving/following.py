"""A training step run again and again: does the file go where torch goes?

Every run starts, in the file and in eager, from the state that the file gave before, so that each run is held against
the same step of torch: a rounding that an optimizer blows up (Adam divides a gradient that is zero by theory by its own
size) does not add up to a difference. Beside it eager runs freely from its own state. Of that free run the loss and the
scalars of the optimizer (its counters) must be followed, as far as torch follows itself from a start a few ULPs away.
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
"""Relative distance between two free runs that needs no explanation."""

_FACTOR = 16.0
"""How much further from torch than torch from itself the file may go."""

Tensors = dict[Slot, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class _Run:
    """One run without its state: what another start is put through as well."""

    tensors: Tensors
    answer: Reference


class Following:
    """Follows the runs of a training step.

    Args:
        joint: the step.
    """

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._state: Tensors = {}
        self._free: Tensors = {}
        self._runs: list[_Run] = []

    def placed(self, case: InputSet) -> InputSet:
        """The case from the state that the file gave last; every other run at half the learning rate."""
        rates = {
            slot: tensor / 2
            for slot, tensor in case.tensors.items()
            if slot.role == Role.LEARNING_RATE and len(self._runs) % 2
        }
        return dataclasses.replace(case, tensors={**case.tensors, **self._state, **rates})

    def after(self, case: InputSet, answer: Reference, results: dict[str, torch.Tensor]) -> None:
        """Notes what the file gave for a case.

        Raises:
            ExportError: the loss or a counter has left torch's.
        """
        names = [name for name, role in answer.roles.items() if role == Role.NEW_STATE]
        self._state = {slot: results[name] for slot, name in zip(answer.new_state, names, strict=True)}
        inputs = {slot: tensor for slot, tensor in case.tensors.items() if slot not in self._state}
        self._runs.append(_Run(inputs, answer))
        call_results = self._step(self._runs[-1], self._free)
        self._free = _detach(call_results)
        loss = next((results[name] for name, role in answer.roles.items() if role == Role.LOSS), None)
        found = _scalars(self._state) | ({_LOSS: loss} if loss is not None else {})
        for slot, value in _select_runs(call_results).items():
            self._require_near(slot, float(found[slot]), float(value))

    def _require_near(self, slot: Slot, found: float, wanted: float) -> None:
        gap = abs(found - wanted)
        if gap <= _CLOSE * max(abs(wanted), 1e-6) or (found != found and wanted != wanted):
            return
        if gap <= _FACTOR * self._drift(slot, wanted):
            return
        what = "the loss" if slot == _LOSS else f"the state {slot.name!r}"
        raise ExportError(
            f"{self._joint.subject.name} was not exported: after {len(self._runs)} runs one after the other, {what} is "
            f"{found:.9g} in the file and {wanted:.9g} in torch. verify=False returns the Program without a proof."
        )

    def _drift(self, slot: Slot, wanted: float) -> float:
        """How far torch is from itself after the same runs, when its parameters start a few ULPs away."""
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
    """The numbers of a free run that must be followed."""
    assert call_results.loss is not None
    return {_LOSS: call_results.loss.detach()} | _scalars(_detach(call_results))


def _scalars(state: Tensors) -> Tensors:
    """The counters: whatever the optimizer keeps as a tensor without dimensions."""
    return {slot: tensor for slot, tensor in state.items() if slot.role == Role.STATE and tensor.numel() == 1}
