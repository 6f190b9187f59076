"""Writes through a boolean mask: `x[mask] = value` is a Where, not NonZero and ScatterND."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch
from onnxscript import opset18 as op

from gradport.lower.table import lowering
from gradport.torch_internals import exporter_lowering

__all__: list[str] = []

_aten = torch.ops.aten


@lowering(_aten.index_put.default, _aten._unsafe_index_put.default)
def index_put(
    self: ir.Value, indices: Sequence[ir.Value | None], values: ir.Value, accumulate: bool = False
) -> ir.Value:
    """`self[mask] = value` with a scalar value, `Where(mask, value, self)`; anything else as the exporter writes it.

    Source: https://onnx.ai/onnx/operators/onnx__Where.html
    """
    masks = [index for index in indices if index is not None]
    scalar = values.shape is not None and all(length == 1 for length in values.shape)
    leading = indices[0] is not None
    if not (scalar and leading and len(masks) == 1 and masks[0].dtype == ir.DataType.BOOL):
        return exporter_lowering(_aten.index_put.default)(self, indices, values, accumulate)
    mask = _over_all_dimensions(masks[0], self)
    value = values if len(values.shape) == 0 else op.Squeeze(values)
    if accumulate:
        value = op.Add(self, value)
    return op.Where(mask, value, self)


def _over_all_dimensions(mask: ir.Value, self: ir.Value) -> ir.Value:
    """The mask with a dimension of one for each that it does not index."""
    assert mask.shape is not None and self.shape is not None
    missing = len(self.shape) - len(mask.shape)
    if missing == 0:
        return mask
    axes = list(range(len(mask.shape), len(self.shape)))
    return op.Unsqueeze(mask, op.Constant(value_ints=axes))
