"""A rewrite that holds for finite values, with the node itself for all others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement

__all__ = ["replace_if_finite"]


def replace_if_finite(
    graph: ir.Graph,
    node: ir.Node,
    values: Sequence[ir.Value],
    finite: Callable[[Replacement], ir.Value],
    other: Callable[[Replacement], ir.Value],
) -> None:
    """Replaces a node by an If.

    Args:
        graph: holds the node.
        node: with one output.
        values: decide, of one dtype: a sum that overflows counts as not finite.
        finite: adds the nodes of the result if the sum of all values is finite.
        other: adds the nodes of the result if it is not.
    """
    new = Replacement(node)
    sums = [new.add("ReduceSum", [value], keepdims=0) for value in values]
    total = functools.reduce(lambda one, more: new.add("Add", [one, more]), sums)
    nothing = new.add("Sub", [total, total])  # nan if the sum is not finite
    is_finite = new.add("Equal", [nothing, new.add("CastLike", [new.constant(np.float32(0)), nothing])])
    fast, slow = Replacement(node), Replacement(node)
    fast.set_outputs(finite(fast))
    slow.set_outputs(other(slow))
    branches = fast.graph("finite"), slow.graph("not_finite")
    new.replace_node(graph, new.choose(is_finite, *branches, like=node.outputs[0]))
