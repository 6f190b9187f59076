"""Shapes: what the exporter's lowering of a view gets wrong."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch

from gradport.lower.table import lowering, op

__all__: list[str] = []

_aten = torch.ops.aten


@lowering(_aten.squeeze.dim, _aten.squeeze.dims)
def squeeze(self: ir.Value, dim: int | Sequence[int]) -> ir.Value:
    """Drops those of the dimensions that have size 1; the others stay, where ONNX's Squeeze would fail.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.squeeze.html
    """
    assert self.shape is not None
    rank = len(self.shape)
    dims = [dim] if isinstance(dim, int) else list(dim)
    axes = sorted({axis % rank for axis in dims if self.shape[axis % rank] == 1}) if rank else []
    return op.Squeeze(self, op.Constant(value_ints=axes)) if axes else op.Identity(self)
