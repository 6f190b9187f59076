"""Reads and writes at index tensors and through boolean masks: GatherND, ScatterND and Where."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import count_up
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []


@lowering(
    _aten.index.Tensor,
    _aten._unsafe_index.Tensor,
    samples=[sample(lambda x, place: x[:, place], reals("n", 4), integers(3))],
)
def index(self: ir.Value, indices: Sequence[ir.Value | None]) -> ir.Value:
    """`self[indices]`: index tensors are broadcast; a boolean mask selects the places where it is true.

    Source: https://onnx.ai/onnx/operators/onnx__GatherND.html
    """
    places, axes = _places(indices)
    data = _axes_first(self, axes)
    gathered = op.GatherND(data, _stack(places))
    return _axes_back(gathered, axes, _rank_of(places), len(self.shape or ()))


@lowering(
    _aten.index_put.default,
    _aten._unsafe_index_put.default,
    samples=[
        sample(
            lambda x, place, y: x.index_put((place,), y, accumulate=True),
            reals(5, "n"),
            integers(3, high=4),
            reals(3, "n"),
        )
    ],
)
def index_put(
    self: ir.Value, indices: Sequence[ir.Value | None], values: ir.Value, accumulate: bool = False
) -> ir.Value:
    """`self[indices] = values`, or `+=`; with one boolean mask and a scalar this is a Where.

    A sum over equal places is a ScatterElements: several threads of ONNX Runtime's ScatterND add to one place at the
    same time, and lose values.

    Source: https://onnx.ai/onnx/operators/onnx__ScatterND.html, https://onnx.ai/onnx/operators/onnx__Where.html,
    https://onnx.ai/onnx/operators/onnx__ScatterElements.html
    """
    if _is_masked_scalar(indices, values):
        value = values if len(values.shape or ()) == 0 else op.Squeeze(values)
        mask = _over_all_dimensions(indices, self)
        return op.Where(mask, op.Add(self, value) if accumulate else value, self)
    places, axes = _places(indices)
    data = _axes_first(self, axes)
    stacked = _stack(places)
    moved = _values_first(values, axes, _rank_of(places), len(self.shape or ()))
    rest = op.Shape(data, start=len(axes))
    shape = op.Concat(op.Shape(stacked, end=-1), rest, axis=0)
    expanded = op.Expand(moved, shape)
    rank = len(self.shape or ()) - len(axes)
    written = _add_rows(data, places, expanded, rest, rank) if accumulate else op.ScatterND(data, stacked, expanded)
    return _axes_restored(written, axes, len(self.shape or ()))


def _add_rows(data: ir.Value, places: list[ir.Value], values: ir.Value, rest: ir.Value, rank: int) -> ir.Value:
    """Adds values (*places, *rest) to the rows of data (*sizes, *rest) that the places give, one after the other.

    Args:
        rest: the sizes of the axes that no place indexes.
        rank: their number.
    """
    whole, count = op.Shape(data), len(places)
    row = places[0]
    if count > 1:
        row = _in_range(places[0], op.Shape(data, end=1))
        for axis, place in enumerate(places[1:], start=1):
            size = op.Shape(data, start=axis, end=axis + 1)
            row = op.Add(op.Mul(row, size), _in_range(place, size))
        data = _merge(data, count, rest)
    updates = values if _rank_of(places) == 1 else _merge(values, _rank_of(places), rest)
    column = op.Reshape(row, op.Constant(value_ints=[-1] + [1] * rank))
    added = op.ScatterElements(data, op.Expand(column, op.Shape(updates)), updates, axis=0, reduction="add")
    return op.Reshape(added, whole, allowzero=1) if count > 1 else added


def _merge(values: ir.Value, count: int, rest: ir.Value) -> ir.Value:
    """(product of the first `count` sizes, *rest)."""
    rows = op.ReduceProd(op.Shape(values, end=count), keepdims=1)
    return op.Reshape(values, op.Concat(rows, rest, axis=0), allowzero=1)


def _in_range(place: ir.Value, size: ir.Value) -> ir.Value:
    """An index counted from the start; Gather refuses one that is out of range, which would be another row's."""
    return op.Gather(count_up(size), place)


def _is_masked_scalar(indices: Sequence[ir.Value | None], values: ir.Value) -> bool:
    tensors = [value for value in indices if value is not None]
    scalar = values.shape is not None and all(length == 1 for length in values.shape)
    return scalar and len(tensors) == 1 and tensors[0].dtype == ir.DataType.BOOL


def _over_all_dimensions(indices: Sequence[ir.Value | None], self: ir.Value) -> ir.Value:
    """The mask with size 1 for each trailing dimension that it does not index (leading dimensions broadcast)."""
    mask = next(value for value in indices if value is not None)
    first = next(place for place, value in enumerate(indices) if value is not None)
    assert mask.shape is not None and self.shape is not None
    missing = len(self.shape) - first - len(mask.shape)
    if missing == 0:
        return mask
    axes = list(range(len(mask.shape), len(mask.shape) + missing))
    return op.Unsqueeze(mask, op.Constant(value_ints=axes))


def _places(indices: Sequence[ir.Value | None]) -> tuple[list[ir.Value], list[int]]:
    """One integer tensor per indexed axis; a mask of rank r gives r tensors."""
    places: list[ir.Value] = []
    axes: list[int] = []
    axis = 0
    for value in indices:
        if value is None:
            axis += 1
        elif value.dtype == ir.DataType.BOOL:
            assert value.shape is not None
            rows = op.NonZero(value)
            for part in range(len(value.shape)):
                row = op.Gather(rows, op.Constant(value_int=part), axis=0)
                row.shape = ir.Shape([None])
                places.append(row)
                axes.append(axis)
                axis += 1
        else:
            places.append(value if value.dtype == ir.DataType.INT64 else op.Cast(value, to=7))
            places[-1].shape = value.shape
            axes.append(axis)
            axis += 1
    return places, axes


def _rank_of(places: list[ir.Value]) -> int:
    return max(len(place.shape or ()) for place in places)


def _stack(places: list[ir.Value]) -> ir.Value:
    """Broadcasts the index tensors and stacks them along a new last dimension."""
    last = op.Constant(value_ints=[-1])
    if len(places) == 1:
        return op.Unsqueeze(places[0], last)  # GatherND and ScatterND take negative indices as torch does
    total = places[0]
    for place in places[1:]:
        total = op.Add(total, place)
    shape = op.Shape(total)
    columns = [op.Unsqueeze(op.Expand(place, shape), last) for place in places]
    return op.Concat(*columns, axis=-1)


def _axes_first(self: ir.Value, axes: list[int]) -> ir.Value:
    rank = len(self.shape or ())
    order = axes + [axis for axis in range(rank) if axis not in axes]
    return self if order == list(range(rank)) else op.Transpose(self, perm=order)


def _axes_restored(data: ir.Value, axes: list[int], rank: int) -> ir.Value:
    order = axes + [axis for axis in range(rank) if axis not in axes]
    back = [order.index(axis) for axis in range(rank)]
    return data if back == list(range(rank)) else op.Transpose(data, perm=back)


def _axes_back(gathered: ir.Value, axes: list[int], places: int, rank: int) -> ir.Value:
    """Moves the broadcast dimensions, which come first, to the place of the index tensors if these are adjacent."""
    start = axes[0] if _are_adjacent(axes) else 0
    if start == 0 or places == 0:
        return gathered
    total = places + rank - len(axes)
    order = [*range(places, places + start), *range(places), *range(places + start, total)]
    return op.Transpose(gathered, perm=order)


def _values_first(values: ir.Value, axes: list[int], places: int, rank: int) -> ir.Value:
    """The values with the broadcast dimensions first, as ScatterND requires."""
    start = axes[0] if _are_adjacent(axes) else 0
    total = places + rank - len(axes)
    have = len(values.shape or ())
    if start == 0 or places == 0 or have <= total - start - places:
        return values
    if have < total:
        values = op.Unsqueeze(values, op.Constant(value_ints=list(range(total - have))))
    order = [*range(start, start + places), *range(start), *range(start + places, total)]
    return op.Transpose(values, perm=order)


def _are_adjacent(axes: list[int]) -> bool:
    return axes == list(range(axes[0], axes[0] + len(axes)))
