"""Is every dynamic dimension still free? A trace that fixed one, tied two together or took a branch that holds for
some sizes only is refused, with the dimension and the line.

A condition that fails at a few sizes only (is it 1? are there more than two?) is nearly always about a memory layout or
a broadcast, and torch does the same on both answers. It is left to the proof, which runs at each of these sizes and
refuses what differs there.
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
from gradport.eager.inputs import fresh_within, sizes_of
from gradport.eager.joint import Joint
from gradport.eager.run import ones, run_eager
from gradport.errors import ExportError, Refusal, TargetError
from gradport.subject.signature import source_of
from gradport.subject.user_code import Place

__all__ = ["SizeRefusal", "SpecialSize", "require_honest_dimensions"]

_MOST_ELEMENTS = 1 << 26

_FEW = 5
"""Sizes at most that the proof looks at for one condition."""

_SIZES = (*range(1, 34), 64, 101, 128, 257, 1024, 4099)

_LARGE = 64
"""A condition that fails here or beyond fails at more than a few sizes."""


class SizeRefusal(ExportError):
    """A dynamic dimension is not free; a trace at another size may leave it free."""


@dataclasses.dataclass(frozen=True)
class SpecialSize:
    """A size at which a condition of the trace does not hold, so that the proof has to look there.

    Attributes:
        name: of the dimension.
        size: that it has there.
        refusal: the sentence for the user where the graph is wrong at this size.
    """

    name: str
    size: int
    refusal: str


def require_honest_dimensions(
    joint: Joint, dimensions: Dimensions, assumptions: ShapeAssumptions, symbolic: dict[Dimension, list[Any]]
) -> tuple[dict[str, Dimension], tuple[SpecialSize, ...]]:
    """torch's symbol of each dynamic dimension, and the sizes that are left to the proof.

    Args:
        joint: what was traced.
        dimensions: the table of its dynamic dimensions.
        assumptions: what the trace assumed of sizes.
        symbolic: each dimension with its symbolic sizes.

    Raises:
        SizeRefusal: a dimension was fixed, two were tied, or a branch on a size was taken.
    """
    guards = assumptions.taken()
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
    found = [one for guard in guards for one in _special_sizes(joint, dimensions, assumptions, guard, symbols)]
    return symbols, tuple({(one.name, one.size): one for one in found}.values())


def _special_sizes(
    joint: Joint,
    dimensions: Dimensions,
    assumptions: ShapeAssumptions,
    guard: Assumption,
    symbols: dict[str, Dimension],
) -> list[SpecialSize]:
    """The sizes where a condition does not hold, if they are few. One that fails at a size which eager rejects as well
    is no branch: the graph need not be right there."""
    expression = guard.expression
    free = [symbol for symbol in expression.free_symbols if str(symbol) in symbols]
    examples = {symbol: assumptions.example(symbol, 4) for symbol in expression.free_symbols}
    found = []
    for symbol in free:
        dimension = symbols[str(symbol)]
        holds_not = 0
        for size in _candidates(expression, dimension):
            holds = expression.subs({**examples, symbol: size}) != sympy.false
            if holds or _is_rejected(joint, dimensions, dimension.name, size):
                continue
            holds_not += 1
            said = expression.subs({s: sympy.Symbol(symbols[str(s)].name) for s in free})
            about = {"dimension": dimension.name, "size": size, "condition": said}
            refusal = _refusal(joint, [guard], Refusal.SIZE_BRANCH, **about)
            if holds_not > _FEW or size >= _LARGE:
                raise refusal
            found.append(SpecialSize(dimension.name, size, str(refusal)))
    return found


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
"""What a line of the user's may hold that asks for a number, and what works instead."""


def _refusal(joint: Joint, guards: Sequence[Assumption], refusal: Refusal, **parts: object) -> SizeRefusal:
    file, line = source_of(joint.subject.target)
    place: Place | None = next((guard.place for guard in guards if guard.place), None)
    text = _text(place)
    advice = next((better for pattern, better in _ADVICE if text and re.search(pattern, text)), refusal.advice)
    quoted = f" in `{text}`" if text else ""
    what = refusal.what.format(**parts)
    return SizeRefusal(f"{joint.subject.name} {what}{quoted}, at {place or f'{file}:{line}'}; {advice}.", refusal)


def _text(place: Place | None) -> str:
    """A line of source."""
    text = linecache.getline(place.file, place.line).strip() if place else ""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
