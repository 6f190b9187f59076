"""Delays the recomputation of a checkpointed block until its gradient is needed.

A recomputed block is the same computation as its forward, so ONNX Runtime's common-subexpression pass would merge the
two and keep all activations. Here the inputs of the recomputed block pass a gate: a Reshape to their own shape plus a
zero that is computed from the gradients that the backward has reached. So the block cannot be merged or run too early,
and the weight gradients of the following block are computed first, so that its activations can be freed. Reshape does
not copy, and the zero is exact for any gradient.

https://docs.pytorch.org/docs/stable/checkpoint.html, https://onnx.ai/onnx/operators/onnx__Reshape.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx_ir as ir

from gradport.lowering.lower import BACKWARD, RECOMPUTED, REGION
from gradport.lowering.passes.replacing import Replacement
from gradport.lowering.passes.waiting import zero_after

__all__ = ["gate_recomputation"]


def gate_recomputation(graph: ir.Graph, recomputed: Mapping[int, int | None], weights: Collection[ir.Value]) -> None:
    """Adds a gate before every recomputed block, in place.

    Args:
        graph: the flat graph, its nodes in the order of the trace.
        recomputed: the key of the enclosing Region for each recomputed checkpoint, by number.
        weights: inputs without a gate: parameters and buffers.
    """
    since = 0
    for number, region in recomputed.items():
        order = {node: at for at, node in enumerate(graph)}
        block = [node for node in graph if node.metadata_props.get(RECOMPUTED) == str(number)]
        if not block:
            continue
        first = min(block, key=order.__getitem__)
        reached = list(_reached_gradients(graph, order, since, order[first]))
        entering = list(_outside_activations(block, set(weights)))
        since = order[first]
        if reached and entering:
            _put_gate(graph, first, region, reached, entering, block)


def _reached_gradients(graph: ir.Graph, order: Mapping[ir.Node, int], since: int, until: int) -> Iterator[ir.Value]:
    """The gradients that the backward has computed since the last gate and that are still needed."""
    results = set(graph.outputs)
    for node in list(graph)[since:until]:
        if BACKWARD not in node.metadata_props:
            continue
        for value in node.outputs:
            later = any(order.get(use.node, until) >= until for use in value.uses())
            needed = later or value in results
            if needed and value.dtype is not None and value.dtype.is_floating_point() and value.shape is not None:
                yield value


def _outside_activations(block: Sequence[ir.Node], weights: set[ir.Value]) -> Iterator[ir.Value]:
    """The outside activations that the block reads."""
    inside = set(block)
    seen: set[ir.Value] = set()
    for value in (value for node in block for value in node.inputs if value is not None):
        producer = value.producer()
        if value in seen or value in weights or value.is_initializer() or producer in inside:
            continue
        seen.add(value)
        constant = producer is not None and producer.op_type == "Constant"
        if not constant and value.dtype is not None and value.dtype.is_floating_point():
            yield value


def _put_gate(
    graph: ir.Graph,
    first: ir.Node,
    region: int | None,
    reached: Sequence[ir.Value],
    entering: Sequence[ir.Value],
    block: Sequence[ir.Node],
) -> None:
    new = Replacement(first)
    zero = zero_after(new, reached)
    gates = {
        value: new.add("Reshape", [value, new.add("Add", [new.add("Shape", [value]), zero])], like=value)
        for value in entering
    }
    graph.insert_before(first, new.nodes)
    for node in new.nodes:
        node.metadata_props.pop(RECOMPUTED, None)
        node.metadata_props.pop(REGION, None)
        if region is not None:
            node.metadata_props[REGION] = str(region)
    for node in block:
        for at, read in enumerate(node.inputs):
            if read is not None and read in gates:
                node.replace_input_with(at, gates[read])
