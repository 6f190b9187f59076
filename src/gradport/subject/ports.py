"""Inputs and outputs of a Subject and of a graph: roles, and tensors by role and name.

This is the only place that defines the order of a graph: inputs in the order of their roles, outputs in the order of
the call.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Container, Iterable

__all__ = ["GraphSignature", "Phase", "Port", "Role", "Slot", "input_port"]


class Phase(enum.StrEnum):
    """The half of a joint graph that a node or a call belongs to."""

    FORWARD = "forward"
    BACKWARD = "backward"


class Role(enum.StrEnum):
    """The role of a tensor. Parameters and buffers that a training step changes are inputs with the role `STATE`; all
    others are initializers."""

    ARGUMENT = "argument"
    TARGET = "target"
    PARAMETER = "parameter"
    BUFFER = "buffer"
    COTANGENT = "cotangent"
    RANDOM = "random"
    STATE = "state"
    LEARNING_RATE = "lr"
    LOSS = "loss"
    OUTPUT = "output"
    ACTIVATION = "activation"
    GRADIENT = "gradient"
    NEW_STATE = "new_state"


INPUTS = (
    Role.ARGUMENT,
    Role.TARGET,
    Role.COTANGENT,
    Role.RANDOM,
    Role.GRADIENT,
    Role.STATE,
    Role.LEARNING_RATE,
)
"""The roles of a graph's inputs in their order."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """A tensor of a Subject, by role and name."""

    role: Role
    name: str


@dataclasses.dataclass(frozen=True)
class Port:
    """One input or output of a graph before it has a name in a file.

    Attributes:
        role: its role in the graph.
        slot: the tensor to which it belongs: the parameter of a gradient or a new state, the output of a cotangent;
            otherwise its own role and name.
    """

    role: Role
    slot: Slot

    @classmethod
    def own(cls, role: Role, name: str) -> Port:
        """A port that does not belong to another tensor."""
        return cls(role, Slot(role, name))


@dataclasses.dataclass(frozen=True)
class GraphSignature:
    """The inputs and outputs of a graph in their order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @classmethod
    def of(cls, inputs: Iterable[Port], outputs: Iterable[Port]) -> GraphSignature:
        """The signature of a graph: inputs are sorted by role, and keep their order within a role."""
        return cls(tuple(sorted(inputs, key=lambda port: INPUTS.index(port.role))), tuple(outputs))


def input_port(slot: Slot, moving: Container[Slot]) -> Port | None:
    """The graph input for a tensor; None if it is an initializer.

    Args:
        slot: the tensor.
        moving: the tensors that a training step changes.
    """
    if slot in moving:
        return Port(Role.STATE, slot)
    return Port(slot.role, slot) if slot.role in INPUTS else None
