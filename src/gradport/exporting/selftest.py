"""Lowers a test Function to the flat ONNX graph once in each process, and checks that no information is lost."""

from __future__ import annotations

import functools
from typing import Any

import torch

from gradport.compat.torch.selftest import incompatibility, require_hooks
from gradport.eager.joint import Joint
from gradport.errors import CompatibilityError
from gradport.lowering import decomposition_table, lower
from gradport.lowering.lower import REGION
from gradport.operators.markers import MARK_DOMAIN
from gradport.subject.ports import Phase
from gradport.subject.subject import Subject
from gradport.tracing import trace_joint

__all__ = ["require_working_export"]


@functools.cache
def require_working_export(opset_version: int) -> None:
    """Traces and lowers a Function with the installed torch, onnxscript and onnx-ir.

    Raises:
        CompatibilityError: its Regions or its marks are missing in the ONNX graph.
    """
    require_hooks()
    joint = Joint(Subject(_Probe, (torch.ones(2),), wrt="inputs"))
    try:
        trace = trace_joint(joint, {}, decomposition_table(opset_version))
        graph = lower(trace, opset_version).model.graph
    except CompatibilityError:
        raise
    except Exception as error:
        raise incompatibility(f"a probe cannot be exported ({type(error).__name__}: {error})") from error
    phases = [(region.function, region.phase) for region in trace.regions.values()]
    if phases != [(_Probe, Phase.FORWARD), (_Probe, Phase.BACKWARD)]:
        raise incompatibility("the calls of a custom autograd.Function are not seen in a trace")
    marks = {(node.attributes["region"].as_int(), node.op_type) for node in graph if node.domain == MARK_DOMAIN}
    if marks != {(0, "enter"), (0, "save"), (0, "leave"), (1, "enter"), (1, "leave")}:
        raise incompatibility("the borders of a custom autograd.Function are lost on the way to ONNX")
    inside = [node for node in graph if node.op_type in ("Sin", "Cos")]
    if [node.metadata_props.get(REGION) for node in inside] != ["0", "1"]:
        raise incompatibility("ONNX nodes have lost the call of the Function to which they belong")


class _Probe(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (x,) = ctx.saved_tensors
        return cotangents[0] * x.cos()
