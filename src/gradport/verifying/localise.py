"""Finds the first node of a model whose value differs, and its source line.

If the exported graph is wrong, the Subject is exported again in the same form and the two graphs are compared value by
value, in one runtime without optimization: this finds changes to the file after the export. If the graphs are equal, an
operator is lowered incorrectly: running the trace in eager torch finds it. A model of another exporter is compared only
with the values of the trace. If one runtime is wrong, it is compared with another runtime.

If the values of a model do not fit into memory, bisection finds the longest prefix that agrees: each step fetches only
the values that are alive at one position.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
import torch

from gradport.eager.dimensions import resolve_dimensions
from gradport.eager.randomness import Expected
from gradport.errors import Error, ProgramError
from gradport.exporting.export import lower_unproved
from gradport.exporting.selftest import require_working_export
from gradport.lowering import OPSETS, decomposition_table, forms_of
from gradport.model.program import Program
from gradport.model.subgraphs import values_read
from gradport.proving.answers import InputSet, Reference
from gradport.proving.divergence import distance, first_departure
from gradport.proving.intermediates import Flat, Make, fetch_values, flat
from gradport.proving.weights import use_weights_of
from gradport.runtimes.ort import unoptimized
from gradport.runtimes.table import known_runtimes
from gradport.tracing import Trace, trace_joint
from gradport.verifying.foreign import find_foreign_node
from gradport.verifying.found import FaultyNode, describe, rename_inputs, series
from gradport.verifying.verification import Verification
from gradport.verifying.vote import Verdict

__all__ = ["FaultyNode", "localise"]

_BYTES = 1 << 30
"""Size of all values above which they are not fetched at once."""

_ROUNDING = 1e-3
"""Allowed relative distance between the values of two runtimes if one of them is suspected."""


def localise(verification: Verification, case: InputSet, verdict: Verdict) -> FaultyNode | None:
    """The first node of the Verification's model that differs on a case, or None if it cannot be determined.

    Args:
        verification: the model and the Subject.
        case: inputs that show the difference.
        verdict: who is wrong.
    """
    try:
        given = flat(verification.program.model)
        answer = verification.answer(case)
        feeds = verification.feeds(answer)
        suspects = [row.name for row in known_runtimes().values() if row.family == verdict.culprit]
        if suspects:
            return _compare_runtimes(verification, given, feeds, suspects)
        return _compare_graphs(verification, given, feeds, case, answer)
    except (Error, ValueError, AssertionError, RuntimeError):  # a failure of this search is not the model's fault
        return None


def _compare_runtimes(
    verification: Verification, given: Flat, feeds: dict[str, torch.Tensor], suspects: Sequence[str]
) -> FaultyNode | None:
    rows = known_runtimes()
    suspect = next((name for name in suspects if name in verification.runners), suspects[0])
    others = [name for name in ("reference", "onnxruntime-disabled") if rows[name].family != rows[suspect].family]
    for other in others:
        try:
            first = _find_first(given, rows[suspect].make, given, rows[other].make, feeds, lambda d: d > _ROUNDING)
        except ProgramError:
            continue
        if first is not None:
            why = f"{suspect} differs from {other}"
            return describe(given, feeds, first, rows[other].make, given, why, suspect)
    return None


def _compare_graphs(
    verification: Verification, given: Flat, feeds: dict[str, torch.Tensor], case: InputSet, answer: Reference
) -> FaultyNode | None:
    trace = _trace_again(verification)
    fresh = flat(_export_again(verification, trace, case).model)
    if _shared_nodes(given, fresh) > 0.5:
        first = _find_first(given, unoptimized, fresh, unoptimized, feeds, lambda d: d > 0)
        if first is not None:
            why = "the file differs from a new export of its subject"
            return describe(given, feeds, first, unoptimized, fresh, why, "the exported graph")
        return _find_wrong_lowering(verification, trace, case, answer)
    return find_foreign_node(verification, trace, _export_inline(verification, trace, case), given, case, answer)


def _trace_again(verification: Verification) -> Trace:
    joint = verification.joint
    require_working_export(_opset(verification.program))
    dimensions = resolve_dimensions(joint, joint.subject.dynamic_shapes)
    expected = verification.random is Expected
    return trace_joint(joint, dimensions, decomposition_table(_opset(verification.program)), expected=expected)


def _export_again(verification: Verification, trace: Trace, case: InputSet) -> Program:
    """Exports the Subject again with the options of the model and the weights of the case."""
    options = verification.program.provenance.get("options", {})
    form = options.get("functions", "keep")
    forms = forms_of(form if form in ("keep", "inline", "opaque", "symbolic") else "inline")
    finite_math = bool(options.get("finite_math", False))
    program = lower_unproved(trace, _opset(verification.program), forms, options={"finite_math": finite_math})
    return use_weights_of(program, verification.joint, case.tensors)


def _export_inline(verification: Verification, trace: Trace, case: InputSet) -> Program:
    """Exports the trace, with the weights of the case, without local functions; values are named as operators."""
    program = lower_unproved(trace, _opset(verification.program), forms_of("inline"), options={"finite_math": False})
    return use_weights_of(program, verification.joint, case.tensors)


def _find_wrong_lowering(
    verification: Verification, trace: Trace, case: InputSet, answer: Reference
) -> FaultyNode | None:
    inline = _export_inline(verification, trace, case)
    departure = first_departure(trace, inline, unoptimized, case.tensors, answer)
    if departure is None:
        return None
    flat_inline = flat(inline.model)
    of_value = {str(v.name): node for node in flat_inline.nodes() for v in node.outputs}
    node = of_value.get(departure.value)
    if node is None:
        return None
    own_feeds = dict(zip((spec.name for spec in inline.inputs), answer.feeds.values(), strict=True))
    faulty = describe(flat_inline, own_feeds, (node, ()), None, flat_inline, "", "the exported graph")
    return dataclasses.replace(
        faulty,
        module=departure.module,
        place=departure.place,
        expected={departure.value: departure.wanted},
        sentence=f"The first operator that differs is {departure}: its lowering is wrong.",
    )


def _find_first(
    left: Flat,
    make_left: Make,
    right: Flat,
    make_right: Make,
    feeds: dict[str, torch.Tensor],
    departs: Callable[[float], bool],
) -> tuple[ir.Node, Sequence[dict[str, object]]] | None:
    """The first node of `left` whose value differs from the value of the same name in `right`."""
    nodes = left.nodes()
    theirs = rename_inputs(feeds, right)
    changed = _differing_initializers(left, right)

    def distances(names: Sequence[str]) -> dict[str, float]:
        ours, others = fetch_values(left, make_left, feeds, names), fetch_values(right, make_right, theirs, names)
        return {name: distance(ours[name], others[name]) for name in names if name in ours and name in others}

    for node in nodes:  # a changed initializer is found at its first reader
        if any(str(value.name) in changed for value in values_read(node)):
            return node, ()
    if _weight(left, feeds) > _BYTES:
        last = _bisect(nodes, distances, departs, left)
        return None if last is None else (last, ())
    every = distances([str(value.name) for node in nodes for value in node.outputs if value.name])
    far = [max((every.get(str(value.name), 0.0) for value in node.outputs), default=0.0) for node in nodes]
    first = next((node for node, relative in zip(nodes, far, strict=True) if departs(relative)), None)
    if first is None:
        return None
    return first, series(left, nodes, far, first)


def _bisect(
    nodes: list[ir.Node],
    distances: Callable[[Sequence[str]], dict[str, float]],
    departs: Callable[[float], bool],
    model: Flat,
) -> ir.Node | None:
    """The last node of the shortest prefix after which a live value differs."""
    last_use = {str(value.name): index for index, node in enumerate(nodes) for value in values_read(node)}
    last_use |= {str(value.name): len(nodes) for value in model.model.graph.outputs}

    def differs(length: int) -> bool:
        alive = [
            str(value.name)
            for node in nodes[:length]
            for value in node.outputs
            if last_use.get(str(value.name), -1) >= length
        ]
        return any(departs(each) for each in distances(alive).values())

    low, high = 0, len(nodes)
    if not differs(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if differs(middle) else (middle, high)
    return nodes[high - 1]


def _differing_initializers(left: Flat, right: Flat) -> set[str]:
    """The initializers with the same name and different values."""
    names = set()
    for name, value in left.model.graph.initializers.items():
        other = right.model.graph.initializers.get(name)
        if other is None or value.const_value is None or other.const_value is None:
            continue
        mine, theirs = value.const_value, other.const_value
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape or mine.tobytes() != theirs.tobytes():
            names.add(name)
    return names


def _shared_nodes(left: Flat, right: Flat) -> float:
    """The share of the nodes of `left` whose name also exists in `right`."""
    theirs = {str(node.name) for node in right.nodes()}
    nodes = left.nodes()
    return sum(str(node.name) in theirs for node in nodes) / max(len(nodes), 1)


def _weight(model: Flat, feeds: Mapping[str, torch.Tensor]) -> int:
    """Estimated bytes of all values; a dynamic dimension counts as the largest dimension of the inputs."""
    largest = max((size for tensor in feeds.values() for size in tensor.shape), default=1)
    total = 0
    for node in model.nodes():
        for value in node.outputs:
            count = 4
            for dim in value.shape or ():
                count *= dim if isinstance(dim, int) else largest
            total += count
    return total


def _opset(program: Program) -> int:
    return program.opset if program.opset in OPSETS else OPSETS.stop - 1
