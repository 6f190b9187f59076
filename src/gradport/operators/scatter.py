"""Scatters and gathers along one dimension, where torch allows what ONNX's ScatterElements does not."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import booleans, integers, reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []


@lowering(
    _aten.scatter_add.default,
    samples=[sample(lambda x, place, y: x.scatter_add(1, place, y), reals("n", 4), integers("n", 3), reals("n", 3))],
)
def scatter_add(self: ir.Value, dim: int, index: ir.Value, src: ir.Value) -> ir.Value:
    """`self[index[i][j]][j] += src[i][j]`; `src` may be larger than `index`: only the part of its shape is read.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_add_.html
    """
    return _scatter(self, dim, index, src, "add")


@lowering(
    _aten.scatter.src,
    samples=[sample(lambda x, place, y: x.scatter(1, place, y), reals("n", 4), integers("n", 1), reals("n", 1))],
)
def scatter(self: ir.Value, dim: int, index: ir.Value, src: ir.Value) -> ir.Value:
    """`self[index[i][j]][j] = src[i][j]`, `src` as above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_.html
    """
    return _scatter(self, dim, index, src, "none")


@lowering(
    _aten.scatter.value, samples=[sample(lambda x, place: x.scatter(1, place, 0.5), reals("n", 4), integers("n", 2))]
)
def scatter_value(self: ir.Value, dim: int, index: ir.Value, value: float) -> ir.Value:
    """`self[index[i][j]][j] = value`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_.html
    """
    source = op.Expand(op.CastLike(op.Constant(value_float=float(value)), self), op.Shape(index))
    return _scatter(self, dim, index, source, "none")


@lowering(
    _aten.masked_scatter_backward.default,
    samples=[sample(lambda x, mask, y: x.masked_scatter(mask, y), reals("n", 4), booleans("n", 4), reals("n", 4))],
)
def masked_scatter_backward(grad_output: ir.Value, mask: ir.Value, sizes: Sequence[int | ir.Value]) -> ir.Value:
    """The gradient of `masked_scatter`'s source: its n-th element was written where the mask is true the n-th time.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.masked_scatter_.html
    """
    flat, zero, one = (op.Constant(value_ints=[value]) for value in (-1, 0, 1))
    shape = _shape(sizes)
    size = op.ReduceProd(shape, keepdims=1)
    chosen = op.Reshape(op.Expand(mask, op.Shape(grad_output)), flat)
    count = op.CumSum(op.Cast(chosen, to=ir.DataType.INT64), op.Constant(value_int=0))
    place = op.Where(chosen, op.Sub(count, one), size)  # elements outside the mask go to one extra place
    room = op.Expand(op.CastLike(op.Constant(value_float=0.0), grad_output), op.Add(size, one))
    filled = op.ScatterElements(room, place, op.Reshape(grad_output, flat), axis=0)
    return op.Reshape(op.Slice(filled, zero, size), shape)


def _shape(sizes: Sequence[int | ir.Value]) -> ir.Value:
    """The sizes, some computed in the graph, as one tensor."""
    one = op.Constant(value_ints=[1])
    parts = [op.Constant(value_ints=[s]) if isinstance(s, int) else op.Reshape(s, one) for s in sizes]
    return op.Concat(*parts, axis=0)


def _scatter(self: ir.Value, dim: int, index: ir.Value, src: ir.Value, reduction: str) -> ir.Value:
    assert self.shape is not None and index.shape is not None
    if len(index.shape) == 0:
        index = op.Unsqueeze(index, op.Constant(value_ints=[0]))
    if len(self.shape) == 0:
        one = op.Constant(value_ints=[1])
        flat = op.ScatterElements(op.Reshape(self, one), index, op.Reshape(src, one), axis=0, reduction=reduction)
        return op.Squeeze(flat)
    return op.ScatterElements(self, index, _part(src, index), axis=dim, reduction=reduction)


def _part(src: ir.Value, index: ir.Value) -> ir.Value:
    """The leading part of `src` with the shape of `index`."""
    if src.shape is None or index.shape is None or list(src.shape) == list(index.shape):
        return src
    if len(src.shape) == 0:
        return op.Reshape(src, op.Shape(index))
    axes = list(range(len(src.shape)))
    return op.Slice(src, op.Constant(value_ints=[0] * len(axes)), op.Shape(index), op.Constant(value_ints=axes))
