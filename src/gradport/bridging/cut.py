"""Cuts a Program into the model of its outputs and the model of its gradients.

ONNX Runtime executes a whole graph, also if one output is fetched. Here one model has the nodes of the outputs. Another
has the remaining nodes of the wanted gradients; it reads values of the first: the saved values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as common

from gradport.lowering.passes.types import infer_types
from gradport.model.subgraphs import values_read

__all__ = ["Cut", "cut"]


@dataclasses.dataclass(frozen=True)
class Cut:
    """Two models in place of one.

    Attributes:
        forward: gives the outputs, then the saved values.
        backward: takes inputs, saved values and cotangents, as far as it reads them; gives the wanted gradients.
            None if none is wanted.
        outputs: names of the outputs, in order.
        saved: names of the saved values, in order.
        reads: names of all inputs of the backward model.
        gradients: names of the wanted gradients, in order.
    """

    forward: ir.Model
    backward: ir.Model | None
    outputs: tuple[str, ...]
    saved: tuple[str, ...]
    reads: tuple[str, ...]
    gradients: tuple[str, ...]


def cut(model: ir.Model, outputs: Sequence[str], gradients: Sequence[str]) -> Cut:
    """Cuts a model.

    Args:
        model: stays unchanged. A part has the initializers that it reads.
        outputs: names of graph outputs that the forward gives.
        gradients: names of graph outputs that the backward gives.
    """
    whole = model.clone()
    common.InlinePass()(whole)
    for node in whole.graph:
        infer_types(node, whole.opset_imports[""])  # an input of the backward model needs a type
    by_name = {value.name: value for value in whole.graph.outputs}
    first = dict.fromkeys(_needed([by_name[name] for name in outputs]))
    second = dict.fromkeys(node for node in _needed([by_name[name] for name in gradients]) if node not in first)
    constants = _constants(first)
    read = {value: None for node in second for value in values_read(node)}
    read |= {by_name[name]: None for name in gradients if by_name[name].producer() not in second}
    made = {output for node in first if node not in constants for output in node.outputs}
    saved = tuple(value.name or "" for value in read if value in made)
    forward = _part(whole, outputs=(*outputs, *saved), inputs=None)
    if not gradients:
        return Cut(forward, None, tuple(outputs), saved, (), ())
    backward = _part(whole, outputs=gradients, inputs=saved)
    reads = tuple(value.name or "" for value in backward.graph.inputs)
    return Cut(forward, backward, tuple(outputs), saved, reads, tuple(gradients))


def _constants(nodes: Iterable[ir.Node]) -> set[ir.Node]:
    """The nodes that depend on no input and no initializer: both models compute them."""
    found: set[ir.Node] = set()
    for node in nodes:
        if all(value.producer() in found for value in values_read(node)):
            found.add(node)
    return found


def _needed(values: Iterable[ir.Value]) -> list[ir.Node]:
    """The nodes that values depend on, in order of the graph."""
    found: dict[ir.Node, None] = {}
    waiting = [node for value in values if (node := value.producer()) is not None]
    graph = None
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found[node] = None
        graph = node.graph
        waiting += [one for value in values_read(node) if (one := value.producer()) is not None]
    return [] if graph is None else [node for node in graph if node in found]


def _part(model: ir.Model, *, outputs: Collection[str], inputs: Sequence[str] | None) -> ir.Model:
    """A copy of the model that computes `outputs`, from `inputs` where these are given, and nothing else."""
    part = model.clone()
    graph = part.graph
    values = {value.name: value for node in graph for value in node.outputs}
    values |= {value.name: value for value in graph.inputs}
    given = []
    for name in inputs or ():
        before = values[name]
        value = ir.Value(name=name, type=before.type, shape=before.shape)
        before.name = f"{name}.computed"
        before.replace_all_uses_with(value, replace_graph_outputs=True)
        values[name] = value
        given.append(value)
    graph.outputs[:] = [values[name] for name in outputs]
    graph.inputs.extend(given)
    needed = set(_needed(graph.outputs))
    graph.remove([node for node in graph if node not in needed])
    used = {value for node in graph for value in values_read(node)} | set(graph.outputs)
    graph.inputs[:] = [value for value in graph.inputs if value in used]
    for name, value in list(graph.initializers.items()):
        if value not in used:
            graph.initializers.pop(name)
    return part
