"""The optimizer's step as a function of given tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from gradport.eager.optimizers import eager_step, group_names, starting_state, trace_step
from gradport.subject.ports import Role, Slot

__all__ = ["Update"]


class Update:
    """One step of an optimizer. Parameters, gradients, optimizer state and learning rates go in; new ones come out, in
    the shapes that went in.

    Args:
        optimizer: its class and hyperparameters are used; it stays unchanged.
        parameters: the parameters that it moves, by name.
        clip_grad_norm: limit of the norm of all gradients together, or None.

    Attributes:
        state: the optimizer's starting state.
        rates: the learning rate of each group.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, torch.Tensor],
        clip_grad_norm: float | None,
    ) -> None:
        self._optimizer = optimizer
        self._parameters = dict(parameters)
        self._clip = clip_grad_norm
        self._static: dict[str, dict[str, Any]] = {}
        self.take_step = eager_step
        self.numbers: dict[str, type] = {}
        self.state = self._starting_state()
        self.rates = {
            Slot(Role.LEARNING_RATE, name): torch.tensor(float(group["lr"]), dtype=torch.float32)
            for name, group in zip(group_names(optimizer), optimizer.param_groups, strict=True)
        }

    def for_trace(self) -> Update:
        """The step with numbers as tensors, tensor by tensor, without a branch."""
        twin = copy.copy(self)
        twin.take_step = trace_step
        twin.numbers = {}
        return twin

    def __call__(
        self, placed: Mapping[Slot, torch.Tensor], gradients: Mapping[str, torch.Tensor]
    ) -> dict[Slot, torch.Tensor]:
        """The new parameters and the new optimizer state.

        Args:
            placed: parameters, optimizer state and learning rates.
            gradients: by parameter name.
        """
        tensors: dict[torch.Tensor, torch.Tensor] = {}
        state: dict[torch.Tensor, dict[str, Any]] = {}
        for name, gradient in gradients.items():
            parameter = self._parameters[name]
            moving = placed[Slot(Role.PARAMETER, name)].detach().clone().requires_grad_()
            moving.grad = gradient.detach().clone()
            tensors[parameter] = moving
            state[parameter] = self._static.get(name, {}) | self._entries(name, placed)
        rates = [placed[slot] for slot in self.rates]
        stepped = self.take_step(self._optimizer, tensors, state, rates, self._clip)
        new = {Slot(Role.PARAMETER, name): tensors[self._parameters[name]].detach() for name in gradients}
        for slot in self.state:
            name, key = _split_key(slot.name, gradients)
            if name:
                value = torch.as_tensor(stepped[self._parameters[name]][key]).detach().to(placed[slot].dtype)
                new[slot] = value if value.shape == placed[slot].shape else value.reshape(placed[slot].shape)
        return new

    def _entries(self, name: str, placed: Mapping[Slot, torch.Tensor]) -> dict[str, Any]:
        """The optimizer state of one parameter; numbers are numbers in eager, tensors in a trace."""
        entries: dict[str, Any] = {}
        for slot in self.state:
            owner, key = _split_key(slot.name, {name: None})
            if owner:
                kind = self.numbers.get(slot.name)
                value = placed[slot]
                entries[key] = value if kind is None else kind(value.item())
        return entries

    def _starting_state(self) -> dict[Slot, torch.Tensor]:
        starts = starting_state(self._optimizer)
        tensors: dict[Slot, torch.Tensor] = {}
        for name, parameter in self._parameters.items():
            for key, value in starts.get(parameter, {}).items():
                full = f"optim.{name}.{key}"
                if isinstance(value, torch.Tensor):
                    tensors[Slot(Role.STATE, full)] = value.detach()
                elif isinstance(value, (int, float)) and not isinstance(value, bool):
                    dtype = torch.int64 if isinstance(value, int) else torch.float64
                    tensors[Slot(Role.STATE, full)] = torch.tensor(value, dtype=dtype)
                    self.numbers[full] = type(value)
                else:
                    self._static.setdefault(name, {})[key] = value
        return tensors


def _split_key(name: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
    """`optim.<parameter>.<key>` as parameter and key; the key itself holds no dot."""
    owner, _, key = name.removeprefix("optim.").rpartition(".")
    return (owner, key) if owner in parameters else ("", "")
