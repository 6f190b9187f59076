"""Samples of a row: a function that calls its operator, and the function's inputs. Tests and the operator documentation
use them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

__all__ = ["Sample", "Values", "booleans", "integers", "reals", "sample"]


@dataclasses.dataclass(frozen=True)
class Values:
    """One input of a sample: random elements of an interval.

    Attributes:
        shape: the sizes; a letter is a size that a dynamic export leaves dynamic; equal letters are equal sizes.
        dtype: the dtype of the elements.
        low: the lower limit.
        high: the upper limit.
    """

    shape: tuple[int | str, ...]
    dtype: torch.dtype
    low: float
    high: float

    def example(self, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
        """A tensor with these sizes in place of the letters."""
        shape = [sizes[size] if isinstance(size, str) else size for size in self.shape]
        if self.dtype.is_floating_point:
            uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
            return (self.low + (self.high - self.low) * uniform).to(self.dtype)
        return torch.randint(int(self.low), int(self.high) + 1, shape, generator=generator).to(self.dtype)


@dataclasses.dataclass(frozen=True)
class Sample:
    """A torch function that calls a row's operator, and its inputs.

    Attributes:
        function: takes one tensor per input, returns one or more tensors.
        inputs: the tensors.
        static: the reason why no size may be dynamic; empty if sizes may be dynamic.
    """

    function: Callable[..., Any]
    inputs: tuple[Values, ...]
    static: str = ""

    @property
    def letters(self) -> tuple[str, ...]:
        """The sizes that may be dynamic, in order of first use."""
        return tuple(dict.fromkeys(size for values in self.inputs for size in values.shape if isinstance(size, str)))


def sample(function: Callable[..., Any], *inputs: Values, static: str = "") -> Sample:
    """A sample; `static` is the reason why no size may be dynamic."""
    return Sample(function, inputs, static)


def reals(*shape: int | str, low: float = -3.0, high: float = 3.0, dtype: torch.dtype = torch.float32) -> Values:
    """Floating-point numbers in [low, high]."""
    return Values(shape, dtype, low, high)


def integers(*shape: int | str, low: int = 0, high: int = 3, dtype: torch.dtype = torch.int64) -> Values:
    """Integers from `low` to `high`, both included."""
    return Values(shape, dtype, low, high)


def booleans(*shape: int | str) -> Values:
    """Booleans."""
    return Values(shape, torch.bool, 0, 1)
