"""onnxscript: the graph that a lowering is writing into.

Private in onnxscript, and used here: `nodes` of the evaluator that torch's exporter installs as the default.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import evaluator

__all__ = ["add_node"]


def add_node(node: ir.Node) -> ir.Node:
    """Adds a node that onnxscript has no function for; only inside of a lowering."""
    evaluator.default().nodes.append(node)  # type: ignore[attr-defined]
    return node
