"""Finds the first operator of a trace whose value differs in ONNX: runs the trace node by node in eager torch and
compares it with the values of the flat ONNX graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.fx

from gradport.compat.torch.operators import aten
from gradport.eager.joint import Slot
from gradport.evidence.distance import relative_distance
from gradport.lowering.lower import OPERATOR
from gradport.model.program import Program
from gradport.proving.answers import Reference
from gradport.proving.intermediates import Make, fetch_values, flat
from gradport.subject.ports import Phase, Role
from gradport.tracing import Trace
from gradport.tracing.regions import module_of, place_of, region_of

__all__ = ["Departure", "departures", "distance", "first_departure", "operator_values"]

_STRICT = 64.0
"""Allowed error of an operator, in ULPs of the value's scale, if no operator has a coarse error."""


@dataclasses.dataclass(frozen=True)
class Departure:
    """One operator of the trace, with the distance of its value in ONNX.

    Attributes:
        value: the name of its node in the trace.
        operator: its name in torch.
        function: the custom Function and phase that it belongs to, or None.
        module: path of the module that calls it, or None.
        phase: forward if an output of the forward depends on it, else backward.
        place: the user's source line, or None.
        relative: the largest error over the scale of the value.
        wanted: the value in eager torch.
    """

    value: str
    operator: str
    function: str | None
    module: str | None
    phase: Phase
    place: str | None
    relative: float
    wanted: torch.Tensor

    def __str__(self) -> str:
        whose = f" in the {self.function}" if self.function else ""
        where = f" of module {self.module!r}" if self.module else ""
        return f"{self.operator}{whose}{where}{f' at {self.place}' if self.place else ''}"


def first_departure(
    trace: Trace, inline: Program, make: Make, tensors: Mapping[Slot, torch.Tensor], answer: Reference
) -> Departure | None:
    """The first operator that differs, in the order of the trace; None if none does.

    Args:
        trace: the trace.
        inline: its export without functions, unsaved, because only the values in memory know their operators.
        make: the runtime.
        tensors: the case, by slot.
        answer: eager's answer to it.

    Raises:
        ProgramError: the runtime fails.
    """
    every = departures(trace, inline, make, tensors, answer)
    for limit in (_coarse, _fine):
        first = next((one for one in every if not one.relative <= limit(one.wanted.dtype)), None)
        if first is not None:
            return first
    return None


def departures(
    trace: Trace, inline: Program, make: Make, tensors: Mapping[Slot, torch.Tensor], answer: Reference
) -> list[Departure]:
    """All operators with a value in ONNX, with its distance, in the order of the trace."""
    names = {
        value.meta[OPERATOR]: str(value.name)
        for node in inline.model.graph
        for value in node.outputs
        if OPERATOR in value.meta
    }
    eager = operator_values(trace, tensors, answer)
    inputs = [spec.name for spec in inline.inputs]
    feeds = dict(zip(inputs, answer.feeds.values(), strict=True))
    whole = flat(inline.model)
    given = fetch_values(whole, make, feeds, list(names.values()))
    late = whole.backward()
    backward = {str(value.name) for node in whole.nodes() if node.name in late for value in node.outputs}
    return [
        _departure(trace, node, given[names[node.name]], eager[node.name], names[node.name] in backward)
        for node in trace.graph_module.graph.nodes
        if names.get(node.name) in given and node.name in eager
    ]


def operator_values(trace: Trace, tensors: Mapping[Slot, torch.Tensor], answer: Reference) -> dict[str, torch.Tensor]:
    """The value of each operator of the trace in eager torch, by the name of its node."""
    held = trace.joint.examples() | dict(tensors)
    inputs: list[torch.Tensor] = []
    nodes = {node.name: node for node in trace.graph_module.graph.nodes if node.op == "placeholder"}
    random = [t for n, t in answer.feeds.items() if answer.input_roles[n] == Role.RANDOM]
    for placeholder in trace.placeholders:
        if placeholder.slot.role is Role.COTANGENT:
            like = torch.empty(0, dtype=nodes[placeholder.node].meta["val"].dtype)
            inputs.append(answer.again.cotangent(placeholder.slot.name, like))
        elif placeholder.slot.role is Role.RANDOM:
            inputs.append(random.pop(0))
        else:
            inputs.append(held[placeholder.slot])
    given = {p.node: t.detach() for p, t in zip(trace.placeholders, inputs, strict=True)}
    given |= {constant.node: constant.tensor for constant in trace.constants}
    interpreter = _Keeping(trace.graph_module)
    with torch.no_grad():
        interpreter.run(*(given[name].clone() for name in nodes))
    return interpreter.values


def distance(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest error over the largest magnitude of the wanted value; inf if shape, dtype, nan or infinities
    differ."""
    return relative_distance(got, wanted) if got.dtype == wanted.dtype else float("inf")


class _Keeping(torch.fx.Interpreter):
    """An interpreter that stores the value of every node. `view` becomes `reshape`, because strides may differ from
    those of the trace."""

    def __init__(self, graph_module: torch.fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.values: dict[str, torch.Tensor] = {}

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls one operator."""
        if target in (aten.view.default, aten._unsafe_view.default):
            target = aten.reshape.default
        return super().call_function(target, args, kwargs)

    def run_node(self, n: torch.fx.Node) -> Any:
        """Runs one node."""
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.values[n.name] = result.detach().clone()
        return result


def _departure(trace: Trace, node: torch.fx.Node, got: torch.Tensor, wanted: torch.Tensor, backward: bool) -> Departure:
    key, place = region_of(node), place_of(node)
    region = None if key is None else trace.regions[key]
    return Departure(
        value=node.name,
        operator=str(node.target),
        function=f"{region.phase} of {region.function.__name__}" if region else None,
        module=module_of(node),
        phase=Phase.BACKWARD if backward else Phase.FORWARD,
        place=str(place) if place else None,
        relative=distance(got, wanted),
        wanted=wanted,
    )


def _coarse(dtype: torch.dtype) -> float:
    """The limit of a coarse error, half of the digits, which rounding does not reach."""
    return float(torch.finfo(dtype).eps ** 0.5) if dtype.is_floating_point else 0.0


def _fine(dtype: torch.dtype) -> float:
    return float(_STRICT * torch.finfo(dtype).eps) if dtype.is_floating_point else 0.0
