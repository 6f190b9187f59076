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

from gradport.answers import Case, Reference
from gradport.capture import Capture, capture
from gradport.dimensions import resolve_dimensions
from gradport.divergence import distance, first_departure, operator_values
from gradport.errors import Error, ProgramError
from gradport.export import written
from gradport.intermediates import Flat, Make, flat, reads, taken
from gradport.lower import OPSETS, decomposition_table, forms_of
from gradport.program import Program
from gradport.randomness import Expected
from gradport.selftest import require_working_export
from gradport.verify.ort import unoptimized
from gradport.verify.runtimes import known
from gradport.verify.trial import Trial
from gradport.verify.vote import Verdict

__all__ = ["Found", "localise"]

_BYTES = 1 << 30
"""Values of a model that take more are not fetched at once."""

_ROUNDING = 1e-3
"""Relative to the scale: how far two runtimes' values may stand apart where one of them is suspected."""


@dataclasses.dataclass(frozen=True)
class Found:
    """The first node that departs.

    Attributes:
        node: its name in the graph or function that holds it.
        op_type: its operator.
        function: domain and name of the local function that holds it, or None.
        half: "forward" or "backward".
        module: path of the module that it comes from, or None.
        place: the user's source line, or None.
        values: how far each node's value stands off, in the order of the graph: for a plot.
        model: the flat graph.
        flat_name: the node's name in it.
        feeds: what the flat graph was given.
        expected: what the node's values should be, by name; empty where that is not known.
        culprit: who is wrong, as the vote says.
        sentence: it as a person would say it.
    """

    node: str
    op_type: str
    function: tuple[str, str] | None
    half: str
    module: str | None
    place: str | None
    values: tuple[dict[str, object], ...]
    model: Flat
    flat_name: str
    feeds: dict[str, torch.Tensor]
    expected: dict[str, torch.Tensor]
    culprit: str
    sentence: str


def localise(trial: Trial, case: Case, verdict: Verdict) -> Found | None:
    """The first node of the Trial's model that departs on a case, or None where that cannot be said.

    Args:
        trial: the model and the Subject.
        case: inputs that show it.
        verdict: who is wrong.
    """
    try:
        given = flat(trial.program.model)
        answer = trial.answer(case)
        feeds = trial.feeds(answer)
        suspects = [row.name for row in known().values() if row.family == verdict.culprit]
        if suspects:
            return _beside_another_runtime(trial, given, feeds, suspects)
        return _in_the_graph(trial, given, feeds, case, answer)
    except (Error, ValueError, AssertionError):
        return None


def _beside_another_runtime(
    trial: Trial, given: Flat, feeds: dict[str, torch.Tensor], suspects: Sequence[str]
) -> Found | None:
    rows = known()
    suspect = next((name for name in suspects if name in trial.runners), suspects[0])
    others = [name for name in ("reference", "onnxruntime-disabled") if rows[name].family != rows[suspect].family]
    for other in others:
        try:
            found = _first(given, rows[suspect].make, given, rows[other].make, feeds, lambda d: d > _ROUNDING)
        except ProgramError:
            continue
        if found is not None:
            why = f"{suspect} departs from {other}"
            return _told(given, feeds, found, rows[other].make, given, why, suspect)
    return None


def _in_the_graph(
    trial: Trial, given: Flat, feeds: dict[str, torch.Tensor], case: Case, answer: Reference
) -> Found | None:
    captured = _captured(trial)
    fresh = flat(_again(trial, captured).model)
    if _shared(given, fresh) > 0.5:
        found = _first(given, unoptimized, fresh, unoptimized, feeds, lambda d: d > 0)
        if found is not None:
            why = "the file is not what its subject exports to"
            return _told(given, feeds, found, unoptimized, fresh, why, "the exported graph")
        return _lowered_wrongly(trial, captured, case, answer)
    return _foreign(captured, given, feeds, case, answer)


def _captured(trial: Trial) -> Capture:
    joint = trial.joint
    require_working_export(_opset(trial.program))
    dimensions = resolve_dimensions(joint, joint.subject.dynamic_shapes)
    expected = trial.random is Expected
    return capture(joint, dimensions, decomposition_table(_opset(trial.program)), expected=expected)


def _again(trial: Trial, captured: Capture) -> Program:
    """The Subject exported once more, as the model was."""
    options = trial.program.provenance.get("options", {})
    form = options.get("functions", "keep")
    forms = forms_of(form if form in ("keep", "inline", "opaque", "symbolic") else "inline")
    return written(
        captured, _opset(trial.program), forms, options={"finite_math": bool(options.get("finite_math", False))}
    )


def _lowered_wrongly(trial: Trial, captured: Capture, case: Case, answer: Reference) -> Found | None:
    inline = written(captured, _opset(trial.program), forms_of("inline"), options={"finite_math": False})
    departed = first_departure(captured, inline, unoptimized, case.tensors, answer)
    if departed is None:
        return None
    flat_inline = flat(inline.model)
    of_value = {str(v.name): node for node in flat_inline.nodes() for v in node.outputs}
    node = of_value.get(departed.value)
    if node is None:
        return None
    own_feeds = dict(zip((spec.name for spec in inline.inputs), answer.feeds.values(), strict=True))
    told = _told(flat_inline, own_feeds, (node, ()), None, flat_inline, "", "the exported graph")
    return dataclasses.replace(
        told,
        module=departed.module,
        place=departed.place,
        expected={departed.value: departed.wanted},
        sentence=f"The first operator that departs is {departed}: its lowering is wrong.",
    )


def _foreign(
    captured: Capture, given: Flat, feeds: dict[str, torch.Tensor], case: Case, answer: Reference
) -> Found | None:
    """A model of another exporter: a node is suspect when its value is none that the trace computes, while what it
    reads is; of these the first on the way to an output that departs."""
    pool = operator_values(captured, case.tensors, answer)
    by_shape: dict[tuple[object, ...], list[torch.Tensor]] = {}
    for value in [*pool.values(), *answer.feeds.values(), *captured.joint.examples().values()]:
        by_shape.setdefault((value.dtype, *value.shape), []).append(value)
    names = [str(value.name) for node in given.nodes() for value in node.outputs]
    found = taken(given, unoptimized, feeds, names)
    strange = {
        name
        for name, value in found.items()
        if not any(distance(value, known) <= _ROUNDING for known in by_shape.get((value.dtype, *value.shape), []))
    }
    outputs = [str(value.name) for value in given.model.graph.outputs]
    producers = {str(value.name): node for node in given.nodes() for value in node.outputs}
    at = next((name for name in outputs if name in strange), None)
    while at is not None:
        node = producers[at]
        at = next((str(v.name) for v in reads(node) if v is not None and str(v.name) in strange), None)
        if at is None and node.op_type != "Constant":
            series = _series(given, [producers[n] for n in found], [float(n in strange) for n in found], node)
            why = "none of the values that the subject computes is its"
            return _told(given, feeds, (node, series), None, given, why, "the exported graph")
    return None


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
    theirs = _by_place(feeds, right)
    held = _held_differs(left, right)

    def distances(names: Sequence[str]) -> dict[str, float]:
        ours, others = taken(left, make_left, feeds, names), taken(right, make_right, theirs, names)
        return {name: distance(ours[name], others[name]) for name in names if name in ours and name in others}

    for node in nodes:  # a weight that is another one has no node of its own
        if any(value is not None and str(value.name) in held for value in reads(node)):
            return node, ()
    if _weight(left, feeds) > _BYTES:
        last = _bisected(nodes, distances, departs, left)
        return None if last is None else (last, ())
    every = distances([str(value.name) for node in nodes for value in node.outputs if value.name])
    far = [max((every.get(str(value.name), 0.0) for value in node.outputs), default=0.0) for node in nodes]
    first = next((node for node, relative in zip(nodes, far, strict=True) if departs(relative)), None)
    if first is None:
        return None
    return first, _series(left, nodes, far, first)


def _series(model: Flat, nodes: Sequence[ir.Node], far: Sequence[float], first: ir.Node) -> list[dict[str, object]]:
    """What Evidence says of every node: how far it stands off, where it comes from, and which is the first."""
    backward = model.backward()
    return [
        {
            "node": str(node.name),
            "op": node.op_type,
            "half": "backward" if node.name in backward else "forward",
            "place": model.origins[str(node.name)].place,
            "relative": relative,
            "first": node is first,
        }
        for node, relative in zip(nodes, far, strict=True)
    ]


def _bisected(
    nodes: list[ir.Node],
    distances: Callable[[Sequence[str]], dict[str, float]],
    departs: Callable[[float], bool],
    model: Flat,
) -> ir.Node | None:
    """The last node of the shortest prefix at whose end something departs that is still needed."""
    last_use = {
        str(value.name): index for index, node in enumerate(nodes) for value in reads(node) if value is not None
    }
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


def _told(
    given: Flat,
    feeds: dict[str, torch.Tensor],
    found: tuple[ir.Node, Sequence[dict[str, object]]],
    truth: Make | None,
    beside: Flat,
    why: str,
    culprit: str,
) -> Found:
    """Describes a node; `beside` in the runtime `truth` knows better what its values are."""
    node, series = found
    name = str(node.name)
    origin = given.origins[name]
    known_better = beside.origins.get(name, origin)
    half = "backward" if name in given.backward() else "forward"
    inside = f" of the function {'::'.join(origin.function)}" if origin.function else ""
    module, place = origin.module or known_better.module, origin.place or known_better.place
    if place is None:  # a constant stands where it is read
        readers = [beside.origins.get(str(use.node.name)) for value in node.outputs for use in value.uses()]
        place = next((reader.place for reader in readers if reader is not None and reader.place), None)
    where = (f" in module {module!r}" if module else "") + (f" at {place}" if place else "")
    expected: dict[str, torch.Tensor] = {}
    if truth is not None:
        expected = taken(
            beside, truth, _by_place(feeds, beside), [str(value.name) for value in node.outputs if value.name]
        )
    return Found(
        node=origin.name,
        op_type=node.op_type,
        function=origin.function,
        half=half,
        module=module,
        place=place,
        values=tuple(dict(entry) for entry in series),
        model=given,
        flat_name=name,
        feeds=feeds,
        expected=expected,
        culprit=culprit,
        sentence=f"The first node that departs is {origin.name!r} ({node.op_type}){inside}, in the {half} half{where}: "
        f"{why}.",
    )


def _by_place(feeds: Mapping[str, torch.Tensor], model: Flat) -> dict[str, torch.Tensor]:
    """What goes into one model, under the names of another that takes the same in the same order."""
    renamed = dict(zip(feeds, (str(value.name) for value in model.model.graph.inputs), strict=False))
    return {renamed.get(name, name): tensor for name, tensor in feeds.items()}


def _held_differs(left: Flat, right: Flat) -> set[str]:
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


def _shared(left: Flat, right: Flat) -> float:
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
