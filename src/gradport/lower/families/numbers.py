"""Numbers that follow a dynamic size, and reductions whose lowering the exporter lacks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.operators import prims as _prims
from gradport.lower.table import lowering, op

__all__: list[str] = []


@lowering(_aten.sym_numel.default)
def sym_numel(self: ir.Value) -> ir.Value:
    """The number of elements.

    Source: https://onnx.ai/onnx/operators/onnx__Size.html
    """
    return op.Size(self)


@lowering(_aten.mul.Scalar)
def mul_scalar(self: ir.Value, other: float | ir.Value) -> ir.Value:
    """`self * other`, where the number may be computed in the graph.

    Source: https://onnx.ai/onnx/operators/onnx__Mul.html
    """
    if not isinstance(other, ir.Value):
        other = op.Constant(value=ir.tensor(np.array(other)))
    return op.Mul(self, op.CastLike(other, self))


@lowering(_prims.prod.default)
def prod(inp: ir.Value, dims: Sequence[int] | None, output_dtype: int | None = None) -> ir.Value:
    """The product over some dimensions.

    Source: https://onnx.ai/onnx/operators/onnx__ReduceProd.html
    """
    if output_dtype is not None and output_dtype != -1:
        inp = op.Cast(inp, to=output_dtype)
    axes = None if dims is None else op.Constant(value_ints=list(dims))
    return op.ReduceProd(inp, axes, keepdims=0)
