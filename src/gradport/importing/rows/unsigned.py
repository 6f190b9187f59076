"""Whole numbers without a sign, for which torch has few operators: they are computed in int64.

A uint64 keeps its bits: sums, differences and products of int64 wrap around as they do; a comparison first turns the
highest bit; a quotient is made of that of the halves (H. Warren, "Hacker's Delight", section 9-3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

__all__ = ["ordered", "quotient", "wide"]

Tensor = torch.Tensor

_NARROW = (torch.uint16, torch.uint32)
_HIGHEST = torch.iinfo(torch.int64).min


def wide(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function through int64 for uint16, uint32 and uint64: for sums, differences, products, and equality."""

    @functools.wraps(function)
    def computed(*tensors: Tensor, **options: object) -> Tensor:
        dtype = tensors[0].dtype
        if dtype == torch.uint64:
            result = function(*(one.view(torch.int64) for one in tensors), **options)
            return result.view(dtype) if result.dtype == torch.int64 else result
        if dtype not in _NARROW:
            return function(*tensors, **options)
        result = function(*(one.to(torch.int64) for one in tensors), **options)
        return result.to(dtype) if result.dtype == torch.int64 else result

    return computed


def ordered(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function through int64 where it depends on the order of its arguments only: comparisons, extremes."""
    plain = wide(function)

    @functools.wraps(function)
    def computed(*tensors: Tensor) -> Tensor:
        if tensors[0].dtype != torch.uint64:
            return plain(*tensors)
        result = function(*(one.view(torch.int64) ^ _HIGHEST for one in tensors))
        return (result ^ _HIGHEST).view(torch.uint64) if result.dtype == torch.int64 else result

    return computed


def quotient(x: Tensor, y: Tensor) -> Tensor:
    """The quotient of uint64, rounded down."""
    a, b = x.view(torch.int64), y.view(torch.int64)
    half = (a >> 1) & torch.iinfo(torch.int64).max
    found = torch.div(half, b, rounding_mode="trunc") << 1
    rest = a - found * b
    found = found + ((rest ^ _HIGHEST) >= (b ^ _HIGHEST)).to(torch.int64)
    large = ((a ^ _HIGHEST) >= (b ^ _HIGHEST)).to(torch.int64)
    return torch.where(b < 0, large, found).view(torch.uint64)
