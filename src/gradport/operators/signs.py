"""Signs and limits, where ONNX or ONNX Runtime treats nan and infinities differently from torch."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []


@lowering(_aten.sign.default, _aten.sgn.default, samples=[sample(lambda x: x * x.sign(), reals("n", 4))])
def sign(self: ir.Value) -> ir.Value:
    """-1, 0 or 1; 0 for nan, where ONNX's Sign gives nan.

    Source: https://onnx.ai/onnx/operators/onnx__Sign.html
    """
    signs = op.Sign(self)
    if self.dtype is None or not self.dtype.is_floating_point():
        return signs
    return op.Where(op.IsNaN(self), op.CastLike(op.Constant(value_float=0.0), self), signs)


@lowering(_aten.clamp_min.default, samples=[sample(lambda x: torch.clamp_min(x, 0.5), reals("n", 4))])
def clamp_min(self: ir.Value, min: float) -> ir.Value:
    """The maximum of value and limit; ONNX Runtime's Clip without an upper limit turns inf into the largest number.

    Source: https://onnx.ai/onnx/operators/onnx__Max.html
    """
    return op.Max(self, _like(min, self))


@lowering(_aten.clamp_max.default, samples=[sample(lambda x: torch.clamp_max(x, 0.5), reals("n", 4))])
def clamp_max(self: ir.Value, max: float) -> ir.Value:
    """The minimum of value and limit.

    Source: https://onnx.ai/onnx/operators/onnx__Min.html
    """
    return op.Min(self, _like(max, self))


@lowering(_aten.clamp.default, samples=[sample(lambda x: torch.clamp(x, -0.5, 0.5), reals("n", 4))])
def clamp(self: ir.Value, min: float | None = None, max: float | None = None) -> ir.Value:
    """Clamps to the limits; one may be missing.

    Source: https://onnx.ai/onnx/operators/onnx__Clip.html
    """
    if max is None:
        return op.Identity(self) if min is None else clamp_min(self, min)
    if min is None:
        return clamp_max(self, max)
    return op.Clip(self, _like(min, self), _like(max, self))


def _like(number: float | ir.Value, value: ir.Value) -> ir.Value:
    if isinstance(number, ir.Value):
        return op.CastLike(number, value)
    assert value.dtype is not None
    return op.Constant(value=ir.tensor(np.array(number).astype(value.dtype.numpy())))
