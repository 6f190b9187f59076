"""Checks that every dynamic dimension is still free. A trace that fixes a dimension, ties two together or takes a
branch only for some sizes is refused, with the dimension and the line.

A condition that fails only at a few sizes (is it 1? is it above 2?) is nearly always about a memory layout or a
broadcast, and torch computes the same on both branches. The proof runs at each of these sizes and refuses a difference.
"""

from __future__ import annotations

import dataclasses
import linecache
import re
from collections.abc import Sequence
from typing import Any

import sympy
import torch

from gradport.compat.torch.sizes import Assumption, ShapeAssumptions
from gradport.eager.dimensions import Dimension, Dimensions
from gradport.eager.inputs import draw_inputs_within, sizes_of
from gradport.eager.joint import Joint
from gradport.eager.run import ones, run_eager
from gradport.errors import ExportError, Refusal, TargetError
from gradport.subject.signature import source_of
from gradport.subject.user_code import Place

__all__ = ["SizeRefusal", "SpecialSize", "require_free_dimensions"]

_MOST_ELEMENTS = 1 << 26

_FEW = 5
"""Largest number of sizes that the proof tests for one condition."""

_SIZES = (*range(1, 34), 64, 101, 128, 257, 1024, 4099)

_LARGE = 64
"""A condition that fails at this size or above fails at more than a few sizes."""


class SizeRefusal(ExportError):
    """A dynamic dimension is not free; a trace at another size may leave it free."""


@dataclasses.dataclass(frozen=True)
class SpecialSize:
    """A size at which a condition of the trace does not hold: the proof must test it.

    Attributes:
        name: the dimension.
        size: its size.
        refusal: the message if the graph is wrong at this size.
    """

    name: str
    size: int
    refusal: str


def require_free_dimensions(
    joint: Joint, dimensions: Dimensions, assumptions: ShapeAssumptions, symbolic: dict[Dimension, list[Any]]
) -> tuple[dict[str, Dimension], tuple[SpecialSize, ...]]:
    """The dynamic dimensions by torch's symbol, and the sizes that the proof must test.

    Args:
        joint: the traced function.
        dimensions: its dynamic dimensions.
        assumptions: the trace's assumptions about sizes.
        symbolic: the symbolic sizes of each dimension.

    Raises:
        SizeRefusal: the trace fixed a dimension, tied two, or branched on a size.
    """
    guards = assumptions.assumptions()
    symbols: dict[str, Dimension] = {}
    for dimension, sizes in symbolic.items():
        expression = assumptions.expression(sizes[0])
        if expression.is_number:
            mine = {assumptions.symbol(size) for size in sizes}
            about = [guard for guard in guards if guard.about & mine]
            raise _refusal(joint, about, Refusal.SIZE_FIXED, dimension=dimension.name, size=expression)
        name = str(expression)
        if name in symbols:
            names = {"dimension": symbols[name].name, "other": dimension.name}
            raise _refusal(joint, guards, Refusal.SIZES_TIED, **names)
        symbols[name] = dimension
    special = [size for guard in guards for size in _special_sizes(joint, dimensions, assumptions, guard, symbols)]
    return symbols, tuple({(size.name, size.size): size for size in special}.values())


def _special_sizes(
    joint: Joint,
    dimensions: Dimensions,
    assumptions: ShapeAssumptions,
    guard: Assumption,
    symbols: dict[str, Dimension],
) -> list[SpecialSize]:
    """The sizes at which a condition does not hold, if they are few. Sizes that eager rejects do not count: the graph
    need not be right there."""
    expression = guard.expression
    free = [symbol for symbol in expression.free_symbols if str(symbol) in symbols]
    examples = {symbol: assumptions.example(symbol, 4) for symbol in expression.free_symbols}
    special = []
    for symbol in free:
        dimension = symbols[str(symbol)]
        holds_not = 0
        for size in _candidates(expression, dimension):
            holds = expression.subs({**examples, symbol: size}) != sympy.false
            if holds or _is_rejected(joint, dimensions, dimension.name, size):
                continue
            holds_not += 1
            condition = expression.subs({s: sympy.Symbol(symbols[str(s)].name) for s in free})
            about = {"dimension": dimension.name, "size": size, "condition": condition}
            refusal = _refusal(joint, [guard], Refusal.SIZE_BRANCH, **about)
            if holds_not > _FEW or size >= _LARGE:
                raise refusal
            special.append(SpecialSize(dimension.name, size, str(refusal)))
    return special


def _is_rejected(joint: Joint, dimensions: Dimensions, name: str, size: int) -> bool:
    """Whether eager rejects the subject's inputs at this size."""
    own = sizes_of(joint, dimensions)
    elements = sum(tensor.numel() for tensor in joint.examples().values())
    if elements * size > _MOST_ELEMENTS * max(own[name], 1):
        return False  # too large to try
    sizes = {**own, name: size}
    tensors = draw_inputs_within(joint, dimensions, sizes, torch.Generator().manual_seed(0))
    try:
        run_eager(joint, tensors, ones)
    except TargetError:
        return True
    return False


def _candidates(expression: Any, dimension: Dimension) -> list[int]:
    constants = {int(number) for number in expression.atoms(sympy.Integer)}
    near = {constant + step for constant in constants for step in (-1, 0, 1)}
    return sorted(size for size in {*_SIZES, *near} if size >= 1 and dimension.admits(size))


_LONGEST = 100

_ADVICE = (
    (
        r"\bfor\b|\brange\(|\biter\(|\bunbind\(|\benumerate\(|\bzip\(|\btolist\(|\*\w+\)",
        "a loop over it would be unrolled: compute on the whole tensor, with torch.vmap or with torch.scan",
    ),
    (r"\bnp\.|\bnumpy\.", "compute with math or torch instead of numpy"),
    (r"\bmath\.|\bfloat\(", "compute with torch.sym_float(x.shape[...]), ** and the functions of math"),
    (r"\b(max|min)\(", "write torch.sym_max or torch.sym_min"),
    (r"\bint\(|\.item\(", "compute with x.shape[...] itself instead of int(...)"),
)
"""Patterns of user code that read a size as a number, and the advice for each."""


def _refusal(joint: Joint, guards: Sequence[Assumption], refusal: Refusal, **parts: object) -> SizeRefusal:
    file, line = source_of(joint.subject.target)
    place: Place | None = next((guard.place for guard in guards if guard.place), None)
    text = _text(place)
    advice = next((better for pattern, better in _ADVICE if text and re.search(pattern, text)), refusal.advice)
    quoted = f" in `{text}`" if text else ""
    what = refusal.what.format(**parts)
    return SizeRefusal(f"{joint.subject.name} {what}{quoted}, at {place or f'{file}:{line}'}; {advice}.", refusal)


def _text(place: Place | None) -> str:
    """The source line, shortened."""
    text = linecache.getline(place.file, place.line).strip() if place else ""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
