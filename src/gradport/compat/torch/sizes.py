"""Symbolic sizes: the symbols of dimensions, and the assumptions of a trace about them.

Private in torch, and used here:
- `SymInt.node` with `expr` and `_expr`: the expression behind a size;
- `ShapeEnv.guards`, `replace` and `backed_var_to_val`: the assumptions, and the example's sizes;
- `ShapeGuard.expr` and `sloc.maybe_user_loc`: one assumption and its source line;
- `ShapeEnv._get_sloc`: finds that line;
- `torch._sym_sqrt` and others: functions of `math` for symbolic numbers;
- `torch.fx.experimental.symbolic_shapes.statically_known_true`: a comparison that assumes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

__all__ = [
    "SYMBOLIC",
    "Assumption",
    "ShapeAssumptions",
    "expression_of",
    "is_dimension_hint",
    "require_equal",
    "size_text",
    "surely_equal",
    "symbolic_function",
]


SYMBOLIC = (torch.SymInt, torch.SymFloat)
"""Types of symbolic numbers in a trace."""


@dataclasses.dataclass(frozen=True)
class Assumption:
    """One condition on sizes that a trace assumed.

    Attributes:
        expression: a sympy relation over torch's symbols.
        about: the symbols in it before the trace fixed any of them to a number.
        place: the user's line that caused it; None if no user code did.
    """

    expression: Any
    about: frozenset[Any]
    place: Any


class ShapeAssumptions:
    """The assumptions about sizes that a trace makes from now on; earlier assumptions are left out.

    Args:
        mode: the fake mode of the trace.
        here: returns the user's line that is running.
    """

    def __init__(self, mode: Any, here: Callable[[], Any]) -> None:
        self._environment = mode.shape_env
        self._before = len(self._environment.guards)
        locate = self._environment._get_sloc

        def locate_here(*args: Any, **kwargs: Any) -> Any:
            return dataclasses.replace(locate(*args, **kwargs), maybe_user_loc=here())

        self._environment._get_sloc = locate_here

    def expression(self, size: Any) -> Any:
        """The expression of a symbolic size after the trace: a number if the trace fixed it."""
        return self._environment.replace(size.node._expr)

    def symbol(self, size: Any) -> Any:
        """The original symbol of a symbolic size."""
        return size.node._expr

    def example(self, symbol: Any, otherwise: int) -> Any:
        """The example's size for a symbol; `otherwise` if unknown."""
        return self._environment.backed_var_to_val.get(symbol, otherwise)

    def assumptions(self) -> list[Assumption]:
        """Every assumption of the trace, in order."""
        return [
            Assumption(
                self._environment.replace(guard.expr),
                frozenset(guard.expr.free_symbols),
                guard.sloc.maybe_user_loc,
            )
            for guard in self._environment.guards[self._before :]
        ]


def expression_of(size: torch.SymInt) -> Any:
    """The expression of a symbolic size; equal expressions are equal sizes."""
    return size.node.expr


def symbolic_function(name: str) -> Callable[..., Any] | None:
    """torch's version of a `math` function for symbolic numbers; None if torch has none."""
    return getattr(torch, f"_sym_{name}", None)


def require_equal(one: Any, other: Any) -> None:
    """Requires two symbolic sizes to be equal."""
    torch._check(one == other)


def is_dimension_hint(value: Any) -> bool:
    """Whether the value is `Dim.AUTO`, `Dim.DYNAMIC` or `Dim.STATIC`."""
    return isinstance(value, torch.export.dynamic_shapes._DimHint)


def size_text(expression: Any, names: Mapping[str, str]) -> str | None:
    """A size in the grammar of `gradport.expressions`, with the user's names for symbols; None if the grammar cannot
    express it (a root, a data-dependent size).

    torch has its own functions for Python's operators: FloorDiv, Mod, Max and others.
    """
    if expression.is_Integer:
        return str(int(expression))
    if expression.is_Symbol:
        return names.get(str(expression))
    if expression.is_Pow:
        base, exponent = expression.args
        if not (exponent.is_Integer and 0 < exponent <= _LARGEST_POWER):
            return None
        return _join_guards(" * ", [base] * int(exponent), names)
    kind = type(expression).__name__
    if kind == "Add":
        *parts, last = _numbers_last(expression.args)
        if last.is_Integer and last < 0:
            first = _join_guards(" + ", parts, names)
            return None if first is None else f"{first} - {-last}"
        return _join_guards(" + ", [*parts, last], names)
    if kind == "Mul":
        return _join_guards(" * ", expression.args, names)
    if kind in _INFIX:
        return _join_guards(f" {_INFIX[kind]} ", expression.args, names)
    if kind in _PREFIX:
        inner = [size_text(part, names) for part in expression.args]
        return None if None in inner else f"{_PREFIX[kind]}({', '.join(map(str, inner))})"
    return None


_LARGEST_POWER = 8

_INFIX = {"FloorDiv": "//", "CleanDiv": "//", "Mod": "%", "PythonMod": "%"}

_PREFIX = {"Max": "max", "Min": "min"}


def _numbers_last(parts: Sequence[Any]) -> list[Any]:
    return sorted(parts, key=lambda part: bool(part.is_Integer))


def _join_guards(operator: str, parts: Sequence[Any], names: Mapping[str, str]) -> str | None:
    texts = [size_text(part, names) for part in parts]
    if None in texts:
        return None
    inside = [
        f"({text})" if type(part).__name__ in ("Add", "Mul", *_INFIX) or str(text).startswith("-") else str(text)
        for part, text in zip(parts, texts, strict=True)
    ]
    return operator.join(inside)


def surely_equal(one: Any, other: Any) -> bool:
    """Whether two sizes are equal, whatever the dynamic sizes are; False also if it is not known."""
    return statically_known_true(one == other)
