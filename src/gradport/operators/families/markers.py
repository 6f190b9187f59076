"""`gradport::mark`: carried through the translation as a node of its own, and consumed by the outlining."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from gradport.compat.onnxscript import add_node
from gradport.operators import markers
from gradport.operators.table import lowering

__all__ = ["MARK_DOMAIN"]

MARK_DOMAIN = "gradport.mark"


@lowering(markers.mark)
def mark(values: Sequence[ir.Value], region: int, side: str) -> ir.Value:
    """A node that holds the values at a Region's border, so that whatever replaces them replaces them here too."""
    node = ir.Node(MARK_DOMAIN, side, values, [ir.AttrInt64("region", region)], num_outputs=1)
    return add_node(node).outputs[0]
