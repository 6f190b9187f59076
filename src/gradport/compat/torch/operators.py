"""torch operators by name, including operators that the installed torch lacks; and the schema of an operator.

Private in torch, and used here:
- `torch._ops.OpOverload` and `HigherOrderOperator`: the classes of operators;
- `_schema` of an overload: the names of its arguments, and the arguments it writes to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

__all__ = [
    "Absent",
    "argument_names",
    "aten",
    "drop_absent",
    "has_body",
    "is_operator",
    "is_overload",
    "name_of",
    "prims",
    "tensors_written_by",
]


@dataclasses.dataclass(frozen=True)
class Absent:
    """An operator that the installed torch lacks."""

    name: str


class _Namespace:
    """`torch.ops.<name>`, with `Absent` for a missing overload."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> _Packet:
        return _Packet(self._name, name)


class _Packet:
    def __init__(self, namespace: str, name: str) -> None:
        self._namespace = namespace
        self._name = name

    def __getattr__(self, overload: str) -> Any:
        packet = getattr(getattr(torch.ops, self._namespace), self._name, None)
        operator = None if packet is None else getattr(packet, overload, None)
        return Absent(f"{self._namespace}.{self._name}.{overload}") if operator is None else operator


aten = _Namespace("aten")
prims = _Namespace("prims")


def drop_absent(*overloads: Any) -> frozenset[Any]:
    """The overloads that the installed torch has."""
    return frozenset(overload for overload in overloads if not isinstance(overload, Absent))


def is_overload(target: Any) -> bool:
    """Whether `target` is an operator without a body, such as `aten.add.Tensor`."""
    return isinstance(target, torch._ops.OpOverload)


def has_body(target: Any) -> bool:
    """Whether `target` is an operator with bodies: cond, scan, while_loop."""
    return isinstance(target, torch._ops.HigherOrderOperator)


def is_operator(target: Any) -> bool:
    """Whether `target` is an operator of either kind."""
    return is_overload(target) or has_body(target)


def name_of(target: Any) -> str:
    """An operator's name without namespace and overload; of any other target `str(target)`."""
    return str(target.overloadpacket.__name__) if is_overload(target) else str(target)


def argument_names(target: Any) -> tuple[str, ...]:
    """The names of an operator's arguments in order."""
    return tuple(argument.name for argument in target._schema.arguments)


def tensors_written_by(target: Any, args: tuple[Any, ...]) -> Iterator[torch.Tensor]:
    """The positional tensor arguments that the operator writes to."""
    if not target._schema.is_mutable:
        return
    for argument, value in zip(target._schema.arguments, args, strict=False):
        written = argument.alias_info is not None and argument.alias_info.is_write
        if written and isinstance(value, torch.Tensor):
            yield value
