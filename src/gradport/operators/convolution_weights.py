"""Forms of the weight gradient of a convolution: a sum of products of the cotangent with the signal at each place.

ONNX has no operator for it. A convolution over the batch is right for all kernels, but its kernel is a whole image,
which ONNX Runtime runs slowly. The other forms are matrix products or sums; `bench/convolution_forms.py` measures them.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib.resources
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from gradport.operators.table import op
from gradport.operators.winograd import differentiate_by_tiles

__all__ = ["Convolution", "Form", "choose_form", "differentiate_weight", "possible_forms"]

_MOST_PLACES = 27
"""Largest number of kernel places (3 x 3 x 3) for which the gradient is computed place by place."""

_PIECE = 2**18
"""Elements of a piece of a depthwise convolution's cotangent."""


class Form(enum.Enum):
    """The computation of a weight gradient."""

    BATCH = "a convolution over the batch"
    DEPTHWISE = "sums over positions in NHWC, one for each place"
    FOLDED = "one matrix product, batch and positions folded together"
    ROWS = "one matrix product for each row of places, in NHWC"
    PLACES = "one matrix product for each place"
    PATCHES = "one matrix product for all places (im2col)"
    TILES_2 = "Winograd's minimal filtering, tiles of 2 x 2"
    TILES_4 = "Winograd's minimal filtering, tiles of 4 x 4"


_TILES = {Form.TILES_2: 2, Form.TILES_4: 4}
"""Rows and columns of a tile."""

_TILED = ir.DataType.FLOAT
"""The dtype of a convolution by tiles: the transforms lose two to three bits, too many of 16, and ONNX Runtime has no
convolution of float64 for the direct sum."""


@dataclasses.dataclass(frozen=True)
class Convolution:
    """The attributes of a convolution, one number for each spatial axis."""

    strides: list[int]
    pads: list[int]
    dilations: list[int]
    groups: int

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.strides)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of ONNX's Conv and ConvTranspose."""
        pads = self.pads * 2  # at the start and at the end of each axis
        return {"strides": self.strides, "pads": pads, "dilations": self.dilations, "group": self.groups}

    @property
    def is_plain(self) -> bool:
        """Whether each output has the position of its input: stride 1 and no padding."""
        return self.groups == 1 and all(stride == 1 for stride in self.strides) and not any(self.pads)

    @property
    def has_unit_steps(self) -> bool:
        """Whether strides and dilations are 1."""
        return all(step == 1 for step in (*self.strides, *self.dilations))


def differentiate_weight(
    signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution, form: Form
) -> ir.Value:
    """The gradient of a weight (O, I / groups, *kernel).

    Args:
        signal: (N, I, *size), what the convolution reads.
        cotangent: (N, O, *positions), of its result.
        weight: for its shape.
        convolution: its attributes.
        form: a form that `choose_form` returns for these arguments.
    """
    if form is Form.BATCH:
        return _by_batch(signal, cotangent, weight, convolution)
    if form is Form.DEPTHWISE:
        return _by_channel(signal, cotangent, weight, convolution)
    if form is Form.FOLDED:
        return _reshape_like(op.MatMul(_rows_of(cotangent), _last_channels(signal)), weight)
    if form is Form.ROWS:
        return _by_rows(signal, cotangent, weight, convolution)
    if form in _TILES:
        direct = functools.partial(_by_batch, signal, cotangent, weight, convolution)
        return differentiate_by_tiles(signal, cotangent, weight, convolution.pads, _TILES[form], direct)
    return _by_places(signal, cotangent, weight, convolution, together=form is Form.PATCHES)


def choose_form(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> Form:
    """The fastest of the forms that are right for these shapes, by the measured costs of the most similar convolution;
    an unknown size is left out of the comparison."""
    kernel = _static(list(weight.shape or ())[2:])
    if kernel is None or not 0 < math.prod(kernel) <= _MOST_PLACES:
        return Form.BATCH
    assert signal.shape is not None and cotangent.shape is not None
    channels, outputs = signal.shape[1], cotangent.shape[1]
    if convolution.groups > 1:
        return Form.DEPTHWISE if convolution.groups == channels == outputs else Form.BATCH
    positions = _static(list(cotangent.shape)[2:])
    sizes = {
        "batch": signal.shape[0],
        "channels": channels,
        "outputs": outputs,
        "positions": None if positions is None else math.prod(positions),
        "places": math.prod(kernel),
    }
    known = {name: size for name, size in sizes.items() if isinstance(size, int)}
    image = _static(list(signal.shape)[1:])
    is_static = image is not None and positions is not None and 0 not in (*image, *positions)
    forms = possible_forms(convolution, kernel, may_tile=is_static and signal.dtype is _TILED)
    return min(forms, key=costs_of_similar(known).__getitem__)


def possible_forms(convolution: Convolution, kernel: Sequence[int], *, may_tile: bool = True) -> list[Form]:
    """The forms that are right for a convolution without groups.

    Args:
        convolution: its attributes.
        kernel: its spatial sizes.
        may_tile: all sizes but the batch are known, and the dtype has enough digits.
    """
    forms = [Form.PLACES, Form.PATCHES, Form.BATCH]
    if len(kernel) == 2:
        forms.append(Form.ROWS)
    if math.prod(kernel) == 1 and convolution.is_plain:
        forms.append(Form.FOLDED)
    if may_tile and list(kernel) == [3, 3] and convolution.has_unit_steps:
        forms += _TILES
    return forms


def costs_of_similar(sizes: Mapping[str, int]) -> dict[Form, float]:
    """The measured time of each form for the convolution of the table whose sizes are nearest, as ratios; a form that
    was not measured there is never the fastest.

    Args:
        sizes: batch, channels, outputs, positions of the result, and places of the kernel; unknown ones are missing.
    """

    def distance(row: Mapping[str, Any]) -> float:
        return sum(_WEIGHTS.get(name, 1.0) * abs(math.log(max(size, 1) / row[name])) for name, size in sizes.items())

    costs = min(_measured_costs(), key=distance)["costs"]
    return {form: costs.get(form.name, math.inf) for form in Form}


_WEIGHTS = {"batch": 0.25, "places": 4.0}
"""Importance of the sizes for the similarity of two convolutions; otherwise 1."""


@functools.cache
def _measured_costs() -> list[dict[str, Any]]:
    """The table that `bench/convolution_forms.py --write` measures."""
    text = (importlib.resources.files("gradport.operators") / "convolution_costs.json").read_text("utf-8")
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


def _static(sizes: Sequence[object]) -> list[int] | None:
    """The sizes if all are known."""
    known = [size for size in sizes if isinstance(size, int)]
    return known if len(known) == len(sizes) else None


def _ints(values: Sequence[int]) -> ir.Value:
    return op.Constant(value_ints=list(values))


def _reshape_like(value: ir.Value, weight: ir.Value) -> ir.Value:
    return op.Reshape(value, op.Shape(weight))


def _rows_of(cotangent: ir.Value) -> ir.Value:
    """(O, N * P): the cotangent of each output channel."""
    rank = len(cotangent.shape or ())
    rows = op.Transpose(cotangent, perm=[1, 0, *range(2, rank)])
    return op.Reshape(rows, op.Concat(op.Shape(rows, end=1), _ints([-1]), axis=0))


def _last_channels(signal: ir.Value) -> ir.Value:
    """(N * P, I): the channels of each position."""
    rank = len(signal.shape or ())
    last = op.Transpose(signal, perm=[0, *range(2, rank), 1])
    return op.Reshape(last, op.Concat(_ints([-1]), op.Shape(last, start=rank - 1), axis=0))


def _reach(positions: ir.Value, convolution: Convolution) -> ir.Value:
    """One more than the last position that the first place of the kernel reads, on each spatial axis.

    Args:
        positions: the spatial sizes of the cotangent.
        convolution: its strides.
    """
    last = op.Sub(positions, _ints([1]))
    return op.Add(op.Mul(last, _ints(convolution.strides)), _ints([1]))


def _by_channel(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """Depthwise: with the channels last, each product and each sum runs along memory; a large tensor is cut into pieces
    that stay in the cache between its places."""
    rank = convolution.rank
    last = [0, *range(2, rank + 2), 1]
    x, g = op.Transpose(signal, perm=last), op.Transpose(cotangent, perm=last)
    if any(convolution.pads):
        x = op.Pad(x, _ints([0, *convolution.pads, 0] * 2))
    sums = (
        _sum_by_channel(*piece, weight, convolution) for piece in _pieces(x, g, weight, convolution, _cuts(cotangent))
    )
    return _reshape_like(functools.reduce(op.Add, sums), weight)


def _cuts(cotangent: ir.Value) -> list[int]:
    """The rows at which the pieces of a large tensor begin, and its last row; empty if it stays whole."""
    sizes = _static(list(cotangent.shape or ()))
    pieces = 1 if sizes is None else min(round(math.prod(sizes) / _PIECE), sizes[2])
    return [sizes[2] * index // pieces for index in range(pieces + 1)] if sizes and pieces > 1 else []


def _pieces(
    x: ir.Value, g: ir.Value, weight: ir.Value, convolution: Convolution, cuts: list[int]
) -> list[tuple[ir.Value, ir.Value]]:
    """Rows of the cotangent with the rows of the signal that they read."""
    if not cuts:
        return [(x, g)]
    stride, rows = convolution.strides[0], _ints([1])
    more = convolution.dilations[0] * (int(weight.shape[2]) - 1) + 1  # type: ignore[index, arg-type]
    return [
        (
            op.Slice(x, _ints([start * stride]), _ints([(end - 1) * stride + more]), rows),
            op.Slice(g, _ints([start]), _ints([end]), rows),
        )
        for start, end in itertools.pairwise(cuts)
    ]


def _sum_by_channel(x: ir.Value, g: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """(C, places): the sums of the products with channels last."""
    rank = convolution.rank
    kernel = [int(size) for size in weight.shape[2:]]  # type: ignore[index, arg-type]
    reach = _reach(op.Shape(g, start=1, end=rank + 1), convolution)
    axes, steps = _ints(range(1, rank + 1)), _ints(convolution.strides)
    sums = []
    for place in itertools.product(*map(range, kernel)):
        start = _ints([at * dilation for at, dilation in zip(place, convolution.dilations, strict=True)])
        product = op.Mul(g, op.Slice(x, start, op.Add(start, reach), axes, steps))
        sums.append(op.Unsqueeze(op.ReduceSum(product, _ints(range(rank + 1)), keepdims=0), _ints([1])))
    return op.Concat(*sums, axis=1) if len(sums) > 1 else sums[0]


def _by_rows(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """With the channels last, the places of a kernel row stand side by side: one product for each row."""
    height, width = (int(size) for size in weight.shape[2:])  # type: ignore[index, arg-type]
    (down, right), (step_down, step_right) = convolution.dilations, convolution.strides
    x = op.Transpose(signal, perm=[0, 2, 3, 1])
    if any(convolution.pads):
        x = op.Pad(x, _ints([0, *convolution.pads, 0] * 2))
    reach = _reach(op.Shape(cotangent, start=2), convolution)
    tall, wide = op.Slice(reach, _ints([0]), _ints([1])), op.Slice(reach, _ints([1]), _ints([2]))
    columns = [
        op.Slice(x, _ints([at * right]), op.Add(_ints([at * right]), wide), _ints([2]), _ints([step_right]))
        for at in range(width)
    ]
    beside = op.Concat(*columns, axis=3) if width > 1 else columns[0]
    flat = op.Concat(_ints([-1]), op.Shape(beside, start=3), axis=0)
    g = _rows_of(cotangent)
    by_row = []
    for at in range(height):
        start = _ints([at * down])
        row = op.Slice(beside, start, op.Add(start, tall), _ints([1]), _ints([step_down]))
        by_row.append(op.Unsqueeze(op.MatMul(g, op.Reshape(row, flat)), _ints([1])))
    whole = op.Concat(*by_row, axis=1) if height > 1 else by_row[0]
    places = op.Concat(op.Shape(weight, end=1), _ints([height * width]), op.Shape(weight, start=1, end=2), axis=0)
    return _reshape_like(op.Transpose(op.Reshape(whole, places), perm=[0, 2, 1]), weight)


def _by_places(
    signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution, *, together: bool
) -> ir.Value:
    """For each kernel place, the product of the cotangent with the part of the signal that the place reads; or one
    product with all parts."""
    rank = convolution.rank
    kernel = [int(size) for size in weight.shape[2:]]  # type: ignore[index, arg-type]
    if any(convolution.pads):
        signal = op.Pad(signal, _ints([0, 0, *convolution.pads] * 2))
    flat = op.Concat(_ints([0, 0]), op.ReduceProd(op.Shape(cotangent, start=2), keepdims=1), axis=0)
    rows = op.Reshape(cotangent, flat)
    reach = _reach(op.Shape(cotangent, start=2), convolution)
    axes, steps = _ints(range(2, rank + 2)), _ints(convolution.strides)
    parts = []
    for place in itertools.product(*map(range, kernel)):
        start = _ints([at * dilation for at, dilation in zip(place, convolution.dilations, strict=True)])
        parts.append(op.Reshape(op.Slice(signal, start, op.Add(start, reach), axes, steps), flat))
    if together:
        total = _sum_products(rows, op.Concat(*parts, axis=1) if len(parts) > 1 else parts[0])
        by_place = op.Concat(op.Shape(weight, end=1), _ints([len(parts), -1]), axis=0)
        return _reshape_like(op.Transpose(op.Reshape(total, by_place), perm=[0, 2, 1]), weight)
    products = [op.Unsqueeze(_sum_products(rows, part), _ints([2])) for part in parts]
    return _reshape_like(op.Concat(*products, axis=2) if len(products) > 1 else products[0], weight)


def _sum_products(rows: ir.Value, columns: ir.Value) -> ir.Value:
    """(O, I): the products of rows (N, O, P) and columns (N, I, P), summed over batch and space."""
    product = op.MatMul(rows, op.Transpose(columns, perm=[0, 2, 1]))
    return op.ReduceSum(product, _ints([0]), keepdims=0)


def _by_batch(signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution) -> ir.Value:
    """A convolution with batch and channels exchanged, and stride and dilation: (I/g, g*N, ...) with (O, N, ...)."""
    rank, groups = convolution.rank, convolution.groups
    space = list(range(2, rank + 2))
    rows = op.Transpose(signal, perm=[1, 0, *space])
    if groups > 1:
        parts = op.Concat(_ints([groups, -1]), op.Shape(rows, start=1), axis=0)
        by_group = op.Transpose(op.Reshape(rows, parts), perm=[1, 0, *range(2, rank + 3)])
        size = op.Concat(op.Shape(by_group, end=1), _ints([-1]), op.Shape(rows, start=2), axis=0)
        rows = op.Reshape(by_group, size)
    kernels = op.Transpose(cotangent, perm=[1, 0, *space])
    exchanged = dataclasses.replace(convolution, strides=convolution.dilations, dilations=convolution.strides)
    gradient = op.Conv(rows, kernels, **exchanged.attributes)
    axes = _ints(space)
    return op.Slice(op.Transpose(gradient, perm=[1, 0, *space]), _ints([0] * rank), op.Shape(weight, start=2), axes)
