"""Chains of elementwise nodes that nothing but outputs of the graph needs: the update of one parameter is one.

A chain ends in outputs of the graph, so no path leads from one chain to another: equal chains may run together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gradport.lowering.lower import REGION
from gradport.lowering.passes.aliasing import is_elementwise
from gradport.lowering.passes.replacing import has_one_element, is_node

__all__ = ["Chain", "find_chains", "is_shaped", "known_shape"]


@dataclass(frozen=True)
class Chain:
    """Elementwise nodes of one shape, in the order of the graph.

    Attributes:
        nodes: the nodes; each has one output.
        leaves: the values that they read and do not compute, without constants, in the order of their first use.
        outputs: the values that others read, or that are outputs of the graph.
        form: equal for two chains that compute the same of their leaves, in the same order.
    """

    nodes: tuple[ir.Node, ...]
    leaves: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    form: Hashable

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all results, but that of scalars may vary in rank."""
        return known_shape(self.nodes[0].outputs[0])

    @classmethod
    def of(cls, nodes: Sequence[ir.Node]) -> Chain:
        """The chain of these nodes."""
        places = {node.outputs[0]: ("node", index) for index, node in enumerate(nodes)}
        leaves: dict[ir.Value, tuple[str, int]] = {}

        def place(value: ir.Value | None) -> Hashable:
            if value is None or value in places:
                return places[value] if value is not None else None
            constant = _constant(value)
            if constant is not None:
                return constant
            return leaves.setdefault(value, ("leaf", len(leaves))), has_one_element(value), value.dtype

        form = tuple(
            (
                node.op_type,
                tuple((name, str(attribute.value)) for name, attribute in node.attributes.items()),
                tuple(place(value) for value in node.inputs),
                node.outputs[0].dtype,
            )
            for node in nodes
        )
        inside = set(nodes)
        outputs = tuple(value for value in places if _is_read_outside(value, inside))
        return cls(tuple(nodes), tuple(leaves), outputs, (form, tuple(places[value] for value in outputs)))


def find_chains(graph: ir.Graph, kind: Callable[[ir.Value], bool]) -> list[Chain]:
    """The chains whose nodes give values of one kind: `is_shaped` or `has_one_element`.

    A scalar that several chains of tensors need is in no chain.
    """
    chain_of: dict[ir.Node, ir.Node] = {}
    for joined in (is_shaped, has_one_element):
        _join(graph, joined, chain_of)
    chains: dict[ir.Node, list[ir.Node]] = {}
    for node in graph:
        if node in chain_of and kind(node.outputs[0]):
            chains.setdefault(_last(chain_of, node), []).append(node)
    return [Chain.of(nodes) for nodes in chains.values()]


def is_shaped(value: ir.Value) -> bool:
    """Whether a value has several elements, and their number is known."""
    return value.shape is not None and value.shape.is_static() and math.prod(known_shape(value)) > 1


def known_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape of a value whose sizes are known."""
    return tuple(value.shape.numpy()) if value.shape is not None else ()


def _join(graph: ir.Graph, fits: Callable[[ir.Value], bool], chain_of: dict[ir.Node, ir.Node]) -> None:
    """Adds the nodes whose result fits to the chain of their readers; `chain_of` is a forest of nodes."""
    for node in reversed(list(graph)):
        if not (_is_link(node) and fits(node.outputs[0])):
            continue
        readers = [reader for reader, _ in node.outputs[0].uses()]
        if not all(reader in chain_of for reader in readers):
            continue
        lasts = list(dict.fromkeys(_last(chain_of, reader) for reader in readers))
        ends = [last for last in lasts if is_shaped(last.outputs[0])]
        if has_one_element(node.outputs[0]) and len(ends) > 1:
            continue
        root = ends[0] if ends else node
        for joined in (root, node, *lasts):
            chain_of[joined] = root


def _last(chain_of: dict[ir.Node, ir.Node], node: ir.Node) -> ir.Node:
    while chain_of[node] is not node:
        node = chain_of[node]
    return node


def _is_link(node: ir.Node) -> bool:
    """Whether a node may be in a chain: an element of its result comes from elements at its place, or from scalars."""
    if REGION in node.metadata_props or not (is_elementwise(node) or is_node(node, "Identity")):
        return False
    if node.op_type == "Clip" and any(value is not None and _constant(value) is None for value in node.inputs[1:]):
        return False  # its limits cannot be vectors
    shape = node.outputs[0].shape
    return node.outputs[0].dtype is not None and all(
        value is None or value.shape == shape or has_one_element(value) for value in node.inputs
    )


def _constant(value: ir.Value) -> Hashable:
    """A constant of one element by its value; None for any other value."""
    tensor = ir.convenience.get_const_tensor(value)
    return (tensor.dtype, tensor.tobytes()) if tensor is not None and tensor.size == 1 else None


def _is_read_outside(value: ir.Value, inside: set[ir.Node]) -> bool:
    return value.is_graph_output() or any(reader not in inside for reader, _ in value.uses())
