"""The difference of each operator's value in ONNX from its value in eager torch, along the graph."""

from __future__ import annotations

from typing import Any

import torch

from gradport.eager.dimensions import Dimensions
from gradport.eager.joint import Joint
from gradport.exporting.export import lower_unproved
from gradport.lowering import decomposition_table, forms_of
from gradport.proving.answers import reference
from gradport.proving.divergence import departures
from gradport.runtimes.ort import unoptimized
from gradport.tracing import trace_joint

__all__ = ["divergence"]


def divergence(joint: Joint, dimensions: Dimensions, opset: int, seed: int = 0) -> list[dict[str, Any]]:
    """A row per operator of the trace whose value is in the file, in graph order, on the example.

    Returns:
        `node`, `op`, `half`, `place` (the user's line, or None) and `relative`, the largest error over the largest
        value.

    Raises:
        Error: the Subject cannot be exported, or does not run.
    """
    trace = trace_joint(joint, dimensions, decomposition_table(opset))
    inline = lower_unproved(trace, opset, forms_of("inline"), options={"finite_math": False})
    generator = torch.Generator().manual_seed(seed)
    answer = reference(joint, joint.examples(), generator)
    rows = departures(trace, inline, unoptimized, joint.examples(), answer)
    return [
        {"node": one.value, "op": one.operator, "half": one.phase, "place": one.place, "relative": one.relative}
        for one in rows
    ]
