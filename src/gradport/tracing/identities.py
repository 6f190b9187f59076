"""Drops what a functional graph does not need: copies, aliases and detachments compute nothing, a profiler's ranges
nothing that a graph gives.

One stays: a Region's result that is a tensor from outside. It keeps the Region's call in the graph.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx

from gradport.compat.torch.operators import aten, present
from gradport.operators.markers import mark
from gradport.tracing.regions import region_of

__all__ = ["distinct_results", "drop_identities"]

_IDENTITIES = present(
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
    """Rewrites the graph in place."""
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
    """What a node gives again, or None where it computes something."""
    if node.target in _IDENTITIES:
        return node.args[0]  # type: ignore[return-value]
    if node.target is torch.ops.aten.copy.default:  # into a tensor of other strides, which a graph has none of
        source: Any = node.args[1]
        before, after = source.meta["val"], node.meta["val"]
        same = before.shape == after.shape and before.dtype == after.dtype
        return source if same else None
    return None


def distinct_results(body: torch.fx.GraphModule) -> None:
    """Gives the body of an operator results of its own, in place: ONNX Runtime's Scan fills one of two equal ones."""
    graph = body.graph
    output = list(graph.nodes)[-1]
    if isinstance(output.args[0], torch.fx.Node):
        return
    seen: set[torch.fx.Node] = {node for node in graph.nodes if node.op == "placeholder"}
    results = []
    for result in output.args[0]:  # type: ignore[union-attr]
        if isinstance(result, torch.fx.Node) and result in seen:
            with graph.inserting_before(output):
                result = graph.call_function(torch.ops.aten.clone.default, (result,))
            result.meta.update(result.args[0].meta)  # type: ignore[union-attr]
        seen.add(result)
        results.append(result)
    output.args = (tuple(results),)
