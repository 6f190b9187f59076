"""A model of another exporter: the first node of it that departs, and what differs there.

Such a model has nodes of its own, so its values are held against those of the traced Subject, whatever their names and
shapes. A value that no operator of the trace computes is strange. A strange value is to blame when the model becomes
right once an operator's value takes its place: this is tried, in the order of the model. What differs is then read off
that operator: its arguments beside the node's attributes, its parameters beside the node's initializers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import onnx_ir as ir
import torch
import torch.fx

from gradport.errors import ProgramError
from gradport.model.program import Program
from gradport.model.subgraphs import values_read
from gradport.proving.answers import InputSet, Reference
from gradport.proving.divergence import distance, operator_values
from gradport.proving.intermediates import Flat, fetch_values, values_by_name
from gradport.runtimes.ort import unoptimized
from gradport.tracing import Trace
from gradport.tracing.regions import module_of, place_of
from gradport.verifying.differences import describe_call, differences
from gradport.verifying.found import Found, describe, series
from gradport.verifying.verification import Verification

__all__ = ["foreign"]

_LIMITS = (1e-3, 1e-5)
"""Relative to its scale: what a value may stand off an operator's and be called the same; the second where the first
finds nothing strange."""

_TRIES = 64
"""So many times an operator's value is put in the place of a strange one."""

_CULPRIT = "the exported graph"


@dataclasses.dataclass(frozen=True)
class _Place:
    """A strange value of the model, and the operator whose value makes the model right in its place."""

    node: ir.Node
    value: str
    operator: torch.fx.Node
    wanted: torch.Tensor


def foreign(
    verification: Verification, trace: Trace, own: Program, given: Flat, case: InputSet, answer: Reference
) -> Found | None:
    """The first node of another exporter's model that departs, or None where none can be named.

    Args:
        verification: the model and the Subject.
        trace: the Subject's trace.
        own: the trace as gradport writes it, without local functions.
        given: the model.
        case, answer: inputs that show it, and eager's answer.

    Raises:
        ProgramError: ONNX Runtime fails on the model.
    """
    feeds = verification.feeds(answer)
    operators = operator_values(trace, case.tensors, answer)
    held = [*answer.feeds.values(), *trace.joint.examples().values()]
    names = [str(value.name) for node in given.nodes() if node.op_type != "Constant" for value in node.outputs]
    found = fetch_values(given, unoptimized, feeds, names)
    for limit in _LIMITS:
        strange = _strange(found, [*operators.values(), *held], limit)
        suspects = _suspects(given, strange)
        if suspects:
            place = _to_blame(verification, given, trace, operators, found, suspects, answer)
            last = suspects[-1] if place is None else place.node
            far = [(node, float(name in strange)) for node, name in _compute(given, found)]
            values = series(given, [node for node, _ in far], [share for _, share in far], last)
            if place is None:
                why = "no value in the PyTorch model matches its output"
                return describe(given, feeds, (_first_computing(suspects), values), None, given, why, _CULPRIT)
            return _describe(given, feeds, trace, own, place, suspects, values, [*operators.values(), *held])
    return None


def _compute(given: Flat, found: Mapping[str, torch.Tensor]) -> list[tuple[ir.Node, str]]:
    return [(node, str(value.name)) for node in given.nodes() for value in node.outputs if str(value.name) in found]


def _strange(found: Mapping[str, torch.Tensor], known: Sequence[torch.Tensor], limit: float) -> set[str]:
    """The values that are none of the known ones, in whatever shape."""
    by_size: dict[tuple[torch.dtype, int], list[torch.Tensor]] = {}
    for value in known:
        by_size.setdefault((value.dtype, value.numel()), []).append(value.detach().flatten())
    return {
        name
        for name, value in found.items()
        if not any(_same(value, other, limit) for other in by_size.get((value.dtype, value.numel()), []))
    }


def _same(left: torch.Tensor, right: torch.Tensor, limit: float) -> bool:
    """Whether two tensors hold the same numbers in the same order."""
    return distance(left.flatten(), right.flatten()) <= limit


def _suspects(given: Flat, strange: set[str]) -> list[ir.Node]:
    """The nodes with strange values that a strange output of the model needs through strange values alone, in order."""
    needed: set[str] = set()
    waiting = [str(value.name) for value in given.model.graph.outputs if str(value.name) in strange]
    producers = {str(value.name): node for node in given.nodes() for value in node.outputs}
    while waiting:
        name = waiting.pop()
        if name in needed or name not in producers:
            continue
        needed.add(name)
        waiting += [str(v.name) for v in values_read(producers[name]) if str(v.name) in strange]
    return [node for node in given.nodes() if any(str(value.name) in needed for value in node.outputs)]


def _to_blame(
    verification: Verification,
    given: Flat,
    trace: Trace,
    operators: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    suspects: Sequence[ir.Node],
    answer: Reference,
) -> _Place | None:
    """The first suspect whose value an operator's can take the place of so that every result is right."""
    nodes = {node.name: node for node in trace.graph_module.graph.nodes}
    called = {name: value for name, value in operators.items() if nodes[name].op == "call_function"}
    absent = _strange(called, list(found.values()), _LIMITS[-1])
    missing = [name for name in called if name in absent]
    tries = 0
    for node in suspects:
        for value in node.outputs:
            name = str(value.name)
            if name not in found:
                continue
            for operator in missing:
                wanted = operators[operator]
                if wanted.numel() != found[name].numel() or wanted.dtype != found[name].dtype:
                    continue
                tries += 1
                if tries > _TRIES:
                    return None
                wanted = wanted.reshape(found[name].shape)
                if _is_right_with(verification, given, name, wanted, answer):
                    return _Place(node, name, nodes[operator], wanted)
    return None


def _is_right_with(verification: Verification, given: Flat, name: str, wanted: torch.Tensor, answer: Reference) -> bool:
    """Whether the model's results agree with eager once one of its values is given."""
    model = given.model.clone()
    old = values_by_name(model.graph)[name]
    if old.is_graph_output():
        return _is_right(verification, answer, {**_results(verification, given, answer), name: wanted})
    new = ir.Value(name=f"{name}_given", type=old.type, shape=ir.Shape(wanted.shape))
    old.replace_all_uses_with(new)
    model.graph.inputs.append(new)
    feeds = {**verification.feeds(answer), f"{name}_given": wanted}
    try:
        return _is_right(verification, answer, unoptimized(Program(model))(feeds))
    except ProgramError:
        return False


def _results(verification: Verification, given: Flat, answer: Reference) -> dict[str, torch.Tensor]:
    return unoptimized(Program(given.model.clone()))(verification.feeds(answer))


def _is_right(verification: Verification, answer: Reference, results: Mapping[str, torch.Tensor]) -> bool:
    assert verification.matched is not None
    under_our_names = {ours: results[theirs] for ours, theirs in verification.matched.outputs.items()}
    return all(comparison.ok for comparison in verification.compare_results(answer, under_our_names).values())


def _first_computing(suspects: Sequence[ir.Node]) -> ir.Node:
    """The first that does more than move elements."""
    return next((node for node in suspects if node.op_type not in _MOVING), suspects[0])


_MOVING = frozenset(
    [
        "Unsqueeze",
        "Squeeze",
        "Reshape",
        "Flatten",
        "Transpose",
        "Expand",
        "Identity",
        "Cast",
        "CastLike",
        "Slice",
        "Concat",
        "Split",
    ]
)


def _describe(
    given: Flat,
    feeds: dict[str, torch.Tensor],
    trace: Trace,
    own: Program,
    place: _Place,
    suspects: Sequence[ir.Node],
    values: Sequence[dict[str, object]],
    known: Sequence[torch.Tensor],
) -> Found:
    """The node that differs, or where several nodes write the operator and none shows how it differs, the last."""
    together = [node for node in suspects if node is place.node or _leads_to(node, place.node, suspects)]
    said = {node.name: differences(node, place.operator, trace, own, given, known) for node in together}
    node = next((node for node in together if said[node.name]), place.node)
    call = describe_call(place.operator, trace)
    why = f"{said[node.name]}; PyTorch calls {call}" if said[node.name] else f"PyTorch calls {call}"
    rest = [f"{one.name!r} ({one.op_type})" for one in together if one is not node]
    if rest and not said[node.name]:
        why += f", which {', '.join(rest)} and this node write"
    better = _with_source(given, node, place.operator)
    found = describe(given, feeds, (node, values), None, better, why, _CULPRIT)
    return dataclasses.replace(found, expected={place.value: place.wanted} if node is place.node else {})


def _with_source(given: Flat, node: ir.Node, operator: torch.fx.Node) -> Flat:
    """The model, one node of which comes from where the operator does, as far as the file does not say."""
    name, place = str(node.name), place_of(operator)
    known = given.origins[name]
    source = dataclasses.replace(
        known, place=known.place or (str(place) if place else None), module=known.module or module_of(operator)
    )
    return dataclasses.replace(given, origins={**given.origins, name: source})


def _leads_to(node: ir.Node, last: ir.Node, suspects: Sequence[ir.Node]) -> bool:
    """Whether the strange value of one node is read on the way to another."""
    inside = {str(one.name) for one in suspects}
    waiting, seen = [last], set()
    while waiting:
        at = waiting.pop()
        for value in values_read(at):
            producer = None if value is None else value.producer()
            if producer is None or producer.name in seen or producer.name not in inside:
                continue
            if producer is node:
                return True
            seen.add(producer.name)
            waiting.append(producer)
    return False
