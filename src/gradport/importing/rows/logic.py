"""Comparisons, logic, bits, and tests of values."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from gradport.importing.rows.unsigned import ordered, wide
from gradport.importing.table import translation

Tensor = torch.Tensor


def _register(functions: dict[str, Callable[..., Tensor]]) -> None:
    for op_type, function in functions.items():
        translation(op_type)(functools.partial(lambda function, x, y, /: function(x, y), function))


_register(
    {
        "Greater": ordered(torch.gt),
        "GreaterOrEqual": ordered(torch.ge),
        "Less": ordered(torch.lt),
        "LessOrEqual": ordered(torch.le),
        "Equal": wide(torch.eq),
        "And": torch.logical_and,
        "Or": torch.logical_or,
        "Xor": torch.logical_xor,
        "BitwiseAnd": wide(torch.bitwise_and),
        "BitwiseOr": wide(torch.bitwise_or),
        "BitwiseXor": wide(torch.bitwise_xor),
    }
)


@translation("Not")
def logical_not(x: Tensor, /) -> Tensor:
    return torch.logical_not(x)


@translation("BitwiseNot")
def bitwise_not(x: Tensor, /) -> Tensor:
    return wide(torch.bitwise_not)(x)


@translation("IsNaN")
def is_nan(x: Tensor, /) -> Tensor:
    return torch.isnan(x)


@translation("IsInf")
def is_inf(x: Tensor, /, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    infinite = torch.isinf(x)
    if not detect_negative:
        infinite = infinite & (x > 0)
    return infinite & (x < 0) if not detect_positive else infinite


@translation("BitShift")
def bit_shift(x: Tensor, y: Tensor, /, *, direction: str) -> Tensor:
    """Through int64, where torch has no shift for the dtype."""
    wide, by = x.to(torch.int64), y.to(torch.int64)
    return (wide << by if direction == "LEFT" else wide >> by).to(x.dtype)


@translation("Where")
def where(condition: Tensor, x: Tensor, y: Tensor, /) -> Tensor:
    return torch.where(condition, x, y)
