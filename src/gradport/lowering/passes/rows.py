"""Computes an elementwise update of a large tensor row by row, so that what lies between fits into a cache.

An update reads a few large tensors `(rows, columns)` and writes others of that shape, by a dozen elementwise operators.
Node by node each of them moves whole tensors through memory. One Scan over the rows computes the same numbers with
temporaries of one row.

https://onnx.ai/onnx/operators/onnx__Scan.html
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

from gradport.lowering.passes.aliasing import is_elementwise
from gradport.lowering.passes.replacing import is_scalar
from gradport.model.subgraphs import values_read

__all__ = ["ScanRows", "fill_shapes"]


class ScanRows(ir.passes.InPlacePass):
    """Moves what writes each group of outputs into one Scan over the rows of their inputs.

    A group is left as it is if its outputs are read inside the graph, or do not come from elementwise nodes.

    Args:
        groups: names of graph outputs of one static shape `(rows, columns)`.
    """

    def __init__(self, groups: Sequence[Sequence[str]]) -> None:
        self._groups = [tuple(group) for group in groups]

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        graph = model.graph
        modified = CommonSubexpressionEliminationPass(size_limit=64)(model).modified
        fill_shapes(graph)
        for group in self._groups:
            outputs = [value for value in graph.outputs if value.name in group]
            nodes = _update_of(graph, outputs)
            if nodes:
                _scan(graph, nodes, outputs)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def fill_shapes(graph: ir.Graph) -> None:
    """Shapes of elementwise results that the translation left open: those of the operands that are not scalars."""
    for node in graph:
        if is_elementwise(node) and node.outputs[0].shape is None:
            shapes = [value.shape for value in node.inputs if value is not None and not is_scalar(value)]
            if shapes and all(shape is not None and shape == shapes[0] for shape in shapes):
                node.outputs[0].shape = shapes[0]


def _update_of(graph: ir.Graph, outputs: Sequence[ir.Value]) -> list[ir.Node]:
    """The elementwise nodes of this shape that only these outputs need, in order; empty if one output has none."""
    shape = outputs[0].shape
    readers = _count_readers(graph)
    waiting = [value.producer() for value in outputs]
    found: set[ir.Node] = set()
    for node in reversed(list(graph)):
        if not (is_elementwise(node) and node.outputs[0].shape == shape and _fits_rows(node, shape)):
            continue
        value = node.outputs[0]
        inside = sum(reader in found for reader, _ in value.uses())
        if inside + (value in outputs) == readers.get(value, 0):
            found.add(node)
    complete = all(producer in found for producer in waiting)
    return [node for node in graph if node in found] if complete else []


def _fits_rows(node: ir.Node, shape: ir.Shape | None) -> bool:
    """Whether each input is a tensor of this shape or a scalar, so that a row needs a row or the scalar."""
    return all(value is None or value.shape == shape or is_scalar(value) for value in node.inputs)


def _count_readers(graph: ir.Graph) -> dict[ir.Value, int]:
    """How often each value is read: by a node, by one of its subgraphs, as an output."""
    counts: dict[ir.Value, int] = {}
    for value in (*(value for node in graph for value in values_read(node)), *graph.outputs):
        counts[value] = counts.get(value, 0) + 1
    return counts


def _scan(graph: ir.Graph, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> None:
    """Replaces the nodes by a Scan that gives the outputs."""
    shape = outputs[0].shape
    own = {value for node in nodes for value in node.outputs}
    read = dict.fromkeys(value for node in nodes for value in values_read(node) if value not in own)
    scanned = [value for value in read if value.shape == shape]
    row = ir.Shape(shape[1:]) if shape is not None else None
    within = {value: ir.Value(name=f"{value.name}.row", shape=row, type=value.type) for value in scanned}
    rows = list(within.values())
    body_nodes = [_copy(node, within, row) for node in nodes]
    body = ir.Graph(
        rows,
        [within[value] for value in outputs],
        nodes=body_nodes,
        opset_imports=graph.opset_imports,
        name=f"{outputs[0].name}.rows",
    )
    scan = ir.node("Scan", scanned, {"body": body, "num_scan_inputs": len(scanned)}, num_outputs=len(outputs))
    scan.name = f"{outputs[0].name}.scan"
    scan.metadata_props.update(nodes[-1].metadata_props)
    graph.insert_after(nodes[-1], scan)
    for before, after in zip(outputs, scan.outputs, strict=True):
        name = before.name
        after.shape, after.type = before.shape, before.type
        before.replace_all_uses_with(after, replace_graph_outputs=True)
        before.name, after.name = f"{name}.whole", name
    graph.remove(nodes, safe=True)


def _copy(node: ir.Node, within: dict[ir.Value, ir.Value], row: ir.Shape | None) -> ir.Node:
    """The node on rows; its outputs are added to `within`."""
    inputs = [value if value is None else within.get(value, value) for value in node.inputs]
    twin = ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()))
    twin.name = f"{node.outputs[0].name}.row"
    twin.metadata_props.update(node.metadata_props)
    for before, after in zip(node.outputs, twin.outputs, strict=True):
        after.name, after.shape, after.type = f"{before.name}.row", row, before.type
        within[before] = after
    return twin
