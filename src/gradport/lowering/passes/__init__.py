"""Rewrites of ONNX models: one pass in each file, in place; the result says if the model changed (`PassResult`)."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from gradport.lowering.passes.batched_updates import BatchUpdates
from gradport.lowering.passes.bfloat16 import RoundInside
from gradport.lowering.passes.casts import WriteCasts
from gradport.lowering.passes.checkpoints import gate_recomputation
from gradport.lowering.passes.dot_products import SumProductsByDot
from gradport.lowering.passes.generators import draw_at_run_time
from gradport.lowering.passes.masks import SelectByProduct
from gradport.lowering.passes.narrow import Widen
from gradport.lowering.passes.pools import PoolNan
from gradport.lowering.passes.ranks import MatchRanks
from gradport.lowering.passes.reversed_scans import ReverseScans
from gradport.lowering.passes.round_trips import RemoveRoundTrips
from gradport.lowering.passes.row_sums import SumRowsByProduct
from gradport.lowering.passes.scatters import AddByScatter
from gradport.lowering.passes.selects import SelectBySum
from gradport.lowering.passes.softmaxes import MaskRowsInBranch
from gradport.lowering.passes.unpools import UnpoolByMask

__all__ = ["draw_at_run_time", "gate_recomputation", "passes", "rewrite", "share"]


def passes(*, finite_math: bool, training: bool = False) -> list[ir.passes.InPlacePass]:
    """The passes for graphs with gradients, in order, on the flat graph before it is split into functions.

    Args:
        finite_math: allow rewrites that are wrong if values are inf or nan.
        training: whether the graph changes state: it is a training step, or a part of one.
    """
    return [
        RoundInside(),
        MaskRowsInBranch(),
        SelectByProduct(finite_math=finite_math),
        SelectBySum(finite_math=finite_math),
        UnpoolByMask(finite_math=finite_math),
        *([] if finite_math else [PoolNan()]),
        WriteCasts(),
        AddByScatter(),
        ReverseScans(),
        SumProductsByDot(),
        SumRowsByProduct(),
        *([BatchUpdates()] if training else []),
        MatchRanks(),
        Widen(),
        RemoveRoundTrips(),
    ]


def rewrite(model: ir.Model, *, finite_math: bool, training: bool = False) -> ir.passes.PassResult:
    """Runs all passes; new nodes get the Region and the source line of the nodes that they replace."""
    return ir.passes.Sequential(*passes(finite_math=finite_math, training=training))(model)


def share(model: ir.Model) -> ir.passes.PassResult:
    """Merges computations that forward and backward share, in place; functions do not change."""
    return common.CommonSubexpressionEliminationPass(size_limit=64)(model)
