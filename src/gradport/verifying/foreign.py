"""Finds the first wrong node in a model of another exporter, and describes the difference.

Such a model has its own nodes, so its values are matched with the values of the traced Subject by content, regardless
of names and shapes. A value that matches no operator of the trace is suspect. In the order of the model, each suspect
value is replaced by the value of an unmatched operator; if the results become correct, this node is wrong. The
difference is then found by comparing the operator's arguments with the node's attributes, and its parameters with the
node's initializers.
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
from gradport.verifying.found import FaultyNode, describe, series
from gradport.verifying.verification import Verification

__all__ = ["find_foreign_node"]

_LIMITS = (1e-3, 1e-5)
"""Relative distances up to which two values match; the second is used if the first leaves no suspect."""

_TRIES = 64
"""Maximum number of replacements that are tried."""

_CULPRIT = "the exported graph"


@dataclasses.dataclass(frozen=True)
class _Place:
    """A suspect value of the model, and the operator whose value makes the model correct in its place."""

    node: ir.Node
    value: str
    operator: torch.fx.Node
    wanted: torch.Tensor


def find_foreign_node(
    verification: Verification, trace: Trace, own: Program, given: Flat, case: InputSet, answer: Reference
) -> FaultyNode | None:
    """The first wrong node of another exporter's model, or None if it cannot be determined.

    Args:
        verification: the model and the Subject.
        trace: the Subject's trace.
        own: gradport's export of the trace, without local functions.
        given: the model.
        case, answer: inputs that show the difference, and eager's answer.

    Raises:
        ProgramError: ONNX Runtime fails on the model.
    """
    feeds = verification.feeds(answer)
    operators = operator_values(trace, case.tensors, answer)
    inputs = [*answer.feeds.values(), *trace.joint.examples().values()]
    names = [str(value.name) for node in given.nodes() if node.op_type != "Constant" for value in node.outputs]
    computed = fetch_values(given, unoptimized, feeds, names)
    for limit in _LIMITS:
        unmatched = _unmatched_values(computed, [*operators.values(), *inputs], limit)
        suspects = _suspects(given, unmatched)
        if suspects:
            place = _find_culprit(verification, given, trace, operators, computed, suspects, answer)
            last = suspects[-1] if place is None else place.node
            far = [(node, float(name in unmatched)) for node, name in _list_computed(given, computed)]
            values = series(given, [node for node, _ in far], [share for _, share in far], last)
            if place is None:
                why = "no value in the PyTorch model matches this node's output"
                return describe(given, feeds, (_first_compute_node(suspects), values), None, given, why, _CULPRIT)
            return _describe(given, feeds, trace, own, place, suspects, values, [*operators.values(), *inputs])
    return None


def _list_computed(given: Flat, values: Mapping[str, torch.Tensor]) -> list[tuple[ir.Node, str]]:
    return [(node, str(value.name)) for node in given.nodes() for value in node.outputs if str(value.name) in values]


def _unmatched_values(values: Mapping[str, torch.Tensor], known: Sequence[torch.Tensor], limit: float) -> set[str]:
    """The names of the values that match none of the known values, regardless of shape."""
    by_size: dict[tuple[torch.dtype, int], list[torch.Tensor]] = {}
    for value in known:
        by_size.setdefault((value.dtype, value.numel()), []).append(value.detach().flatten())
    return {
        name
        for name, value in values.items()
        if not any(_is_same(value, other, limit) for other in by_size.get((value.dtype, value.numel()), []))
    }


def _is_same(left: torch.Tensor, right: torch.Tensor, limit: float) -> bool:
    """Whether two tensors hold the same numbers in the same order."""
    return distance(left.flatten(), right.flatten()) <= limit


def _suspects(given: Flat, unmatched: set[str]) -> list[ir.Node]:
    """The nodes that lead to a suspect output of the model only through suspect values, in order."""
    needed: set[str] = set()
    waiting = [str(value.name) for value in given.model.graph.outputs if str(value.name) in unmatched]
    producers = {str(value.name): node for node in given.nodes() for value in node.outputs}
    while waiting:
        name = waiting.pop()
        if name in needed or name not in producers:
            continue
        needed.add(name)
        waiting += [str(v.name) for v in values_read(producers[name]) if str(v.name) in unmatched]
    return [node for node in given.nodes() if any(str(value.name) in needed for value in node.outputs)]


def _find_culprit(
    verification: Verification,
    given: Flat,
    trace: Trace,
    operators: Mapping[str, torch.Tensor],
    computed: Mapping[str, torch.Tensor],
    suspects: Sequence[ir.Node],
    answer: Reference,
) -> _Place | None:
    """The first suspect for which replacing its value by an operator's value makes every result correct."""
    nodes = {node.name: node for node in trace.graph_module.graph.nodes}
    called = {name: value for name, value in operators.items() if nodes[name].op == "call_function"}
    absent = _unmatched_values(called, list(computed.values()), _LIMITS[-1])
    missing = [name for name in called if name in absent]
    tries = 0
    for node in suspects:
        for value in node.outputs:
            name = str(value.name)
            if name not in computed:
                continue
            for operator in missing:
                wanted = operators[operator]
                if wanted.numel() != computed[name].numel() or wanted.dtype != computed[name].dtype:
                    continue
                tries += 1
                if tries > _TRIES:
                    return None
                wanted = wanted.reshape(computed[name].shape)
                if _is_right_with(verification, given, name, wanted, answer):
                    return _Place(node, name, nodes[operator], wanted)
    return None


def _is_right_with(verification: Verification, given: Flat, name: str, wanted: torch.Tensor, answer: Reference) -> bool:
    """Whether the model's results agree with eager if one of its values is replaced."""
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


def _first_compute_node(suspects: Sequence[ir.Node]) -> ir.Node:
    """The first node that does more than move elements."""
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
) -> FaultyNode:
    """Describes the node that differs. If several nodes compute the operator and none shows a difference: the last."""
    together = [node for node in suspects if node is place.node or _leads_to(node, place.node, suspects)]
    texts = {node.name: differences(node, place.operator, trace, own, given, known) for node in together}
    node = next((node for node in together if texts[node.name]), place.node)
    call = describe_call(place.operator, trace)
    why = f"{texts[node.name]}; PyTorch calls {call}" if texts[node.name] else f"PyTorch calls {call}"
    rest = [f"{one.name!r} ({one.op_type})" for one in together if one is not node]
    if rest and not texts[node.name]:
        why += f", which {', '.join(rest)} and this node compute"
    better = _add_source(given, node, place.operator)
    faulty = describe(given, feeds, (node, values), None, better, why, _CULPRIT)
    return dataclasses.replace(faulty, expected={place.value: place.wanted} if node is place.node else {})


def _add_source(given: Flat, node: ir.Node, operator: torch.fx.Node) -> Flat:
    """The model with the operator's source line and module for one node, where the file has none."""
    name, place = str(node.name), place_of(operator)
    known = given.origins[name]
    source = dataclasses.replace(
        known, place=known.place or (str(place) if place else None), module=known.module or module_of(operator)
    )
    return dataclasses.replace(given, origins={**given.origins, name: source})


def _leads_to(node: ir.Node, last: ir.Node, suspects: Sequence[ir.Node]) -> bool:
    """Whether one node leads to another through suspect nodes."""
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
