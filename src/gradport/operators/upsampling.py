"""Resizing between known sizes as one operator, and its gradient as products with one matrix for each axis.

torch's bodies in Python read and write single pixels by index; the gradient then takes four times as long as torch's.
Resizing is linear and each axis has its own weights, so that the gradient is the product with the matrices of the
weights. torch itself gives them: it resizes the columns of the identity. Where nearest pixels repeat a whole number of
times, the gradient is a sum over disjoint windows.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html;
https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.resizing import keep_whole
from gradport.operators.axes import numbers
from gradport.operators.finiteness import choose_if_finite
from gradport.operators.samples import Sample, reals, sample
from gradport.operators.table import lowering, op

__all__ = ["resize_whole", "sizes_of_operator"]

_NAMES = {
    "nearest": ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    "nearest-exact": ("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    "linear": ("upsample_linear1d", "", ""),
    "bilinear": ("", "upsample_bilinear2d", ""),
    "trilinear": ("", "", "upsample_trilinear3d"),
    "bicubic": ("", "upsample_bicubic2d", ""),
}
"""The operators of each mode, for one, two and three spatial axes."""

_LARGEST = 2048
"""Of a size: the matrices hold as many zeros as their sizes multiplied."""

Matrix = np.ndarray[Any, np.dtype[np.float32]]


def sizes_of_operator(input: torch.Tensor, size: Any, scale_factor: Any, mode: str) -> list[int] | None:
    """The sizes of the result of `interpolate`, if the rows of this file hold for the call: sizes are known, factors
    are whole numbers, and the dtype is float32. None for other calls."""
    axes = input.dim() - 2
    old = [number for number in input.shape[2:] if type(number) is int]
    if input.dtype is not torch.float32 or len(old) != axes or not _name_of(mode, axes):
        return None
    given = size if scale_factor is None else scale_factor
    numbers = list(given) if isinstance(given, (tuple, list, torch.Size)) else [given] * axes
    if not all(type(number) is int or (type(number) is float and number.is_integer()) for number in numbers):
        return None
    new = [int(number) * (before if size is None else 1) for number, before in zip(numbers, old, strict=True)]
    return new if all(0 < number <= _LARGEST for number in (*old, *new)) else None


def _name_of(mode: str, axes: int) -> str:
    """The operator of a mode; an empty string if there is none."""
    names = _NAMES.get(mode, ())
    return names[axes - 1] if 1 <= axes <= len(names) else ""


def resize_whole(input: torch.Tensor, sizes: Sequence[int], mode: str, align_corners: bool) -> torch.Tensor:
    """Resizes images by one operator of the trace."""
    operator = getattr(torch.ops.aten, _name_of(mode, len(sizes))).default
    aligned = () if mode.startswith("nearest") else (align_corners,)
    with keep_whole(operator):
        return operator(input, list(sizes), *aligned)  # type: ignore[no-any-return]


def _sample(mode: str, shape: Sequence[int], size: Sequence[int], **options: Any) -> Sample:
    return sample(lambda x: F.interpolate(x, tuple(size), mode=mode, **options), reals("n", *shape))


_REPEATED = [_sample("nearest", (2, 3, 4), (6, 8)), _sample("nearest", (2, 3, 4), (7, 3))]
_CENTRED = [_sample("nearest-exact", (2, 3, 4), (7, 3))]
_LINEAR = [_sample("bilinear", (2, 3, 4), (7, 3)), _sample("linear", (2, 4), (7,), align_corners=True)]
_CUBIC = [_sample("bicubic", (2, 3, 4), (7, 3))]


@lowering(
    _aten.upsample_nearest1d.default,
    _aten.upsample_nearest2d.default,
    _aten.upsample_nearest3d.default,
    samples=_REPEATED,
)
def resize_nearest(self: ir.Value, output_size: Sequence[int], *scales: Any) -> ir.Value:
    """The pixels whose corners are nearest."""
    return _resize(self, output_size, mode="nearest", coordinates="asymmetric", nearest_mode="floor")


@lowering(
    _aten._upsample_nearest_exact1d.default,
    _aten._upsample_nearest_exact2d.default,
    _aten._upsample_nearest_exact3d.default,
    samples=_CENTRED,
)
def resize_nearest_exact(self: ir.Value, output_size: Sequence[int], *scales: Any) -> ir.Value:
    """The pixels whose centres are nearest."""
    return _resize(self, output_size, mode="nearest", coordinates="half_pixel", nearest_mode="round_prefer_ceil")


@lowering(
    _aten.upsample_linear1d.default,
    _aten.upsample_bilinear2d.default,
    _aten.upsample_trilinear3d.default,
    samples=_LINEAR,
)
def resize_linear(self: ir.Value, output_size: Sequence[int], align_corners: bool, *scales: Any) -> ir.Value:
    """Linear interpolation between pixels."""
    axes = _axes_of(list(self.shape or ())[2:], output_size, "bilinear", align_corners)
    axes = [axis.transposed for axis in axes]
    coordinates = "align_corners" if align_corners else "half_pixel"
    return choose_if_finite(
        self,
        lambda: _resize(self, output_size, mode="linear", coordinates=coordinates),
        lambda: _multiply(self, axes, _multiply_special),
    )


@lowering(_aten.upsample_bicubic2d.default, samples=_CUBIC)
def resize_cubic(self: ir.Value, output_size: Sequence[int], align_corners: bool, *scales: Any) -> ir.Value:
    """Cubic interpolation between pixels. ONNX Runtime's Resize takes fifty times as long as products with matrices."""
    axes = _axes_of(list(self.shape or ())[2:], output_size, "bicubic", align_corners)
    axes = [axis.transposed for axis in axes]
    return choose_if_finite(
        self, lambda: _multiply(self, axes, _multiply_plain), lambda: _multiply(self, axes, _multiply_special)
    )


def _resize(x: ir.Value, size: Sequence[int], *, coordinates: str, **attributes: Any) -> ir.Value:
    images = op.Shape(x, start=0, end=2)
    line = len(size) == 1  # ONNX Runtime resizes two axes or three
    whole = op.Unsqueeze(x, numbers([2])) if line else x
    sizes = op.Concat(images, numbers([1, *size] if line else size), axis=0)
    result = op.Resize(whole, None, None, sizes, coordinate_transformation_mode=coordinates, **attributes)
    return op.Squeeze(result, numbers([2])) if line else result


@lowering(
    _aten.upsample_nearest1d_backward.default,
    _aten.upsample_nearest2d_backward.default,
    _aten.upsample_nearest3d_backward.default,
    samples=_REPEATED,
)
def resize_nearest_backward(
    grad_output: ir.Value, output_size: Sequence[int], input_size: Sequence[Any], *scales: Any
) -> ir.Value:
    """The gradient of a pixel: the sum over the pixels that repeat it."""
    return _differentiate(grad_output, output_size, input_size, "nearest")


@lowering(
    _aten._upsample_nearest_exact1d_backward.default,
    _aten._upsample_nearest_exact2d_backward.default,
    _aten._upsample_nearest_exact3d_backward.default,
    samples=_CENTRED,
)
def resize_nearest_exact_backward(
    grad_output: ir.Value, output_size: Sequence[int], input_size: Sequence[Any], *scales: Any
) -> ir.Value:
    """The gradient of a pixel: the sum over the pixels that repeat it."""
    return _differentiate(grad_output, output_size, input_size, "nearest-exact")


@lowering(
    _aten.upsample_linear1d_backward.default,
    _aten.upsample_bilinear2d_backward.default,
    _aten.upsample_trilinear3d_backward.default,
    samples=_LINEAR,
)
def resize_linear_backward(
    grad_output: ir.Value, output_size: Sequence[int], input_size: Sequence[Any], align_corners: bool, *scales: Any
) -> ir.Value:
    """The gradient of a pixel: the weighted sum over the pixels that read it."""
    return _differentiate(grad_output, output_size, input_size, "bilinear", align_corners=align_corners)


@lowering(_aten.upsample_bicubic2d_backward.default, samples=_CUBIC)
def resize_cubic_backward(
    grad_output: ir.Value, output_size: Sequence[int], input_size: Sequence[Any], align_corners: bool, *scales: Any
) -> ir.Value:
    """The gradient of a pixel: the weighted sum over the pixels that read it."""
    return _differentiate(grad_output, output_size, input_size, "bicubic", align_corners=align_corners)


def _axes_of(old: Sequence[Any], new: Sequence[int], mode: str, align_corners: bool) -> list[_Axis]:
    """The spatial axes of images of known sizes."""
    return [_axis_of(int(before), size, mode, align_corners) for before, size in zip(old, new, strict=True)]


def _differentiate(
    g: ir.Value, new: Sequence[int], whole_shape: Sequence[Any], mode: str, *, align_corners: bool = False
) -> ir.Value:
    """The gradient of images of these shapes from g, (N, C, *new)."""
    old = [int(size) for size in whole_shape[2:]]
    axes = _axes_of(old, new, mode, align_corners)
    if mode == "bicubic" and old == list(new):
        return op.Identity(g)  # as torch, which reads pixels with the weight 0 in the forward only
    if mode.startswith("nearest") and all(axis.repeats_each for axis in axes):
        repeats = [size // before for size, before in zip(new, old, strict=True)]
        mean = op.AveragePool(g, kernel_shape=repeats, strides=repeats)
        return op.Mul(mean, op.Constant(value=ir.tensor(np.float32(math.prod(repeats)))))
    return choose_if_finite(
        g, lambda: _multiply(g, axes, _multiply_plain), lambda: _multiply(g, axes, _multiply_special)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Axis:
    """A spatial axis as the factor of a product from the right.

    Attributes:
        weights: (new, old), of the old pixels in each new one.
        of_infinity: (new, old), the gradient of an old pixel where the cotangent of one new pixel is infinite: an
            infinity; nan where the new pixel also reads the old one with the weight 0; 0 where it does not read it.
    """

    weights: Matrix
    of_infinity: Matrix

    @property
    def transposed(self) -> _Axis:
        """For the resizing itself."""
        return _Axis(self.weights.T, self.of_infinity.T)

    @property
    def repeats_each(self) -> bool:
        """Whether each old pixel is repeated the same number of times."""
        new, old = self.weights.shape
        return new % old == 0 and np.array_equal(self.weights, np.repeat(np.eye(old), new // old, axis=0))


@functools.lru_cache(maxsize=64)
def _axis_of(old: int, new: int, mode: str, align_corners: bool) -> _Axis:
    """From torch's own resizing.

    Args:
        mode: of two axes.
    """
    options = {} if mode.startswith("nearest") else {"align_corners": align_corners}
    weights = F.interpolate(torch.eye(old).reshape(1, old, old, 1), (new, 1), mode=mode, **options)
    with torch.enable_grad():
        images = torch.zeros(new, 1, old, _WIDTH, requires_grad=True)
        resized = F.interpolate(images, (new, 2 * _WIDTH), mode=mode, **options)
        infinite = torch.zeros_like(resized)
        infinite[range(new), 0, range(new), _WIDTH] = math.inf
        (gradient,) = torch.autograd.grad(resized, images, infinite)
    return _Axis(weights.reshape(old, new).T.contiguous().numpy(), gradient[:, 0, :, _WIDTH // 2].numpy())


_WIDTH = 8
"""Of images that are resized along the other axis: to twice the width, so that torch does not copy them. Their middle
column is read with a positive weight, and once."""


def _multiply(x: ir.Value, axes: Sequence[_Axis], product: Callable[[ir.Value, _Axis, bool], ir.Value]) -> ir.Value:
    """The products of (N, C, *rows) with the matrices (rows, columns) of all axes, the last axis first.

    Args:
        product: of values (..., rows) with an axis, or of (..., rows, rest) from the left.
    """
    rows, columns = ([axis.weights.shape[side] for axis in axes] for side in (0, 1))
    for at in reversed(range(len(axes))):
        before, after = math.prod(rows[:at]), math.prod(columns[at + 1 :])
        from_left = after > 1
        x = op.Reshape(x, numbers([0, 0, before, rows[at], after] if from_left else [0, 0, before, rows[at]]))
        x = product(x, axes[at], from_left)
    return op.Reshape(x, numbers([0, 0, *columns]))


def _multiply_plain(values: ir.Value, axis: _Axis, from_left: bool) -> ir.Value:
    return _matmul(values, axis.weights, from_left)


def _multiply_special(values: ir.Value, axis: _Axis, from_left: bool) -> ir.Value:
    """The product of values of which some are inf or nan: these reach only the pixels that are read with them."""
    probe = axis.of_infinity
    up, down, spoiled, read = (
        mask.astype(np.float32) for mask in (probe == math.inf, probe == -math.inf, np.isnan(probe), probe != 0)
    )
    nothing, inf, nan = (op.Constant(value=ir.tensor(np.float32(value))) for value in (0, math.inf, math.nan))
    positive = op.Cast(op.IsInf(values, detect_negative=0), to=ir.DataType.FLOAT)
    negative = op.Cast(op.IsInf(values, detect_positive=0), to=ir.DataType.FLOAT)
    is_nan = op.IsNaN(values)
    missing = op.Cast(is_nan, to=ir.DataType.FLOAT)
    finite = op.Where(op.Or(is_nan, op.IsInf(values)), nothing, values)

    def where_any(special: ir.Value, *counted: tuple[ir.Value, Matrix]) -> ir.Value:
        counts = [_matmul(places, mask, from_left) for places, mask in counted]
        return op.Where(op.Greater(functools.reduce(op.Add, counts), nothing), special, nothing)

    result = _matmul(finite, axis.weights, from_left)
    result = op.Add(result, where_any(inf, (positive, up), (negative, down)))
    result = op.Add(result, where_any(op.Neg(inf), (positive, down), (negative, up)))
    infinite = op.Add(positive, negative)
    return op.Add(result, where_any(nan, (missing, read), (infinite, spoiled)))


def _matmul(values: ir.Value, matrix: Matrix, from_left: bool) -> ir.Value:
    constant = op.Constant(value=ir.tensor(np.ascontiguousarray(matrix.T if from_left else matrix)))
    return op.MatMul(constant, values) if from_left else op.MatMul(values, constant)
