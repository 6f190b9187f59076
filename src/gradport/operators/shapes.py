"""Concatenation, splitting and squeezing, where the exporter is wrong or `torch.vmap` needs plain sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from gradport.compat.onnxscript import add_node
from gradport.compat.torch.batching import apply_over_batch
from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import sizes_of
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op, replacement

__all__: list[str] = []


@lowering(_aten.squeeze.dim, _aten.squeeze.dims, samples=[sample(lambda x: x.squeeze(1), reals("n", 1, 4))])
def squeeze(self: ir.Value, dim: int | Sequence[int]) -> ir.Value:
    """Drops the listed dimensions of size 1 and keeps the others; ONNX's Squeeze would fail.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.squeeze.html
    """
    assert self.shape is not None
    rank = len(self.shape)
    dims = [dim] if isinstance(dim, int) else list(dim)
    axes = sorted({axis % rank for axis in dims if self.shape[axis % rank] == 1}) if rank else []
    return op.Squeeze(self, op.Constant(value_ints=axes)) if axes else op.Identity(self)


@lowering(_aten.split.Tensor, samples=[sample(lambda x: torch.cat(x.split(2, 1)[::-1], 1), reals("n", 5))])
def split(self: ir.Value, split_size: int | ir.Value, dim: int = 0) -> Sequence[ir.Value] | ir.Value:
    """Parts of equal size, the last part the rest; a sequence if their number is unknown.

    Source: https://onnx.ai/onnx/operators/onnx__Split.html
    """
    length = self.shape[dim] if self.shape is not None else None
    if not isinstance(length, int) or not isinstance(split_size, int) or split_size == 0:
        return op.SplitToSequence(self, split_size, axis=dim)  # type: ignore[no-any-return]
    sizes = [min(split_size, length - start) for start in range(0, length, split_size)] or [0]
    return _parts(self, sizes, dim)


@lowering(_aten.split_with_sizes.default, samples=[sample(lambda x: x.split([1, 3], 1), reals("n", 4))])
def split_with_sizes(self: ir.Value, split_sizes: Sequence[int | ir.Value], dim: int = 0) -> Sequence[ir.Value]:
    """Parts of the given sizes.

    Source: https://onnx.ai/onnx/operators/onnx__Split.html
    """
    return _parts(self, split_sizes, dim)


@lowering(_aten.unbind.int, samples=[sample(lambda x: x.unbind(1), reals("n", 4))])
def unbind(self: ir.Value, dim: int = 0) -> Sequence[ir.Value] | ir.Value:
    """Parts of size 1, without their dimension; a sequence if their number is unknown.

    Source: https://onnx.ai/onnx/operators/onnx__Split.html
    """
    length = self.shape[dim] if self.shape is not None else None
    if not isinstance(length, int):
        return op.SplitToSequence(self, axis=dim, keepdims=0)  # type: ignore[no-any-return]
    axes = op.Constant(value_ints=[dim])
    return [op.Squeeze(part, axes) for part in _parts(self, [1] * length, dim)]


def _parts(x: ir.Value, sizes: Sequence[int | ir.Value], dim: int) -> Sequence[ir.Value]:
    if len(sizes) < 2:
        return [op.Identity(x) for _ in sizes]
    node = ir.Node("", "Split", [x, sizes_of(sizes)], [ir.AttrInt64("axis", dim)], num_outputs=len(sizes))
    return add_node(node).outputs


@lowering(_aten.copy.default, samples=[sample(lambda x, y: torch.zeros_like(x).copy_(y), reals("n", 4), reals(4))])
def copy(self: ir.Value, src: ir.Value, non_blocking: bool = False) -> ir.Value:
    """`src` in the dtype and shape of `self`: the exporter's lowering does not expand a smaller `src`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.copy_.html
    """
    converted = op.CastLike(src, self)
    return converted if _same(self, src) else op.Expand(converted, op.Shape(self))


def _same(one: ir.Value, other: ir.Value) -> bool:
    """Whether the two shapes are known and equal."""
    return one.shape is not None and other.shape is not None and list(one.shape) == list(other.shape)


_cat: Any = torch.cat


@replacement(
    torch.cat,
    torch.concat,
    torch.concatenate,
    samples=[sample(lambda x, y: torch.vmap(lambda a, b: torch.cat([a, b]))(x, y), reals("n", 4), reals("n", 4))],
)
def cat(tensors: Sequence[torch.Tensor], dim: int = 0, **options: object) -> torch.Tensor:
    """Concatenates tensors; under `torch.vmap`, those of each batch element.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cat.html
    """
    if not isinstance(tensors, (list, tuple)) or not tensors or options:
        return _cat(tensors, dim, **options)
    rank = tensors[0].dim()
    joined = apply_over_batch(tensors, lambda whole: cat(whole, dim % max(rank, 1) + 1))
    return _cat(tensors, dim) if joined is None else joined
