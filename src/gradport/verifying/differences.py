"""What differs between a node of a model and the operator that it should compute: attributes, weights, constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import getitem
from typing import Any

import onnx.defs
import onnx.helper
import onnx_ir as ir
import torch
import torch.fx

from gradport.compat.torch.operators import argument_names, is_overload, name_of
from gradport.lowering.lower import OPERATOR
from gradport.model.program import Program
from gradport.proving.intermediates import Flat
from gradport.subject.ports import Role, Slot
from gradport.tracing import Trace

__all__ = ["describe_call", "differences"]


def describe_call(operator: torch.fx.Node, trace: Trace) -> str:
    """How PyTorch calls an operator: `leaky_relu with negative_slope=0.1`."""
    operator = _whole(operator)
    said = ", ".join(f"{name}={value}" for name, value in _numbers(operator, trace).items())
    return name_of(operator.target).strip("_") + (f" with {said}" if said else "")


def differences(
    node: ir.Node,
    operator: torch.fx.Node,
    trace: Trace,
    own: Program,
    given: Flat,
    known: Sequence[torch.Tensor],
) -> str:
    """What differs, as a sentence without its end; empty where nothing is seen.

    Args:
        node: of the model.
        operator: of the trace, which the node is a part of.
        trace: the trace.
        own: the trace as gradport writes it, without local functions.
        given: the model.
        known: every value of the trace.
    """
    weights = list(_weights(_whole(operator), trace))
    said = [_of_a_tensor(name, tensor, weights) for name, tensor in _strange_tensors(node, known)]
    return ", ".join([*(text for text in said if text), *_of_attributes(node, operator, trace, own, given)])


def _whole(operator: torch.fx.Node) -> torch.fx.Node:
    """The operator that an element of its results is taken from."""
    return operator.args[0] if operator.target is getitem else operator  # type: ignore[return-value]


def _numbers(operator: torch.fx.Node, trace: Trace) -> dict[str, Any]:
    """The arguments of a call that are numbers or texts, by name."""
    if not is_overload(operator.target):
        return {}
    given = {**dict(zip(argument_names(operator.target), operator.args, strict=False)), **operator.kwargs}
    given = {name: _number(one, trace) if isinstance(one, torch.fx.Node) else one for name, one in given.items()}
    return {name: value for name, value in given.items() if value is not None and not _holds_nodes(value)}


def _number(node: torch.fx.Node, trace: Trace) -> Any:
    """The number that a node of the trace stands for, or the node where it is none."""
    if node.target is torch.ops.aten.scalar_tensor.default:
        return node.args[0]
    known = (one.tensor for one in trace.constants if one.node == node.name and one.tensor.numel() == 1)
    return next((tensor.item() for tensor in known), node)


def _holds_nodes(value: Any) -> bool:
    found: list[torch.fx.Node] = []
    torch.fx.map_arg(value, found.append)
    return bool(found)


def _of_attributes(node: ir.Node, operator: torch.fx.Node, trace: Trace, own: Program, given: Flat) -> list[str]:
    """The attributes whose values are not those that the operator is written with; where it is written with another
    ONNX operator, those that are neither its arguments nor defaults."""
    opset = int(given.model.opset_imports.get(node.domain, 1))
    here = _attributes(node, opset)
    twin = next((one for one in _nodes_of(operator, own) if one.op_type == node.op_type), None)
    if twin is not None:
        there = _attributes(twin, own.opset)
        return [
            f"{name} is {here[name]}, not {there[name]}" for name in here if not _equal(here[name], there.get(name))
        ]
    numbers = [value for value in _numbers(_whole(operator), trace).values() if not isinstance(value, bool)]
    if not numbers:
        return []
    chosen = {name: value for name, value in here.items() if not _equal(value, _defaults(node, opset).get(name))}
    return [f"{name} is {value}" for name, value in chosen.items() if not any(_equal(value, one) for one in numbers)]


def _attributes(node: ir.Node, opset: int) -> dict[str, Any]:
    """A node's attributes that are numbers or texts, with the defaults of its schema."""
    own = {name: one.value for name, one in node.attributes.items() if one.type not in _LARGE}
    return _defaults(node, opset) | {name: _plain(value) for name, value in own.items()}


def _defaults(node: ir.Node, opset: int) -> dict[str, Any]:
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return {}
    held = {name: one.default_value for name, one in schema.attributes.items() if one.default_value.type}
    return {name: _plain(onnx.helper.get_attribute_value(value)) for name, value in held.items()}


_LARGE = (ir.AttributeType.TENSOR, ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS, ir.AttributeType.TENSORS)


def _plain(value: Any) -> Any:
    """A value as people write it: 0.1 and not the nearest float32."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return abs(left - right) <= 1e-6 * max(abs(left), abs(right))
    return bool(left == right)


def _nodes_of(operator: torch.fx.Node, own: Program) -> Iterator[ir.Node]:
    """The nodes that gradport writes for one operator, from the last back to the values of other operators."""
    graph = own.model.graph
    ends = [node for node in graph if any(one.meta.get(OPERATOR) == operator.name for one in node.outputs)]
    while ends:
        node = ends.pop()
        yield node
        producers = [value.producer() for value in node.inputs if value is not None and OPERATOR not in value.meta]
        ends += [producer for producer in producers if producer is not None]


def _strange_tensors(node: ir.Node, known: Sequence[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """The constant inputs of a node that hold floating numbers which the trace does not have."""
    for value in node.inputs:
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        if tensor is None or value is None or tensor.dtype not in _FLOATING:
            continue
        held = torch.from_numpy(tensor.numpy().astype("float64"))
        if held.numel() and not any(_same_numbers(held, one) for one in known):
            yield str(value.name), held


_FLOATING = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _same_numbers(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers, in whatever order."""
    if left.numel() != right.numel() or not right.is_floating_point():
        return False
    return torch.allclose(left.flatten().sort().values, right.detach().double().flatten().sort().values)


def _weights(operator: torch.fx.Node, trace: Trace) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters, buffers and constants that an operator reads, through operators of one input too."""
    placeholders = {one.node: one.slot for one in trace.placeholders}
    examples: Mapping[Slot, torch.Tensor] = trace.joint.examples()
    constants = {one.node: one.tensor for one in trace.constants}
    for read in operator.all_input_nodes:
        while read.op == "call_function" and len(read.all_input_nodes) == 1:
            read = read.all_input_nodes[0]
        if read.name in constants:
            yield "the subject's constant", constants[read.name]
        elif read.name in placeholders and placeholders[read.name].role in (Role.PARAMETER, Role.BUFFER):
            slot = placeholders[read.name]
            yield f"{slot.role} {slot.name!r}", examples[slot].detach()


def _of_a_tensor(name: str, held: torch.Tensor, weights: Sequence[tuple[str, torch.Tensor]]) -> str:
    """How a tensor of the model differs from the weight that it should be."""
    if held.numel() == 1:
        return f"its constant {name!r} is {_plain(float(held))}"
    best: tuple[int, float, str] | None = None
    for weight, tensor in weights:
        for wanted in _arrangements(tensor.double(), held):
            error = (held - wanted).abs()
            count = int((error > 1e-6 * wanted.abs().max()).sum())
            if best is None or count < best[0]:
                best = count, float(error.max()), weight
    if best is None:
        return f"its constant {name!r} is not a constant of the PyTorch model"
    count, largest, weight = best
    return (
        f"its initializer {name!r} is not {weight}: {count} of {held.numel()} elements differ, by up to {largest:.3g}"
    )


def _arrangements(tensor: torch.Tensor, like: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor in the shape of another, as it is and transposed."""
    if tensor.numel() == like.numel():
        yield tensor.reshape(like.shape)
        if tensor.dim() == 2 and tensor.shape[::-1] == like.shape:
            yield tensor.T
