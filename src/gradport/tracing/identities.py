"""Drops nodes that a functional graph does not need: copies, aliases, detachments, and a profiler's ranges.

One copy stays: a Region's result that is a tensor from outside. It keeps the Region's call in the graph.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx

from gradport.compat.torch.operators import aten, drop_absent
from gradport.operators.markers import mark
from gradport.tracing.regions import region_of

__all__ = ["drop_identities", "make_operands_distinct", "make_results_distinct"]

_IDENTITIES = drop_absent(
    aten.alias.default,
    aten.alias_copy.default,
    aten.clone.default,
    aten.detach.default,
    aten.detach_copy.default,
    aten.detach_.default,
    aten.lift_fresh.default,
    aten.lift_fresh_copy.default,
)


def drop_identities(graph_module: torch.fx.GraphModule) -> None:
    """Drops copies, aliases, detachments and profiler ranges, in place."""
    graph = graph_module.graph
    left = {
        (node.args[1], result)
        for node in graph.nodes
        if node.target is mark and node.args[2] == "leave"
        for result in node.args[0]
    }
    for node in reversed(list(graph.nodes)):
        if getattr(node.target, "namespace", None) == "profiler":
            graph.erase_node(node)
    for node in list(graph.nodes):
        source = _source(node)
        if source is None:
            continue
        region = region_of(node)
        if region is not None and region_of(source) != region and (region, node) in left:
            continue
        for user in list(node.users):
            if user.target is mark:
                left |= {(user.args[1], source)} if user.args[2] == "leave" else set()
        node.replace_all_uses_with(source)
        graph.erase_node(node)


def _source(node: torch.fx.Node) -> torch.fx.Node | None:
    """The input that a node returns unchanged; None if it computes something."""
    if node.target in _IDENTITIES:
        return node.args[0]  # type: ignore[return-value]
    if node.target is torch.ops.aten.copy.default:  # only strides differ, which a graph does not have
        source: Any = node.args[1]
        before, after = source.meta["val"], node.meta["val"]
        same = before.shape == after.shape and before.dtype == after.dtype
        return source if same else None
    return None


def make_operands_distinct(body: torch.fx.GraphModule) -> None:
    """Makes the operands of each loop in a graph distinct, in place: the exporter names the inputs of a loop's body
    after the operands."""
    for node in list(body.graph.nodes):
        if node.target in _LOOPS:
            first, last = _LOOPS[node.target]
            seen: set[torch.fx.Node] = set()
            operands = [[_copy_if_seen(one, seen, node) for one in group] for group in node.args[first:last]]
            node.args = (*node.args[:first], *operands, *node.args[last:])


_LOOPS = {torch.ops.higher_order.scan: (1, 3), torch.ops.higher_order.while_loop: (2, 3)}
"""Where the operands stand that become inputs of the body: of scan the carry and the rows, of while_loop the carry."""


def _copy_if_seen(operand: Any, seen: set[torch.fx.Node], before: torch.fx.Node) -> Any:
    if operand in seen:
        operand = _insert_copy(operand, before)
    if isinstance(operand, torch.fx.Node):
        seen.add(operand)
    return operand


def _insert_copy(node: torch.fx.Node, before: torch.fx.Node) -> torch.fx.Node:
    with before.graph.inserting_before(before):
        copy = before.graph.call_function(torch.ops.aten.clone.default, (node,))
    copy.meta.update(node.meta)
    return copy


def make_results_distinct(body: torch.fx.GraphModule) -> None:
    """Makes all results of an operator's body distinct, in place: ONNX Runtime's Scan fills only one of two equal
    results."""
    graph = body.graph
    output = list(graph.nodes)[-1]
    if isinstance(output.args[0], torch.fx.Node):
        return
    seen: set[torch.fx.Node] = {node for node in graph.nodes if node.op == "placeholder"}
    results = []
    for result in output.args[0]:  # type: ignore[union-attr]
        if isinstance(result, torch.fx.Node) and result in seen:
            result = _insert_copy(result, output)
        seen.add(result)
        results.append(result)
    output.args = (tuple(results),)
