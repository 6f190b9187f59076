"""Antialiased resizing: a product with one matrix per axis. Its gradient is the product with their transposes.

Other resizing between known sizes is one operator, whose rows are in `upsampling`.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html; the filters are those of
Pillow, https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradport.operators.samples import reals, sample
from gradport.operators.table import replacement
from gradport.operators.upsampling import resize_whole, sizes_of_operator

__all__: list[str] = []

_A = -0.5
"""The coefficient of the cubic filter."""

Filter = Callable[[torch.Tensor], torch.Tensor]

_interpolate = F.interpolate


def _triangle(x: torch.Tensor) -> torch.Tensor:
    return (1 - x).clamp(min=0)


def _cubic(x: torch.Tensor) -> torch.Tensor:
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _A
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


_FILTERS: dict[str, tuple[Filter, float]] = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}
"""For each mode: the filter of a distance, and its radius."""


@replacement(
    F.interpolate,
    samples=[sample(lambda x: F.interpolate(x, (3, 7), mode="bilinear", antialias=True), reals("n", 2, 5, 5))],
)
def interpolate(
    input: torch.Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> torch.Tensor:
    """Resizes images."""
    if not antialias or mode not in _FILTERS or input.dim() != 4:
        known = None if antialias else sizes_of_operator(input, size, scale_factor, mode)
        if known is not None:
            return resize_whole(input, known, mode, bool(align_corners))
        return _interpolate(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    scales, sizes = _pair(scale_factor), _pair(size)
    if sizes is None:
        assert scales is not None
        sizes = [_floor(old * factor) for old, factor in zip(input.shape[2:], scales, strict=True)]
    factors = scales if scales is not None and size is None and not recompute_scale_factor else (None, None)
    down, across = (
        _matrix(input, old, new, factor, bool(align_corners), *_FILTERS[mode])
        for old, new, factor in zip(input.shape[2:], sizes, factors, strict=True)
    )
    return down @ input @ across.mT


def _pair(value: Any) -> Sequence[Any] | None:
    if value is None:
        return None
    return list(value) if isinstance(value, (tuple, list, torch.Size)) else [value, value]


def _floor(number: Any) -> Any:
    return math.floor(number)


def _matrix(
    like: torch.Tensor, old: Any, new: Any, factor: float | None, align_corners: bool, kernel: Filter, reach: float
) -> torch.Tensor:
    """The weights of the old places for each new place, [new, old]."""
    if align_corners:
        scale = (old - 1) / (new - 1) if new != 1 else 0.0
    else:
        scale = old / new if factor is None else 1 / factor
    wide = torch.sym_max(scale, 1.0)
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    centre = (torch.arange(new, dtype=dtype, device=like.device).unsqueeze(1) + 0.5) * scale
    place = torch.arange(old, dtype=dtype, device=like.device)
    first = (centre - reach * wide + 0.5).trunc().clamp(min=0)
    last = (centre + reach * wide + 0.5).trunc()
    weights = kernel(((place - centre + 0.5) / wide).abs())
    weights = torch.where((place >= first) & (place < last), weights, torch.zeros_like(weights))
    return (weights / weights.sum(1, keepdim=True)).to(like.dtype)
