"""Drops what a functional graph does not need: copies, aliases and detachments compute nothing, a profiler's ranges
nothing that a graph gives.

One stays: a Region's result that is a tensor from outside. It keeps the Region's call in the graph.
"""

from __future__ import annotations

import torch
import torch.fx

from gradport.capture.markers import mark
from gradport.capture.regions import region_of

__all__ = ["drop_identities"]

_IDENTITIES = {
    torch.ops.aten.alias.default,
    torch.ops.aten.clone.default,
    torch.ops.aten.detach.default,
    torch.ops.aten.detach_.default,
    torch.ops.aten.lift_fresh.default,
    torch.ops.aten.lift_fresh_copy.default,
}


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
        if node.target not in _IDENTITIES:
            continue
        source = node.args[0]
        region = region_of(node)
        if region is not None and region_of(source) != region and (region, node) in left:
            continue
        for user in list(node.users):
            if user.target is mark:
                left |= {(user.args[1], source)} if user.args[2] == "leave" else set()
        node.replace_all_uses_with(source)
        graph.erase_node(node)
    graph_module.recompile()
