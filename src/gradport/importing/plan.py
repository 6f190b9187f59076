"""The plan of an imported graph: its nodes with their rows and attributes, made once when a file is read."""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.tensor_adapters
import torch

from gradport.errors import ExportError
from gradport.importing.functions import Call, ours, pair
from gradport.importing.sizes import LARGEST, Sizes, numbers_of
from gradport.importing.table import Row, find_row
from gradport.model.program import NAMES
from gradport.subject.ports import Role

__all__ = ["LocalFunction", "Plan", "Step", "Subgraph", "identifier", "plan_of"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        op_type, domain, name: of the node.
        inputs: names of values; None where an input is absent.
        outputs: names of values; empty where nobody reads an output.
        row: its row; None for control flow and calls of Functions.
        attributes: in Python's types; graphs are Subgraphs.
        call: the Function that the node calls.
        function: the function of the file that the node calls.
        quantizes: of a DequantizeLinear: the value that a QuantizeLinear with the same scale read.
    """

    op_type: str
    domain: str
    name: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    row: Row | None
    attributes: Mapping[str, Any]
    call: Call | None = None
    function: LocalFunction | None = None
    quantizes: str | None = None

    @property
    def reads(self) -> list[str]:
        """Names of the values that it reads, those of its graphs included."""
        nested = [name for graph in self.graphs for name in graph.reads]
        return [name for name in (*self.inputs, *nested) if name is not None]

    @property
    def graphs(self) -> list[Subgraph]:
        """The graphs in its attributes."""
        return [value for value in self.attributes.values() if isinstance(value, Subgraph)]


@dataclasses.dataclass(frozen=True)
class Subgraph:
    """A graph in an attribute, or a whole graph.

    Attributes:
        inputs, outputs: names of values.
        steps: its nodes in order.
        constants: its initializers; of small ones that are no floating-point tensors the numbers.
        reads: values of outer graphs that it reads.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    constants: Mapping[str, torch.Tensor | Sizes]
    reads: tuple[str, ...] = ()

    def own_steps(self) -> Iterator[Step]:
        """Its steps and those of the graphs inside them, without those of functions."""
        for step in self.steps:
            yield step
            for graph in step.graphs:
                yield from graph.own_steps()

    def all_steps(self) -> Iterator[Step]:
        """Its steps, those of the graphs inside them and those of functions."""
        for step in self.own_steps():
            yield step
            if step.function is not None:
                yield from step.function.body.all_steps()


@dataclasses.dataclass(frozen=True)
class LocalFunction:
    """A function of a file as one node calls it: a submodule.

    Attributes:
        attribute: the name of the submodule.
        label: domain and name of the function.
        body: its nodes, with the attributes of this call.
    """

    attribute: str
    label: str
    body: Subgraph

    def inputs_among(self, names: set[str]) -> list[bool]:
        """For each input, whether it is among these names of values in the body."""
        return [name in names for name in self.body.inputs]


@dataclasses.dataclass(frozen=True)
class Plan:
    """An imported model.

    Attributes:
        name: of the graph.
        graph: its nodes.
        initializers: all initializers by name, in order.
        parameters: names of those that become parameters.
        known: the numbers of small constants and initializers that shapes may read.
        fixed: layers that an exporter wrote for inference, each with what it does.
    """

    name: str
    graph: Subgraph
    initializers: Mapping[str, torch.Tensor]
    parameters: tuple[str, ...]
    known: Mapping[str, Sizes]
    fixed: tuple[str, ...]


def plan_of(model: ir.Model) -> Plan:
    """The plan of a model.

    Raises:
        ExportError: an operator, an attribute or a dtype has no form in torch; the message has all of them.
    """
    planner = _Planner(model)
    initializers = {name: _tensor(value.const_value) for name, value in model.graph.initializers.items()}
    inputs = [value.name for value in model.graph.inputs if value.name not in initializers]
    graph = _forward_alone(planner.subgraph(model.graph, inputs), _roles(model))
    if planner.problems:
        raise ExportError(
            f"{model.graph.name or 'The graph'} was not imported: "
            + "; ".join(dict.fromkeys(planner.problems))
            + ". Replace these nodes in the file, or register a row with gradport.importing.table.translation."
        )
    numbers, statistics = _read_as_numbers(graph), _statistics(graph)
    floating = [name for name, tensor in initializers.items() if tensor.is_floating_point()]
    known = {
        name: numbers_of(tensor)
        for name, tensor in initializers.items()
        if tensor.numel() <= LARGEST and (name in numbers or not tensor.is_floating_point())
    }
    parameters = tuple(name for name in floating if name not in numbers and name not in statistics)
    return Plan(model.graph.name or "imported", graph, initializers, parameters, known, tuple(_fixed(graph)))


def _roles(model: ir.Model) -> dict[str, Role]:
    """The roles of inputs and outputs in a file that gradport wrote."""
    try:
        listed = json.loads(model.metadata_props.get(NAMES, "[]"))
        return {one["name"]: Role(one["role"]) for one in listed}
    except (ValueError, KeyError, TypeError):
        return {}


def _forward_alone(graph: Subgraph, roles: Mapping[str, Role]) -> Subgraph:
    """The graph without cotangents and gradients: in a file of gradport the module's own backward takes their place.

    Raises:
        ExportError: the file is a training step.
    """
    state = [name for name in graph.inputs if roles.get(name) is Role.STATE]
    if state:
        raise ExportError(
            f"The graph is a training step with the state {state[0]!r}; import the model that it trains "
            "(`inference.onnx` of a bundle)."
        )
    outputs = tuple(name for name in graph.outputs if roles.get(name) is not Role.GRADIENT)
    inputs = tuple(name for name in graph.inputs if roles.get(name) is not Role.COTANGENT)
    needed, steps = set(outputs), []
    for step in reversed(pair(graph.steps)):
        if needed.intersection(step.outputs):
            steps.append(step)
            needed.update(step.reads)
    return dataclasses.replace(graph, inputs=inputs, outputs=outputs, steps=tuple(reversed(steps)))


class _Scope:
    """Where nodes stand: the main graph or one call of a function.

    Args:
        opsets: the version of each domain.
        attributes: of the call.
    """

    def __init__(
        self, opsets: Mapping[str, int], attributes: Mapping[str, ir.Attr] = types.MappingProxyType({})
    ) -> None:
        self.opsets = opsets
        self._attributes = attributes
        self._names: set[str] = set()

    def resolve(self, attribute: ir.Attr) -> ir.Attr | None:
        """An attribute with the value that the call gives it; None if it gives none."""
        return self._attributes.get(attribute.ref_attr_name or "") if attribute.is_ref() else attribute

    def free_name(self, name: str) -> str:
        """A name that no other call here has."""
        free, count = name, 1
        while free in self._names:
            count += 1
            free = f"{name}_{count}"
        self._names.add(free)
        return free


class _Planner:
    """Plans graphs, and collects the nodes that have no form in torch."""

    def __init__(self, model: ir.Model) -> None:
        self._main = model.graph
        self._scope = _Scope(dict(model.opset_imports))
        self._functions = {(function.domain, function.name): function for function in model.functions.values()}
        self.problems: list[str] = []

    def subgraph(self, graph: ir.Graph | ir.Function, inputs: Sequence[str | None]) -> Subgraph:
        constants: dict[str, torch.Tensor | Sizes] = {}
        if isinstance(graph, ir.Graph) and graph is not self._main:
            tensors = {name: _tensor(value.const_value) for name, value in graph.initializers.items()}
            constants = {name: one if one.is_floating_point() else _small(one) for name, one in tensors.items()}
        steps = tuple(self._step(node) for node in graph)
        own = {*inputs, *constants, *(name for step in steps for name in step.outputs)}
        reads: dict[str, None] = {}
        for step in steps:
            reads |= dict.fromkeys(name for name in step.reads if name not in own)
        outputs = tuple(value.name or "" for value in graph.outputs)
        reads |= dict.fromkeys(name for name in outputs if name not in own)
        return Subgraph(tuple(name or "" for name in inputs), outputs, steps, constants, tuple(reads))

    def _step(self, node: ir.Node) -> Step:
        inputs = tuple(None if value is None else value.name for value in node.inputs)
        outputs = tuple(value.name or "" for value in node.outputs)
        given = {name: self._scope.resolve(attribute) for name, attribute in node.attributes.items()}
        function = self._local_function(node, given)
        if function is not None:
            return Step(node.op_type, node.domain, node.name or "", inputs, outputs, None, {}, None, function)
        attributes = {name: self._attribute(name, one) for name, one in given.items() if one is not None}
        call = self._call(node)
        row = None
        if call is None and node.op_type not in ("If", "Loop", "Scan", "Constant"):
            row = self._row(node, attributes)
        if node.op_type == "Constant":
            attributes = {"value": _small(_constant(attributes))}
        quantizes = _quantized(node)
        return Step(node.op_type, node.domain, node.name or "", inputs, outputs, row, attributes, call, None, quantizes)

    def _local_function(self, node: ir.Node, given: Mapping[str, ir.Attr | None]) -> LocalFunction | None:
        """The function of the file that a node calls; its attributes have the values of this call."""
        function = self._functions.get((node.domain, node.op_type))
        if function is None or ours(function.name):
            return None
        attribute = self._scope.free_name(identifier(node.name or node.op_type))
        defaults = {name: one for name, one in function.attributes.items() if one.value is not None}
        outer, attributes = self._scope, defaults | {name: one for name, one in given.items() if one is not None}
        self._scope = _Scope(dict(function.opset_imports), attributes)
        body = self.subgraph(function, [value.name for value in function.inputs])
        self._scope = outer
        return LocalFunction(attribute, f"{function.domain}::{function.name}", body)

    def _row(self, node: ir.Node, attributes: Mapping[str, Any]) -> Row | None:
        opset = self._scope.opsets.get(node.domain, self._scope.opsets.get("", 1))
        row = find_row(node.domain, node.op_type, opset)
        label = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        if row is None:
            self.problems.append(f"the operator {label} (opset {opset}) has no row")
            return None
        unknown = [name for name in attributes if not row.takes(name)]
        if unknown:
            self.problems.append(f"the attribute {unknown[0]!r} of {label} is not carried")
        return row

    def _attribute(self, name: str, attribute: ir.Attr) -> Any:
        kind, value = attribute.type, attribute.value
        if kind is ir.AttributeType.GRAPH:
            return self.subgraph(value, [one.name for one in value.inputs])
        if kind is ir.AttributeType.TENSOR:
            return _tensor(value)
        if name in ("to", "dtype", "output_dtype") and kind is ir.AttributeType.INT:
            return self._dtype(value)
        return list(value) if isinstance(value, (tuple, list)) else value

    def _dtype(self, number: int) -> torch.dtype | None:
        if not number:
            return None
        try:
            return ir.tensor_adapters.to_torch_dtype(ir.DataType(number))
        except (TypeError, KeyError, ValueError):
            self.problems.append(f"torch has no dtype {ir.DataType(number).name}")
            return None

    def _call(self, node: ir.Node) -> Call | None:
        function = self._functions.get((node.domain, node.op_type))
        if function is None or not ours(function.name):
            return None
        return Call(function.domain, function.name, self.subgraph(function, [value.name for value in function.inputs]))


def _quantized(node: ir.Node) -> str | None:
    """What a pair of QuantizeLinear and DequantizeLinear rounds."""
    source = None if node.op_type != "DequantizeLinear" or node.inputs[0] is None else node.inputs[0].producer()
    if source is None or source.op_type != "QuantizeLinear" or source.inputs[1:] != node.inputs[1:]:
        return None
    return None if source.inputs[0] is None else source.inputs[0].name


def _tensor(value: Any) -> torch.Tensor:
    if value.dtype in (ir.DataType.INT4, ir.DataType.UINT4):  # torch has none; DequantizeLinear reads the numbers
        narrow = torch.int8 if value.dtype is ir.DataType.INT4 else torch.uint8
        return torch.from_numpy(value.numpy().astype(np.int8 if narrow is torch.int8 else np.uint8))
    try:
        dtype = ir.tensor_adapters.to_torch_dtype(value.dtype)
    except (TypeError, KeyError, ValueError) as error:
        raise ExportError(f"The tensor {value.name!r} has the dtype {value.dtype.name}, which torch lacks.") from error
    array = value.numpy()
    if dtype == torch.bfloat16 or str(dtype).startswith("torch.float8"):
        return torch.from_numpy(array.astype(np.float32)).to(dtype)
    return torch.from_numpy(np.array(array, copy=True)).to(dtype)


def _constant(attributes: Mapping[str, Any]) -> torch.Tensor:
    """The value of a Constant, which has one of several attributes."""
    ((name, value),) = attributes.items()
    if name in ("value_float", "value_floats"):
        return torch.tensor(value, dtype=torch.float32)
    if name in ("value_int", "value_ints"):
        return torch.tensor(value, dtype=torch.int64)
    if name != "value" or not isinstance(value, torch.Tensor):
        raise ExportError(f"A Constant has the attribute {name!r}, which torch has no tensor for.")
    return value


def _small(tensor: torch.Tensor) -> torch.Tensor | Sizes:
    """The numbers of a small tensor."""
    return numbers_of(tensor) if tensor.numel() <= LARGEST else tensor


def _read_as_numbers(graph: Subgraph) -> set[str]:
    """Values that an operator reads as numbers: a shape, scales, an axis."""
    return _inputs_of(graph, lambda step: () if step.row is None else step.row.reads_sizes)


def _inputs_of(graph: Subgraph, wanted: Callable[[Step], Sequence[bool]]) -> set[str]:
    """The values that stand at the wanted inputs of nodes, also those of the nodes of functions."""
    names = set()
    for step in graph.own_steps():
        function = step.function
        flags = wanted(step) if function is None else function.inputs_among(_inputs_of(function.body, wanted))
        names |= {name for name, flag in zip(step.inputs, flags, strict=False) if flag and name}
    return names


_FIXED = {
    "BatchNormalization": "normalizes with the statistics of the file, not with those of a batch",
    "Dropout": "keeps every element",
}


def _fixed(graph: Subgraph) -> Iterator[str]:
    """What an exporter wrote for inference only."""
    for step in graph.all_steps():
        if step.op_type in _FIXED and not step.attributes.get("training_mode"):
            yield f"{step.op_type} {step.name or step.outputs[0]} {_FIXED[step.op_type]}"


def _statistics(graph: Subgraph) -> set[str]:
    """Means and variances of batch normalization: buffers, as in torch."""
    at = (False, False, False, True, True)
    return _inputs_of(graph, lambda step: at if step.op_type == "BatchNormalization" else ())


def identifier(name: str) -> str:
    """A Python name for a value."""
    cleaned = re.sub(r"\W", "_", name)
    return cleaned if cleaned and not cleaned[0].isdigit() else f"x_{cleaned}"
