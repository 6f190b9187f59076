"""Changes the weights of a model: compares the same graph with the same Subject at other weights.

Norm layers start with ones and biases with zeros. At these values many wrong gradients look correct, and an initializer
cannot be fed as an input. So the graph is also compared with these weights changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor

from gradport.eager.inputs import move_state
from gradport.eager.joint import Joint, Slot
from gradport.model.program import Program
from gradport.subject.ports import Role

__all__ = ["move_constants", "replace_weights", "use_weights_of"]

_PREFIX = {Role.PARAMETER: "param", Role.BUFFER: "buffer"}


def move_constants(program: Program, joint: Joint, generator: torch.Generator) -> dict[Slot, torch.Tensor]:
    """Random values for constant weights (all elements equal) that are initializers of the program."""
    constant = {slot for slot, tensor in joint.examples().items() if _is_constant(slot, tensor)}
    moved = move_state(joint, generator) if constant else {}
    return {slot: tensor for slot, tensor in moved.items() if slot in constant and _initializer(program, joint, slot)}


def replace_weights(program: Program, joint: Joint, weights: Mapping[Slot, torch.Tensor]) -> Program:
    """A copy of the program with these weights."""
    model = program.model.clone()
    for slot, tensor in weights.items():
        name = _initializer(program, joint, slot)
        assert name is not None
        value = model.graph.initializers[name]
        value.const_value = TorchTensor(tensor.detach().contiguous(), name=name)
    return Program(model, program.state() if any(spec.role == Role.STATE for spec in program.inputs) else None)


def use_weights_of(program: Program, joint: Joint, tensors: Mapping[Slot, torch.Tensor]) -> Program:
    """The program with the weights among these tensors; the program itself if they are its own."""
    examples = joint.examples()
    other = {
        slot: tensor
        for slot, tensor in tensors.items()
        if slot.role in _PREFIX and tensor is not examples[slot] and _initializer(program, joint, slot)
    }
    return replace_weights(program, joint, other) if other else program


def _is_constant(slot: Slot, tensor: torch.Tensor) -> bool:
    if slot.role not in _PREFIX or not tensor.is_floating_point() or not tensor.numel():
        return False
    flat = tensor.detach().reshape(-1)
    return bool((flat == flat[0]).all())


def _initializer(program: Program, joint: Joint, slot: Slot) -> str | None:
    """The initializer with the name and the values of a weight, or None."""
    tensor = joint.examples()[slot].detach()
    for name in (slot.name, f"{_PREFIX[slot.role]}.{slot.name}"):
        value = program.model.graph.initializers.get(name)
        if value is not None and _holds(value, tensor):
            return name
    return None


def _holds(value: ir.Value, tensor: torch.Tensor) -> bool:
    constant = value.const_value
    if (
        constant is None
        or tuple(constant.shape) != tuple(tensor.shape)
        or value.dtype != ir.tensor_adapters.from_torch_dtype(tensor.dtype)
    ):
        return False
    return bool(np.array_equal(constant.numpy(), TorchTensor(tensor.contiguous()).numpy()))
