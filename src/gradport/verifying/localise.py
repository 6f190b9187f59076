"""Which node, which line: the first node of a model whose value departs.

Where the exported graph is wrong, the Subject is exported once more in the same form and the two graphs are held
against each other, value by value, in one runtime with nothing optimised: that finds what became of a file after it was
written. Where they are the same, an operator is lowered wrongly: the traced graph run in eager torch finds it. A model
of another exporter is held against the trace's values alone. Where one runtime is wrong, it is held against another.

Of a model whose values do not fit into memory, the prefix that still agrees is found by bisection: each probe fetches
the values that are alive at one place.
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
from gradport.runtimes.ort import unoptimized
from gradport.runtimes.table import known_runtimes
from gradport.tracing import Trace, trace_joint
from gradport.verifying.foreign import foreign
from gradport.verifying.found import Found, by_place, describe, series
from gradport.verifying.verification import Verification
from gradport.verifying.vote import Verdict

__all__ = ["Found", "localise"]

_BYTES = 1 << 30
"""Values of a model that take more are not fetched at once."""

_ROUNDING = 1e-3
"""Relative to the scale: how far two runtimes' values may stand apart where one of them is suspected."""


def localise(verification: Verification, case: InputSet, verdict: Verdict) -> Found | None:
    """The first node of the Verification's model that departs on a case, or None where that cannot be said.

    Args:
        verification: the model and the Subject.
        case: inputs that show it.
        verdict: who is wrong.
    """
    try:
        given = flat(verification.program.model)
        answer = verification.answer(case)
        feeds = verification.feeds(answer)
        suspects = [row.name for row in known_runtimes().values() if row.family == verdict.culprit]
        if suspects:
            return _beside_another_runtime(verification, given, feeds, suspects)
        return _in_the_graph(verification, given, feeds, case, answer)
    except (Error, ValueError, AssertionError, RuntimeError):  # what stands in the way is no fault of the model's
        return None


def _beside_another_runtime(
    verification: Verification, given: Flat, feeds: dict[str, torch.Tensor], suspects: Sequence[str]
) -> Found | None:
    rows = known_runtimes()
    suspect = next((name for name in suspects if name in verification.runners), suspects[0])
    others = [name for name in ("reference", "onnxruntime-disabled") if rows[name].family != rows[suspect].family]
    for other in others:
        try:
            found = _first(given, rows[suspect].make, given, rows[other].make, feeds, lambda d: d > _ROUNDING)
        except ProgramError:
            continue
        if found is not None:
            why = f"{suspect} departs from {other}"
            return describe(given, feeds, found, rows[other].make, given, why, suspect)
    return None


def _in_the_graph(
    verification: Verification, given: Flat, feeds: dict[str, torch.Tensor], case: InputSet, answer: Reference
) -> Found | None:
    trace = _trace_again(verification)
    fresh = flat(_again(verification, trace).model)
    if _shared_nodes(given, fresh) > 0.5:
        found = _first(given, unoptimized, fresh, unoptimized, feeds, lambda d: d > 0)
        if found is not None:
            why = "the file is not what its subject exports to"
            return describe(given, feeds, found, unoptimized, fresh, why, "the exported graph")
        return _find_wrong_lowering(verification, trace, case, answer)
    return foreign(verification, trace, _inline(verification, trace), given, case, answer)


def _trace_again(verification: Verification) -> Trace:
    joint = verification.joint
    require_working_export(_opset(verification.program))
    dimensions = resolve_dimensions(joint, joint.subject.dynamic_shapes)
    expected = verification.random is Expected
    return trace_joint(joint, dimensions, decomposition_table(_opset(verification.program)), expected=expected)


def _again(verification: Verification, trace: Trace) -> Program:
    """The Subject exported once more, as the model was."""
    options = verification.program.provenance.get("options", {})
    form = options.get("functions", "keep")
    forms = forms_of(form if form in ("keep", "inline", "opaque", "symbolic") else "inline")
    return lower_unproved(
        trace, _opset(verification.program), forms, options={"finite_math": bool(options.get("finite_math", False))}
    )


def _inline(verification: Verification, trace: Trace) -> Program:
    """The trace without local functions; its values know their operators."""
    return lower_unproved(trace, _opset(verification.program), forms_of("inline"), options={"finite_math": False})


def _find_wrong_lowering(verification: Verification, trace: Trace, case: InputSet, answer: Reference) -> Found | None:
    inline = _inline(verification, trace)
    departed = first_departure(trace, inline, unoptimized, case.tensors, answer)
    if departed is None:
        return None
    flat_inline = flat(inline.model)
    of_value = {str(v.name): node for node in flat_inline.nodes() for v in node.outputs}
    node = of_value.get(departed.value)
    if node is None:
        return None
    own_feeds = dict(zip((spec.name for spec in inline.inputs), answer.feeds.values(), strict=True))
    found = describe(flat_inline, own_feeds, (node, ()), None, flat_inline, "", "the exported graph")
    return dataclasses.replace(
        found,
        module=departed.module,
        place=departed.place,
        expected={departed.value: departed.wanted},
        sentence=f"The first operator that departs is {departed}: its lowering is wrong.",
    )


def _first(
    left: Flat,
    make_left: Make,
    right: Flat,
    make_right: Make,
    feeds: dict[str, torch.Tensor],
    departs: Callable[[float], bool],
) -> tuple[ir.Node, Sequence[dict[str, object]]] | None:
    """The first node of `left` whose value departs from that of the same name in `right`."""
    nodes = left.nodes()
    theirs = by_place(feeds, right)
    held = _differing_initializers(left, right)

    def distances(names: Sequence[str]) -> dict[str, float]:
        ours, others = fetch_values(left, make_left, feeds, names), fetch_values(right, make_right, theirs, names)
        return {name: distance(ours[name], others[name]) for name in names if name in ours and name in others}

    for node in nodes:  # a weight that is another one has no node of its own
        if any(str(value.name) in held for value in values_read(node)):
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
    """The last node of the shortest prefix at whose end something departs that is still needed."""
    last_use = {str(value.name): index for index, node in enumerate(nodes) for value in values_read(node)}
    last_use |= {str(value.name): len(nodes) for value in model.model.graph.outputs}

    def departed(length: int) -> bool:
        alive = [
            str(value.name)
            for node in nodes[:length]
            for value in node.outputs
            if last_use.get(str(value.name), -1) >= length
        ]
        return any(departs(found) for found in distances(alive).values())

    low, high = 0, len(nodes)
    if not departed(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if departed(middle) else (middle, high)
    return nodes[high - 1]


def _differing_initializers(left: Flat, right: Flat) -> set[str]:
    """The initializers that have the same name and other numbers."""
    found = set()
    for name, value in left.model.graph.initializers.items():
        other = right.model.graph.initializers.get(name)
        if other is None or value.const_value is None or other.const_value is None:
            continue
        mine, theirs = value.const_value, other.const_value
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape or mine.tobytes() != theirs.tobytes():
            found.add(name)
    return found


def _shared_nodes(left: Flat, right: Flat) -> float:
    """The share of the nodes of `left` that have a namesake in `right`."""
    theirs = {str(node.name) for node in right.nodes()}
    nodes = left.nodes()
    return sum(str(node.name) in theirs for node in nodes) / max(len(nodes), 1)


def _weight(model: Flat, feeds: Mapping[str, torch.Tensor]) -> int:
    """Bytes of all values, where dynamic dimensions are as large as the largest that is fed."""
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
