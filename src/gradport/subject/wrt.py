"""Resolves `wrt`: the tensors of a Subject whose gradients are wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gradport.errors import SpecError
from gradport.subject.ports import Role, Slot
from gradport.subject.signature import Argument

__all__ = ["Reached", "differentiable", "resolve_wrt"]


@dataclasses.dataclass(frozen=True)
class Reached:
    """The tensors of a Subject that may have a gradient.

    Attributes:
        name: the name of the Subject.
        arguments: its tensor leaves.
        parameters: its parameters by name.
        tensors: every slot with its example.
        is_activation: whether a name is an activation, the output of a module.
    """

    name: str
    arguments: Sequence[Argument]
    parameters: Mapping[str, torch.Tensor]
    tensors: Mapping[Slot, torch.Tensor]
    is_activation: Callable[[str], bool]


def resolve_wrt(wrt: Any, reached: Reached) -> tuple[tuple[Slot, ...], frozenset[Slot]]:
    """The slots of `wrt`, and those that were named individually.

    Raises:
        SpecError: a name is unknown, ambiguous or not floating-point, or nothing can have a gradient.
    """
    if wrt is None:
        return (), frozenset()
    if isinstance(wrt, str) and wrt in _GROUPS:
        slots = [slot for group in _GROUPS[wrt] for slot in group(reached)]
        if not slots:
            raise SpecError(f"wrt={wrt!r}: no {_GROUP_WORDS[wrt]} of {reached.name} can have a gradient.")
        return tuple(slots), frozenset()
    names = [wrt] if isinstance(wrt, str) else wrt
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise SpecError(
            f"wrt={wrt!r} is not valid; give None, 'inputs', 'parameters', 'all', a name or a list of names."
        )
    slots = [slot for name in names for slot in _resolve_name(reached, name)]
    return tuple(dict.fromkeys(slots)), frozenset(slots)


def differentiable(tensor: torch.Tensor) -> bool:
    """Whether the dtype of a tensor can have a gradient: floating-point or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


def _inputs(reached: Reached) -> tuple[Slot, ...]:
    floating = [argument for argument in reached.arguments if differentiable(argument.value)]
    marked = [argument for argument in floating if argument.value.requires_grad]
    return tuple(Slot(Role.ARGUMENT, argument.name) for argument in marked or floating)


def _parameters(reached: Reached) -> tuple[Slot, ...]:
    parameters = reached.parameters.items()
    return tuple(
        Slot(Role.PARAMETER, name) for name, tensor in parameters if tensor.requires_grad and differentiable(tensor)
    )


_GROUPS: dict[Any, tuple[Callable[[Reached], tuple[Slot, ...]], ...]] = {
    "inputs": (_inputs,),
    "parameters": (_parameters,),
    "all": (_inputs, _parameters),
}

_GROUP_WORDS = {"inputs": "input", "parameters": "parameter", "all": "input or parameter"}


def _resolve_name(reached: Reached, name: str) -> list[Slot]:
    """The slots of one name of `wrt`.

    Raises:
        SpecError: the name is unknown, ambiguous or not floating-point.
    """
    tensors = reached.tensors
    if name.startswith("param.") and Slot(Role.PARAMETER, name.removeprefix("param.")) in tensors:
        return [_floating(reached, Slot(Role.PARAMETER, name.removeprefix("param.")))]
    nested = [
        Slot(Role.ARGUMENT, argument.name)
        for argument in reached.arguments
        if argument.name != name and _is_within(argument.name, name) and differentiable(argument.value)
    ]
    exact = [slot for slot in tensors if slot.name == name]
    if len(exact) > 1 or (exact and nested):
        kinds = " and ".join(f"a {slot.role}" for slot in exact) or "an argument"
        raise SpecError(f"wrt={name!r} is ambiguous: it names {kinds}; write param.{name} for the parameter.")
    if exact:
        return [_floating(reached, exact[0])]
    if nested:
        return nested
    if reached.is_activation(name):
        return [Slot(Role.ACTIVATION, name)]
    known = ", ".join(slot.name for slot in tensors) or "none"
    raise SpecError(f"wrt={name!r} does not exist in {reached.name}; its tensors are: {known}.")


def _is_within(name: str, root: str) -> bool:
    return name.startswith(root + ".")


def _floating(reached: Reached, slot: Slot) -> Slot:
    tensor = reached.tensors[slot]
    if not differentiable(tensor):
        raise SpecError(f"wrt={slot.name!r} names a {slot.role} of dtype {tensor.dtype}, which has no gradient.")
    return slot
