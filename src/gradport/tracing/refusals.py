"""Says by name what a trace could not carry: the construct, the Function, its line, and what the user can do."""

from __future__ import annotations

import re

import torch
import torch.fx

from gradport.compat.torch.operators import is_overload
from gradport.compat.torch.refusals import operator_of_unknown_size, operator_without_fake, reads_a_value
from gradport.eager.control_flow import bodies
from gradport.eager.custom_operators import NoBody
from gradport.eager.joint import Joint
from gradport.eager.run import ones, run_eager
from gradport.errors import Error, ExportError
from gradport.operators.replacing import SparseLayout
from gradport.subject.signature import source_of
from gradport.subject.user_code import Place, place_of_error
from gradport.tracing.regions import Region, Regions, place_of, region_of

__all__ = ["refuse_random_numbers", "trace_refusal", "whose"]

_NUMPY_TEXT = re.compile(r"numpy|ufunc", re.IGNORECASE)


def trace_refusal(joint: Joint, regions: Regions, error: Exception) -> Error:
    """The error that the user sees when tracing stopped with `error`."""
    try:
        run_eager(joint, joint.examples(), ones)
    except Error as eager_error:
        return eager_error  # eager fails as well: that is the user's own error, and its message the better one
    if isinstance(error, NoBody):
        name = f"{error.stand_in.__module__}.{error.stand_in.__qualname__}"
        return _refusal(
            whose(joint, regions.innermost),
            place_of_error(error),
            f"calls torch.ops.{name}, an operator whose kernel no trace can follow (it comes from C++ or Library.impl)",
            f"give a slow torch version with @gradport.reference(torch.ops.{name})",
        )
    if isinstance(joint.subject.target, torch.jit.ScriptModule):
        return _refusal(
            whose(joint, None),
            None,
            "is compiled by TorchScript, and its code cannot be traced",
            "export the module as it was before torch.jit.script",
        )
    what, advice = _name_reason(error)
    if regions.innermost is not None:
        advice += f", or give a slow torch version with @gradport.reference({_spell(regions.innermost.function)})"
    return _refusal(whose(joint, regions.innermost), place_of_error(error), what, advice)


def _name_reason(error: Exception) -> tuple[str, str]:
    """What stopped the trace, and what to do about it."""
    if (func := operator_of_unknown_size(error)) is not None:
        return f"makes a tensor whose size depends on values ({func})", (
            "use a mask (torch.where) or a fixed size instead"
        )
    if reads_a_value(error):
        return "decides on a tensor's value (a branch, a loop or a size taken from data)", (
            "express it with torch.where, or with torch.cond or torch.while_loop"
        )
    if _NUMPY_TEXT.search(str(error)):
        return "leaves torch for numpy, where no trace can follow", "write that part in torch"
    if (func := operator_without_fake(error)) is not None:
        return f"calls {func}, which has no fake kernel", "register one with torch.library.register_fake"
    if isinstance(error, SparseLayout):
        return f"makes a sparse tensor ({error}), and ONNX has dense ones alone", "use a dense tensor there"
    reason = (str(error).strip().splitlines() or [""])[0][:300].rstrip(".")
    return f"cannot be traced ({type(error).__name__}: {reason})", "write that part in plain torch operators"


def refuse_random_numbers(joint: Joint, graph_module: torch.fx.GraphModule, regions: Regions) -> None:
    """Refuses a graph that draws random numbers.

    Raises:
        ExportError: names the operator, the Function and the line.
    """
    for node in (node for body in bodies(graph_module) for node in body.graph.nodes):
        if is_overload(node.target) and torch.Tag.nondeterministic_seeded in node.target.tags:
            region = region_of(node)
            raise _refusal(
                whose(joint, None if region is None else regions.found[region]),
                place_of(node),
                f"draws random numbers ({node.target})",
                "pass the random tensor in as an argument; a drawn number would be frozen into the file",
            )


def _spell(function: type) -> str:
    """How the user's code names a Function, or an operator."""
    operator = getattr(function, "operator", None)
    return function.__name__ if operator is None else f"torch.ops.{function.__module__}.{function.__qualname__}"


def whose(joint: Joint, region: Region | None) -> str:
    """The Function whose code it is, else the subject, with its file and line."""
    target = joint.subject.target if region is None else region.function
    name = joint.subject.name if region is None else f"{region.function.__qualname__}.{region.phase}"
    file, line = source_of(target)
    return f"{name} ({file}:{line})" if file else name


def _refusal(subject: str, place: Place | None, what: str, advice: str) -> ExportError:
    at = f" at {place}" if place else ""
    return ExportError(f"{subject} {what}{at}; {advice}.")
