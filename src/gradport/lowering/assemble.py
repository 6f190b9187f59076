"""The last stage, from OutlinedModel to Program: names, order and metadata."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx.helper
import onnx_ir as ir
import onnx_ir.passes.common as common
import torch

from gradport.compat.torch.sizes import expression_of, size_text
from gradport.compat.torch.trees import tree_leaves
from gradport.eager.control_flow import bodies
from gradport.eager.joint import Joint
from gradport.lowering.lower import BACKWARD, PLACE, RECOMPUTED, REGION, make_initializer
from gradport.lowering.outline import OutlinedModel
from gradport.model.program import FORMAT, FORMAT_VERSION, FUNCTIONS, NAMES, PROVENANCE, Program
from gradport.model.subgraphs import subgraphs
from gradport.subject.names import Taken, allot, rename, unique
from gradport.subject.paths import portable, without_machine
from gradport.subject.ports import GraphSignature, Phase, Port, Role, Slot
from gradport.subject.signature import source_of, source_of_backward
from gradport.tracing import Trace

__all__ = ["assemble"]


def assemble(
    outlined: OutlinedModel,
    *,
    input_names: Sequence[str] | Mapping[str, str] | None,
    output_names: Sequence[str] | Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> Program:
    """Sets names, order and metadata of the model, and removes unused nodes and functions.

    Raises:
        SpecError: `input_names` or `output_names` do not match.
    """
    model = outlined.model
    trace = outlined.trace
    signature = trace.signature
    values = _settle_inputs(outlined)
    _separate_outputs(model.graph)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    renames = rename(signature.inputs, input_names, "input_names")
    renames |= rename(signature.outputs, output_names, "output_names")
    in_names, out_names, taken = allot(signature, renames)
    initializers = _name_initializers(outlined, taken)
    for value in {*values, *model.graph.outputs, *model.graph.initializers.values()}:
        taken.claim(str(value.name), "internal")  # so that no internal value keeps a name that is assigned below
    _name(model, [*zip(values, in_names, strict=True), *zip(model.graph.outputs, out_names, strict=True)], initializers)
    _name_dimensions(model.graph, trace)
    random = {
        port.slot.name: name for port, name in zip(signature.inputs, in_names, strict=True) if port.role is Role.RANDOM
    }
    model.metadata_props[FORMAT] = str(FORMAT_VERSION)
    model.metadata_props[NAMES] = json.dumps(_roles(signature, in_names, out_names), ensure_ascii=False)
    model.metadata_props[FUNCTIONS] = json.dumps(_functions(model), ensure_ascii=False)
    model.metadata_props[PROVENANCE] = json.dumps(
        _provenance(outlined, options, random), ensure_ascii=False, default=repr
    )
    _write_metadata(model, outlined.opset_version)
    _shorten_places(model)
    return Program(model, _starting_state(trace.joint, signature, in_names))


def _settle_inputs(outlined: OutlinedModel) -> list[ir.Value]:
    """The inputs of the outlined graph in the order of the signature; the others become initializers."""
    trace, graph = outlined.trace, outlined.model.graph
    examples = trace.joint.examples()
    values: dict[Port, ir.Value] = {}
    graph.inputs.clear()
    for placeholder, value in zip(trace.placeholders, outlined.inputs, strict=True):
        if placeholder.port is None:
            make_initializer(graph, value, examples[placeholder.slot])
        else:
            values[placeholder.port] = value
    graph.inputs.extend(values[port] for port in trace.signature.inputs)
    return list(graph.inputs)


def _starting_state(joint: Joint, signature: GraphSignature, names: list[str]) -> dict[str, torch.Tensor]:
    """The initial value of each state input, by its name in the file."""
    examples = joint.examples()
    state = {}
    for port, name in zip(signature.inputs, names, strict=True):
        if port.role is Role.STATE:
            tensor = examples[port.slot].detach()
            state[name] = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).clone()
    return state


def _separate_outputs(graph: ir.Graph) -> None:
    """Adds an Identity for each output that is an input, an initializer or another output."""
    seen: set[ir.Value] = set()
    for index, value in enumerate(graph.outputs):
        if value in seen or value.producer() is None:
            copy = ir.Node("", "Identity", [value])
            copy.outputs[0].shape, copy.outputs[0].type = value.shape, value.type
            graph.append(copy)
            graph.outputs[index] = copy.outputs[0]
        seen.add(graph.outputs[index])


def _name_initializers(outlined: OutlinedModel, taken: Taken) -> dict[ir.Value, str]:
    """Names parameters and buffers, then constants. State already has a name, as an input."""
    inputs = set(outlined.model.graph.inputs)
    names: dict[ir.Value, str] = {}
    for placeholder, value in zip(outlined.trace.placeholders, outlined.inputs, strict=True):
        if placeholder.port is None:
            names[value] = taken.claim(placeholder.slot.name, placeholder.slot.role)
    for value in outlined.model.graph.initializers.values():
        if value not in names and value not in inputs:
            names[value] = taken.claim(str(value.name), "constant")
    return names


def _name(model: ir.Model, public: list[tuple[ir.Value, str]], initializers: dict[ir.Value, str]) -> None:
    graph = model.graph
    final = {name for _, name in public} | set(initializers.values())
    fixed = {value for value, _ in public} | set(initializers)
    nodes: set[str] = set()
    for node in graph:
        node.name = unique(node.name or node.op_type, nodes)
        for value in node.outputs:
            if value not in fixed and value.name != "":
                value.name = unique(value.name or f"{node.name}_out", final)
    weights = list(graph.initializers.values())
    graph.initializers.clear()
    for value, name in public:
        value.name = name
    for value in weights:
        value.name = initializers.get(value, value.name)
        if value.const_value is not None:
            value.const_value.name = value.name
        graph.initializers[str(value.name)] = value


def _name_dimensions(graph: ir.Graph, trace: Trace) -> None:
    """Replaces torch's symbols by the user's names, and its expressions by those of `gradport.subject.expressions`; a
    size that this grammar cannot express is unknown in the file."""
    texts = _size_texts(trace)

    def rename_dimension(dim: Any) -> Any:
        return dim if isinstance(dim, int) or dim.value is None else ir.SymbolicDim(texts.get(str(dim.value)))

    every = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():  # also those of branches and loops
        every += node.outputs
        every += (value for body in subgraphs(node) for value in body.inputs)
    for value in every:
        if value.shape is not None:
            value.shape = ir.Shape([rename_dimension(dim) for dim in value.shape])


def _size_texts(trace: Trace) -> dict[str, str | None]:
    """Each symbolic size of the trace, from torch's text to gradport's grammar."""
    names = {symbol: dimension.name for symbol, dimension in trace.symbols.items()}
    sizes = [
        size
        for body in bodies(trace.graph_module)
        for node in body.graph.nodes
        for value in tree_leaves(node.meta.get("val"))
        if isinstance(value, torch.Tensor)
        for size in value.shape
        if isinstance(size, torch.SymInt)
    ]
    by_text: dict[str, Any] = {str(size): size for size in sizes}
    return {text: size_text(expression_of(size), names) for text, size in by_text.items()}


def _roles(signature: GraphSignature, in_names: Sequence[str], out_names: Sequence[str]) -> list[dict[str, str | None]]:
    by_slot = {port.slot: name for port, name in zip(signature.inputs, in_names, strict=True)}
    by_output = {
        port.slot.name: name
        for port, name in zip(signature.outputs, out_names, strict=True)
        if port.role is Role.OUTPUT
    }

    def owner(port: Port) -> str | None:
        if port.role is Role.COTANGENT:
            return by_output.get(port.slot.name, port.slot.name)
        if port.slot.role is Role.GRADIENT:
            return by_slot.get(Slot(Role.PARAMETER, port.slot.name), port.slot.name)
        if port.role in (Role.GRADIENT, Role.NEW_STATE):
            return by_slot.get(port.slot, port.slot.name)
        return None

    pairs = [*zip(signature.inputs, in_names, strict=True), *zip(signature.outputs, out_names, strict=True)]
    return [{"name": name, "role": port.role, "of": owner(port)} for port, name in pairs]


def _functions(model: ir.Model) -> list[dict[str, Any]]:
    entries = []
    for function in model.functions.values():
        region = function.meta.get("region")
        if region is None:
            continue
        file, line = (source_of if region.phase is Phase.FORWARD else source_of_backward)(region.function)
        entries.append(
            {
                "domain": function.domain,
                "name": function.name,
                "overload": function.overload,
                "phase": region.phase,
                "file": portable(file) if file else None,
                "line": line,
            }
        )
    return entries


def _provenance(outlined: OutlinedModel, options: Mapping[str, Any], random: Mapping[str, str]) -> dict[str, Any]:
    joint: Joint = outlined.trace.joint
    file, line = source_of(joint.subject.target)
    return {
        "gradport": importlib.metadata.version("gradport"),
        "torch": torch.__version__,
        "subject": joint.subject.name,
        "source": f"{portable(file)}:{line}" if file else None,
        "static_arguments": {argument.name: without_machine(repr(argument.value))[:200] for argument in joint.statics},
        "wrt": [f"param.{slot.name}" if slot.role == Role.PARAMETER else slot.name for slot in joint.wanted],
        "outputs": [
            port.slot.name for port in outlined.trace.signature.outputs if port.role in (Role.OUTPUT, Role.ACTIVATION)
        ],
        "missing_gradients": list(outlined.trace.missing_gradients),
        "dropped_updates": list(outlined.trace.dropped_updates),
        "distributions": {name: outlined.trace.distributions[source] for source, name in random.items()},
        "references": dict(outlined.trace.references),
        "options": dict(options),
    }


def _shorten_places(model: ir.Model) -> None:
    """In the file a source line is relative to its project or package; only in memory it keeps its whole path."""
    for graph in model.graphs():
        for node in graph:
            place = node.metadata_props.get(PLACE)
            if place is not None:
                file, _, line = place.rpartition(":")
                node.meta[PLACE], node.metadata_props[PLACE] = place, f"{portable(file)}:{line}"


def _write_metadata(model: ir.Model, opset_version: int) -> None:
    used = {node.domain for node in model.graph.all_nodes()}
    for function in model.functions.values():
        used |= {node.domain for node in function.graph.all_nodes()}
    imports = model.graph.opset_imports
    for domain in [domain for domain in imports if domain not in used]:
        del imports[domain]
    imports[""] = opset_version
    model.producer_name = "gradport"
    model.producer_version = importlib.metadata.version("gradport")
    model.graph.name = "gradport"
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        for key in (REGION, BACKWARD, RECOMPUTED):
            node.metadata_props.pop(key, None)
    for value in [*model.graph.inputs, *model.graph.outputs]:
        value.metadata_props.clear()
    ids = [onnx.helper.make_opsetid("", opset_version)]
    model.ir_version = max(10, onnx.helper.find_min_ir_version_for(ids))
