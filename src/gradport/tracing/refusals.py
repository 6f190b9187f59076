"""Errors for code that cannot be traced: the construct, the Function, its line, and advice."""

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
from gradport.errors import Error, Refusal
from gradport.operators.replacing import SparseLayout
from gradport.subject.signature import source_of
from gradport.subject.user_code import place_of_error
from gradport.tracing.regions import Region, Regions, place_of, region_of

__all__ = ["describe_code", "refuse_random_numbers", "trace_refusal"]

_NUMPY_TEXT = re.compile(r"numpy|ufunc", re.IGNORECASE)


def trace_refusal(joint: Joint, regions: Regions, error: Exception) -> Error:
    """The user's error for a trace that stopped with `error`."""
    try:
        run_eager(joint, joint.examples(), ones)
    except Error as eager_error:
        return eager_error  # eager fails too: the user's own error has the better message
    if isinstance(error, NoBody):
        operator = f"torch.ops.{error.stand_in.__module__}.{error.stand_in.__qualname__}"
        subject = describe_code(joint, regions.innermost)
        return Refusal.NO_BODY.error(subject, place_of_error(error), operator=operator)
    if isinstance(joint.subject.target, torch.jit.ScriptModule):
        return Refusal.SCRIPTED.error(describe_code(joint, None))
    refusal, parts = _reason(error)
    also = ""
    if regions.innermost is not None:
        also = f", or give a slow torch version with @gradport.reference({_spell(regions.innermost.function)})"
    return refusal.error(describe_code(joint, regions.innermost), place_of_error(error), also=also, **parts)


def _reason(error: Exception) -> tuple[Refusal, dict[str, object]]:
    """The refusal for an error of the trace, and the values of its message."""
    if (operator := operator_of_unknown_size(error)) is not None:
        return Refusal.SIZE_FROM_VALUES, {"operator": operator}
    if reads_a_value(error):
        return Refusal.VALUE_DEPENDENT, {}
    if _NUMPY_TEXT.search(str(error)):
        return Refusal.NUMPY, {}
    if (operator := operator_without_fake(error)) is not None:
        return Refusal.NO_FAKE_KERNEL, {"operator": operator}
    if isinstance(error, SparseLayout):
        return Refusal.SPARSE, {"function": error}
    reason = (str(error).strip().splitlines() or [""])[0][:300].rstrip(".")
    return Refusal.UNTRACED, {"reason": f"{type(error).__name__}: {reason}"}


def refuse_random_numbers(joint: Joint, graph_module: torch.fx.GraphModule, regions: Regions) -> None:
    """Refuses a graph that draws random numbers.

    Raises:
        ExportError: the graph draws; the message names the operator, the Function and the line.
    """
    for node in (node for body in bodies(graph_module) for node in body.graph.nodes):
        if is_overload(node.target) and torch.Tag.nondeterministic_seeded in node.target.tags:
            region = region_of(node)
            subject = describe_code(joint, None if region is None else regions.by_key[region])
            raise Refusal.RANDOM.error(subject, place_of(node), operator=node.target)


def _spell(function: type) -> str:
    """The name of a Function or an operator in user code."""
    operator = getattr(function, "operator", None)
    return function.__name__ if operator is None else f"torch.ops.{function.__module__}.{function.__qualname__}"


def describe_code(joint: Joint, region: Region | None) -> str:
    """The Region's Function, else the subject, with file and line."""
    target = joint.subject.target if region is None else region.function
    name = joint.subject.name if region is None else f"{region.function.__qualname__}.{region.phase}"
    file, line = source_of(target)
    return f"{name} ({file}:{line})" if file else name
