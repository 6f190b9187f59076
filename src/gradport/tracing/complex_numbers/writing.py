"""Rewrites complex values as two real tensors: ONNX Runtime does not support complex numbers.

Each complex value of a traced graph becomes its real and its imaginary part; an operator on complex numbers becomes the
real operators of its formula. At the borders of the graph, and of a Region, a complex tensor is one real tensor whose
last dimension holds the two parts, as in `torch.view_as_real`.

A rule is a function of parts: it is traced separately, and its nodes replace the original node and keep its Region and
line. Gradients need no rules: autograd has already expressed them as operators.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
import torch.fx

from gradport.compat.torch.operators import aten
from gradport.compat.torch.tracing import trace_function
from gradport.compat.torch.trees import tree_flatten, tree_leaves, tree_map, tree_unflatten
from gradport.errors import ExportError, Refusal
from gradport.operators.markers import cotangent, mark
from gradport.tracing.complex_numbers.parts import Parts, Rule, pair, rule_of
from gradport.tracing.regions import place_of

__all__ = ["write_complex_as_pairs"]


def write_complex_as_pairs(
    graph_module: torch.fx.GraphModule, mode: Any, decompositions: Mapping[Any, Any], name: str
) -> None:
    """Rewrites a traced graph in place, so that no value is complex.

    Args:
        graph_module: the graph; its nodes have their values in `meta["val"]`.
        mode: the fake mode of these values.
        decompositions: by operator.
        name: the subject's name, for messages.

    Raises:
        ExportError: an operator on complex numbers has no rule.
    """
    graph = graph_module.graph
    if not any(_is_complex(value) for node in graph.nodes for value in tree_leaves(node.meta.get("val"))):
        return
    writing = _Writing(graph_module, mode, decompositions, name)
    for node in list(graph.nodes):
        writing.visit(node)
    for node in reversed(list(graph.nodes)):
        if node in writing.replaced:
            graph.erase_node(node)
    graph.lint()


class _Writing:
    """One pass over a graph.

    Attributes:
        parts: for each complex node, the nodes of its parts.
        replaced: the nodes that are no longer used.
    """

    def __init__(self, module: torch.fx.GraphModule, mode: Any, decompositions: Mapping[Any, Any], name: str) -> None:
        self.parts: dict[torch.fx.Node, Any] = {}
        self.replaced: set[torch.fx.Node] = set()
        self._module = module
        self._graph = module.graph
        self._pairs: set[torch.fx.Node] = set()
        self._tables: dict[int, str] = {}
        self._mode = mode
        self._decompositions = decompositions
        self._name = name

    def visit(self, node: torch.fx.Node) -> None:
        """Rewrites one node; called in graph order."""
        inputs = [value for read in node.all_input_nodes for value in tree_leaves(read.meta.get("val"))]
        own = tree_leaves(node.meta.get("val"))
        if not any(map(_is_complex, [*inputs, *own])):
            return
        if node.op in ("placeholder", "get_attr") or node.target is cotangent:
            self._enter(node)
        elif node.op == "output" or node.target is mark:
            node.args = tree_map(lambda value: self._pair_of(value, node), node.args)
        else:
            self._replace(node)

    def _enter(self, node: torch.fx.Node) -> None:
        with self._mode:
            node.meta["val"] = torch.view_as_real(node.meta["val"]).clone(memory_format=torch.contiguous_format)
        if node.target is cotangent:
            output: Any = node.args[0]
            node.args = (self.parts[output].real, *node.args[1:])
        following = node
        while following.next.op == "placeholder":
            following = following.next
        self.parts[node] = self._trace_rule(lambda pair: Parts(*pair.unbind(-1)), (node,), following, node)
        self._pairs.add(node)

    def _pair_of(self, value: Any, before: torch.fx.Node) -> Any:
        """The node of the pair (real, imaginary) for a complex value that leaves the graph or a Region."""
        if value not in self.parts or value in self._pairs:
            return value
        return self._trace_rule(pair, (self.parts[value],), before.prev, value)

    def _replace(self, node: torch.fx.Node) -> None:
        arguments = tree_map(lambda value: self.parts.get(value, value) if _is_node(value) else value, node.args)
        options = tree_map(lambda value: self.parts.get(value, value) if _is_node(value) else value, node.kwargs)
        if node.target is aten.sym_size.int:
            node.args = (arguments[0].real, arguments[1])
            return
        if node.target is operator.getitem:
            parts = arguments[0][arguments[1]]
        else:
            rule = rule_of(node.target)
            if rule is None:
                raise self._refusal(node)
            dtype = _dtype_of_parts(node)
            parts = self._trace_rule(
                lambda args, kwargs: rule(*_first_as_tensor(args, dtype), **kwargs), (arguments, options), node, node
            )
        if _is_node(parts):
            node.replace_all_uses_with(parts)
        else:
            self.parts[node] = parts
        self.replaced.add(node)

    def _trace_rule(self, rule: Rule, arguments: Any, after: torch.fx.Node, source: torch.fx.Node) -> Any:
        """Traces a rule and inserts its nodes after `after`; returns its results with nodes as leaves."""
        leaves, spec = tree_flatten(arguments)
        nodes = [leaf for leaf in leaves if _is_node(leaf)]
        structure: list[Any] = []

        def flat(*values: Any) -> Any:
            stand_ins = iter(values)
            args = tree_unflatten([next(stand_ins) if _is_node(leaf) else leaf for leaf in leaves], spec)
            results, result_spec = tree_flatten(rule(*args))
            structure.append(result_spec)
            return tuple(results)

        traced = trace_function(flat, [node.meta["val"] for node in nodes], self._mode, self._decompositions)
        by_node: dict[torch.fx.Node, torch.fx.Node] = {}
        stand_ins = iter(nodes)
        results: Any = ()
        place = after
        for node in traced.graph.nodes:
            if node.op == "placeholder":
                by_node[node] = next(stand_ins)
            elif node.op == "get_attr":
                name = self._register_table(getattr(traced, node.target))
                with self._graph.inserting_after(place):
                    by_node[node] = place = self._graph.get_attr(name)
            elif node.op == "output":
                results = tree_map(lambda value: by_node[value] if _is_node(value) else value, node.args[0])
            else:
                with self._graph.inserting_after(place):
                    copy = self._graph.node_copy(node, by_node.__getitem__)
                copy.meta = {**source.meta, "val": node.meta.get("val")}
                copy.meta.pop("tensor_meta", None)
                by_node[node] = place = copy
        return tree_unflatten(list(results), structure[-1])

    def _register_table(self, tensor: torch.Tensor) -> str:
        """Registers a table as a buffer of the graph's module; returns its name. A tensor is registered once."""
        if id(tensor) not in self._tables:
            self._tables[id(tensor)] = f"_complex_table_{len(self._tables)}"
            self._module.register_buffer(self._tables[id(tensor)], tensor)
        return self._tables[id(tensor)]

    def _refusal(self, node: torch.fx.Node) -> ExportError:
        return Refusal.NO_COMPLEX_LOWERING.error(self._name, place_of(node), operator=node.target)


def _first_as_tensor(args: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """The arguments of an operator; a number that autograd passes as the first tensor becomes a tensor again."""
    first, *rest = args
    if isinstance(first, complex):
        first = Parts(torch.full((), first.real, dtype=dtype), torch.full((), first.imag, dtype=dtype))
    return (first, *rest)


def _dtype_of_parts(node: torch.fx.Node) -> torch.dtype:
    """The real dtype of the first complex result or input of a node; torch's default dtype if there is none."""
    values = [node.meta.get("val"), *(read.meta.get("val") for read in node.all_input_nodes)]
    dtypes = [value.dtype.to_real() for value in tree_leaves(values) if _is_complex(value)]
    return dtypes[0] if dtypes else torch.get_default_dtype()


def _is_node(value: Any) -> bool:
    return isinstance(value, torch.fx.Node)


def _is_complex(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_complex()
