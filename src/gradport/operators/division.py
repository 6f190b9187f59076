"""Division with a remainder, of floating-point numbers: exact by `fmod`, where the exporter rounds a quotient first.

A rounded quotient may be the next whole number (-2 / 0.01 in float32), and the remainder is then off by the divisor.
Source of all: https://docs.pytorch.org/docs/stable/generated/torch.remainder.html, torch.div.html; Python's `divmod`
"""

from __future__ import annotations

from typing import Any

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.elementwise import is_negative
from gradport.operators.samples import reals, sample
from gradport.operators.table import decomposition

__all__: list[str] = []

_TWO = (reals("n", 4), reals("n", 4, low=0.5))


@decomposition(_aten.remainder.Tensor, samples=[sample(torch.remainder, *_TWO)])
def remainder(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The remainder with the sign of the divisor."""
    pair = _floating(self, other)
    if pair is None:
        return NotImplemented
    left, right = pair
    rest = torch.fmod(left, right)
    return torch.where(_goes_below(rest, right), rest + right, rest)


@decomposition(_aten.remainder.Scalar, samples=[sample(lambda x: x % 0.7, reals("n", 4))])
def remainder_by_number(self: torch.Tensor, other: Any) -> torch.Tensor:
    """The same by a number, also one that is a dynamic size."""
    if not self.is_floating_point() and not isinstance(other, (torch.SymInt, torch.SymFloat)):
        return NotImplemented
    return torch.remainder(self, torch.full((), other, dtype=self.dtype, device=self.device))


@decomposition(_aten.div.Tensor_mode, samples=[sample(lambda x, y: x * torch.div(x, y, rounding_mode="floor"), *_TWO)])
def div_with_rounding(self: torch.Tensor, other: torch.Tensor, *, rounding_mode: str | None = None) -> torch.Tensor:
    """The largest whole number up to the quotient; other modes stay."""
    pair = _floating(self, other)
    if pair is None or rounding_mode != "floor":
        return NotImplemented
    left, right = pair
    quotient = left / right
    rest = torch.fmod(left, right)
    whole = (left - rest) / right
    whole = torch.where(_goes_below(rest, right), whole - 1, whole)
    floor = whole.floor()
    floor = torch.where(whole - floor > 0.5, floor + 1, floor)
    value = torch.where(right == 0, quotient, floor)
    one = torch.ones_like(quotient)
    return value.abs() * torch.where(is_negative(quotient), -one, one)  # ONNX Runtime's Where loses the sign of a zero


@decomposition(_aten.floor_divide.default, samples=[sample(lambda x, y: x * (x.detach() // y.detach()), *_TWO)])
def floor_divide(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The same under its other name."""
    if _floating(self, other) is None:
        return NotImplemented
    return torch.div(self, other, rounding_mode="floor")


def _goes_below(rest: torch.Tensor, divisor: torch.Tensor) -> torch.Tensor:
    """Where `fmod`, whose sign is that of the dividend, is one divisor away from the remainder."""
    return (rest != 0) & ((rest < 0) != (divisor < 0))


def _floating(self: Any, other: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Both in their common dtype; None where that is a whole number."""
    if not isinstance(self, torch.Tensor) or not isinstance(other, torch.Tensor):
        return None
    dtype = torch.result_type(self, other)
    return (self.to(dtype), other.to(dtype)) if dtype.is_floating_point else None
