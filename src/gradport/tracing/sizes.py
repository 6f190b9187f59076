"""Sizes in the graph of a trace: strides as products of sizes, and sizes that are local to a Region.

ONNX has no strides. A trace reads a size from a stride if it meets this number there first.

A trace computes the size of a dimension once and uses the number everywhere. In separate functions the size would be an
extra scalar argument; each Region reads it again from one of its tensors instead.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from typing import Any

import torch
import torch.fx

from gradport.compat.torch.sizes import expression_of, surely_equal
from gradport.operators.markers import mark
from gradport.tracing.regions import _REGION, Region, region_of

__all__ = ["keep_sizes_local", "write_strides_as_sizes"]

_SIZE = torch.ops.aten.sym_size.int
_STRIDE = torch.ops.aten.sym_stride.int


def write_strides_as_sizes(graph_module: torch.fx.GraphModule) -> None:
    """Replaces, in place, every stride that is a product of sizes of its tensor."""
    graph = graph_module.graph
    for node in [node for node in graph.nodes if node.target is _STRIDE]:
        tensor = node.args[0]
        axes = _axes_of_product(tensor.meta["val"].shape, node.meta["val"])
        if not axes:
            continue
        with graph.inserting_before(node):
            sizes = [_add(graph, node, _SIZE, (tensor, axis), tensor.meta["val"].shape[axis]) for axis in axes]
            product = functools.reduce(lambda one, other: _multiply(graph, node, one, other), sizes)
        node.replace_all_uses_with(product)
        graph.erase_node(node)


def _multiply(graph: torch.fx.Graph, like: torch.fx.Node, one: torch.fx.Node, other: torch.fx.Node) -> torch.fx.Node:
    return _add(graph, like, operator.mul, (one, other), one.meta["val"] * other.meta["val"])


def _add(graph: torch.fx.Graph, like: torch.fx.Node, target: Any, args: tuple[Any, ...], value: Any) -> torch.fx.Node:
    """A new node with the Region and the source line of another one."""
    new = graph.call_function(target, args)
    new.meta = {**like.meta, "val": value}
    return new


def _axes_of_product(sizes: torch.Size, stride: Any) -> tuple[int, ...]:
    """The axes whose sizes have this product; none if it is not sure."""
    ranks = range(1, len(sizes) + 1)
    chosen = itertools.chain.from_iterable(itertools.combinations(range(len(sizes)), rank) for rank in ranks)
    return next((axes for axes in chosen if surely_equal(math.prod(sizes[axis] for axis in axes), stride)), ())


def keep_sizes_local(graph_module: torch.fx.GraphModule, regions: dict[int, Region]) -> None:
    """Rewrites, in place, every use of a size that was read in another Region."""
    graph = graph_module.graph
    tensors = _available_tensors(graph)
    local: dict[tuple[torch.fx.Node, int | None], torch.fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is mark or _is_size(node):
            continue
        region = region_of(node)
        for used in node.all_input_nodes:
            if not _is_size(used) or region_of(used) == region:
                continue
            with graph.inserting_before(node):
                twin = _localise(graph, used, region, tensors.get(region, []), local)
            if twin is not None:
                node.replace_input_with(used, twin)
    graph.eliminate_dead_code()
    graph_module.recompile()


def _available_tensors(graph: torch.fx.Graph) -> dict[int | None, list[torch.fx.Node]]:
    """For each Region the tensors available in it: its arguments, then tensors that its nodes read from outside."""
    tensors: dict[int | None, list[torch.fx.Node]] = {None: [n for n in graph.nodes if n.op == "placeholder"]}
    for node in graph.nodes:
        if node.target is mark and node.args[2] == "enter":
            tensors.setdefault(node.args[1], []).extend(node.args[0])
    for node in graph.nodes:
        region = region_of(node)
        if region is None or node.target is mark:
            continue
        for used in node.all_input_nodes:
            if region_of(used) != region and isinstance(used.meta.get("val"), torch.Tensor):
                tensors.setdefault(region, []).append(used)
    return tensors


def _is_size(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt)


def _localise(
    graph: torch.fx.Graph,
    size: torch.fx.Node,
    region: int | None,
    tensors: list[torch.fx.Node],
    local: dict[tuple[torch.fx.Node, int | None], torch.fx.Node],
) -> torch.fx.Node | None:
    """The node of the same size inside `region`; None if no tensor there has it."""
    if (size, region) in local:
        return local[size, region]
    if region_of(size) == region:
        return size
    twin = None
    read = _read_size(size, tensors)
    if read is not None:
        twin = graph.call_function(_SIZE, read)
    elif size.op == "call_function" and all(_is_size(used) for used in size.all_input_nodes):
        parts = {used: _localise(graph, used, region, tensors, local) for used in size.all_input_nodes}
        if all(part is not None for part in parts.values()):
            twin = graph.node_copy(size, lambda used: parts[used] or used)
    if twin is None:
        return None
    twin.meta = {**size.meta, _REGION: region} if region is not None else _without_region(size.meta)
    local[size, region] = twin
    return twin


def _read_size(size: torch.fx.Node, tensors: list[torch.fx.Node]) -> tuple[torch.fx.Node, int] | None:
    expression = expression_of(size.meta["val"])
    for tensor in tensors:
        for axis, length in enumerate(getattr(tensor.meta.get("val"), "shape", ())):
            if isinstance(length, torch.SymInt) and expression_of(length) == expression:
                return tensor, axis
    return None


def _without_region(meta: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in meta.items() if key != _REGION}
