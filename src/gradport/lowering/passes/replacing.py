"""Code that passes share: new nodes that replace one node, with its Region and source line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import onnx_ir as ir

__all__ = [
    "Replacement",
    "constant_value",
    "guess_elements",
    "has_one_element",
    "has_one_reader",
    "is_node",
    "is_scalar",
    "is_zeros",
    "only_producer",
]

_LARGEST = 1024

_KEEP_ZEROS = frozenset({"Cast", "CastLike", "Expand", "Identity", "Reshape"})


def constant_value(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The values of a small constant; None for any other value."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return tensor.numpy() if tensor is not None and tensor.size <= _LARGEST else None


_UNKNOWN = 64
"""A guess for a size that is not known: mostly it is a batch."""


def guess_elements(shape: ir.Shape) -> int:
    """The number of elements; a size that is not known is taken as that of a batch."""
    return math.prod(size if isinstance(size, int) else _UNKNOWN for size in shape)


def has_one_element(value: ir.Value) -> bool:
    """Whether a value has one element, at any rank."""
    shape = _shape_of(value)
    return shape is not None and all(size == 1 for size in shape)


def has_one_reader(value: ir.Value) -> bool:
    """Whether one node reads a value, and no output of the graph is it."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def only_producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node of this type that computes a value which has one reader."""
    node = value.producer() if value is not None and has_one_reader(value) else None
    return node if is_node(node, op_type) else None


def is_node(node: ir.Node | None, op_type: str) -> TypeGuard[ir.Node]:
    """Whether this is a node of one of ONNX's own operators."""
    return node is not None and node.op_type == op_type and not node.domain


def is_scalar(value: ir.Value) -> bool:
    """Whether a value has one element and at most one dimension."""
    shape = _shape_of(value)
    return shape is not None and len(shape) < 2 and has_one_element(value)


def _shape_of(value: ir.Value) -> Any:
    """The shape of a value; a constant may have it in its tensor alone."""
    constant = ir.convenience.get_const_tensor(value)
    return value.shape if constant is None else constant.shape


def is_zeros(value: ir.Value | None) -> bool:
    """Whether all elements of a value are zero: a small constant, or a tensor that is filled with zeros."""
    constant = constant_value(value)
    if constant is not None:
        return not constant.any()
    node = None if value is None else value.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "ConstantOfShape":
        filled = node.attributes.get("value")
        return filled is None or not filled.as_tensor().numpy().any()
    return node.op_type in _KEEP_ZEROS and is_zeros(node.inputs[0])


class Replacement:
    """The nodes that replace `node`."""

    def __init__(self, node: ir.Node) -> None:
        self.nodes: list[ir.Node] = []
        self._node = node
        self._results: list[ir.Value] = []

    def add(
        self, op_type: str, inputs: Sequence[ir.Value | None], *, like: ir.Value | None = None, **attributes: Any
    ) -> ir.Value:
        """Adds a node; its output has the shape and type of `like`."""
        (output,) = self._append(ir.node(op_type, inputs, attributes))
        if like is not None:
            output.shape, output.type = like.shape, like.type
        return output

    def split(self, value: ir.Value, sizes: Sequence[int]) -> Sequence[ir.Value]:
        """Adds the parts of a vector."""
        lengths = self.constant(np.array(sizes, dtype=np.int64))
        parts = self._append(ir.node("Split", [value, lengths], {"axis": 0}, num_outputs=len(sizes)))
        for part, size in zip(parts, sizes, strict=True):
            part.shape, part.type = ir.Shape([size]), value.type
        return parts

    def _append(self, node: ir.Node) -> Sequence[ir.Value]:
        node.metadata_props.update(self._node.metadata_props)
        node.name = f"{self._node.name}_{node.op_type}_{len(self.nodes)}"
        self.nodes.append(node)
        return node.outputs

    def copy(
        self, node: ir.Node, inputs: Sequence[ir.Value | None], *, outputs: int | None = None
    ) -> Sequence[ir.Value]:
        """Adds a copy of a node with other inputs and its first outputs; None: with all."""
        count = len(node.outputs) if outputs is None else outputs
        twin = ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), num_outputs=count)
        twin.name = f"{node.name}_{len(self.nodes)}"
        twin.metadata_props.update(node.metadata_props)
        for before, after in zip(node.outputs, twin.outputs, strict=False):
            after.shape, after.type = before.shape, before.type
        self.nodes.append(twin)
        return twin.outputs

    def choose(self, condition: ir.Value, then_branch: ir.Graph, else_branch: ir.Graph, *, like: ir.Value) -> ir.Value:
        """Adds an If with one output."""
        return self.add("If", [condition], like=like, then_branch=then_branch, else_branch=else_branch)

    def constant(self, value: Any) -> ir.Value:
        """Adds a constant."""
        return self.add("Constant", [], value=ir.tensor(np.asarray(value)))

    def set_outputs(self, *values: ir.Value) -> None:
        """Sets the outputs of `graph`."""
        self._results = list(values)

    def graph(self, name: str) -> ir.Graph:
        """These nodes as a subgraph without inputs."""
        for node in self.nodes:
            node.name = f"{node.name}_{name}"
            for index, value in enumerate(node.outputs):
                value.name = f"{node.name}_out" if len(node.outputs) == 1 else f"{node.name}_out_{index}"
        return ir.Graph([], self._results, nodes=self.nodes, name=f"{self._node.name}_{name}")

    def replace_node(self, graph: ir.Graph, *results: ir.Value) -> None:
        """Replaces the node in its graph; readers of its outputs then read `results`."""
        graph.insert_before(self._node, self.nodes)
        for before, after in zip(self._node.outputs, results, strict=True):
            if after.shape is None:
                after.shape, after.type = before.shape, before.type or after.type
            before.replace_all_uses_with(after, replace_graph_outputs=True)
        graph.remove(self._node, safe=True)
