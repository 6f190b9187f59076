"""Sizes as expressions: integers, names, `+ - * // % max min` and parentheses. They are parsed, never run as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence

from gradport_runtime.errors import BundleError, Code

__all__ = ["Size", "shape_of", "size_of"]

Size = int | str

_LONGEST = 1000
_LARGEST = 2**40

_OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}

_FUNCTIONS: dict[str, Callable[..., int]] = {"max": max, "min": min}


def shape_of(sizes: Sequence[Size], known: Mapping[str, int]) -> tuple[int, ...]:
    """The shape that a list of sizes stands for.

    Raises:
        BundleError: a size does not parse, names an unknown dimension, or is negative or too large.
    """
    return tuple(size_of(size, known) for size in sizes)


def size_of(size: Size, known: Mapping[str, int]) -> int:
    """The number that a size stands for; `known` has the sizes of named dimensions.

    Raises:
        BundleError: as `shape_of`.
    """
    if isinstance(size, int):
        value = size
    else:
        try:
            if len(size) > _LONGEST:
                raise ValueError
            value = _evaluate(ast.parse(size.strip(), mode="eval").body, known)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise BundleError(Code.SHAPE_INVALID, f"{size[:80]!r} is not a size.") from error
        except ZeroDivisionError as error:
            raise BundleError(Code.SHAPE_INVALID, f"The size {size[:80]!r} divides by zero.") from error
    if not 0 <= value <= _LARGEST:
        raise BundleError(Code.SHAPE_INVALID, f"The size {str(size)[:80]!r} is {value}.")
    return value


def _evaluate(node: ast.expr, known: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool) and value <= _LARGEST:
            return value
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.Name(id=name):
            raise BundleError(Code.SHAPE_INVALID, f"The size of dimension {name!r} is not known.")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, known)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _bounded(_OPERATORS[type(op)](_evaluate(left, known), _evaluate(right, known)))
        case ast.Call(func=ast.Name(id=name), args=[_, _, *_] as args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_evaluate(one, known) for one in args))
    raise ValueError


def _bounded(value: int) -> int:
    if abs(value) > _LARGEST:
        raise ValueError
    return value
