"""Numbers computed from a dynamic size, and reductions that the exporter does not lower."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.compat.torch.operators import prims as _prims
from gradport.compat.torch.sizes import symbolic_function
from gradport.operators.samples import reals, sample
from gradport.operators.table import lowering, op

__all__: list[str] = []


@lowering(_aten.sym_numel.default, samples=[sample(torch.ops.aten.trace, reals("n", "n"))])
def sym_numel(self: ir.Value) -> ir.Value:
    """The number of elements.

    Source: https://onnx.ai/onnx/operators/onnx__Size.html
    """
    return op.Size(self)


@lowering(_aten.mul.Scalar, samples=[sample(lambda x: x.std(0), reals("n", 4))])
def mul_scalar(self: ir.Value, other: float | ir.Value) -> ir.Value:
    """`self * other`; the number may be computed in the graph.

    Source: https://onnx.ai/onnx/operators/onnx__Mul.html
    """
    if not isinstance(other, ir.Value):
        other = op.Constant(value=ir.tensor(np.array(other)))
    return op.Mul(self, op.CastLike(other, self))


def _of_size(name: str) -> None:
    def of_size(number: ir.Value) -> ir.Value:
        return getattr(op, name.capitalize())(op.Cast(number, to=ir.DataType.FLOAT))

    of_size.__name__ = f"{name}_of_size"
    samples = [sample(lambda x: x * getattr(math, name)(1 / x.shape[0]), reals("n", 4))]
    lowering(symbolic_function(name), samples=samples)(of_size)


for _name in ("sqrt", "cos", "cosh", "sin", "sinh", "tan", "tanh", "asin", "acos", "atan"):
    _of_size(_name)


@lowering(symbolic_function("log2"), samples=[sample(lambda x: x * math.log2(x.shape[0]), reals("n", 4))])
def sym_log2(number: ir.Value) -> ir.Value:
    """The logarithm to base 2 of a size.

    Source: https://onnx.ai/onnx/operators/onnx__Log.html
    """
    return op.Mul(op.Log(op.Cast(number, to=ir.DataType.FLOAT)), op.Constant(value_float=1 / math.log(2)))


@lowering(round, samples=[sample(lambda x: x * round(x.shape[0] * 0.3), reals("n", 4))])
def round_number(number: ir.Value, ndigits: None = None) -> ir.Value:
    """A number computed from a size, rounded half to even as in Python.

    Source: https://onnx.ai/onnx/operators/onnx__Round.html
    """
    return op.Cast(op.Round(number), to=ir.DataType.INT64)


@lowering(_prims.prod.default, samples=[sample(lambda x: x * torch.ops.prims.prod(x.detach(), [0]), reals("n", 4))])
def prod(inp: ir.Value, dims: Sequence[int] | None, output_dtype: int | None = None) -> ir.Value:
    """The product over some dimensions.

    Source: https://onnx.ai/onnx/operators/onnx__ReduceProd.html
    """
    if output_dtype is not None and output_dtype != -1:
        inp = op.Cast(inp, to=output_dtype)
    axes = None if dims is None else op.Constant(value_ints=list(dims))
    return op.ReduceProd(inp, axes, keepdims=0)
