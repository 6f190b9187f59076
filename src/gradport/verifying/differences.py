"""Describes how a node differs from the PyTorch operator that it should compute: attributes, weights, constants."""

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
    """The call of an operator in PyTorch: `leaky_relu with negative_slope=0.1`."""
    operator = _source_operator(operator)
    arguments = ", ".join(f"{name}={value}" for name, value in _numbers(operator, trace).items())
    return name_of(operator.target).strip("_") + (f" with {arguments}" if arguments else "")


def differences(
    node: ir.Node,
    operator: torch.fx.Node,
    trace: Trace,
    own: Program,
    given: Flat,
    known: Sequence[torch.Tensor],
) -> str:
    """The differences as a sentence without a period; empty if there are none.

    Args:
        node: a node of the model.
        operator: the operator of the trace that the node computes, or a part of it.
        trace: the trace.
        own: gradport's export of the trace, without local functions.
        given: the model.
        known: all values of the trace.
    """
    weights = list(_weights(_source_operator(operator), trace))
    texts = [_compare_tensor(name, tensor, weights) for name, tensor in _unmatched_tensors(node, known)]
    return ", ".join([*(text for text in texts if text), *_compare_attributes(node, operator, trace, own, given)])


def _source_operator(operator: torch.fx.Node) -> torch.fx.Node:
    """The operator itself; for a `getitem`, the operator whose results it indexes."""
    return operator.args[0] if operator.target is getitem else operator  # type: ignore[return-value]


def _numbers(operator: torch.fx.Node, trace: Trace) -> dict[str, Any]:
    """The arguments of a call that are numbers or strings, by name."""
    if not is_overload(operator.target):
        return {}
    given = {**dict(zip(argument_names(operator.target), operator.args, strict=False)), **operator.kwargs}
    given = {name: _number(one, trace) if isinstance(one, torch.fx.Node) else one for name, one in given.items()}
    return {name: value for name, value in given.items() if value is not None and not _holds_nodes(value)}


def _number(node: torch.fx.Node, trace: Trace) -> Any:
    """The number that a node of the trace holds, or the node itself if it is not a number."""
    if node.target is torch.ops.aten.scalar_tensor.default:
        return node.args[0]
    known = (one.tensor for one in trace.constants if one.node == node.name and one.tensor.numel() == 1)
    return next((tensor.item() for tensor in known), node)


def _holds_nodes(value: Any) -> bool:
    nodes: list[torch.fx.Node] = []
    torch.fx.map_arg(value, nodes.append)
    return bool(nodes)


def _compare_attributes(node: ir.Node, operator: torch.fx.Node, trace: Trace, own: Program, given: Flat) -> list[str]:
    """The attributes that differ from gradport's export of the operator. If gradport uses another ONNX operator: the
    attributes that are neither arguments of the PyTorch operator nor defaults."""
    opset = int(given.model.opset_imports.get(node.domain, 1))
    here = _attributes(node, opset)
    twin = next((one for one in _nodes_of(operator, own) if one.op_type == node.op_type), None)
    if twin is not None:
        there = _attributes(twin, own.opset)
        return [
            f"{name} is {here[name]}, not {there[name]}" for name in here if not _is_equal(here[name], there.get(name))
        ]
    numbers = [value for value in _numbers(_source_operator(operator), trace).values() if not isinstance(value, bool)]
    if not numbers:
        return []
    chosen = {name: value for name, value in here.items() if not _is_equal(value, _defaults(node, opset).get(name))}
    return [f"{name} is {value}" for name, value in chosen.items() if not any(_is_equal(value, one) for one in numbers)]


def _attributes(node: ir.Node, opset: int) -> dict[str, Any]:
    """A node's attributes that are numbers or strings, with the defaults of its schema."""
    own = {name: one.value for name, one in node.attributes.items() if one.type not in _LARGE}
    return _defaults(node, opset) | {name: _shorten(value) for name, value in own.items()}


def _defaults(node: ir.Node, opset: int) -> dict[str, Any]:
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return {}
    defaults = {name: one.default_value for name, one in schema.attributes.items() if one.default_value.type}
    return {name: _shorten(onnx.helper.get_attribute_value(value)) for name, value in defaults.items()}


_LARGE = (ir.AttributeType.TENSOR, ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS, ir.AttributeType.TENSORS)


def _shorten(value: Any) -> Any:
    """A value in short form: 0.1 instead of the nearest float32."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return [_shorten(one) for one in value] if isinstance(value, (list, tuple)) else value


def _is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return abs(left - right) <= 1e-6 * max(abs(left), abs(right))
    return bool(left == right)


def _nodes_of(operator: torch.fx.Node, own: Program) -> Iterator[ir.Node]:
    """The nodes that gradport exports for one operator, from the last node back to the values of other operators."""
    graph = own.model.graph
    ends = [node for node in graph if any(one.meta.get(OPERATOR) == operator.name for one in node.outputs)]
    while ends:
        node = ends.pop()
        yield node
        producers = [value.producer() for value in node.inputs if value is not None and OPERATOR not in value.meta]
        ends += [producer for producer in producers if producer is not None]


def _unmatched_tensors(node: ir.Node, known: Sequence[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """The floating-point constant inputs of a node whose values are not in the trace."""
    for value in node.inputs:
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        if tensor is None or value is None or tensor.dtype not in _FLOATING:
            continue
        numbers = torch.from_numpy(tensor.numpy().astype("float64"))
        if numbers.numel() and not any(_same_numbers(numbers, one) for one in known):
            yield str(value.name), numbers


_FLOATING = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _same_numbers(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers in any order."""
    if left.numel() != right.numel() or not right.is_floating_point():
        return False
    return torch.allclose(left.flatten().sort().values, right.detach().double().flatten().sort().values)


def _weights(operator: torch.fx.Node, trace: Trace) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters, buffers and constants that an operator reads, also through operators with one input."""
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


def _compare_tensor(name: str, held: torch.Tensor, weights: Sequence[tuple[str, torch.Tensor]]) -> str:
    """The difference between a tensor of the model and the weight that it should be."""
    if held.numel() == 1:
        return f"its constant {name!r} is {_shorten(float(held))}"
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
    """A tensor in the shape of another: reshaped, and transposed."""
    if tensor.numel() == like.numel():
        yield tensor.reshape(like.shape)
        if tensor.dim() == 2 and tensor.shape[::-1] == like.shape:
            yield tensor.T
