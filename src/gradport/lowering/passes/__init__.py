"""ONNX to ONNX: one pass a file, each in place, each with what it changed (onnx-ir's `PassResult`)."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from gradport.lowering.passes.bfloat16 import RoundInside
from gradport.lowering.passes.casts import WriteCasts
from gradport.lowering.passes.checkpoints import gate_recomputation
from gradport.lowering.passes.generators import draw_at_run_time
from gradport.lowering.passes.masks import SelectByProduct
from gradport.lowering.passes.narrow import Widen
from gradport.lowering.passes.pools import PoolNan

__all__ = ["draw_at_run_time", "gate_recomputation", "passes", "rewrite", "share"]


def passes(*, finite_math: bool) -> list[ir.passes.InPlacePass]:
    """What gradients need, in order, on the flat graph before it is cut into functions.

    Args:
        finite_math: allow what is wrong where values are inf or nan.
    """
    return [
        RoundInside(),
        SelectByProduct(finite_math=finite_math),
        *([] if finite_math else [PoolNan()]),
        WriteCasts(),
        Widen(),
    ]


def rewrite(model: ir.Model, *, finite_math: bool) -> ir.passes.PassResult:
    """The model after all passes; new nodes belong to the Region and line of those that they replace."""
    return ir.passes.Sequential(*passes(finite_math=finite_math))(model)


def share(model: ir.Model) -> ir.passes.PassResult:
    """What forward and backward both compute is computed once, in place; functions stay as they are."""
    return common.CommonSubexpressionEliminationPass(size_limit=64)(model)
