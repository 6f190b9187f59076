"""Operators of `torch.library`, handled as custom Functions: each has a name in the file, a Region, and a slow
reference if its kernel cannot be traced.

A trace runs the reference, or else the operator's Python body, in place of the operator. The backward is the registered
backward.
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
    "register_reference",
    "stand_in_of",
    "stand_in_of_function",
]

_REFERENCES: dict[Any, Callable[..., Any]] = {}


def stand_in_of(value: Any) -> Any:
    """The class that represents a `custom_op`, `torch.ops.<name>` or an overload; None for any other value."""
    operator = operator_of(value)
    return None if operator is None else _stand_in(operator)


def stand_in_of_function(function: type) -> Any:
    """The class of the operator whose registered backward torch runs as this Function; None for a user's Function."""
    operator = operator_of_function(function)
    if operator is None:
        return None
    stand_in = _stand_in(operator)
    stand_in.backward = staticmethod(backward_of_operator(function))
    return stand_in


@functools.cache
def _stand_in(operator: Any) -> Any:
    """A Function class with the operator's name; its module is the operator's namespace."""
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
    """The function that a trace runs in place of an operator; None if there is none."""
    return _REFERENCES.get(operator) or python_body(operator)


def register_reference(stand_in: Any, slow: Callable[..., Any]) -> None:
    """Registers a slow reference for the operator of a class."""
    _REFERENCES[stand_in.operator] = slow
    stand_in.forward = staticmethod(slow)


def has_reference_of_operator(stand_in: Any) -> bool:
    """Whether the operator of a class has a reference."""
    return getattr(stand_in, "operator", None) in _REFERENCES


def has_operator_references() -> bool:
    """Whether any operator has a reference."""
    return bool(_REFERENCES)


class NoBody(Exception):
    """A called operator has neither a Python body nor a reference.

    Attributes:
        stand_in: the operator's class.
    """

    def __init__(self, stand_in: Any) -> None:
        super().__init__(f"{stand_in.__module__}::{stand_in.__qualname__} has no Python body")
        self.stand_in = stand_in


class Observer(Protocol):
    """A trace's hook around calls of operators."""

    def operator(self, stand_in: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Runs the operator; returns its results."""
        ...


class CustomOperators(TorchDispatchMode):
    """For a trace: runs the reference or the Python body of each operator in its place.

    Args:
        observer: its hook runs around each call.
        rows: the operators with a row in the operator table; they stay.

    Raises:
        NoBody: an operator has neither.
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
        arguments = fill_defaults(func, args, kwargs)
        with self:
            return self._observer.operator(stand_in, arguments, functools.partial(body, *args, **kwargs))


class ReferencedOperators(TorchDispatchMode):
    """For eager: runs the reference of an operator if the operator itself fails.

    Attributes:
        replaced: the classes of these operators.
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
        except Exception:  # the user's own mistakes also fail in the reference
            self.replaced.add(_stand_in(func))
            return slow(*args, **kwargs)
