"""Sizes as expressions in a small grammar: integers, names, `+ - * // % max min` and parentheses.

A file may come from anybody, so an expression is parsed, never evaluated as code. Division rounds down, and the
remainder has the sign of the divisor, as in Python.

    sum     = product (("+" | "-") product)*
    product = factor (("*" | "//" | "%") factor)*
    factor  = "-" factor | integer | name | ("max" | "min") "(" sum ("," sum)+ ")" | "(" sum ")"
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from gradport.errors import SpecError

__all__ = ["Application", "Expression", "Integer", "Name", "evaluate", "fold", "is_name", "names_in", "parse"]

_TOKEN = re.compile(r"\s*(?:(?P<integer>\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|(?P<symbol>//|[-+*%(),]))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")

_LONGEST = 1000
"""Characters of an expression, above which it is not read."""

_DIGITS = 18
"""Digits of an integer; more do not fit into 64 bits."""

_DEEPEST = 50
"""Parentheses within parentheses."""

_FUNCTIONS = ("max", "min")


@dataclasses.dataclass(frozen=True)
class Integer:
    """A number."""

    value: int


@dataclasses.dataclass(frozen=True)
class Name:
    """The size of a dynamic dimension."""

    name: str


@dataclasses.dataclass(frozen=True)
class Application:
    """An operator and what it is applied to: `+ - * // %` to two, `max` and `min` to two or more."""

    operator: str
    operands: tuple[Expression, ...]


Expression = Integer | Name | Application

T = TypeVar("T")


def is_name(text: str) -> bool:
    """Whether a text can be the name of a dimension."""
    return _NAME.fullmatch(text) is not None and text not in _FUNCTIONS


def parse(text: str) -> Expression:
    """Reads an expression.

    Raises:
        SpecError: it is not one, or is longer, deeper or larger than any size.
    """
    if len(text) > _LONGEST:
        raise SpecError(f"A size of {len(text)} characters is not read; the limit is {_LONGEST}.")
    return _Parser(text).whole()


def names_in(expression: Expression) -> list[str]:
    """The names in an expression, each once, in order."""
    return fold(
        expression,
        lambda number: [],
        lambda name: [name],
        lambda operator, operands: list(dict.fromkeys(name for names in operands for name in names)),
    )


def evaluate(expression: Expression, sizes: Mapping[str, int]) -> int:
    """The number that an expression stands for.

    Raises:
        KeyError: a name has no size.
        ZeroDivisionError: it divides by zero.
    """
    return fold(expression, lambda number: number, sizes.__getitem__, lambda name, values: _OPERATORS[name](*values))


def fold(
    expression: Expression,
    integer: Callable[[int], T],
    name: Callable[[str], T],
    call: Callable[[str, Sequence[T]], T],
) -> T:
    """What an expression becomes when each of its parts becomes what these give."""
    if isinstance(expression, Integer):
        return integer(expression.value)
    if isinstance(expression, Name):
        return name(expression.name)
    return call(expression.operator, [fold(operand, integer, name, call) for operand in expression.operands])


_OPERATORS: dict[str, Callable[..., int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "max": max,
    "min": min,
}


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._kind, self._token = "", ""
        self._advance()

    def whole(self) -> Expression:
        found = self._sum()
        if self._kind:
            raise self._refusal()
        return found

    def _sum(self) -> Expression:
        return self._left_to_right(("+", "-"), self._product)

    def _product(self) -> Expression:
        return self._left_to_right(("*", "//", "%"), self._factor)

    def _left_to_right(self, operators: tuple[str, ...], operand: Callable[[], Expression]) -> Expression:
        found = operand()
        while self._token in operators:
            operator = self._take()
            found = Application(operator, (found, operand()))
        return found

    def _factor(self) -> Expression:
        kind, token = self._kind, self._take()
        if kind == "integer":
            return Integer(int(token))
        if kind == "name" and token in _FUNCTIONS:
            return Application(token, self._arguments())
        if kind == "name":
            return Name(token)
        if token == "-":
            with_sign = self._inner(self._factor)
            return (
                Integer(-with_sign.value)
                if isinstance(with_sign, Integer)
                else Application("-", (Integer(0), with_sign))
            )
        if token == "(":
            found = self._inner(self._sum)
            self._expect(")")
            return found
        raise self._refusal()

    def _arguments(self) -> tuple[Expression, ...]:
        self._expect("(")
        found = [self._inner(self._sum)]
        while self._token == ",":
            self._take()
            found.append(self._inner(self._sum))
        self._expect(")")
        if len(found) < 2:
            raise self._refusal()
        return tuple(found)

    def _inner(self, part: Callable[[], Expression]) -> Expression:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise SpecError(f"The size {self._text[:60]!r}... is nested more than {_DEEPEST} deep.")
        found = part()
        self._depth -= 1
        return found

    def _take(self) -> str:
        token = self._token
        self._advance()
        return token

    def _expect(self, symbol: str) -> None:
        if self._take() != symbol:
            raise self._refusal()

    def _advance(self) -> None:
        rest = self._text[self._at :]
        match = _TOKEN.match(rest)
        if match is None:
            if rest.strip():
                raise self._refusal()
            self._kind, self._token = "", ""
            return
        self._at += match.end()
        self._kind = str(match.lastgroup)
        self._token = match[self._kind]
        if self._kind == "integer" and len(self._token) > _DIGITS:
            raise self._refusal()

    def _refusal(self) -> SpecError:
        return SpecError(
            f"{self._text[:80]!r} is not a size; write it with integers, names, + - * // %, max, min and parentheses."
        )
