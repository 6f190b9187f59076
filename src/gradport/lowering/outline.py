"""The second stage, from FlatModel to OutlinedModel: every Region that is not inlined becomes a local function.

Innermost Regions come first, so that a Function inside a Function becomes its own function. Constants are copied into
each body; all other values that cross the border become inputs or outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import onnx_ir as ir

from gradport.lowering.borders import Border, Crossings, Named, formal_outputs, region_key
from gradport.lowering.identity import rename_canonically
from gradport.lowering.lower import MODULE, PLACE, REGION, FlatModel
from gradport.model.subgraphs import nodes_within, subgraphs
from gradport.tracing import Region, Trace

__all__ = ["OutlinedModel", "OutlinedRegion", "Style", "outline"]


@dataclasses.dataclass(frozen=True)
class OutlinedModel:
    """An ONNX model in which each Region is a call of a local function, except inlined Regions.

    Attributes:
        trace, inputs, opset_version: from the FlatModel.
        model: the main graph and its functions.
    """

    trace: Trace
    model: ir.Model
    inputs: tuple[ir.Value, ...]
    opset_version: int


@dataclasses.dataclass(frozen=True)
class OutlinedRegion:
    """One Region after its nodes moved into a body.

    Attributes:
        region: the Region.
        call: the node that replaces it, not yet named.
        body: the function's graph with canonical names.
        border: the inputs and outputs of the call.
    """

    region: Region
    call: ir.Node
    body: ir.Graph
    border: Border


class Style(Protocol):
    """Determines the signature and the name of a Region's function."""

    def border(self, region: Region, crossings: dict[int, Crossings], regions: Mapping[int, Region]) -> Border:
        """The function's signature at this call."""
        ...

    def place(self, flat: FlatModel, outlined: OutlinedRegion) -> list[ir.Node]:
        """Names the call and adds the function to the model; returns the nodes that now replace the Region."""
        ...


def outline(flat: FlatModel, styles: Mapping[int, Style]) -> OutlinedModel:
    """Moves the nodes of every Region that has a style into a function. Takes over the graph of `flat`.

    A Region without a style is inlined: its nodes go to the nearest enclosing Region with a style.
    """
    graph = flat.model.graph
    regions = {key: region for key, region in flat.trace.regions.items() if key in styles}
    parents = _effective_parents(flat.trace.regions, styles)
    constants = _constants(flat)
    _adopt(graph, parents, styles)
    crossings = Crossings.of(graph, regions, parents, constants)
    borders = {key: styles[key].border(region, crossings, flat.trace.regions) for key, region in regions.items()}
    members = _members(graph)
    outliner = _Outliner(flat, constants, {}, {node: index for index, node in enumerate(graph)})
    for key in sorted(regions, key=lambda key: (-_depth(key, parents), key)):
        outlined = outliner.outline(regions[key], borders[key], members.get(key, []))
        nodes = styles[key].place(flat, outlined)
        parent = parents[key]
        for node in nodes:
            outliner.order.setdefault(node, outliner.order[outlined.call])
            if parent is not None:
                node.metadata_props[REGION] = str(parent)
                members.setdefault(parent, []).append(node)
    return OutlinedModel(flat.trace, flat.model, flat.inputs, flat.opset_version)


def _effective_parents(regions: Mapping[int, Region], styles: Mapping[int, Style]) -> dict[int, int | None]:
    """For every Region the nearest enclosing Region that becomes a function."""
    parents: dict[int, int | None] = {}
    for key, region in regions.items():
        parent = region.parent
        while parent is not None and parent not in styles:
            parent = regions[parent].parent
        parents[key] = parent
    return parents


def _adopt(graph: ir.Graph, parents: dict[int, int | None], styles: Mapping[int, Style]) -> None:
    """Moves the nodes of inlined Regions to the enclosing Region."""
    for node in graph:
        key = node.metadata_props.get(REGION)
        if key is None or int(key) in styles:
            continue
        parent = parents[int(key)]
        if parent is None:
            del node.metadata_props[REGION]
        else:
            node.metadata_props[REGION] = str(parent)


def _constants(flat: FlatModel) -> set[ir.Value]:
    """The initializers for constants of the subject's code."""
    initializers = flat.model.graph.initializers
    return {initializers[constant.node] for constant in flat.trace.constants if constant.node in initializers}


def _members(graph: ir.Graph) -> dict[int, list[ir.Node]]:
    members: dict[int, list[ir.Node]] = {}
    for node in graph:
        key = region_key(node)
        if key is not None:
            members.setdefault(key, []).append(node)
    return members


def _depth(key: int, parents: dict[int, int | None]) -> int:
    parent = parents[key]
    return 0 if parent is None else 1 + _depth(parent, parents)


@dataclasses.dataclass
class _Outliner:
    """Outlines Regions, and remembers replaced values, so that later Regions use the current values."""

    flat: FlatModel
    constants: set[ir.Value]
    replaced: dict[ir.Value, ir.Value]
    order: dict[ir.Node, int]

    def current_values(self, named: Named) -> Named:
        """The current values for these values of the flat graph."""
        current: Named = []
        for name, value in named:
            while value is not None and value in self.replaced:
                value = self.replaced[value]
            current.append((name, value))
        return current

    def outline(self, region: Region, border: Border, members: list[ir.Node]) -> OutlinedRegion:
        graph = self.flat.model.graph
        border = Border(self.current_values(border.inputs), self.current_values(border.outputs))
        members = sorted(members, key=self.order.__getitem__)
        call_outputs = [ir.Value(name="") if value is None else _twin(value) for _, value in border.outputs]
        call = ir.Node("", "call", [value for _, value in border.inputs], outputs=call_outputs)
        call.name = f"{region.function.__name__}_{region.phase}_{region.key}"
        self._insert(call, members, border)
        body = _Body(border.inputs, self.constants)
        body.move_nodes(graph, members)
        formal = formal_outputs(border)
        body.add_outputs(formal)
        self._reroute(border.outputs, call_outputs, body)
        finished = body.graph(self.flat)
        rename_canonically(finished, [name for name, _ in formal])
        return OutlinedRegion(region, call, finished, border)

    def _insert(self, call: ir.Node, members: list[ir.Node], border: Border) -> None:
        """Inserts the call after the last member: after its inputs and before its readers."""
        graph = self.flat.model.graph
        producers = [producer for _, value in border.inputs if value is not None and (producer := value.producer())]
        anchors = members or producers
        if anchors:
            anchor = max(anchors, key=self.order.__getitem__)
            graph.insert_after(anchor, call)
            self.order[call] = self.order[anchor]
        else:
            graph.append(call) if not len(graph) else graph.insert_before(graph[0], call)
            self.order[call] = -1

    def _reroute(self, outputs: Named, call_outputs: list[ir.Value], body: _Body) -> None:
        """Readers of a value that moved into the body now read the output of the call."""
        graph = self.flat.model.graph
        for (_, value), output in zip(outputs, call_outputs, strict=True):
            if value is None or value not in body.values or value in self.replaced:
                continue
            for node, index in list(value.uses()):
                if node not in body.all_nodes:
                    node.replace_input_with(index, output)
            for index, result in enumerate(graph.outputs):
                if result is value:
                    graph.outputs[index] = output
            self.replaced[value] = output


class _Body:
    """A function's body during construction."""

    def __init__(self, inputs: Named, constants: set[ir.Value]) -> None:
        self.inputs = [ir.Value(name=name) for name, _ in inputs]
        self.outputs: list[ir.Value] = []
        self.nodes: dict[ir.Node, None] = {}
        self.values: set[ir.Value] = set()
        self.all_nodes: set[ir.Node] = set()
        self._constants = constants
        self._local: dict[ir.Value, ir.Value] = {
            value: formal
            for (_, value), formal in zip(reversed(inputs), reversed(self.inputs), strict=True)
            if value is not None
        }

    def move_nodes(self, graph: ir.Graph, members: list[ir.Node]) -> None:
        """Moves the nodes into the body and makes them read the body's own values."""
        for node in members:
            self._bind(node)
            graph.remove(node)
            self.nodes[node] = None
            self.all_nodes.update(nodes_within(node))
            self.values.update(node.outputs)

    def add_outputs(self, outputs: Named) -> None:
        """Adds the outputs; an input, a constant or a repeated output is copied, so that each output is distinct."""
        for _, value in outputs:
            if value is None:
                self.outputs.append(self._constant(ir.tensor(0.0)))
            elif value in self.values and value not in self.outputs:
                self.outputs.append(value)
            else:
                node = ir.Node("", "Identity", [value if value in self.values else self._value(value)])
                self.nodes[node] = None
                self.all_nodes.add(node)
                self.outputs.append(node.outputs[0])

    def graph(self, flat: FlatModel) -> ir.Graph:
        """The finished body, without shapes and metadata, so that equal bodies are equal in the file."""
        imports = {"": flat.opset_version}
        for node in (inner for outer in self.nodes for inner in nodes_within(outer)):
            node.doc_string = None
            node.meta.update({key: node.metadata_props.get(key) for key in (PLACE, MODULE)})  # only in memory
            node.metadata_props.clear()
            for value in node.outputs:
                value.shape = value.type = None
                value.metadata_props.clear()
            if node.domain:
                imports[node.domain] = 1
        return ir.Graph(self.inputs, self.outputs, nodes=list(self.nodes), opset_imports=imports)

    def _bind(self, node: ir.Node, own: frozenset[ir.Value] = frozenset()) -> None:
        """Replaces outside values that a node and its subgraphs read."""
        for index, value in enumerate(node.inputs):
            if value is not None and value not in self.values and value not in own:
                node.replace_input_with(index, self._value(value))
        for inner in subgraphs(node):
            own_values = own.union(inner.inputs, *(inside.outputs for inside in inner))
            for inside in inner:
                self._bind(inside, own_values)

    def _value(self, value: ir.Value) -> ir.Value:
        """The body's own value for an outside value: a formal input, or a copied constant."""
        if value in self._local:
            return self._local[value]
        producer = value.producer()
        if value in self._constants:
            assert value.const_value is not None
            local = self._constant(value.const_value)
        else:
            assert producer is not None and producer.op_type == "Constant", f"{value.name} is not listed at the border"
            copy = ir.Node("", "Constant", [], list(producer.attributes.values()))
            self.nodes[copy] = None
            local = copy.outputs[0]
        self._local[value] = local
        return local

    def _constant(self, tensor: ir.TensorProtocol) -> ir.Value:
        node = ir.Node("", "Constant", [], [ir.AttrTensor("value", ir.Tensor(tensor.numpy(), dtype=tensor.dtype))])
        self.nodes[node] = None
        return node.outputs[0]


def _twin(value: ir.Value) -> ir.Value:
    return ir.Value(name=value.name, shape=value.shape, type=value.type)
