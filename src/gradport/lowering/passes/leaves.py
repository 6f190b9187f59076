"""Orders the output nodes so that ONNX Runtime computes each gradient as soon as it can.

ONNX Runtime does not run nodes in the order of the file: it begins with the last node that only the caller reads,
and computes its inputs before it. In a backward pass the gradients of the last layers come first. If the last node gives the
gradient of the first layer, the whole chain of input gradients runs before all weight gradients, and keeps what these
read. If the last node gives the gradient of the last layer, each gradient is computed as soon as it can be.

Source: `Graph::ReverseDFSFrom` of ONNX Runtime, from the leaves that `GraphViewer` collects.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

__all__ = ["LeavesLast"]


class LeavesLast(ir.passes.InPlacePass):
    """Moves nodes that only the caller reads to the end; those whose inputs are computed first become the last ones."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether the order changed."""
        graph = model.graph
        before = list(graph)
        places = {node: place for place, node in enumerate(before)}
        leaves = filter(_is_leaf, before)
        for leaf in sorted(leaves, key=lambda node: -_last_input(node, places)):
            graph.remove(leaf)
            graph.append(leaf)
        return ir.passes.PassResult(model, modified=list(graph) != before)


def _is_leaf(node: ir.Node) -> bool:
    """Whether a node gives outputs of the graph, which no other node reads."""
    results = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    return bool(results) and not any(value.uses() for value in results)


def _last_input(node: ir.Node, places: Mapping[ir.Node, int]) -> int:
    """The place of the last node whose result a node reads; -1 if it reads inputs of the graph only."""
    producers = [value.producer() for value in node.inputs if value is not None]
    return max((places.get(producer, -1) for producer in producers if producer is not None), default=-1)
