"""Shapes, copies and constants: what moves elements or makes them, and does not compute with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.importing.sizes import Sizes
from gradport.importing.table import translation

Tensor = torch.Tensor


@translation("Reshape")
def reshape(x: Tensor, shape: Sizes, /, *, allowzero: int = 0) -> Tensor:
    """Zero copies the size of the input."""
    sizes = shape.numbers()
    if not allowzero:
        sizes = [x.shape[at] if isinstance(size, int) and size == 0 else size for at, size in enumerate(sizes)]
    return x.reshape(sizes)


@translation("Flatten")
def flatten(x: Tensor, /, *, axis: int = 1) -> Tensor:
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@translation("Transpose")
def transpose(x: Tensor, /, *, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(*(perm if perm is not None else reversed(range(x.dim()))))


@translation("Squeeze", since=13)
def squeeze(x: Tensor, axes: Sizes | None = None, /) -> Tensor:
    return _squeeze(x, None if axes is None else axes.numbers())


@translation("Squeeze")
def squeeze_by_attribute(x: Tensor, /, *, axes: Sequence[int] | None = None) -> Tensor:
    return _squeeze(x, axes)


def _squeeze(x: Tensor, axes: Sequence[int] | None) -> Tensor:
    if axes is None:
        return x.squeeze()
    gone = {axis % x.dim() for axis in axes}
    return x.reshape([size for at, size in enumerate(x.shape) if at not in gone])


@translation("Unsqueeze", since=13)
def unsqueeze(x: Tensor, axes: Sizes, /) -> Tensor:
    return _unsqueeze(x, axes.numbers())


@translation("Unsqueeze")
def unsqueeze_by_attribute(x: Tensor, /, *, axes: Sequence[int]) -> Tensor:
    return _unsqueeze(x, axes)


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@translation("Concat")
def concat(*tensors: Tensor, axis: int = 1) -> Tensor:
    return torch.cat(tensors, axis)


@translation("Split", since=13)
def split(
    x: Tensor, sizes: Sizes | None = None, /, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    """Without sizes: equal pieces, the last one may be smaller. The caller gives the number of outputs."""
    if sizes is not None:
        return torch.split(x, sizes.numbers(), axis)
    assert num_outputs is not None
    length = x.shape[axis]
    each = -(-length // num_outputs)
    return torch.split(x, [*[each] * (num_outputs - 1), length - each * (num_outputs - 1)], axis)


@translation("Split")
def split_by_attribute(
    x: Tensor, /, *, split: Sequence[int] | None = None, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    if split is not None:
        return torch.split(x, list(split), axis)
    assert num_outputs is not None
    return torch.split(x, x.shape[axis] // num_outputs, axis)


@translation("Expand")
def expand(x: Tensor, shape: Sizes, /) -> Tensor:
    """Both sides are broadcast."""
    return x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(shape.numbers())))


@translation("Tile")
def tile(x: Tensor, repeats: Sizes, /) -> Tensor:
    return x.repeat(repeats.numbers())


@translation("Slice", since=10)
def slice_of(x: Tensor, starts: Sizes, ends: Sizes, axes: Sizes | None = None, steps: Sizes | None = None, /) -> Tensor:
    first, last = starts.numbers(), ends.numbers()
    places = list(range(len(first))) if axes is None else axes.numbers()
    by = [1] * len(first) if steps is None else steps.numbers()
    for start, end, axis, step in zip(first, last, places, by, strict=True):
        x = _slice(x, start, end, axis % x.dim(), step)
    return x


@translation("Slice")
def slice_by_attributes(
    x: Tensor, /, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    for start, end, axis in zip(starts, ends, axes if axes is not None else range(len(starts)), strict=True):
        x = _slice(x, start, end, axis % x.dim(), 1)
    return x


def _slice(x: Tensor, start: int, end: int, axis: int, step: int) -> Tensor:
    if step > 0:
        return x[(slice(None),) * axis + (slice(start, end, step),)]
    chosen = range(*slice(start, None if end < -int(x.shape[axis]) else end, step).indices(int(x.shape[axis])))
    if len(chosen) == x.shape[axis] and step == -1:
        return x.flip(axis)
    return x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))


@translation("Pad", since=11)
def pad(
    x: Tensor, pads: Sizes, value: Tensor | None = None, axes: Sizes | None = None, /, *, mode: str = "constant"
) -> Tensor:
    return _pad(x, pads.numbers(), None if axes is None else axes.numbers(), mode, value)


@translation("Pad")
def pad_by_attributes(x: Tensor, /, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    return _pad(x, list(pads), None, mode, torch.tensor(value, dtype=x.dtype))


def _pad(x: Tensor, pads: list[int], axes: Sequence[int] | None, mode: str, value: Tensor | None) -> Tensor:
    chosen = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
    for at, axis in enumerate(chosen):
        x = _pad_axis(x, axis, pads[at], pads[at + len(chosen)], mode, value)
    return x


def _pad_axis(x: Tensor, axis: int, before: int, after: int, mode: str, value: Tensor | None) -> Tensor:
    if mode == "constant":
        x = x.narrow(axis, max(-before, 0), x.shape[axis] - max(-before, 0) - max(-after, 0))
        parts = [x]
        for count, place in ((before, 0), (after, len(parts))):
            if count > 0:
                shape = [count if at == axis else size for at, size in enumerate(x.shape)]
                filled = x.new_zeros(shape) if value is None else value.to(x.dtype).reshape(()).expand(shape)
                parts.insert(0 if place == 0 else len(parts), filled)
        return torch.cat(parts, axis) if len(parts) > 1 else x
    size = int(x.shape[axis])
    places = range(-before, size + after)
    if mode == "edge":
        chosen = [min(max(place, 0), size - 1) for place in places]
    elif mode == "wrap":
        chosen = [place % size for place in places]
    else:
        period = max(2 * (size - 1), 1)
        chosen = [min(place % period, period - place % period) if size > 1 else 0 for place in places]
    return x if chosen == list(range(size)) else x.index_select(axis, torch.tensor(chosen, dtype=torch.int64))


@translation("Cast")
def cast(x: Tensor, /, *, to: torch.dtype, saturate: int = 1, round_mode: str = "up") -> Tensor:
    if to in _FLOAT8:
        return _to_float8(x, to, bool(saturate))
    if x.is_floating_point() and to in (torch.uint8, torch.uint16, torch.uint32, torch.uint64):
        x = x.to(torch.int64)
    return x.to(to)


_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)


def _to_float8(x: Tensor, to: torch.dtype, saturate: bool) -> Tensor:
    """Larger values become the largest number, or, without saturation, nan (inf in e5m2)."""
    largest = torch.finfo(to).max
    wide = x.float()
    limited = wide.clamp(-largest, largest).to(to)
    if saturate:
        return limited
    half_step = 2.0 ** math.floor(math.log2(largest)) * torch.finfo(to).eps / 2
    beyond = torch.where(wide > 0, float("inf"), float("-inf")) if to == torch.float8_e5m2 else float("nan")
    return torch.where(wide.abs() >= largest + half_step, beyond, limited.float()).to(to)


@translation("CastLike")
def cast_like(x: Tensor, like: Tensor, /, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return cast(x, to=like.dtype, saturate=saturate)


@translation("ConstantOfShape")
def constant_of_shape(shape: Sizes, /, *, value: Tensor | None = None) -> Tensor:
    value = torch.zeros(1) if value is None else value
    return torch.full(tuple(shape.numbers()), value.item(), dtype=value.dtype)


@translation("Shape")
def shape_of(x: Tensor, /, *, start: int = 0, end: int | None = None) -> Sizes:
    return Sizes.of(list(x.shape)[start:end])


@translation("Size")
def size_of(x: Tensor, /) -> Sizes:
    return Sizes.of(math.prod(x.shape))


@translation("Range")
def range_of(start: Sizes, limit: Sizes, delta: Sizes, /) -> Tensor:
    return torch.arange(start.number(), limit.number(), delta.number(), dtype=start.dtype)


@translation("DepthToSpace")
def depth_to_space(x: Tensor, /, *, blocksize: int, mode: str = "DCR") -> Tensor:
    batch, channels, height, width = x.shape
    inside = channels // blocksize**2
    if mode == "DCR":
        x = x.reshape(batch, blocksize, blocksize, inside, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(batch, inside, blocksize, blocksize, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, inside, height * blocksize, width * blocksize)


@translation("SpaceToDepth")
def space_to_depth(x: Tensor, /, *, blocksize: int, mode: str = "DCR") -> Tensor:
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // blocksize, blocksize, width // blocksize, blocksize)
    x = x.permute(0, 3, 5, 1, 2, 4) if mode == "DCR" else x.permute(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, channels * blocksize**2, height // blocksize, width // blocksize)


@translation("ReverseSequence")
def reverse_sequence(x: Tensor, lengths: Tensor, /, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """The first elements of each sequence in reverse order, the rest unchanged."""
    moved = x.movedim((batch_axis, time_axis), (0, 1))
    time = torch.arange(moved.shape[1]).unsqueeze(0)
    own = lengths.unsqueeze(1)
    place = torch.where(time < own, own - 1 - time, time)
    index = place.reshape(*place.shape, *[1] * (moved.dim() - 2)).expand(moved.shape)
    return moved.gather(1, index).movedim((0, 1), (batch_axis, time_axis))


@translation("Compress")
def compress(x: Tensor, condition: Tensor, /, *, axis: int | None = None) -> Tensor:
    places = torch.nonzero(condition.reshape(-1)).reshape(-1)
    return (x.reshape(-1) if axis is None else x).index_select(axis or 0, places)


@translation("Col2Im")
def col2im(
    x: Tensor,
    image: Sizes,
    block: Sizes,
    /,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Blocks in any number of dimensions, added where they overlap."""
    sizes, kernel = image.numbers(), block.numbers()
    rank = len(sizes)
    dilation, stride = list(dilations or [1] * rank), list(strides or [1] * rank)
    padding = list(pads or [0] * 2 * rank)
    whole = [size + padding[at] + padding[at + rank] for at, size in enumerate(sizes)]
    counts = [(whole[at] - dilation[at] * (kernel[at] - 1) - 1) // stride[at] + 1 for at in range(rank)]
    place = torch.zeros((), dtype=torch.int64)
    for at in range(rank):
        inside = torch.arange(kernel[at]).unsqueeze(1) * dilation[at] + torch.arange(counts[at]) * stride[at]
        own = [1] * (2 * rank)
        own[at], own[at + rank] = kernel[at], counts[at]
        place = place * whole[at] + inside.reshape(own)
    batch, channels = x.shape[0], x.shape[1] // math.prod(kernel)
    flat = x.reshape(batch, channels, -1)
    result = x.new_zeros(batch, channels, math.prod(whole))
    result = result.index_add(2, place.reshape(-1), flat).reshape(batch, channels, *whole)
    for at, size in enumerate(sizes):
        result = result.narrow(at + 2, padding[at], size)
    return result


@translation("CenterCropPad")
def center_crop_pad(x: Tensor, shape: Sizes, /, *, axes: Sequence[int] | None = None) -> Tensor:
    for axis, size in zip(axes if axes is not None else range(x.dim()), shape.numbers(), strict=True):
        more = size - x.shape[axis]
        if more < 0:
            x = x.narrow(axis, -more // 2, size)
        else:
            x = _pad_axis(x, axis % x.dim(), more // 2, more - more // 2, "constant", None)
    return x


@translation("AffineGrid")
def affine_grid(theta: Tensor, size: Sizes, /, *, align_corners: int = 0) -> Tensor:
    return F.affine_grid(theta, size.numbers(), align_corners=bool(align_corners))


@translation("BitCast")
def bit_cast(x: Tensor, /, *, to: torch.dtype) -> Tensor:
    """The same bits as another dtype of the same width."""
    return x.view(to)
