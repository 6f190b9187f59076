"""A select against zero becomes a product with the mask wherever everything is finite.

ONNX Runtime's Where branches on every element, which a mask without a pattern makes slow; a product does not. But 0
times inf or nan is nan, so the product is taken where the sum of the values is finite - then all of them are - and the
select where it is not. Both give the same numbers; only a zero may carry the sign of what was masked.

With finite_math the product is taken always.

https://onnx.ai/onnx/operators/onnx__Where.html, https://onnx.ai/onnx/operators/onnx__If.html
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement, constant_value

__all__ = ["SelectByProduct"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""A sum in half precision overflows too soon to tell anything."""


class SelectByProduct(ir.passes.InPlacePass):
    """Rewrites every `Where(mask, x, 0)` and `Where(mask, 0, x)` of the graph.

    Args:
        finite_math: without a look at inf and nan.
    """

    def __init__(self, *, finite_math: bool) -> None:
        super().__init__()
        self._finite_math = finite_math

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a select was rewritten."""
        modified = False
        for node in list(model.graph):
            mask, one, other = node.inputs if _is_select(node) else (None, None, None)
            if mask is None or _is_zero(one) == _is_zero(other):
                continue
            kept = _is_zero(other)
            values = one if kept else other
            _rewrite(model.graph, node, mask, values, kept=kept, finite_math=self._finite_math)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _is_select(node: ir.Node) -> bool:
    """Whether it is a Where of a dtype and a size that a product pays for."""
    result = node.outputs[0]
    if node.op_type != "Where" or node.domain or result.dtype not in _DTYPES or 0 in (result.shape or ()):
        return False
    made = None if node.inputs[0] is None else node.inputs[0].producer()
    return made is None or made.op_type != "IsNaN"  # hardly ever true, and a branch that never happens costs nothing


def _is_zero(value: ir.Value | None) -> bool:
    found = constant_value(value)
    return found is not None and found.size == 1 and found.ndim == 0 and not found.any()


def _rewrite(
    graph: ir.Graph,
    select: ir.Node,
    mask: ir.Value | None,
    values: ir.Value | None,
    *,
    kept: bool,
    finite_math: bool,
) -> None:
    assert mask is not None and values is not None
    made = Replacement(select)

    def product(inside: Replacement) -> ir.Value:
        keep = mask if kept else inside.add("Not", [mask])
        return inside.add("Mul", [values, inside.add("CastLike", [keep, values])], like=select.outputs[0])

    if finite_math:
        made.put(graph, product(made))
        return
    total = made.add("ReduceSum", [values], keepdims=0)
    none = made.add("Sub", [total, total])
    finite = made.add("Equal", [none, made.add("CastLike", [made.constant(np.float32(0)), none])])
    fast, slow = Replacement(select), Replacement(select)
    fast.give(product(fast))
    slow.give(slow.add("Where", list(select.inputs), like=select.outputs[0]))
    chosen = made.add(
        "If", [finite], like=select.outputs[0], then_branch=fast.graph("finite"), else_branch=slow.graph("not_finite")
    )
    made.put(graph, chosen)
