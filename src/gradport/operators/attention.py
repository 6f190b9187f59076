"""The softmax of attention, which is zero where all keys are masked.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
"""

from __future__ import annotations

import math

import onnx_ir as ir
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import number
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []

_BATCH = (reals("n", 2, 3, 4), reals("n", 2, 3, 4), reals("n", 2, 3, 4))


@lowering(_aten._safe_softmax.default, samples=[sample(F.scaled_dot_product_attention, *_BATCH)])
def safe_softmax(self: ir.Value, dim: int, dtype: int | None = None) -> ir.Value:
    """The softmax; zero in rows whose values are all -inf."""
    result = self.dtype if dtype is None else ir.DataType(dtype)
    wide = ir.DataType.DOUBLE if result is ir.DataType.DOUBLE else ir.DataType.FLOAT
    scores = _cast(self, self.dtype, wide)
    lowest, zero = (op.Constant(value=ir.tensor(value, dtype=wide)) for value in (-math.inf, 0.0))
    masked = op.Cast(op.Equal(scores, lowest), to=wide)
    whole = op.Cast(op.ReduceMin(masked, number(dim), keepdims=1), to=ir.DataType.BOOL)
    zeros = op.Expand(zero, op.Shape(scores))
    return _cast(op.Where(whole, zeros, op.Softmax(scores, axis=dim)), wide, result)


def _cast(value: ir.Value, given: ir.DataType | None, wanted: ir.DataType | None) -> ir.Value:
    return value if given is wanted else op.Cast(value, to=wanted)
