"""A training step as one function of named tensors: a Joint that takes its state and returns the new state.

A step updates its state: parameters, the buffers that the forward changes, the optimizer's tensors, and accumulated
gradients. Tracing and eager both run the optimizer's own class.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping

import torch

from gradport.eager.joint import CallResults, Slot
from gradport.eager.randomness import Randomness
from gradport.eager.trained import Trained
from gradport.eager.update import Update
from gradport.errors import SpecError
from gradport.subject.ports import Role
from gradport.subject.subject import Subject

__all__ = ["COUNT", "Step", "require_clip"]

COUNT = "accumulated.count"
"""Name of the state that counts the accumulated gradients."""


def require_clip(clip_grad_norm: float | None) -> None:
    """Refuses a limit of a norm that is not a positive number.

    Raises:
        SpecError: it is not one.
    """
    if clip_grad_norm is not None and not (isinstance(clip_grad_norm, (int, float)) and clip_grad_norm > 0):
        raise SpecError(f"clip_grad_norm={clip_grad_norm!r} is not a positive number; give a number above 0.")


class Step(Trained):
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
        if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
            raise SpecError(f"accumulate={accumulate!r} is not a number of calls; give an integer of 1 or more.")
        require_clip(clip_grad_norm)
        self._extra: dict[Slot, torch.Tensor] = {}
        super().__init__(subject, optimizer)
        self._clip = clip_grad_norm
        self._accumulate = accumulate
        self.proof_runs = 2 * accumulate + 2
        self.update = Update(optimizer, self.trained, clip_grad_norm)
        self._extra = self.update.state | self._accumulated() | self.update.rates

    def at(self, tensors: Mapping[Slot, torch.Tensor]) -> Step:
        """The same step with these tensors as its example; absent slots keep their example."""
        return Step(self._subject_at(tensors), self.optimizer, clip_grad_norm=self._clip, accumulate=self._accumulate)

    def for_trace(self) -> Step:
        """The step with numbers as tensors, tensor by tensor, without a branch."""
        twin = copy.copy(self)
        twin.update = self.update.for_trace()
        return twin

    def examples(self) -> dict[Slot, torch.Tensor]:
        """Every slot with its example tensor: the slots of a Joint, then optimizer state and learning rates."""
        return super().examples() | self._extra

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
            stepped = self._accumulate_or_step(placed, gradients)
        new = {slot: results.buffers[slot.name] for slot in self.moving if slot.role == Role.BUFFER} | stepped
        missing: dict[Slot, torch.Tensor | None] = {s: None for s, grad in results.gradients.items() if grad is None}
        ordered = {slot: new[slot] for slot in self.state_slots()}
        return dataclasses.replace(results, gradients=missing, updates=(), new_state=ordered)

    def _accumulate_or_step(
        self, placed: Mapping[Slot, torch.Tensor], gradients: Mapping[str, torch.Tensor]
    ) -> dict[Slot, torch.Tensor]:
        """Parameters and optimizer state after the step, or the gradients that are accumulated for a later step."""
        if self._accumulate == 1:
            return self.update(placed, gradients)
        sums = {
            name: placed[Slot(Role.STATE, f"accumulated.{name}")] + gradient for name, gradient in gradients.items()
        }
        count = placed[Slot(Role.STATE, COUNT)] + 1
        full = count >= self._accumulate
        new = {slot: torch.where(full, value, placed[slot]) for slot, value in self.update(placed, sums).items()}
        for name, total in sums.items():
            new[Slot(Role.STATE, f"accumulated.{name}")] = torch.where(full, torch.zeros_like(total), total)
        new[Slot(Role.STATE, COUNT)] = torch.where(full, torch.zeros_like(count), count)
        return new

    def _accumulated(self) -> dict[Slot, torch.Tensor]:
        """The state of accumulated gradients before the first call."""
        if self._accumulate == 1:
            return {}
        zeros = {
            Slot(Role.STATE, f"accumulated.{name}"): torch.zeros_like(tensor).detach()
            for name, tensor in self.trained.items()
        }
        return zeros | {Slot(Role.STATE, COUNT): torch.zeros((), dtype=torch.int64)}
