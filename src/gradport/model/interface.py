"""A Subject's graph inputs and outputs with their tensors, in graph order and with default names.

Comparisons of an exported graph, a model of another exporter and eager torch all use this list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from gradport.eager.joint import CallResults, Joint, Slot
from gradport.subject.names import allot
from gradport.subject.ports import GraphSignature, Port, Role

__all__ = ["Interface", "interface"]


@dataclasses.dataclass(frozen=True)
class Interface:
    """The inputs and outputs of one call, by default name, in graph order.

    Attributes:
        inputs: arguments, targets, cotangents, random tensors, state, learning rates.
        outputs: loss, outputs, gradients, new state.
        roles: role of each output.
        input_roles: role of each input.
    """

    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    roles: dict[str, Role]
    input_roles: dict[str, Role]


def interface(
    joint: Joint, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor], results: CallResults
) -> Interface:
    """Lists inputs and outputs of a call with `results` on `tensors` and `cotangents` (by output name)."""
    inputs = _tensors_passed(joint, tensors, cotangents, results)
    outputs = joint.list_outputs(results)
    signature = GraphSignature.of(inputs, outputs)
    in_names, out_names, _ = allot(signature, {})
    return Interface(
        {name: _file_form(inputs[port]) for name, port in zip(in_names, signature.inputs, strict=True)},
        {name: _file_form(outputs[port]) for name, port in zip(out_names, signature.outputs, strict=True)},
        {name: port.role for name, port in zip(out_names, signature.outputs, strict=True)},
        {name: port.role for name, port in zip(in_names, signature.inputs, strict=True)},
    )


def _tensors_passed(
    joint: Joint, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor], results: CallResults
) -> dict[Port, torch.Tensor]:
    """The inputs of a call, without parameters and buffers that it does not change."""
    inputs = {Port(slot.role, slot): tensor for slot, tensor in tensors.items() if slot.role in _GIVEN}
    inputs |= {Port.own(Role.COTANGENT, name): cotangents[name] for name in results.seeded}
    inputs |= {Port.own(Role.RANDOM, name): tensor for name, tensor in results.random.items()}
    return inputs | {Port(Role.STATE, slot): tensors[slot] for slot in joint.state_slots()}


_GIVEN = (Role.ARGUMENT, Role.TARGET, Role.GRADIENT, Role.LEARNING_RATE)


def _file_form(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in the form of a file: complex numbers are pairs in a last dimension of two."""
    tensor = tensor.detach()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
