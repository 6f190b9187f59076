"""What `wrt` means: which tensors of a Subject a gradient is wanted of."""

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
    """What a Subject has that may have a gradient.

    Attributes:
        name: the Subject's.
        arguments: its tensor leaves.
        parameters: by name.
        tensors: every slot with its example.
        is_activation: whether a name means what a module returns.
    """

    name: str
    arguments: Sequence[Argument]
    parameters: Mapping[str, torch.Tensor]
    tensors: Mapping[Slot, torch.Tensor]
    is_activation: Callable[[str], bool]


def resolve_wrt(wrt: Any, found: Reached) -> tuple[tuple[Slot, ...], frozenset[Slot]]:
    """The slots that `wrt` means, and those of them that were named one by one.

    Raises:
        SpecError: a name that is unknown, ambiguous or not floating-point, or nothing that could have a gradient.
    """
    if wrt is None:
        return (), frozenset()
    if isinstance(wrt, str) and wrt in _GROUPS:
        slots = [slot for group in _GROUPS[wrt] for slot in group(found)]
        if not slots:
            raise SpecError(f"wrt={wrt!r}: no {_GROUP_WORDS[wrt]} of {found.name} can have a gradient.")
        return tuple(slots), frozenset()
    names = [wrt] if isinstance(wrt, str) else wrt
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise SpecError(
            f"wrt={wrt!r} is not understood; give None, 'inputs', 'parameters', 'all', a name or a list of names."
        )
    slots = [slot for name in names for slot in _resolve_name(found, name)]
    return tuple(dict.fromkeys(slots)), frozenset(slots)


def differentiable(tensor: torch.Tensor) -> bool:
    """Whether its dtype can have a gradient: floating-point and complex ones can."""
    return tensor.is_floating_point() or tensor.is_complex()


def _inputs(found: Reached) -> tuple[Slot, ...]:
    floating = [argument for argument in found.arguments if differentiable(argument.value)]
    marked = [argument for argument in floating if argument.value.requires_grad]
    return tuple(Slot(Role.ARGUMENT, argument.name) for argument in marked or floating)


def _parameters(found: Reached) -> tuple[Slot, ...]:
    parameters = found.parameters.items()
    return tuple(
        Slot(Role.PARAMETER, name) for name, tensor in parameters if tensor.requires_grad and differentiable(tensor)
    )


_GROUPS: dict[Any, tuple[Callable[[Reached], tuple[Slot, ...]], ...]] = {
    "inputs": (_inputs,),
    "parameters": (_parameters,),
    "all": (_inputs, _parameters),
}

_GROUP_WORDS = {"inputs": "input", "parameters": "parameter", "all": "input or parameter"}


def _resolve_name(found: Reached, name: str) -> list[Slot]:
    """What one name of `wrt` means.

    Raises:
        SpecError: unknown, ambiguous or not floating-point.
    """
    tensors = found.tensors
    if name.startswith("param.") and Slot(Role.PARAMETER, name.removeprefix("param.")) in tensors:
        return [_floating(found, Slot(Role.PARAMETER, name.removeprefix("param.")))]
    nested = [
        Slot(Role.ARGUMENT, argument.name)
        for argument in found.arguments
        if argument.name != name and _is_within(argument.name, name) and differentiable(argument.value)
    ]
    exact = [slot for slot in tensors if slot.name == name]
    if len(exact) > 1 or (exact and nested):
        kinds = " and ".join(f"a {slot.role}" for slot in exact) or "an argument"
        raise SpecError(f"wrt={name!r} is ambiguous: it names {kinds}; write param.{name} for the parameter.")
    if exact:
        return [_floating(found, exact[0])]
    if nested:
        return nested
    if found.is_activation(name):
        return [Slot(Role.ACTIVATION, name)]
    known = ", ".join(slot.name for slot in tensors) or "none"
    raise SpecError(f"wrt={name!r} names nothing of {found.name}; its tensors are: {known}.")


def _is_within(name: str, root: str) -> bool:
    return name.startswith(root + ".")


def _floating(found: Reached, slot: Slot) -> Slot:
    tensor = found.tensors[slot]
    if not differentiable(tensor):
        raise SpecError(f"wrt={slot.name!r} names a {slot.role} of dtype {tensor.dtype}, which has no gradient.")
    return slot
