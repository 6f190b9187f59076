"""Makes it safe to write new state over old state: all readers of an old value run before its new value is written.

A runtime binds the output `new.x` to the buffer of the input `x`. That is safe where every reader of `x`, or of a view
of it, is the node that writes `new.x` or an ancestor of it, and that node is elementwise: it reads each element before
it writes it. A Scan over rows does the same if its body is safe. Where this does not hold, the pass writes `new.x` by
`Where(true, y, y)`, whose condition is computed from one element of what each other reader gives: it is true whatever
they hold, and no optimizer knows that.

Copies are removed and equal nodes merged before. ONNX Runtime would do this later, and wait for one of the two only.

https://onnx.ai/onnx/operators/onnx__Where.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

from gradport.lowering.passes.replacing import Replacement, is_node
from gradport.lowering.passes.waiting import count_nan
from gradport.model.subgraphs import values_read

__all__ = ["WriteInPlace", "is_elementwise", "unsafe_successors"]

_ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Clip",
        "Div",
        "Equal",
        "Exp",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "IsNaN",
        "Less",
    }
    | {"LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Round", "Sigmoid"}
    | {"Sign", "Sqrt", "Sub", "Tanh", "Where", "Xor"}
)

_VIEWS = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose result may lie on the memory of their input: who reads the result reads the state."""

Pair = tuple[ir.Value, ir.Value]
"""A state input and the output that replaces it."""


class WriteInPlace(ir.passes.InPlacePass):
    """Makes it safe to bind each output of `pairs` (names of input and output) to the buffer of its input."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = _skip_copies(model.graph)
        modified |= CommonSubexpressionEliminationPass(size_limit=64)(model).modified
        pairs = _values_of(model.graph, self._pairs)
        places = [(body, inner) for node in model.graph for body, inner in _rows_of(node, pairs)]
        for graph, own in (*places, (model.graph, pairs)):
            unsafe = _unsafe(graph, own)
            if unsafe:
                _write_last(graph, unsafe)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def unsafe_successors(graph: ir.Graph, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    """The pairs whose output must not be bound to the buffer of its input."""
    return _unsafe(graph, _values_of(graph, pairs))


def is_elementwise(node: ir.Node) -> bool:
    """Whether each element of the node's output comes from the elements at its place, or from scalars."""
    return node.domain == "" and node.op_type in _ELEMENTWISE


def _skip_copies(graph: ir.Graph) -> bool:
    """Removes copies. Outputs stay: the pass of onnx_ir removes these too, and may lose their names."""
    copies = [node for node in graph if is_node(node, "Identity") and not node.outputs[0].is_graph_output()]
    for copy in copies:
        (source,) = copy.inputs
        if source is not None:
            copy.outputs[0].replace_all_uses_with(source)
    graph.remove(copies, safe=True)
    return bool(copies)


def _values_of(graph: ir.Graph, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
    inputs = {value.name: value for value in graph.inputs}
    outputs = {value.name: value for value in graph.outputs}
    return [(inputs[old], outputs[new]) for old, new in pairs]


def _unsafe(graph: ir.Graph, pairs: Sequence[Pair]) -> list[Pair]:
    readers = _readers(graph)
    return [(old, new) for old, new in pairs if not _is_safe(old, new, _readers_of(old, readers))]


def _is_safe(old: ir.Value, new: ir.Value, readers: Sequence[ir.Node]) -> bool:
    writer = new.producer()
    if writer is None:
        return False
    viewed = writer.inputs[0] if _is_view(writer) and writer not in readers else None
    if viewed is not None:  # a runtime may drop the view, and write its input there
        return _is_safe(old, viewed, readers)
    others = [node for node in readers if node is not writer]
    if writer in readers and not _reads_before_it_writes(writer, old, new):
        return False
    return not others or (_writes_last(writer) and set(others) <= _ancestors(writer))


def _reads_before_it_writes(writer: ir.Node, old: ir.Value, new: ir.Value) -> bool:
    """Whether the node reads each element of `old` before it writes the element of `new` at this place."""
    if is_elementwise(writer):
        return old.shape == new.shape
    within = list(_rows_of(writer, [(old, new)]))
    return bool(within) and not any(_unsafe(body, pairs) for body, pairs in within)


def _writes_last(node: ir.Node) -> bool:
    """Whether a runtime writes the outputs of the node when it runs it, and never before."""
    return is_elementwise(node) or is_node(node, "Scan") or is_node(node, "Split")


def _is_view(node: ir.Node) -> bool:
    return node.domain == "" and node.op_type in _VIEWS


def _rows_of(node: ir.Node, pairs: Sequence[Pair]) -> Iterator[tuple[ir.Graph, list[Pair]]]:
    """The body of a Scan without carried values, and the rows in it of those pairs that it reads and writes."""
    if not is_node(node, "Scan") or node.attributes["num_scan_inputs"].as_int() != len(node.inputs):
        return
    body = node.attributes["body"].as_graph()
    inputs = dict(zip(node.inputs, body.inputs, strict=True))
    outputs = dict(zip(node.outputs, body.outputs, strict=True))
    implicit = set(list(values_read(node))[len(node.inputs) :])
    read = [
        (inputs[old], outputs[new]) for old, new in pairs if old in inputs and new in outputs and old not in implicit
    ]
    if read:
        yield body, read


def _readers(graph: ir.Graph) -> dict[ir.Value, list[ir.Node]]:
    readers: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        for value in dict.fromkeys(values_read(node)):
            readers.setdefault(value, []).append(node)
    return readers


def _readers_of(value: ir.Value, readers: Mapping[ir.Value, Sequence[ir.Node]]) -> list[ir.Node]:
    """The nodes that read a value or a view of it."""
    found: dict[ir.Node, None] = {}
    waiting = [value]
    while waiting:
        for node in readers.get(waiting.pop(), ()):
            if node not in found:
                found[node] = None
                waiting += node.outputs if _is_view(node) else ()
    return list(found)


def _ancestors(node: ir.Node) -> set[ir.Node]:
    ancestors: set[ir.Node] = set()
    waiting = [node]
    while waiting:
        for value in values_read(waiting.pop()):
            producer = value.producer()
            if producer is not None and producer not in ancestors:
                ancestors.add(producer)
                waiting.append(producer)
    return ancestors


def _write_last(graph: ir.Graph, pairs: Sequence[Pair]) -> None:
    """Writes the new value of each pair with a node that runs after all readers of the old values."""
    last = graph[-1]
    replacement = Replacement(last)
    readers = _readers(graph)
    read = {node.outputs[0]: None for old, _ in pairs for node in _readers_of(old, readers)}
    count = count_nan(replacement, [*read, *(new for _, new in pairs if new not in read)])
    true = replacement.add("GreaterOrEqual", [count, replacement.constant(np.array(0, dtype=np.int64))])
    copies = {new: replacement.add("Where", [true, new, new], like=new) for _, new in pairs}
    graph.insert_after(last, replacement.nodes)
    for index, value in enumerate(graph.outputs):
        if value in copies:
            graph.outputs[index] = copies[value]
    for new, copy in copies.items():
        name = new.name
        new.name, copy.name = f"{name}.before", name
