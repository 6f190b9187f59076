"""Python's functions of numbers with symbolic sizes as arguments: `len(x)`, `math.sqrt(x.numel())`.

Python's functions read a size as a number, which fixes it. While a trace runs, `len` of a tensor is its first size,
which stays symbolic, and `math` functions call torch's versions for symbolic numbers; other arguments use Python's.

Source: https://docs.python.org/3/library/math.html
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gradport.compat.torch.sizes import SYMBOLIC, symbolic_function

__all__ = ["symbolic_numbers"]


def _pow(base: Any, exponent: Any) -> Any:
    return torch.sym_float(base) ** exponent


_FORMULAS: dict[str, Callable[..., Any]] = {
    "pow": _pow,
    "fabs": lambda number: abs(torch.sym_float(number)),
    "exp": lambda number: math.e ** torch.sym_float(number),
    "log": lambda number, base=None: _log(number) if base is None else _log(number) / math.log(base),
    "log10": lambda number: _log(number) / math.log(10),
}


_log2: Any = symbolic_function("log2")


def _log(number: Any) -> Any:
    return _log2(number) * math.log(2)


@contextlib.contextmanager
def symbolic_numbers() -> Iterator[None]:
    """While open, `len` and `math` accept symbolic sizes."""
    names = [name for name in dir(math) if symbolic_function(name) is not None or name in _FORMULAS]
    before = {name: getattr(math, name) for name in names}
    length = builtins.len
    for name, function in before.items():
        setattr(math, name, _choose(function, _FORMULAS.get(name) or symbolic_function(name)))
    builtins.len = _length_by(length)  # type: ignore[assignment]
    try:
        yield
    finally:
        builtins.len = length
        for name, function in before.items():
            setattr(math, name, function)


def _choose(plain: Callable[..., Any], symbolic: Any) -> Callable[..., Any]:
    @functools.wraps(plain)
    def function(*numbers: Any, **options: Any) -> Any:
        is_symbolic = any(isinstance(number, SYMBOLIC) for number in numbers)
        return (symbolic if is_symbolic else plain)(*numbers, **options)

    return function


def _length_by(length: Callable[[Any], int]) -> Callable[[Any], Any]:
    def len(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dim() and isinstance(value.shape[0], torch.SymInt):
            return value.shape[0]
        return length(value)

    return len
