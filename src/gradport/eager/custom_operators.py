"""Operators of `torch.library`, treated as custom Functions are: each has a name in the file, a Region, and a slow
reference where its kernel is one that no trace can follow.

A trace runs the reference, or else the Python body of the operator, in the place of the operator. The backward is the
one that its author registered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Set
from typing import Any, Protocol

import torch

from gradport.compat.torch.library import (
    backward_of_operator,
    fill_defaults,
    is_custom_operator,
    name_of_operator,
    operator_of,
    operator_of_function,
    python_body,
)
from gradport.compat.torch.modes import TorchDispatchMode

__all__ = [
    "CustomOperators",
    "NoBody",
    "ReferencedOperators",
    "has_operator_references",
    "has_reference_of_operator",
    "refer",
    "stand_in_of",
    "stand_in_of_function",
]

_REFERENCES: dict[Any, Callable[..., Any]] = {}


def stand_in_of(value: Any) -> Any:
    """The class that stands for a `custom_op`, `torch.ops.<name>` or an overload; None for anything else."""
    operator = operator_of(value)
    return None if operator is None else _stand_in(operator)


def stand_in_of_function(function: type) -> Any:
    """The class that stands for the operator whose backward torch runs by this Function; None for a user's Function."""
    operator = operator_of_function(function)
    if operator is None:
        return None
    found = _stand_in(operator)
    found.backward = staticmethod(backward_of_operator(function))
    return found


@functools.cache
def _stand_in(operator: Any) -> Any:
    """A Function in name alone: its module is the operator's namespace, its name the operator's."""
    namespace, name = name_of_operator(operator)
    members = {
        "__module__": namespace,
        "__qualname__": name,
        "forward": staticmethod(_body(operator) or operator),
        "setup_context": staticmethod(lambda ctx, inputs, output: None),
        "operator": operator,
    }
    return type(name, (torch.autograd.Function,), members)


def _body(operator: Any) -> Callable[..., Any] | None:
    """What a trace runs in the place of an operator; None where there is nothing that it can follow."""
    return _REFERENCES.get(operator) or python_body(operator)


def refer(stand_in: Any, slow: Callable[..., Any]) -> None:
    """Registers a slow reference of the operator that the class stands for."""
    _REFERENCES[stand_in.operator] = slow
    stand_in.forward = staticmethod(slow)


def has_reference_of_operator(stand_in: Any) -> bool:
    """Whether a reference stands for the operator."""
    return getattr(stand_in, "operator", None) in _REFERENCES


def has_operator_references() -> bool:
    """Whether any operator has a reference."""
    return bool(_REFERENCES)


class NoBody(Exception):
    """An operator is called that has neither a Python body nor a reference.

    Attributes:
        stand_in: the class that stands for it.
    """

    def __init__(self, stand_in: Any) -> None:
        super().__init__(f"{stand_in.__module__}::{stand_in.__qualname__} has no Python body")
        self.stand_in = stand_in


class Observer(Protocol):
    """What a trace does around the call of an operator."""

    def operator(self, stand_in: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Runs it, and gives its results."""
        ...


class CustomOperators(TorchDispatchMode):
    """For a trace: runs what each operator is written with in its place.

    Args:
        observer: sees each call.
        rows: the operators that the table of operators has a row for; they stay.

    Raises:
        NoBody: an operator has nothing that a trace can follow.
    """

    supports_higher_order_operators = True

    def __init__(self, observer: Observer, rows: Set[Any]) -> None:
        super().__init__()
        self._observer = observer
        self._rows = rows

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if not is_custom_operator(func) or func in self._rows:
            return func(*args, **kwargs)
        stand_in = _stand_in(func)
        body = _body(func)
        if body is None:
            raise NoBody(stand_in)
        given = fill_defaults(func, args, kwargs)
        with self:
            return self._observer.operator(stand_in, given, functools.partial(body, *args, **kwargs))


class ReferencedOperators(TorchDispatchMode):
    """For eager: runs the reference of an operator where the operator itself fails.

    Attributes:
        replaced: the classes that stand for those operators.
    """

    def __init__(self) -> None:
        super().__init__()
        self.replaced: set[type] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        slow = _REFERENCES.get(func)
        if slow is None:
            return func(*args, **kwargs)
        try:
            return func(*args, **kwargs)
        except Exception:  # what the user did wrong fails in the reference as well
            self.replaced.add(_stand_in(func))
            return slow(*args, **kwargs)
