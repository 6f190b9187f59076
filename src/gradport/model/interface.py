"""A Subject's graph inputs and outputs with their tensors, in graph order and under their default names.

An exported graph, a foreign model and eager torch are held against each other through this one list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from gradport.eager.joint import CallResults, Joint, Slot
from gradport.subject.names import Entry, allot

__all__ = ["Interface", "interface"]


@dataclasses.dataclass(frozen=True)
class Interface:
    """What one call took and gave, by default name, in graph order.

    Attributes:
        inputs: arguments, targets, cotangents, random tensors, state, learning rates.
        outputs: loss, outputs, gradients, new state.
        roles: role of each output.
        input_roles: role of each input.
    """

    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    roles: dict[str, str]
    input_roles: dict[str, str]


def interface(
    joint: Joint, tensors: Mapping[Slot, torch.Tensor], cotangents: Mapping[str, torch.Tensor], results: CallResults
) -> Interface:
    """Lists what went in and came out of `results`, a call on `tensors` and `cotangents` (by output name)."""
    ins = [
        (Entry(slot.kind, slot.kind, slot.name), tensor)
        for kind in ("argument", "target")
        for slot, tensor in tensors.items()
        if slot.kind == kind
    ]
    ins += [(Entry("cotangent", "cotangent", name), cotangents[name]) for name in results.seeded]
    ins += [(Entry("random", "random", name), tensor) for name, tensor in results.random.items()]
    ins += [(Entry("state", slot.kind, slot.name), tensors[slot]) for slot in results.new_state]
    ins += [(Entry("lr", "lr", slot.name), tensor) for slot, tensor in tensors.items() if slot.kind == "lr"]
    outs = [(Entry("loss", "loss", "loss"), results.loss.reshape(()))] if results.loss is not None else []
    for name, tensor in joint.chosen(results).items():
        kind = "activation" if name in results.activations else "output"
        outs.append((Entry(kind, kind, name), tensor))
    outs += [
        (Entry("gradient", slot.kind, slot.name), gradient)
        for slot, gradient in results.gradients.items()
        if gradient is not None
    ]
    outs += [(Entry("new_state", slot.kind, slot.name), value) for slot, value in results.new_state.items()]
    in_names, out_names, _ = allot([entry for entry, _ in ins], [entry for entry, _ in outs], {})
    return Interface(
        {name: _in_a_file(tensor) for name, (_, tensor) in zip(in_names, ins, strict=True)},
        {name: _in_a_file(tensor) for name, (_, tensor) in zip(out_names, outs, strict=True)},
        {name: entry.role for name, (entry, _) in zip(out_names, outs, strict=True)},
        {name: entry.role for name, (entry, _) in zip(in_names, ins, strict=True)},
    )


def _in_a_file(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as a file has it: complex numbers are pairs in a last dimension of two."""
    tensor = tensor.detach()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
