"""Images of other sizes, and sampling at places.

A resized axis is a product with a small matrix of weights, one row for each place of the result: torch's interpolation
knows neither all modes of ONNX nor their combinations.

Source: https://onnx.ai/onnx/operators/onnx__Resize.html and the reference implementation that the page describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from gradport.importing.sizes import Sizes
from gradport.importing.table import translation

Tensor = torch.Tensor


@translation("Upsample")
def upsample(x: Tensor, scales: Sizes, /, *, mode: str = "nearest") -> Tensor:
    """Resize with asymmetric coordinates, rounded down."""
    return resize(x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@translation("Resize", since=10)
def resize_by_scales(x: Tensor, scales: Sizes, /, *, mode: str = "nearest") -> Tensor:
    return upsample(x, scales, mode=mode)


@translation("Resize", since=11)
def resize(
    x: Tensor,
    roi: Sizes | None = None,
    scales: Sizes | None = None,
    sizes: Sizes | None = None,
    /,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    chosen = [axis % x.dim() for axis in (axes if axes is not None else range(x.dim()))]
    lengths = [int(x.shape[axis]) for axis in chosen]
    wanted, factors = _sizes_and_factors(lengths, scales, sizes, keep_aspect_ratio_policy)
    region = [] if roi is None else [float(one) for one in roi.numbers()]
    dtype = x.dtype
    x = x if x.is_floating_point() else x.float()
    for at, axis in enumerate(chosen):
        crops = coordinate_transformation_mode == "tf_crop_and_resize"
        if wanted[at] == lengths[at] and factors[at] == 1 and not crops:
            continue
        crop = (region[at], region[at + len(chosen)]) if crops else (0.0, 1.0)
        place = _coordinates(lengths[at], wanted[at], factors[at], coordinate_transformation_mode, crop)
        scale = min(factors[at], 1.0) if antialias else 1.0
        kernel = _kernel(mode, cubic_coeff_a)
        if kernel is None:
            x = x.index_select(axis, _nearest(place, lengths[at], nearest_mode))
        else:
            matrix = _matrix(place, lengths[at], kernel, scale, bool(exclude_outside))
            x = (x.movedim(axis, -1) @ matrix.to(x.dtype).t()).movedim(-1, axis)
        if crops:
            outside = torch.tensor([one < 0 or one > lengths[at] - 1 for one in place])
            shape = [1] * x.dim()
            shape[axis] = -1
            x = torch.where(outside.reshape(shape), torch.full((), extrapolation_value, dtype=x.dtype), x)
    return x if dtype.is_floating_point else _to_whole(x, dtype)


def _sizes_and_factors(
    lengths: Sequence[int], scales: Sizes | None, sizes: Sizes | None, policy: str
) -> tuple[list[int], list[float]]:
    """The new size of each axis, and by what it grows."""
    if sizes is None or not sizes.numbers():
        assert scales is not None
        factors = [float(one) for one in scales.numbers()]
        return [math.floor(length * factor) for length, factor in zip(lengths, factors, strict=True)], factors
    wanted = [int(size) for size in sizes.numbers()]
    factors = [size / length for size, length in zip(wanted, lengths, strict=True)]
    if policy != "stretch":
        factor = (min if policy == "not_larger" else max)(factors)
        wanted, factors = [math.floor(factor * length + 0.5) for length in lengths], [factor] * len(lengths)
    return wanted, factors


def _to_whole(x: Tensor, dtype: torch.dtype) -> Tensor:
    limits = torch.iinfo(dtype)
    return x.round().clamp(limits.min, limits.max).to(dtype)


def _coordinates(length: int, size: int, factor: float, mode: str, crop: tuple[float, float]) -> list[float]:
    """The place in the input of each element of the result."""
    whole = length * factor
    places = []
    for at in range(size):
        if mode == "align_corners":
            place = at * (length - 1) / (whole - 1) if whole != 1 else 0.0
        elif mode == "asymmetric":
            place = at / factor
        elif mode == "pytorch_half_pixel":
            place = (at + 0.5) / factor - 0.5 if size > 1 else 0.0
        elif mode == "tf_half_pixel_for_nn":
            place = (at + 0.5) / factor
        elif mode == "tf_crop_and_resize":
            start, end = crop
            if size > 1:
                place = start * (length - 1) + at * (end - start) * (length - 1) / (size - 1)
            else:
                place = 0.5 * (start + end) * (length - 1)
        elif mode == "half_pixel_symmetric":
            centre = length / 2 * (1 - size / whole)
            place = centre + (at + 0.5) / factor - 0.5
        else:
            place = (at + 0.5) / factor - 0.5
        places.append(place)
    return places


def _nearest(places: Sequence[float], length: int, mode: str) -> Tensor:
    rounded = {
        "round_prefer_floor": lambda one: math.ceil(one - 0.5),
        "round_prefer_ceil": lambda one: math.floor(one + 0.5),
        "floor": math.floor,
        "ceil": math.ceil,
    }[mode]
    return torch.tensor([min(max(rounded(one), 0), length - 1) for one in places], dtype=torch.int64)


def _kernel(mode: str, a: float) -> tuple[Callable[[float], float], int] | None:
    """The weight of an element by its distance, and the number of elements on each side."""
    if mode == "linear":
        return (lambda distance: max(1 - abs(distance), 0.0)), 1
    if mode != "cubic":
        return None

    def cubic(distance: float) -> float:
        d = abs(distance)
        if d <= 1:
            return ((a + 2) * d - (a + 3)) * d * d + 1
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0

    return cubic, 2


def _matrix(
    places: Sequence[float], length: int, kernel: tuple[Callable[[float], float], int], scale: float, exclude: bool
) -> Tensor:
    """A row of weights for each place; elements beyond an edge count as the edge, or not at all (`exclude`)."""
    weight, reach = kernel
    matrix = torch.zeros(len(places), length, dtype=torch.float64)
    for row, place in enumerate(places):
        if scale == 1:
            first, last = math.floor(place) - reach + 1, math.floor(place) + reach
        else:
            first, last = math.floor(place - reach / scale), math.ceil(place + reach / scale)
        weights = [weight((at - place) * scale) for at in range(first, last + 1)]
        inside = [0 <= at < length for at in range(first, last + 1)]
        if exclude:
            weights = [one if own else 0.0 for one, own in zip(weights, inside, strict=True)]
        total = sum(weights) if exclude or scale != 1 else 1.0
        for at, one in zip(range(first, last + 1), weights, strict=True):
            matrix[row, min(max(at, 0), length - 1)] += one / total
    return matrix


@translation("GridSample")
def grid_sample(
    x: Tensor,
    grid: Tensor,
    /,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Tensor:
    known = {"linear": "bilinear", "cubic": "bicubic"}
    return F.grid_sample(x, grid, known.get(mode, mode), padding_mode, bool(align_corners))


@translation("RoiAlign")
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    /,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """The mean or the largest weighted sample of each bin; without a ratio the number of samples follows each region.

    Source: K. He et al., "Mask R-CNN", 2017
    """
    half = coordinate_transformation_mode == "half_pixel"
    results = []
    for region, image in zip(rois.unbind(0), batch_indices.unbind(0), strict=True):
        left, top, right, bottom = (region * spatial_scale - (0.5 if half else 0.0)).unbind(0)
        width, height = right - left, bottom - top
        if not half:
            width, height = width.clamp(min=1), height.clamp(min=1)
        tall, wide = height / output_height, width / output_width
        rows = sampling_ratio or max(int(torch.ceil(tall)), 1)
        columns = sampling_ratio or max(int(torch.ceil(wide)), 1)
        y = top + (torch.arange(output_height * rows) + 0.5) * tall / rows
        z = left + (torch.arange(output_width * columns) + 0.5) * wide / columns
        corners = _corners(x[int(image)], y, z)
        blocks = [one.reshape(-1, output_height, rows, output_width, columns) for one in corners]
        if mode == "avg":
            results.append(sum(blocks).mean((2, 4)))  # type: ignore[union-attr]
        else:
            results.append(torch.stack(blocks).amax(0).amax((2, 4)))
    return torch.stack(results) if results else x.new_zeros(0, x.shape[1], output_height, output_width)


def _corners(image: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    """The four weighted neighbours of each place; a place outside by more than one element gives zero."""
    height, width = image.shape[1:]

    def axis(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inside = ((place >= -1) & (place <= size)).to(image.dtype)
        place = place.clamp(0, size - 1)
        low = place.floor().to(torch.int64)
        high = (low + 1).clamp(max=size - 1)
        part = place - low
        return low, high, (1 - part) * inside, part * inside

    top, bottom, above, below = axis(y, int(height))
    left, right, before, after = axis(z, int(width))
    return [
        image[:, row][:, :, column] * (one.unsqueeze(1) * other.unsqueeze(0))
        for row, one in ((top, above), (bottom, below))
        for column, other in ((left, before), (right, after))
    ]
