"""Operators that have no backward which a graph could hold, written with operators that have one.

The trace meets them above autograd, so their gradient is that of the operators they are written with, kinks as eager
has them. Eager itself runs the original, so the proof holds one against the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["SparseLayout", "Written"]

_WRITTEN: dict[Any, Callable[..., Any]] = {}

_BILINEAR, _NEAREST, _BICUBIC = 0, 1, 2
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2


class SparseLayout(Exception):
    """The code makes a sparse tensor, on which torch's trace crashes the process."""


class Written(TorchFunctionMode):
    """While open, the operators of this file run as they are written here.

    Raises:
        SparseLayout: what makes a sparse tensor is called.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name.startswith(("sparse_", "_sparse", "to_sparse", "_to_sparse")) and name != "sparse_dim":
            raise SparseLayout(name)
        return _WRITTEN.get(func, func)(*args, **(kwargs or {}))


def _written(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers how a function of torch is written."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        _WRITTEN.update(dict.fromkeys(functions, rule))
        return rule

    return register


@_written(torch.grid_sampler, torch.grid_sampler_2d, torch.grid_sampler_3d)
def grid_sampler(
    input: torch.Tensor, grid: torch.Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> torch.Tensor:
    """Values of an image at places between its pixels, in two or three dimensions.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grid_sample.html; M. Jaderberg et al.,
    "Spatial Transformer Networks", 2015
    """
    sizes = input.shape[2:]
    places = [_unnormalised(grid[..., axis], size, align_corners) for axis, size in enumerate(reversed(sizes))][::-1]
    if interpolation_mode == _BICUBIC:
        return _bicubic(input, places, padding_mode, align_corners)
    places = [_padded(place, size, padding_mode, align_corners) for place, size in zip(places, sizes, strict=True)]
    if interpolation_mode == _NEAREST:
        nearest = _read(input, [place.round() for place in places])
        return nearest + 0 * (sum(places) - sum(places).detach()).unsqueeze(1)  # type: ignore[union-attr]
    total: Any = 0.0
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight: Any = 1.0
        for place, side in zip(places, corner, strict=True):
            share = place - place.floor().detach()
            weight = weight * (share if side else 1 - share)
        at = [place.floor() + side for place, side in zip(places, corner, strict=True)]
        total = total + _read(input, at) * weight.unsqueeze(1)
    return total


@_written(F.grid_sample)
def grid_sample(
    input: torch.Tensor,
    grid: torch.Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> torch.Tensor:
    """As above; a mode does not see what a function that it saw calls."""
    modes = {"bilinear": _BILINEAR, "nearest": _NEAREST, "bicubic": _BICUBIC}
    paddings = {"zeros": _ZEROS, "border": _BORDER, "reflection": _REFLECTION}
    return grid_sampler(input, grid, modes[mode], paddings[padding_mode], bool(align_corners))


def _unnormalised(place: torch.Tensor, size: Any, align_corners: bool) -> torch.Tensor:
    return (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2


def _padded(place: torch.Tensor, size: Any, padding_mode: int, align_corners: bool) -> torch.Tensor:
    """Where a place outside is looked for; what is clipped takes no gradient, its edge included."""
    if padding_mode == _ZEROS:
        return place
    if padding_mode == _REFLECTION:
        low, span = (0.0, float(size - 1)) if align_corners else (-0.5, float(size))
        if span == 0:
            return place * 0
        away = torch.where(place < low, low - place, place - low)
        extra, flips = torch.fmod(away, span), torch.floor(away.detach() / span)
        place = torch.where(torch.remainder(flips, 2) == 0, extra + low, span - extra + low)
    last = torch.full_like(place, size - 1)
    return torch.where(place <= 0, torch.zeros_like(place), torch.where(place >= size - 1, last, place))


def _read(input: torch.Tensor, at: list[torch.Tensor]) -> torch.Tensor:
    """The values at whole places, zero outside: (N, C, *places)."""
    sizes = input.shape[2:]
    inside: Any = True
    flat: Any = 0
    for place, size in zip(at, sizes, strict=True):
        inside = inside & (place >= 0) & (place <= size - 1)
        flat = flat * size + place.detach().clamp(0, size - 1).to(torch.int64)
    index = flat.flatten(1).unsqueeze(1).expand(-1, input.shape[1], -1)
    values = input.flatten(2).gather(2, index).reshape(*input.shape[:2], *flat.shape[1:])
    return values * inside.unsqueeze(1).to(values.dtype)


def _bicubic(input: torch.Tensor, places: list[torch.Tensor], padding_mode: int, align_corners: bool) -> torch.Tensor:
    """Sixteen neighbours, weighed by the cubic convolution kernel with A = -0.75 (Keys, 1981)."""
    starts = [place.floor().detach() for place in places]
    shares = [_cubic(place - start) for place, start in zip(places, starts, strict=True)]
    total: Any = 0.0
    for row, column in itertools.product(range(4), repeat=2):
        at = [
            _padded(start + step - 1, size, padding_mode, align_corners)
            for start, step, size in zip(starts, (row, column), input.shape[2:], strict=True)
        ]
        total = total + _read(input, at) * (shares[0][row] * shares[1][column]).unsqueeze(1)
    return total


def _cubic(t: torch.Tensor) -> list[torch.Tensor]:
    a = -0.75

    def near(x: torch.Tensor) -> torch.Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: torch.Tensor) -> torch.Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


@_written(F.gaussian_nll_loss)
def gaussian_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    var: torch.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    """Half of `log var + (input - target)^2 / var`, the variance at least eps and constant where it is not.

    The original raises where a variance is negative, which a graph cannot.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GaussianNLLLoss.html
    """
    width = var * torch.ones_like(input) if isinstance(var, float) else var
    if width.dim() == input.dim() - 1 and width.shape != input.shape:
        width = width.unsqueeze(-1)
    width = width + (width.clamp(min=eps) - width).detach()
    loss = 0.5 * (width.log() + (input - target) ** 2 / width)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


@_written(F.embedding_bag)
def embedding_bag(
    input: torch.Tensor,
    weight: torch.Tensor,
    offsets: torch.Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """Sum, mean or maximum of the rows of each bag; padding counts as nothing, an empty bag is zero.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.EmbeddingBag.html
    """
    if max_norm is not None or scale_grad_by_freq or not weight.is_floating_point():
        options = (max_norm, norm_type, scale_grad_by_freq, mode, sparse, per_sample_weights)
        return F.embedding_bag(input, weight, offsets, *options, include_last_offset, padding_idx)
    words = input.reshape(-1).to(torch.int64)
    place = torch.arange(words.shape[0], device=words.device)
    if offsets is None:
        count, bag = input.shape[0], place // input.shape[1]
    else:
        starts = offsets[:-1] if include_last_offset else offsets
        count, bag = starts.shape[0], (place.unsqueeze(1) >= starts).to(torch.int64).sum(1) - 1
    kept = torch.ones_like(words, dtype=torch.bool)
    if padding_idx is not None:
        kept = words != (padding_idx if padding_idx >= 0 else padding_idx + weight.shape[0])
    rows = weight.index_select(0, words)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    if mode == "max":
        own = (bag == torch.arange(count, device=words.device).unsqueeze(1)) & kept
        candidates = torch.where(own.unsqueeze(-1), rows, torch.full_like(rows, float("-inf")))
        return torch.where(own.any(1, keepdim=True), candidates.max(1).values, torch.zeros_like(candidates[:, 0]))
    rows = torch.where(kept.unsqueeze(1), rows, torch.zeros_like(rows))
    total = rows.new_zeros((count, weight.shape[1])).index_add(0, bag, rows)
    if mode == "sum":
        return total
    sizes = rows.new_zeros((count,)).index_add(0, bag, kept.to(rows.dtype))
    return total / sizes.clamp(min=1).unsqueeze(1)
