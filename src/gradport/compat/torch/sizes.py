"""Symbolic sizes: which symbol a dimension became, and what a trace assumed of it.

Private in torch, and used here:
- `SymInt.node` with `expr` and `_expr`: the expression behind a size;
- `ShapeEnv.guards`, `replace` and `backed_var_to_val`: what was assumed, and the example's numbers;
- `ShapeGuard.expr` and `sloc.maybe_user_loc`: one assumption and the line that made it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

__all__ = ["Assumption", "ShapeAssumptions", "expression_of", "is_dimension_hint", "require_equal"]


@dataclasses.dataclass(frozen=True)
class Assumption:
    """One condition on sizes that a trace took for granted.

    Attributes:
        expression: a sympy relation over torch's symbols.
        place: the user's line that asked, as torch tells it; None where torch does not know.
    """

    expression: Any
    place: str | None


class ShapeAssumptions:
    """What a trace assumed of sizes, from now on; what was assumed before this was made is left out."""

    def __init__(self, mode: Any) -> None:
        self._environment = mode.shape_env
        self._before = len(self._environment.guards)

    def expression(self, size: Any) -> Any:
        """The expression that a symbolic size has after the trace: a number where the trace fixed it."""
        return self._environment.replace(size.node._expr)

    def example(self, symbol: Any, otherwise: int) -> Any:
        """The example's number of a symbol."""
        return self._environment.backed_var_to_val.get(symbol, otherwise)

    def taken(self) -> list[Assumption]:
        """Every assumption of the trace, in order."""
        return [
            Assumption(
                self._environment.replace(guard.expr),
                None if guard.sloc.maybe_user_loc is None else str(guard.sloc.maybe_user_loc),
            )
            for guard in self._environment.guards[self._before :]
        ]


def expression_of(size: torch.SymInt) -> Any:
    """The expression behind a symbolic size: equal ones are equal sizes."""
    return size.node.expr


def require_equal(one: Any, other: Any) -> None:
    """Makes two symbolic sizes one."""
    torch._check(one == other)


def is_dimension_hint(value: Any) -> bool:
    """Whether it is `Dim.AUTO`, `Dim.DYNAMIC` or `Dim.STATIC`."""
    return isinstance(value, torch.export.dynamic_shapes._DimHint)
