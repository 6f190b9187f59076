"""Computes equal updates of many small tensors as one update of one vector.

An optimizer updates each parameter by a dozen elementwise nodes, and its step count by a dozen more. For a small tensor
starting a node costs more than its work. Here the scalars of all parameters are one vector, and so are the small
tensors, one after the other: each number is computed by the same operators as before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.chains import Chain, find_chains, is_shaped, known_shape
from gradport.lowering.passes.replacing import Replacement, has_one_element, is_node
from gradport.lowering.passes.rows import fill_shapes

__all__ = ["BatchUpdates"]

_SMALL = 2**12
"""Elements of the largest tensor that is copied into a vector, measured: above it copies cost what they save."""


class BatchUpdates(ir.passes.InPlacePass):
    """Batches equal chains of elementwise nodes that end in outputs of the graph, where this saves nodes."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        graph = model.graph
        added: list[ir.Node] = []
        fill_shapes(graph)
        for kind in (has_one_element, is_shaped):  # a vector of scalars is what tensors read
            batches = [_Batch(chains) for chains in _group_equal(find_chains(graph, kind))]
            for batch in batches:
                if batch.saves_nodes():
                    added += batch.replace_chains(graph)
            if added:
                graph.sort()  # the first chain of a batch may stand before values that its later chains read
        for node in reversed(added):
            if node.graph is graph and not any(map(_has_reader, node.outputs)):
                graph.remove(node, safe=True)
        return ir.passes.PassResult(model, modified=bool(added))


def _has_reader(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _group_equal(chains: Iterable[Chain]) -> list[list[Chain]]:
    """Small chains of one form; those of vectors, which need no Reshape, apart from others."""
    groups: dict[Hashable, list[Chain]] = {}
    for chain in chains:
        if math.prod(chain.shape) <= _SMALL:
            groups.setdefault((chain.form, _is_vector(chain.shape)), []).append(chain)
    return [group for group in groups.values() if len(group) > 1]


def _is_vector(shape: Sequence[int]) -> bool:
    return len(shape) == 1


class _Batch:
    """Equal chains, which become one on a vector."""

    def __init__(self, chains: Sequence[Chain]) -> None:
        self._chains = chains
        self._sizes = [math.prod(chain.shape) for chain in chains]
        self._leaves = list(zip(*(chain.leaves for chain in chains), strict=True))
        self._outputs = list(zip(*(chain.outputs for chain in chains), strict=True))
        self._new = Replacement(chains[0].nodes[0])
        self._arrays: dict[Hashable, ir.Value] = {}

    def saves_nodes(self) -> bool:
        """Whether the batch has fewer nodes than the chains."""
        length, count = len(self._chains[0].nodes), len(self._chains)
        moved = [values[0] for values in self._leaves if len(set(values)) > 1] + [values[0] for values in self._outputs]
        whole = [value for value in moved if has_one_element(value) == (self._sizes[0] == 1)]
        reshapes = 0 if _is_vector(self._chains[0].shape) else count
        after = length + len(whole) * (1 + reshapes) + (len(moved) - len(whole))
        return after < length * count

    def replace_chains(self, graph: ir.Graph) -> list[ir.Node]:
        """Puts the batch in place of the chains; returns its nodes."""
        first = self._chains[0].nodes
        vectors = {leaves[0]: self._join(leaves) for leaves in self._leaves}
        for node in first:
            inputs = [None if value is None else vectors.get(value) or self._number(value) for value in node.inputs]
            (vector,) = self._new.copy(node, inputs)
            vector.shape = _longest(inputs)
            vectors[node.outputs[0]] = vector
        parts = [self._split(vectors[outputs[0]], outputs) for outputs in self._outputs]
        graph.insert_before(first[0], self._new.nodes)
        for before, after in zip(itertools.chain(*self._outputs), itertools.chain(*parts), strict=True):
            name = before.name
            before.replace_all_uses_with(after, replace_graph_outputs=True)
            before.name, after.name = f"{name}.alone", name
        graph.remove([node for chain in self._chains for node in chain.nodes], safe=True)
        return self._new.nodes

    def _join(self, leaves: Sequence[ir.Value]) -> ir.Value:
        """The vector of a value of each chain, or the scalar that all chains share."""
        if not has_one_element(leaves[0]):
            return self._concat(leaves)
        if len(set(leaves)) == 1:
            return leaves[0] if len(known_shape(leaves[0])) < 2 else self._flatten(leaves[0])
        if set(self._sizes) == {1}:
            return self._concat(leaves)
        scalars = self._find_vector(leaves) or self._concat(leaves)
        elements = self._new.add("Gather", [scalars, self._chain_of_each_element()])
        elements.type, elements.shape = leaves[0].type, ir.Shape([sum(self._sizes)])
        return elements

    def _find_vector(self, scalars: Sequence[ir.Value]) -> ir.Value | None:
        """These scalars as a vector, if a batch of scalars has split one into them."""
        reshapes = [scalar.producer() for scalar in scalars]
        parts = [node.inputs[0] for node in reshapes if is_node(node, "Reshape")]
        splits = {part.producer() for part in parts if part is not None}
        split = splits.pop() if len(parts) == len(scalars) else None
        if splits or not is_node(split, "Split") or any(part.shape != (1,) for part in split.outputs):
            return None
        places = [split.outputs.index(part) for part in parts if part is not None]
        return self._new.add("Gather", [split.inputs[0], self._array(np.array(places, dtype=np.int64))])

    def _chain_of_each_element(self) -> ir.Value:
        """The chain of each element of the vector. A runtime computes it once; a constant would be as large."""
        starts = np.cumsum(self._sizes[:-1], dtype=np.int64)
        whole = self._array(np.array([sum(self._sizes)], dtype=np.int64))
        zeros = self._new.add("ConstantOfShape", [whole], value=ir.tensor(np.zeros(1, dtype=np.int32)))
        ones = self._array(np.ones(len(starts), dtype=np.int32))
        steps = self._new.add("ScatterElements", [zeros, self._array(starts), ones])
        return self._new.add("CumSum", [steps, self._array(np.array(0, dtype=np.int64))])

    def _concat(self, values: Sequence[ir.Value]) -> ir.Value:
        vector = self._new.add("Concat", [self._flatten(value) for value in values], axis=0)
        vector.type, vector.shape = values[0].type, ir.Shape([sum(_elements(value) for value in values)])
        return vector

    def _flatten(self, value: ir.Value) -> ir.Value:
        return self._reshape(value, (_elements(value),))

    def _split(self, vector: ir.Value, outputs: Sequence[ir.Value]) -> list[ir.Value]:
        """One part for each chain. A result of shared scalars alone is the same for all chains."""
        if has_one_element(vector):
            parts = [self._new.add("Identity", [vector], like=vector) for _ in outputs]
        else:
            parts = list(self._new.split(vector, self._sizes))
        return [self._reshape(part, known_shape(output)) for part, output in zip(parts, outputs, strict=True)]

    def _reshape(self, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        if value.shape == shape:
            return value
        reshaped = self._new.add("Reshape", [value, self._array(np.array(shape, dtype=np.int64))])
        reshaped.type, reshaped.shape = value.type, ir.Shape(shape)
        return reshaped

    def _array(self, array: np.ndarray[Any, Any]) -> ir.Value:
        """A constant that is there once: many nodes read it."""
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._arrays:
            self._arrays[key] = self._new.constant(array)
        return self._arrays[key]

    def _number(self, constant: ir.Value) -> ir.Value:
        """A constant of one element, without the dimensions of size 1 that it has for a tensor."""
        tensor = ir.convenience.get_const_tensor(constant)
        if tensor is None or len(tensor.shape) < 2:
            return constant
        return self._new.add("Constant", [], value=ir.tensor(tensor.numpy().reshape(()), dtype=tensor.dtype))


def _elements(value: ir.Value) -> int:
    return math.prod(known_shape(value))


def _longest(values: Sequence[ir.Value | None]) -> ir.Shape:
    """The shape of an elementwise result of these vectors, scalars and constants."""
    shapes = [value.shape for value in values if value is not None and value.shape is not None]
    return max(shapes, key=lambda shape: (len(shape), *shape.numpy()), default=ir.Shape([]))
