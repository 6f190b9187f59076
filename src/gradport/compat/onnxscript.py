"""onnxscript: the graph that a lowering writes into, and its list of lowerings without a parse of their sources.

Private in onnxscript, and used here: `nodes` of the evaluator that torch's exporter installs as the default.
Replaced here: `values.TracedOnnxFunction.function_ir`, which parses the source of a lowering. The list of lowerings
reads only its domain, of five hundred of them, which takes most of a first export.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
from onnxscript import evaluator, values

__all__ = ["add_node", "skip_parsing"]


class _OnlyDomain:
    """What is read of a lowering's `function_ir`."""

    def __init__(self, domain: str) -> None:
        self.domain = domain


@contextlib.contextmanager
def skip_parsing() -> Iterator[None]:
    """The lowerings of torchlib can be listed and no source is parsed."""
    parsing: Any = values.TracedOnnxFunction.function_ir
    unparsed = property(lambda function: _OnlyDomain(function.opset.domain))
    values.TracedOnnxFunction.function_ir = unparsed  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        values.TracedOnnxFunction.function_ir = parsing  # type: ignore[method-assign]


def add_node(node: ir.Node) -> ir.Node:
    """Adds a node that onnxscript has no function for; only inside of a lowering."""
    evaluator.default().nodes.append(node)  # type: ignore[attr-defined]
    return node
