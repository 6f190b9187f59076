"""The graphs in the attributes of a node: bodies of If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

__all__ = ["nodes_within", "subgraphs", "values_read"]


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs in the node's own attributes, in order, without nested graphs."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def nodes_within(node: ir.Node) -> Iterator[ir.Node]:
    """The node and every node of its subgraphs, at any depth."""
    yield node
    for graph in subgraphs(node):
        yield from ir.traversal.RecursiveGraphIterator(graph)


def values_read(node: ir.Node) -> Iterator[ir.Value]:
    """The inputs of the node, and the outside values that its subgraphs read or return; in order, with repetitions.

    `onnx_ir.analysis.analyze_implicit_usage` returns sets, whose order differs between runs.
    """
    yield from (value for value in node.inputs if value is not None)
    for graph in subgraphs(node):
        own = {*graph.inputs, *graph.initializers.values(), *(value for inner in graph for value in inner.outputs)}
        read = [*(value for inner in graph for value in values_read(inner)), *graph.outputs]
        yield from (value for value in read if value not in own)
