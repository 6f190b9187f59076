"""Numbers that are known before the tensors: constants, sizes, and what a graph computes from them.

In ONNX a shape is a tensor like any other; in torch it is a tuple of numbers, symbolic ones while a graph is traced.
`Sizes` holds such numbers, so that Reshape, Expand or Slice get them without reading a tensor.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

__all__ = ["LARGEST", "Sizes", "as_tensor", "numbers_of", "to_tensor"]

LARGEST = 4096
"""Elements of the largest constant whose numbers are kept."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Known numbers in the form of a tensor.

    Attributes:
        array: dtype object; ints, floats, bools, or torch.SymInt.
        dtype: of the tensor.
    """

    array: np.ndarray[Any, Any]
    dtype: torch.dtype = torch.int64

    @staticmethod
    def of(values: Any, dtype: torch.dtype = torch.int64) -> Sizes:
        """From a number or nested lists."""
        array = np.empty(np.shape(values), dtype=object)
        array[...] = values
        return Sizes(array, dtype)

    def numbers(self) -> list[Any]:
        """The numbers in order."""
        return list(self.array.reshape(-1))

    def number(self) -> Any:
        """The only number."""
        (one,) = self.numbers()
        return one


def to_tensor(sizes: Sizes, device: torch.device | None = None) -> torch.Tensor:
    """The numbers as a tensor; symbolic ones are nodes of the trace."""
    if any(isinstance(one, torch.SymInt) for one in sizes.numbers()):
        scalars = [torch.scalar_tensor(one, dtype=sizes.dtype, device=device) for one in sizes.numbers()]
        return torch.stack(scalars).reshape(sizes.array.shape)
    return torch.tensor(sizes.array.tolist(), dtype=sizes.dtype, device=device)


def numbers_of(tensor: torch.Tensor) -> Sizes:
    """The numbers of a tensor; reads its values."""
    return Sizes.of(np.array(tensor.tolist(), dtype=object), tensor.dtype)


def as_tensor(value: Any) -> Any:
    """A value as a tensor: the tensor of Sizes, anything else unchanged."""
    return to_tensor(value) if isinstance(value, Sizes) else value
