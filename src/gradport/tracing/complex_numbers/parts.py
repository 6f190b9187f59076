"""Parts: a complex number as two real numbers; and the table of rules, one per operator on complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

__all__ = ["REAL", "Parts", "Rule", "as_parts", "pair", "parts_rule", "rule_of", "without_complex_dtype"]


class Parts(NamedTuple):
    """A complex number or tensor: real and imaginary part, of equal dtype and shape."""

    real: Any
    imag: Any


Rule = Callable[..., Any]

_RULES: dict[Any, Rule] = {}


def parts_rule(*overloads: Any) -> Callable[[Rule], Rule]:
    """Registers a rule for these operators: a function of their arguments, complex arguments as `Parts`."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(overloads, rule))
        return rule

    return register


def rule_of(overload: Any) -> Rule | None:
    """The rule of an operator, or None."""
    return _RULES.get(overload)


def pair(parts: Parts) -> torch.Tensor:
    """Both parts as one tensor with a last dimension of size 2."""
    return torch.stack([parts.real, parts.imag], -1)


def as_parts(value: Any) -> Parts:
    """A number or tensor as `Parts`; the imaginary part of a real value is zero."""
    if isinstance(value, Parts):
        return value
    if isinstance(value, complex):
        return Parts(value.real, value.imag)
    return Parts(value, torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0)


REAL = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}


def without_complex_dtype(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the real dtype of the parts in place of a complex dtype."""
    return {name: REAL.get(value, value) if name == "dtype" else value for name, value in options.items()}
