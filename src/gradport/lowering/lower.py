"""The first stage, from Trace to FlatModel: one ONNX graph whose nodes have their Region and source line."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir
import onnx_ir.passes.common as common
import torch
import torch.fx
from onnx_ir.tensor_adapters import TorchTensor

from gradport.compat.onnx_ir import remember_signatures
from gradport.compat.torch.exporter import has_lowering, translate
from gradport.compat.torch.operators import is_operator
from gradport.eager.control_flow import bodies
from gradport.errors import ExportError, Refusal
from gradport.operators.table import registry
from gradport.subject.ports import Role
from gradport.tracing import Trace
from gradport.tracing.refusals import describe_code
from gradport.tracing.regions import is_backward, module_of, place_of, recomputation_of, region_of

__all__ = ["BACKWARD", "MODULE", "OPERATOR", "PLACE", "RECOMPUTED", "REGION", "FlatModel", "lower", "make_initializer"]

REGION = "gradport.region"
PLACE = "gradport.place"
MODULE = "gradport.module"
OPERATOR = "gradport.operator"
BACKWARD = "gradport.backward"
RECOMPUTED = "gradport.recomputed"


@dataclasses.dataclass(frozen=True)
class FlatModel:
    """An ONNX model without local functions. A later stage takes over its graph.

    Attributes:
        trace: the trace.
        model: the graph; nodes have `REGION`, `PLACE` and `MODULE` in their metadata, and values of an operator of the
            trace have `OPERATOR` in `meta`, which is not saved.
        inputs: the graph's inputs in the order of the trace's placeholders, with parameters and buffers, so that no
            pass treats them as constants. Only constants of the subject's code are initializers.
        opset_version: opset of ai.onnx.
    """

    trace: Trace
    model: ir.Model
    inputs: tuple[ir.Value, ...]
    opset_version: int

    def weights(self) -> set[ir.Value]:
        """The inputs that are parameters, buffers and other state."""
        roles = (Role.PARAMETER, Role.BUFFER, Role.STATE)
        pairs = zip(self.trace.placeholders, self.inputs, strict=True)
        return {value for placeholder, value in pairs if placeholder.slot.role in roles}


def lower(trace: Trace, opset_version: int) -> FlatModel:
    """Translates a trace at one opset.

    Raises:
        ExportError: an operator has no lowering; the message names it, its Function and its line.
    """
    table = registry(opset_version)
    graph_module = trace.graph_module
    _require_lowerings(trace, table)
    try:
        with remember_signatures():
            model: ir.Model = translate(graph_module, table)
    except Exception as error:
        raise _translation_refusal(trace, error) from error
    inputs = _placeholder_values(trace, model)
    for node in model.graph:
        _annotate(node)
        _name_branches(node)
    common.InlinePass()(model)
    _restore_opset(model, opset_version)
    return FlatModel(trace, model, inputs, opset_version)


def _annotate(node: ir.Node) -> None:
    """Stores Region and source line as metadata, which inlining a function of torchlib copies to its nodes."""
    source: torch.fx.Node | None = node.meta.get("node")
    node.metadata_props.clear()
    if source is None:
        return
    region, place, module = region_of(source), place_of(source), module_of(source)
    if region is not None:
        node.metadata_props[REGION] = str(region)
    if place is not None:
        node.metadata_props[PLACE] = str(place)
    if module is not None:
        node.metadata_props[MODULE] = module
    if is_backward(source):
        node.metadata_props[BACKWARD] = "1"
    recomputed = recomputation_of(source)
    if recomputed is not None:
        node.metadata_props[RECOMPUTED] = str(recomputed)
    for value in node.outputs:
        if value.name == source.name:
            value.meta[OPERATOR] = source.name


def _name_branches(node: ir.Node) -> None:
    """Names the nodes that a lowering put into the branches of an If; each gets the metadata of the If."""
    if node.op_type != "If":
        return
    for attribute in node.attributes.values():
        branch = attribute.as_graph()
        branch.name = f"{node.name}_{attribute.name}"
        for index, inside in enumerate(branch):
            inside.name = f"{branch.name}_{inside.op_type}_{index}"
            inside.metadata_props.update(node.metadata_props)
            for place, value in enumerate(inside.outputs):
                value.name = f"{inside.name}_out_{place}"


def _placeholder_values(trace: Trace, model: ir.Model) -> tuple[ir.Value, ...]:
    """The graph's inputs in the order of placeholders; constants become initializers."""
    nodes = [node.name for node in trace.graph_module.graph.nodes if node.op == "placeholder"]
    by_node = dict(zip(nodes, list(model.graph.inputs), strict=True))
    inputs = tuple(by_node[placeholder.node] for placeholder in trace.placeholders)
    model.graph.inputs.clear()
    model.graph.inputs.extend(inputs)
    for constant in trace.constants:
        make_initializer(model.graph, by_node[constant.node], constant.tensor)
    return inputs


def make_initializer(graph: ir.Graph, value: ir.Value, tensor: torch.Tensor) -> None:
    """Makes a value an initializer with a copy of this tensor; complex numbers become pairs."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    value.const_value = TorchTensor(tensor.clone(memory_format=torch.contiguous_format), name=value.name)
    graph.initializers[str(value.name)] = value


def _restore_opset(model: ir.Model, opset_version: int) -> None:
    """Sets the requested opset again: inlining a function of torchlib changes it to the function's own opset."""
    model.graph.opset_imports[""] = opset_version


def _require_lowerings(trace: Trace, table: object) -> None:
    for node in (node for body in bodies(trace.graph_module) for node in body.graph.nodes):
        if node.op != "call_function" or not is_operator(node.target):
            continue
        if not has_lowering(node, table):
            raise _refusal(trace, node, Refusal.NO_LOWERING)


def _translation_refusal(trace: Trace, error: Exception) -> ExportError:
    """The error for the node at which torch's exporter failed, with its reason."""
    text = str(error)
    for node in trace.graph_module.graph.nodes:
        if node.op == "call_function" and f"%{node.name} :" in text:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if "SymbolicTensor" in str(cause):
                return _refusal(trace, node, Refusal.SIZE_AS_NUMBER)
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200].rstrip(".")
            return _refusal(trace, node, Refusal.LOWERING_FAILS, reason=reason)
    return ExportError(f"{trace.joint.subject.name} cannot be translated to ONNX: {text.splitlines()[0][:300]}.")


def _refusal(trace: Trace, node: torch.fx.Node, refusal: Refusal, **parts: str) -> ExportError:
    region = region_of(node)
    subject = describe_code(trace.joint, None if region is None else trace.regions[region])
    return refusal.error(subject, place_of(node), operator=str(node.target), **parts)
