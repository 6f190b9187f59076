"""Symbolic sizes: which symbol a dimension became, and what a trace assumed of it.

Private in torch, and used here:
- `SymInt.node` with `expr` and `_expr`: the expression behind a size;
- `ShapeEnv.guards`, `replace` and `backed_var_to_val`: what was assumed, and the example's numbers;
- `ShapeGuard.expr` and `sloc.maybe_user_loc`: one assumption and the line that made it;
- `ShapeEnv._get_sloc`: makes that line;
- `torch._sym_sqrt` and others: functions of `math` for symbolic numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

__all__ = [
    "SYMBOLIC",
    "Assumption",
    "ShapeAssumptions",
    "expression_of",
    "is_dimension_hint",
    "require_equal",
    "size_text",
    "symbolic_function",
]


SYMBOLIC = (torch.SymInt, torch.SymFloat)
"""Numbers that are symbolic in a trace."""


@dataclasses.dataclass(frozen=True)
class Assumption:
    """One condition on sizes that a trace took for granted.

    Attributes:
        expression: a sympy relation over torch's symbols.
        about: the symbols that it was about before one of them became a number.
        place: the user's line that asked; None where it was nobody's.
    """

    expression: Any
    about: frozenset[Any]
    place: Any


class ShapeAssumptions:
    """What a trace assumes of sizes, from now on; what was assumed before this was made is left out.

    Args:
        mode: of the trace.
        here: the user's line that is running.
    """

    def __init__(self, mode: Any, here: Callable[[], Any]) -> None:
        self._environment = mode.shape_env
        self._before = len(self._environment.guards)
        locate = self._environment._get_sloc

        def located(*args: Any, **kwargs: Any) -> Any:
            return dataclasses.replace(locate(*args, **kwargs), maybe_user_loc=here())

        self._environment._get_sloc = located

    def expression(self, size: Any) -> Any:
        """The expression that a symbolic size has after the trace: a number where the trace fixed it."""
        return self._environment.replace(size.node._expr)

    def symbol(self, size: Any) -> Any:
        """The symbol that a symbolic size was made with."""
        return size.node._expr

    def example(self, symbol: Any, otherwise: int) -> Any:
        """The example's number of a symbol."""
        return self._environment.backed_var_to_val.get(symbol, otherwise)

    def taken(self) -> list[Assumption]:
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
    """The expression behind a symbolic size: equal ones are equal sizes."""
    return size.node.expr


def symbolic_function(name: str) -> Callable[..., Any] | None:
    """A function of `math` for symbolic numbers; None where torch has none."""
    return getattr(torch, f"_sym_{name}", None)


def require_equal(one: Any, other: Any) -> None:
    """Makes two symbolic sizes one."""
    torch._check(one == other)


def is_dimension_hint(value: Any) -> bool:
    """Whether it is `Dim.AUTO`, `Dim.DYNAMIC` or `Dim.STATIC`."""
    return isinstance(value, torch.export.dynamic_shapes._DimHint)


def size_text(expression: Any, names: Mapping[str, str]) -> str | None:
    """A size in the grammar of `gradport.expressions`, its symbols by the names that the user gave; None where it
    cannot be written there (a root, a size that data decides).

    Torch has functions of its own for what Python writes with operators: FloorDiv, Mod, Max and others.
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
