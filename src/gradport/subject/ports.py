"""What goes into a Subject and comes out of it: roles, tensors by role and name, and the inputs and outputs of a graph.

The order of a graph stands here and nowhere else: inputs by the order of their roles, outputs as a call gives them.
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
    """What a tensor is for. Parameters and buffers that a training step changes are inputs with the role `STATE`; those
    that stay are initializers and no inputs."""

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
    """A tensor of a Subject, by its role and its name there."""

    role: Role
    name: str


@dataclasses.dataclass(frozen=True)
class Port:
    """One input or output of a graph before it has a name in a file.

    Attributes:
        role: what the graph takes or gives it for.
        slot: the tensor that it belongs to: the parameter of a gradient or a new state, the output of a cotangent; its
            own role and name where it belongs to no other.
    """

    role: Role
    slot: Slot

    @classmethod
    def own(cls, role: Role, name: str) -> Port:
        """A port that belongs to no other tensor."""
        return cls(role, Slot(role, name))


@dataclasses.dataclass(frozen=True)
class GraphSignature:
    """The inputs and outputs of a graph in their order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @classmethod
    def of(cls, inputs: Iterable[Port], outputs: Iterable[Port]) -> GraphSignature:
        """The signature of a graph: inputs stand by role, those of one role in the order given here."""
        return cls(tuple(sorted(inputs, key=lambda port: INPUTS.index(port.role))), tuple(outputs))


def input_port(slot: Slot, moving: Container[Slot]) -> Port | None:
    """The input that a tensor becomes; None: it stays, and is an initializer.

    Args:
        slot: the tensor.
        moving: those that a training step changes.
    """
    if slot in moving:
        return Port(Role.STATE, slot)
    return Port(slot.role, slot) if slot.role in INPUTS else None
