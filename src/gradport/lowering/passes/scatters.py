"""Adds into a tensor where a tensor of zeros was filled and then added: saves buffers of the whole size.

A gradient of a gather scatters into zeros. Where the result is only added to another tensor, it is scattered into that
tensor at once. The classes of a loss and the rows of an embedding are many, so these buffers are the largest of a step.

- `Add(x, ScatterElements(zeros, i, u, reduction=add))` becomes `ScatterElements(x, i, u, reduction=add)`.
- `Sub(ScatterElements(zeros, i, u), y)`, with one index along the axis, becomes
  `ScatterElements(Neg(y), i, u, reduction=add)`; `Add` in the same way.
- `ReduceSum(ScatterElements(zeros, i, u))` along that axis, with one index along it, becomes `u`.

The first changes the order of a sum. The others give the same numbers.

https://onnx.ai/onnx/operators/onnx__ScatterElements.html
"""

from __future__ import annotations

import onnx_ir as ir

from gradport.lowering.lower import REGION
from gradport.lowering.passes.replacing import Replacement, constant_value, is_node, is_zeros

__all__ = ["AddByScatter"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Without 16-bit dtypes: their sums of duplicates would round in another order."""


class AddByScatter(ir.passes.InPlacePass):
    """Rewrites the three forms above, each within one Region."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a node was rewritten."""
        modified = False
        for node in list(model.graph):
            if node.domain == "" and node.outputs[0].dtype in _DTYPES:
                rewrite = {"ReduceSum": _sum_of_one, "Sub": _subtract, "Add": _add}.get(node.op_type)
                modified |= rewrite is not None and rewrite(model.graph, node)
        return ir.passes.PassResult(model, modified=modified)


def _sum_of_one(graph: ir.Graph, node: ir.Node) -> bool:
    scatter = _scatter_of_one(node.inputs[0], node)
    axes = constant_value(node.inputs[1]) if len(node.inputs) > 1 else None
    if scatter is None or axes is None or not node.attributes.get_int("keepdims", 1):
        return False
    updates, rank = scatter.inputs[2], len(scatter.outputs[0].shape or ())
    if updates is None or [axis % rank for axis in axes.reshape(-1).tolist()] != [_axis(scatter) % rank]:
        return False
    if updates.shape != node.outputs[0].shape:  # the scatter covers a part of the other axes
        return False
    node.outputs[0].replace_all_uses_with(updates, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True


def _subtract(graph: ir.Graph, node: ir.Node) -> bool:
    scatter = _scatter_of_one(node.inputs[0], node)
    if scatter is None or not _is_only_use(scatter, node) or not _is_whole(node.inputs[1], node):
        return False
    new = Replacement(node)
    negative = new.add("Neg", [node.inputs[1]], like=node.outputs[0])
    _scatter_into(graph, node, new, scatter, negative)
    return True


def _add(graph: ir.Graph, node: ir.Node) -> bool:
    for value, other in (node.inputs, reversed(node.inputs)):
        scatter = _scatter_of_one(value, node) or _scatter_of_sums(value, node)
        if scatter is not None and _is_only_use(scatter, node) and _is_whole(other, node) and other is not value:
            _scatter_into(graph, node, Replacement(node), scatter, other)
            return True
    return False


def _scatter_into(graph: ir.Graph, node: ir.Node, new: Replacement, scatter: ir.Node, data: ir.Value | None) -> None:
    attributes = {name: one for name, one in scatter.attributes.items() if name != "reduction"}
    result = new.add(scatter.op_type, [data, *scatter.inputs[1:]], like=node.outputs[0], reduction="add", **attributes)
    new.replace_node(graph, result)
    graph.remove(scatter, safe=True)


def _scatter_of_one(value: ir.Value | None, reader: ir.Node) -> ir.Node | None:
    """The ScatterElements into zeros, with one index along its axis, that gives a value."""
    scatter = _scatter(value, reader)
    if scatter is None or scatter.attributes.get_string("reduction", "none") not in ("none", "add"):
        return None
    indices, shape = scatter.inputs[1], scatter.outputs[0].shape
    if indices is None or indices.shape is None or shape is None:
        return None
    return scatter if indices.shape[_axis(scatter) % len(shape)] == 1 else None


def _scatter_of_sums(value: ir.Value | None, reader: ir.Node) -> ir.Node | None:
    """The ScatterElements into zeros that adds what falls on one place."""
    scatter = _scatter(value, reader)
    return scatter if scatter is not None and scatter.attributes.get_string("reduction", "none") == "add" else None


def _scatter(value: ir.Value | None, reader: ir.Node) -> ir.Node | None:
    node = None if value is None else value.producer()
    if not is_node(node, "ScatterElements") or node.graph is not reader.graph:
        return None
    same = node.metadata_props.get(REGION) == reader.metadata_props.get(REGION)
    return node if same and is_zeros(node.inputs[0]) else None


def _is_only_use(scatter: ir.Node, reader: ir.Node) -> bool:
    value = scatter.outputs[0]
    return not value.is_graph_output() and [use.node for use in value.uses()] == [reader]


def _is_whole(value: ir.Value | None, node: ir.Node) -> bool:
    """Whether the operand has the shape of the result."""
    shape = None if value is None else value.shape
    return shape is not None and shape == node.outputs[0].shape


def _axis(scatter: ir.Node) -> int:
    return scatter.attributes.get_int("axis", 0)
