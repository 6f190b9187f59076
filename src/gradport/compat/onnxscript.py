"""onnxscript: the graph that a lowering adds nodes to, and the list of lowerings without parsing their source.

Private in onnxscript, and used here: `nodes` of the evaluator that torch's exporter installs as the default.
Replaced here: `values.TracedOnnxFunction.function_ir`, which parses the source of a lowering. The list of lowerings
needs only its domain; parsing all five hundred takes most of the time of a first export.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
from onnxscript import evaluator, values

__all__ = ["add_node", "branch", "skip_parsing"]


class _OnlyDomain:
    """The part of a lowering's `function_ir` that the list of lowerings reads."""

    def __init__(self, domain: str) -> None:
        self.domain = domain


@contextlib.contextmanager
def skip_parsing() -> Iterator[None]:
    """While open, torchlib's lowerings can be listed without parsing their source."""
    parsing: Any = values.TracedOnnxFunction.function_ir
    unparsed = property(lambda function: _OnlyDomain(function.opset.domain))
    values.TracedOnnxFunction.function_ir = unparsed  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        values.TracedOnnxFunction.function_ir = parsing  # type: ignore[method-assign]


def add_node(node: ir.Node) -> ir.Node:
    """Adds a node that onnxscript has no function for; works only inside a lowering."""
    evaluator.default().nodes.append(node)  # type: ignore[attr-defined]
    return node


def branch(build: Callable[[], ir.Value]) -> ir.Graph:
    """The nodes that a function adds, as a branch of an If with one output; works only inside a lowering. They may read
    values of the graph outside; their own names are given by `gradport.lowering`."""
    evaluator_of_graph: Any = evaluator.default()
    outside = evaluator_of_graph.nodes
    evaluator_of_graph.nodes = inside = []
    try:
        result = build()
    finally:
        evaluator_of_graph.nodes = outside
    return ir.Graph([], [result], nodes=inside)
