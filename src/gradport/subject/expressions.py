"""Sizes as expressions in a small grammar: integers, names, `+ - * // % max min` and parentheses.

A file may come from an unknown source, so an expression is parsed, never evaluated as code. Division rounds down, and
the remainder has the sign of the divisor, as in Python.

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
"""Maximum number of characters of an expression."""

_DIGITS = 18
"""Maximum number of digits of an integer; more do not fit into 64 bits."""

_DEEPEST = 50
"""Maximum depth of nesting."""

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
    """An operator and its operands: two for `+ - * // %`, two or more for `max` and `min`."""

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
        SpecError: the text is not an expression, or is too long, too deeply nested or too large.
    """
    if len(text) > _LONGEST:
        raise SpecError(f"A size has {len(text)} characters; the limit is {_LONGEST}.")
    return _Parser(text).parse_all()


def names_in(expression: Expression) -> list[str]:
    """The distinct names in an expression, in order."""
    return fold(
        expression,
        lambda number: [],
        lambda name: [name],
        lambda operator, operands: list(dict.fromkeys(name for names in operands for name in names)),
    )


def evaluate(expression: Expression, sizes: Mapping[str, int]) -> int:
    """The value of an expression.

    Raises:
        KeyError: a name has no size.
        ZeroDivisionError: the expression divides by zero.
    """
    return fold(expression, lambda number: number, sizes.__getitem__, lambda name, values: _OPERATORS[name](*values))


def fold(
    expression: Expression,
    integer: Callable[[int], T],
    name: Callable[[str], T],
    call: Callable[[str, Sequence[T]], T],
) -> T:
    """Folds an expression from the leaves up with one function for each kind of part."""
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

    def parse_all(self) -> Expression:
        expression = self._sum()
        if self._kind:
            raise self._refusal()
        return expression

    def _sum(self) -> Expression:
        return self._left_to_right(("+", "-"), self._product)

    def _product(self) -> Expression:
        return self._left_to_right(("*", "//", "%"), self._factor)

    def _left_to_right(self, operators: tuple[str, ...], operand: Callable[[], Expression]) -> Expression:
        expression = operand()
        while self._token in operators:
            operator = self._next_token()
            expression = Application(operator, (expression, operand()))
        return expression

    def _factor(self) -> Expression:
        kind, token = self._kind, self._next_token()
        if kind == "integer":
            return Integer(int(token))
        if kind == "name" and token in _FUNCTIONS:
            return Application(token, self._arguments())
        if kind == "name":
            return Name(token)
        if token == "-":
            with_sign = self._parse_nested(self._factor)
            return (
                Integer(-with_sign.value)
                if isinstance(with_sign, Integer)
                else Application("-", (Integer(0), with_sign))
            )
        if token == "(":
            expression = self._parse_nested(self._sum)
            self._expect(")")
            return expression
        raise self._refusal()

    def _arguments(self) -> tuple[Expression, ...]:
        self._expect("(")
        arguments = [self._parse_nested(self._sum)]
        while self._token == ",":
            self._next_token()
            arguments.append(self._parse_nested(self._sum))
        self._expect(")")
        if len(arguments) < 2:
            raise self._refusal()
        return tuple(arguments)

    def _parse_nested(self, part: Callable[[], Expression]) -> Expression:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise SpecError(f"The size {self._text[:60]!r}... is nested more than {_DEEPEST} levels deep.")
        expression = part()
        self._depth -= 1
        return expression

    def _next_token(self) -> str:
        token = self._token
        self._advance()
        return token

    def _expect(self, symbol: str) -> None:
        if self._next_token() != symbol:
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
