"""A training step as one function of named tensors: a Joint that takes its state and returns the new state.

A step updates its state: parameters, the buffers that the forward changes, the optimizer's tensors, and accumulated
gradients. Tracing and eager both run the optimizer's own class.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradport.compat.torch.functions import function_calls
from gradport.eager.joint import CallResults, Joint, Slot, copies
from gradport.eager.optimizers import eager_step, group_names, require_exportable_optimizer, starting_state, trace_step
from gradport.eager.randomness import Expected, Randomness
from gradport.eager.references import ReferenceHooks
from gradport.eager.run import rejection
from gradport.errors import Error, SpecError
from gradport.subject.ports import Role
from gradport.subject.subject import Subject

__all__ = ["COUNT", "Step"]

COUNT = "accumulated.count"
"""Name of the state that counts the accumulated gradients."""


class Step(Joint):
    """A Subject with a loss and an optimizer.

    Args:
        subject: has a loss; its `wrt` is ignored.
        optimizer: a torch optimizer on the subject's parameters.
        clip_grad_norm: limit of the gradients' norm, or None.
        accumulate: number of calls whose gradients are summed before the optimizer steps.

    Raises:
        SpecError: there is no loss, or the optimizer cannot be exported or has other parameters.
    """

    def __init__(
        self,
        subject: Subject,
        optimizer: torch.optim.Optimizer,
        *,
        clip_grad_norm: float | None = None,
        accumulate: int = 1,
    ) -> None:
        if subject.loss is None:
            raise SpecError(f"A training step of {subject.name} needs a loss.")
        if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
            raise SpecError(f"accumulate={accumulate!r} is not a number of calls; give an integer of 1 or more.")
        if clip_grad_norm is not None and not (isinstance(clip_grad_norm, (int, float)) and clip_grad_norm > 0):
            raise SpecError(f"clip_grad_norm={clip_grad_norm!r} is not a positive number; give a number above 0.")
        require_exportable_optimizer(optimizer)
        joint = Joint(subject.replace(wrt=None))
        names = {id(tensor): name for name, tensor in joint.state.parameters.items()}
        own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        strangers = [parameter for parameter in own if id(parameter) not in names]
        if strangers:
            raise SpecError(
                f"{len(strangers)} of the optimizer's {len(own)} parameters are not parameters of {subject.name}; "
                "build the optimizer on the parameters of the exported module."
            )
        trained = {names[id(parameter)]: parameter for parameter in own if parameter.requires_grad}
        if not trained:
            raise SpecError("No parameter of the optimizer requires a gradient.")
        self.optimizer = optimizer
        self._extra: dict[Slot, torch.Tensor] = {}
        self._rates = [Slot(Role.LEARNING_RATE, name) for name in group_names(optimizer)]
        super().__init__(subject.replace(wrt=[f"param.{name}" for name in trained]))
        self.explicit = frozenset()
        self._clip = clip_grad_norm
        self._accumulate = accumulate
        self.proof_runs = 2 * accumulate + 2
        self._trained = trained
        self.numbers: dict[str, type] = {}
        self._static: dict[str, dict[str, Any]] = {}
        self.take_step = eager_step
        self.moving = self._find_moving()
        self._find_state()

    def at(self, tensors: Mapping[Slot, torch.Tensor]) -> Step:
        """The same step with these tensors as its example; absent slots keep their example."""
        return Step(self._subject_at(tensors), self.optimizer, clip_grad_norm=self._clip, accumulate=self._accumulate)

    def for_trace(self) -> Step:
        """The step with numbers as tensors, tensor by tensor, without a branch."""
        twin = copy.copy(self)
        twin.take_step = trace_step
        twin.numbers = {}
        return twin

    def examples(self) -> dict[Slot, torch.Tensor]:
        """Every slot with its example tensor: the slots of a Joint, then optimizer state and learning rates."""
        rates = [torch.tensor(float(group["lr"]), dtype=torch.float32) for group in self.optimizer.param_groups]
        return super().examples() | self._extra | dict(zip(self._rates, rates, strict=True))

    def __call__(
        self,
        tensors: Mapping[Slot, torch.Tensor],
        cotangent: Callable[[str, torch.Tensor], torch.Tensor],
        random: Callable[[], Randomness] | None = None,
    ) -> CallResults:
        """Runs forward, backward and the optimizer."""
        results = super().__call__(tensors, cotangent, random)
        placed = self.examples() | dict(tensors)
        gradients = {slot.name: gradient for slot, gradient in results.gradients.items() if gradient is not None}
        with torch.no_grad():
            moved = self._update_state(placed, gradients)
        new = {slot: results.buffers[slot.name] for slot in self.moving if slot.role == Role.BUFFER} | moved
        missing: dict[Slot, torch.Tensor | None] = {s: None for s, grad in results.gradients.items() if grad is None}
        ordered = {slot: new[slot] for slot in self.state_slots()}
        return dataclasses.replace(results, gradients=missing, updates=(), new_state=ordered)

    def state_slots(self) -> list[Slot]:
        """The state of the step, in graph order: parameters, buffers, optimizer state, accumulated gradients."""
        return [slot for slot in super().examples() if slot in self.moving] + list(self._extra)

    def _update_state(
        self, placed: Mapping[Slot, torch.Tensor], gradients: Mapping[str, torch.Tensor]
    ) -> dict[Slot, torch.Tensor]:
        """The new parameters and optimizer state, and the gradients accumulated for a later step."""
        if self._accumulate == 1:
            return self._run_optimizer(placed, gradients)
        sums = {
            name: placed[Slot(Role.STATE, f"accumulated.{name}")] + gradient for name, gradient in gradients.items()
        }
        count = placed[Slot(Role.STATE, COUNT)] + 1
        full = count >= self._accumulate
        updated = self._run_optimizer(placed, sums)
        new = {slot: torch.where(full, value, placed[slot]) for slot, value in updated.items()}
        for name, total in sums.items():
            new[Slot(Role.STATE, f"accumulated.{name}")] = torch.where(full, torch.zeros_like(total), total)
        new[Slot(Role.STATE, COUNT)] = torch.where(full, torch.zeros_like(count), count)
        return new

    def _run_optimizer(
        self, placed: Mapping[Slot, torch.Tensor], gradients: Mapping[str, torch.Tensor]
    ) -> dict[Slot, torch.Tensor]:
        tensors: dict[torch.Tensor, torch.Tensor] = {}
        state: dict[torch.Tensor, dict[str, Any]] = {}
        for name, gradient in gradients.items():
            parameter = self._trained[name]
            moving = placed[Slot(Role.PARAMETER, name)].detach().clone().requires_grad_()
            moving.grad = gradient.detach().clone()
            tensors[parameter] = moving
            state[parameter] = self._static.get(name, {}) | self._entries(name, placed)
        rates = [placed[slot] for slot in self._rates]
        stepped = self.take_step(self.optimizer, tensors, state, rates, self._clip)
        new = {Slot(Role.PARAMETER, name): tensors[self._trained[name]].detach() for name in gradients}
        for slot, example in self._extra.items():
            name, key = _split_key(slot.name, gradients)
            if name:
                value = stepped[self._trained[name]][key]
                new[slot] = torch.as_tensor(value).detach().to(placed[slot].dtype).reshape(example.shape)
        return new

    def _entries(self, name: str, placed: Mapping[Slot, torch.Tensor]) -> dict[str, Any]:
        """The optimizer's state of one parameter; numbers are numbers in eager, tensors in a trace."""
        found: dict[str, Any] = {}
        for slot in self._extra:
            owner, key = _split_key(slot.name, {name: None})
            if owner:
                kind = self.numbers.get(slot.name)
                value = placed[slot]
                found[key] = value if kind is None else kind(value.item())
        return found

    def _find_moving(self) -> frozenset[Slot]:
        """Finds the parameters with a gradient and the buffers that the forward changes, by one eager call.

        Random numbers are replaced by their means, so that no generator advances.

        Raises:
            TargetError: the module, or its loss, fails.
        """
        tensors = Joint.examples(self)
        try:
            with function_calls(ReferenceHooks(always=False)):
                results = Joint.__call__(self, copies(tensors), lambda name, value: torch.ones_like(value), Expected)
        except Error:
            raise
        except Exception as error:
            raise rejection(self, tensors, error) from error
        moving = {slot for slot, gradient in results.gradients.items() if gradient is not None}
        changed = [n for n, new in results.buffers.items() if not torch.equal(new, self.state.buffers[n])]
        return frozenset(moving | {Slot(Role.BUFFER, name) for name in {*results.updates, *changed}})

    def _find_state(self) -> None:
        state = starting_state(self.optimizer)
        moving = [name for name in self._trained if Slot(Role.PARAMETER, name) in self.moving]
        for name in moving:
            for key, value in state.get(self._trained[name], {}).items():
                full = f"optim.{name}.{key}"
                if isinstance(value, torch.Tensor):
                    self._extra[Slot(Role.STATE, full)] = value.detach()
                elif isinstance(value, (int, float)) and not isinstance(value, bool):
                    self._extra[Slot(Role.STATE, full)] = torch.tensor(
                        value, dtype=torch.int64 if isinstance(value, int) else torch.float64
                    )
                    self.numbers[full] = type(value)
                else:
                    self._static.setdefault(name, {})[key] = value
        if self._accumulate > 1:
            for name in moving:
                self._extra[Slot(Role.STATE, f"accumulated.{name}")] = torch.zeros_like(self._trained[name]).detach()
            self._extra[Slot(Role.STATE, COUNT)] = torch.zeros((), dtype=torch.int64)


def _split_key(name: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
    """Splits `optim.<parameter>.<key>` into parameter and key; the key has no dot."""
    if not name.startswith("optim."):
        return "", ""
    owner, _, key = name.removeprefix("optim.").rpartition(".")
    return (owner, key) if owner in parameters else ("", "")
