"""Is every dynamic dimension still free? A trace that fixed one, tied two together or took a branch that holds for
some sizes only is refused, with the dimension and the line.

The size 1 alone is left to the proof: torch itself asks "is it 1?" wherever something might broadcast, and nearly
always does the same thing on both answers. So the proof runs at 1, and refuses what differs there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy
import torch

from gradport.compat.torch.sizes import Assumption, ShapeAssumptions
from gradport.dimensions import Dimension, Dimensions
from gradport.eager import ones, run_eager
from gradport.errors import ExportError, TargetError
from gradport.inputs import fresh_within, sizes_of
from gradport.joint import Joint
from gradport.signature import source_of

__all__ = ["require_honest_dimensions"]

_MOST_ELEMENTS = 1 << 26

_SIZES = (2, 3, 5, 7, 8, 13, 16, 64, 101, 1024)


def require_honest_dimensions(
    joint: Joint, dimensions: Dimensions, assumptions: ShapeAssumptions, symbolic: dict[Dimension, list[Any]]
) -> dict[str, Dimension]:
    """torch's symbol of each dynamic dimension.

    Args:
        joint: what was traced.
        dimensions: the table of its dynamic dimensions.
        assumptions: what the trace assumed of sizes.
        symbolic: each dimension with its symbolic sizes.

    Raises:
        ExportError: a dimension was fixed, two were tied, or a branch on a size was taken.
    """
    guards = assumptions.taken()
    symbols: dict[str, Dimension] = {}
    for dimension, sizes in symbolic.items():
        expression = assumptions.expression(sizes[0])
        if expression.is_number:
            raise _refusal(
                joint,
                guards,
                f"fixes the dynamic dimension {dimension.name!r} at {expression}",
                "compute with x.shape itself instead of int(x.shape[...]) or a comparison with a constant",
            )
        name = str(expression)
        if name in symbols:
            raise _refusal(
                joint,
                guards,
                f"ties the dimensions {symbols[name].name!r} and {dimension.name!r} together",
                "give them one name",
            )
        symbols[name] = dimension
    for guard in guards:
        _require_no_branch(joint, dimensions, assumptions, guard, symbols)
    return symbols


def _require_no_branch(
    joint: Joint,
    dimensions: Dimensions,
    assumptions: ShapeAssumptions,
    guard: Assumption,
    symbols: dict[str, Dimension],
) -> None:
    """A condition that fails at a size which eager rejects as well is no branch: the graph need not be right there."""
    expression = guard.expression
    free = [symbol for symbol in expression.free_symbols if str(symbol) in symbols]
    examples = {symbol: assumptions.example(symbol, 4) for symbol in expression.free_symbols}
    for symbol in free:
        dimension = symbols[str(symbol)]
        for size in _candidates(expression, dimension):
            holds = expression.subs({**examples, symbol: size}) != sympy.false
            if not holds and not _is_rejected(joint, dimensions, dimension.name, size):
                raise _refusal(
                    joint,
                    [guard],
                    f"takes a branch on the dynamic dimension {dimension.name!r} that does not hold at size {size} "
                    f"({expression.subs({s: sympy.Symbol(symbols[str(s)].name) for s in free})})",
                    "leave that dimension static, or limit it with torch.export.Dim(name, min=, max=)",
                )


def _is_rejected(joint: Joint, dimensions: Dimensions, name: str, size: int) -> bool:
    """Whether eager itself does not take the subject's inputs at this size."""
    standing = sizes_of(joint, dimensions)
    elements = sum(tensor.numel() for tensor in joint.examples().values())
    if elements * size > _MOST_ELEMENTS * max(standing[name], 1):
        return False  # too large to try
    sizes = {**standing, name: size}
    tensors = fresh_within(joint, dimensions, sizes, torch.Generator().manual_seed(0))
    try:
        run_eager(joint, tensors, ones)
    except TargetError:
        return True
    return False


def _candidates(expression: Any, dimension: Dimension) -> Iterable[int]:
    constants = {int(number) for number in expression.atoms(sympy.Integer)}
    near = {constant + step for constant in constants for step in (-1, 0, 1)}
    return sorted(size for size in {*_SIZES, *near} if size >= 2 and dimension.admits(size))


def _refusal(joint: Joint, guards: Iterable[Assumption], what: str, advice: str) -> ExportError:
    file, line = source_of(joint.subject.target)
    where = next((guard.place for guard in guards if guard.place), None)
    where = where or f"{file}:{line}"
    return ExportError(f"{joint.subject.name} {what}, at {where}; {advice}.")
