"""Values of an image at points between its pixels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradport.operators.samples import reals, sample
from gradport.operators.table import replacement

__all__: list[str] = []

_affine_grid = F.affine_grid

_BILINEAR, _NEAREST, _BICUBIC = 0, 1, 2
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2


@replacement(
    torch.grid_sampler,
    torch.grid_sampler_2d,
    torch.grid_sampler_3d,
    samples=[
        sample(
            lambda x, grid: torch.grid_sampler(x, grid, 0, 0, False),
            reals("n", 2, 4, 4),
            reals("n", 3, 3, 2, low=-1.1, high=1.1),
        )
    ],
)
def grid_sampler(
    input: torch.Tensor, grid: torch.Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> torch.Tensor:
    """Values of an image at points between its pixels, in two or three dimensions.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grid_sample.html; M. Jaderberg et al.,
    "Spatial Transformer Networks", 2015
    """
    sizes = input.shape[2:]
    places = [_unnormalise(grid[..., axis], size, align_corners) for axis, size in enumerate(reversed(sizes))][::-1]
    if interpolation_mode == _BICUBIC:
        return _bicubic(input, places, padding_mode, align_corners)
    places = [_pad(place, size, padding_mode, align_corners) for place, size in zip(places, sizes, strict=True)]
    if interpolation_mode == _NEAREST:
        nearest = _read_places(input, [place.round() for place in places])
        return nearest + 0 * (sum(places) - sum(places).detach()).unsqueeze(1)  # type: ignore[union-attr]
    total: Any = 0.0
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight: Any = 1.0
        for place, side in zip(places, corner, strict=True):
            share = place - place.floor().detach()
            weight = weight * (share if side else 1 - share)
        at = [place.floor() + side for place, side in zip(places, corner, strict=True)]
        total = total + _read_places(input, at) * weight.unsqueeze(1)
    return total


@replacement(
    F.grid_sample,
    samples=[
        sample(
            lambda x, grid: F.grid_sample(x, grid, align_corners=False),
            reals("n", 2, 4, 4),
            reals("n", 3, 3, 2, low=-1.1, high=1.1),
        )
    ],
)
def grid_sample(
    input: torch.Tensor,
    grid: torch.Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> torch.Tensor:
    """As above; a TorchFunctionMode does not see the calls inside a function that it already handles."""
    modes = {"bilinear": _BILINEAR, "nearest": _NEAREST, "bicubic": _BICUBIC}
    paddings = {"zeros": _ZEROS, "border": _BORDER, "reflection": _REFLECTION}
    return grid_sampler(input, grid, modes[mode], paddings[padding_mode], bool(align_corners))


@replacement(
    F.affine_grid,
    samples=[sample(lambda theta: F.affine_grid(theta, [2, 1, 3, 4], align_corners=False), reals(2, 2, 3))],
)
def affine_grid(theta: torch.Tensor, size: Sequence[Any], align_corners: bool | None = None) -> torch.Tensor:
    """The points (N, *size, d) that affine maps (N, d, d + 1) give for a grid, as a matrix product: torch's body in
    Python multiplies and sums over an axis of d + 1 elements.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.affine_grid.html
    """
    spatial = list(size[2:])
    batches = {number for number in (theta.shape[0], size[0]) if isinstance(number, int)}
    if theta.shape[1:] != (len(spatial), len(spatial) + 1) or len(spatial) not in (2, 3) or len(batches) > 1:
        return _affine_grid(theta, list(size), align_corners)  # its error names the sizes
    lines = [_centres(length, bool(align_corners), theta) for length in spatial]
    places = torch.meshgrid(*lines, indexing="ij")[::-1]
    points = torch.stack([*places, torch.ones_like(places[0])], -1).flatten(0, -2)
    return (points @ theta.mT).unflatten(1, spatial)


def _centres(count: Any, align_corners: bool, like: torch.Tensor) -> torch.Tensor:
    """The coordinates of pixels on an axis from -1 to 1."""
    if isinstance(count, int) and count <= 1:
        return like.new_zeros(count)
    end = 1.0 if align_corners else (count - 1) / count
    return torch.linspace(-1.0, 1.0, count, dtype=like.dtype, device=like.device) * end


def _unnormalise(place: torch.Tensor, size: Any, align_corners: bool) -> torch.Tensor:
    return (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2


def _pad(place: torch.Tensor, size: Any, padding_mode: int, align_corners: bool) -> torch.Tensor:
    """Moves points outside the image to the point to read; clipped points, the edge included, get no gradient."""
    if padding_mode == _ZEROS:
        return place
    if padding_mode == _REFLECTION:
        low, span = (0.0, float(size - 1)) if align_corners else (-0.5, float(size))
        if span == 0:
            return place * 0
        away = torch.where(place < low, low - place, place - low)
        extra, flips = torch.fmod(away, span), torch.floor(away.detach() / span)
        place = torch.where(torch.remainder(flips, 2) == 0, extra + low, span - extra + low)
    below, above = place <= 0, place >= size - 1
    clipped = torch.where(below, torch.zeros_like(place), torch.where(above, torch.full_like(place, size - 1), place))
    slope = (~(below | above)).to(place.dtype)  # a factor, not a choice: torch's zero times a cotangent of nan is nan
    finite = torch.where(place.isfinite(), place, torch.zeros_like(place))
    return clipped.detach() + (finite - finite.detach()) * slope


def _read_places(input: torch.Tensor, at: list[torch.Tensor]) -> torch.Tensor:
    """The values at integer points, zero outside: (N, C, *points)."""
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
    """Sixteen neighbors, weighted by the cubic convolution kernel with A = -0.75 (Keys, 1981)."""
    starts = [place.floor().detach() for place in places]
    shares = [_cubic(place - start) for place, start in zip(places, starts, strict=True)]
    total: Any = 0.0
    for row, column in itertools.product(range(4), repeat=2):
        at = [
            _pad(start + step - 1, size, padding_mode, align_corners)
            for start, step, size in zip(starts, (row, column), input.shape[2:], strict=True)
        ]
        total = total + _read_places(input, at) * (shares[0][row] * shares[1][column]).unsqueeze(1)
    return total


def _cubic(t: torch.Tensor) -> list[torch.Tensor]:
    a = -0.75

    def near(x: torch.Tensor) -> torch.Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: torch.Tensor) -> torch.Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]
