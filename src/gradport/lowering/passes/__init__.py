"""ONNX to ONNX: one file per rewrite."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from gradport.lowering.passes.bfloat16 import round_inside
from gradport.lowering.passes.casts import write_casts
from gradport.lowering.passes.checkpoints import gate_recomputation
from gradport.lowering.passes.generators import draw_at_run_time
from gradport.lowering.passes.masks import select_by_product
from gradport.lowering.passes.narrow import widen
from gradport.lowering.passes.pools import pool_nan

__all__ = ["draw_at_run_time", "gate_recomputation", "rewrite", "share"]


def rewrite(model: ir.Model, *, finite_math: bool) -> None:
    """What gradients need, on the flat graph before it is cut into functions, in place.

    Args:
        model: the graph; new nodes belong to the Region and line of those that they replace.
        finite_math: allow what is wrong where values are inf or nan.
    """
    round_inside(model)
    select_by_product(model.graph, finite_math=finite_math)
    if not finite_math:
        pool_nan(model.graph)
    write_casts(model)
    widen(model)


def share(model: ir.Model) -> None:
    """What forward and backward both compute is computed once, in place; functions stay as they are."""
    common.CommonSubexpressionEliminationPass(size_limit=64)(model)
