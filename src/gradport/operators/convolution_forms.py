"""The choice of the forms in which the gradients of a convolution are computed, by measured costs.

`bench/convolution_forms.py --write` measures them on shapes of known networks; a convolution takes the forms that are
fastest for the most similar one. ONNX Runtime has no operator for a weight gradient, and runs those for an input
gradient at very different speeds.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib.resources
import json
import math
import operator
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

__all__ = ["TILES", "Convolution", "InputForm", "WeightForm", "choose_forms", "possible_forms", "static_sizes"]

_MOST_PLACES = 27
"""Largest number of kernel places (3 x 3 x 3) for which a form with nodes for each place is considered."""


class WeightForm(enum.Enum):
    """The computation of a weight gradient: a sum of products of the cotangent with the signal at each place."""

    BATCH = "a convolution over the batch"
    DEPTHWISE = "sums over positions in NHWC, one for each place"
    DIAGONALS = "sums over columns for each pair of rows, then sums over the pairs of one distance"
    DOTS = "a dot product for each channel and place, in NCHW"
    FOLDED = "one matrix product, batch and positions folded together"
    ROWS = "one matrix product for each row of places, in NHWC"
    PLACES = "one matrix product for each place"
    PATCHES = "one matrix product for all places (im2col)"
    SHIFTS = "one matrix product of shifted copies: of the cotangent by rows of the kernel, of the signal by columns"
    TILES_2 = "Winograd's minimal filtering, tiles of 2 x 2"
    TILES_4 = "Winograd's minimal filtering, tiles of 4 x 4"


class InputForm(enum.Enum):
    """The computation of an input gradient."""

    TRANSPOSED = "a transposed convolution"
    FLIPPED = "a convolution with the kernel's places in reverse order"


TILES: Mapping[WeightForm, int] = {WeightForm.TILES_2: 2, WeightForm.TILES_4: 4}
"""Rows and columns of a tile. An input gradient has no such form: a large cotangent leaves its rounding error in all
places of its tile, also where the gradient is small or zero."""

_DTYPE = ir.DataType.FLOAT
"""The dtype of a convolution by tiles or by shifts: the transforms lose two to three bits, too many of 16, and ONNX
Runtime has no convolution of float64 for the direct sum of values that are not finite."""


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

    def can_flip(self, kernel: Sequence[int]) -> bool:
        """Whether a convolution of the cotangent gives the input gradient: stride 1, no padding beyond the kernel."""
        reach = [dilation * (size - 1) for dilation, size in zip(self.dilations, kernel, strict=True)]
        return all(stride == 1 for stride in self.strides) and all(map(operator.le, self.pads, reach))


def choose_forms(
    signal: ir.Value, cotangent: ir.Value, weight: ir.Value, convolution: Convolution
) -> tuple[WeightForm, InputForm]:
    """The fastest of the forms that are right for these shapes.

    Args:
        signal: (N, I, *size), what the convolution reads; an unknown size is left out of the comparison of costs.
        cotangent: (N, O, *positions), of its result.
        weight: (O, I / groups, *kernel).
        convolution: its attributes.
    """
    assert signal.shape is not None and cotangent.shape is not None
    channels, outputs = signal.shape[1], cotangent.shape[1]
    kernel = static_sizes(list(weight.shape or ())[2:])
    is_known = static_sizes(list(weight.shape or ())) is not None
    if kernel is None or 0 in kernel or (convolution.groups > 1 and not is_known):
        return WeightForm.BATCH, InputForm.TRANSPOSED
    positions = static_sizes(list(cotangent.shape)[2:])
    sizes = {
        "batch": signal.shape[0],
        "channels": channels,
        "outputs": outputs,
        "positions": None if positions is None else math.prod(positions),
        "axes": len(kernel),
        "places": math.prod(kernel),
        "stride": max(convolution.strides),
        "groups": convolution.groups,
    }
    known = {name: size for name, size in sizes.items() if isinstance(size, int)}
    image = static_sizes(list(signal.shape)[1:])
    is_static = image is not None and positions is not None and 0 not in (*image, *positions)
    is_depthwise = convolution.groups == channels == outputs
    weights, inputs = possible_forms(
        convolution, kernel, is_depthwise=is_depthwise, is_static=is_static and signal.dtype is _DTYPE
    )
    costs = _costs_of_similar(known)
    return min(weights, key=costs.of_weight), min(inputs, key=costs.of_input)


def possible_forms(
    convolution: Convolution, kernel: Sequence[int], *, is_depthwise: bool, is_static: bool = True
) -> tuple[list[WeightForm], list[InputForm]]:
    """The forms that are right for a convolution.

    Args:
        convolution: its attributes.
        kernel: its spatial sizes.
        is_depthwise: each group has one channel and one output.
        is_static: all sizes but the batch are known, and the dtype is float32.
    """
    places = math.prod(kernel)
    is_image = is_static and len(kernel) == 2 and places > 1
    weights = [WeightForm.BATCH]
    if convolution.groups == 1:
        weights += [WeightForm.ROWS] if len(kernel) == 2 and places <= _MOST_PLACES else []
        weights += [WeightForm.FOLDED] if places == 1 and convolution.is_plain else []
        weights += [WeightForm.SHIFTS] if is_image and convolution.can_flip(kernel) else []
        weights += TILES if is_image and list(kernel) == [3, 3] and convolution.has_unit_steps else []
    elif is_depthwise:
        weights += [WeightForm.DEPTHWISE, WeightForm.DOTS] if places <= _MOST_PLACES else []
        weights += [WeightForm.DIAGONALS] if is_image and convolution.has_unit_steps else []
    if places <= _MOST_PLACES and not is_depthwise:
        weights += [WeightForm.PLACES, WeightForm.PATCHES]
    inputs = [InputForm.TRANSPOSED]
    if convolution.can_flip(kernel):
        inputs.append(InputForm.FLIPPED)
    return weights, inputs


@dataclasses.dataclass(frozen=True)
class _Costs:
    """Measured times of one convolution, in milliseconds, with one thread and with two.

    Attributes:
        weight: of each form of the weight gradient, by its name.
        input: of each form of the input gradient.
    """

    weight: Mapping[str, Sequence[float]]
    input: Mapping[str, Sequence[float]]

    def of_weight(self, form: WeightForm) -> float:
        """Of a weight gradient. A form that was not measured is never the fastest."""
        return _cost(self.weight.get(form.name)) * (_MARGIN if form in TILES else 1)

    def of_input(self, form: InputForm) -> float:
        """Of an input gradient."""
        return _cost(self.input.get(form.name))


def _cost(times: Sequence[float] | None) -> float:
    """The geometric mean: a file does not know how many threads will run it."""
    return math.inf if times is None else statistics.geometric_mean(times)


def _costs_of_similar(sizes: Mapping[str, int]) -> _Costs:
    """The costs of the convolution in the table whose sizes are nearest.

    Args:
        sizes: batch, channels, outputs, positions of the result, spatial axes, places of the kernel, stride, groups;
            unknown ones are missing.
    """

    def distance(row: Mapping[str, Any]) -> float:
        return sum(_WEIGHTS.get(name, 1.0) * abs(math.log(max(size, 1) / row[name])) for name, size in sizes.items())

    row = min(_measured_costs(), key=distance)
    return _Costs(row["weight"], row["input"])


_MARGIN = 1.1
"""Tiles must be faster by this factor: they need more memory, and more nodes."""

_WEIGHTS = {"batch": 0.25, "axes": 8.0, "places": 4.0, "stride": 4.0, "groups": 4.0}
"""Importance of the sizes for the similarity of two convolutions; otherwise 1."""


@functools.cache
def _measured_costs() -> list[dict[str, Any]]:
    """The table that `bench/convolution_forms.py --write` measures."""
    text = (importlib.resources.files("gradport.operators") / "convolution_costs.json").read_text("utf-8")
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


def static_sizes(sizes: Sequence[object]) -> list[int] | None:
    """The sizes if all are known."""
    known = [size for size in sizes if isinstance(size, int)]
    return known if len(known) == len(sizes) else None
