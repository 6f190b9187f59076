"""The inside of a model: its flat graph, the origin of each node, and the computed values."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import torch

from gradport.lowering.lower import MODULE, PLACE
from gradport.model.program import FUNCTIONS, NAMES, Program
from gradport.model.subgraphs import values_read
from gradport.subject.ports import Role

__all__ = ["Flat", "Origin", "fetch_values", "flat"]

Run = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]
Make = Callable[[Program], Run]

_BODY = "gradport.body"

_TORCH = "pkg.torch.onnx."
"""The prefix of metadata from torch's exporter."""

_TRACED_LINE = re.compile(r'File "([^"\n]+)", line (\d+)')
_TORCH_FOLDER = "/site-packages/torch/"


@dataclasses.dataclass(frozen=True)
class Origin:
    """The origin of a node of the flat graph in the file.

    Attributes:
        function: domain and name of the local function that contains it, or None.
        name: its name there.
        place: the user's source line, if the file or the model in memory has it; else None.
        module: the path of the PyTorch module that it comes from, likewise.
    """

    function: tuple[str, str] | None
    name: str
    place: str | None
    module: str | None


@dataclasses.dataclass(frozen=True)
class Flat:
    """A model without local functions.

    Attributes:
        model: a copy; every value has a name, and a type if inference finds it.
        origins: the origin of each node by its name.
    """

    model: ir.Model
    origins: dict[str, Origin]

    def nodes(self) -> list[ir.Node]:
        """The nodes in order, constants included."""
        return list(self.model.graph)

    def backward(self) -> set[str]:
        """Names of the nodes that no forward output needs."""
        roles = {spec.name: spec.role for spec in Program(self.model).outputs}
        needed = [
            v for v in self.model.graph.outputs if roles.get(str(v.name)) in (Role.OUTPUT, Role.LOSS, Role.ACTIVATION)
        ]
        forward: set[str] = set()
        while needed:
            node = needed.pop().producer()
            if node is not None and node.name not in forward:
                forward.add(str(node.name))
                needed += values_read(node)
        return {str(node.name) for node in self.nodes()} - forward


def flat(model: ir.Model) -> Flat:
    """Inlines every local function of a copy.

    Raises:
        ValueError: the functions cannot be inlined.
    """
    copy = model.clone()
    _mark(copy.graph, None)
    for function in copy.functions.values():
        _mark(function.graph, [function.domain, function.name])
    common.InlinePass()(copy)
    common.TopologicalSortPass()(copy)
    names: set[str] = set()
    origins = {}
    for number, node in enumerate(copy.graph):
        if not node.name or node.name in names:
            node.name = f"node_{number}"
        names.add(node.name)
        origins[node.name] = _origin(node)
    _infer_types(copy)
    return Flat(copy, origins)


def fetch_values(
    flat_model: Flat, make: Make, feeds: Mapping[str, torch.Tensor], names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Computes the values of these names in a runtime.

    Args:
        flat_model: the model.
        make: the runtime.
        feeds: graph inputs by name.
        names: of values; values without a known type are omitted.

    Raises:
        ProgramError: the runtime fails.
    """
    copy = flat_model.model.clone()
    for key in (NAMES, FUNCTIONS):
        copy.metadata_props.pop(key, None)
    known = values_by_name(copy.graph)
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(known[name] for name in dict.fromkeys(names) if name in known and _is_plain(known[name]))
    if not len(copy.graph.outputs):
        return {}
    own = {str(value.name) for value in copy.graph.inputs}
    return make(Program(copy))({name: tensor for name, tensor in feeds.items() if name in own})


def values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """The outputs of all nodes of a graph by name."""
    return {str(value.name): value for node in graph for value in node.outputs if value.name}


def _mark(graph: ir.Graph, function: list[str] | None) -> None:
    for index, node in enumerate(graph):
        name = node.name or f"{node.op_type}_{index}"
        known = [node.meta.get(PLACE) or node.metadata_props.get(PLACE) or _place_of_torch(node)]
        known += [node.meta.get(MODULE) or node.metadata_props.get(MODULE) or _module_of_torch(node)]
        node.metadata_props[_BODY] = json.dumps([function, name, *known])


def _place_of_torch(node: ir.Node) -> str | None:
    """The user's line in the metadata of torch's exporter: the innermost line outside of torch."""
    lines = _TRACED_LINE.findall(node.metadata_props.get(_TORCH + "stack_trace", ""))
    own = [f"{file}:{line}" for file, line in lines if _TORCH_FOLDER not in file]
    return own[-1] if own else None


def _module_of_torch(node: ir.Node) -> str | None:
    """The module path in the metadata of torch's exporter, whose last part is the operator."""
    try:
        *modules, _ = ast.literal_eval(node.metadata_props.get(_TORCH + "name_scopes", "[]"))
    except (ValueError, SyntaxError):
        return None
    return str(modules[-1]) if modules and modules[-1] else None


def _origin(node: ir.Node) -> Origin:
    function, name, place, module = json.loads(node.metadata_props.pop(_BODY))
    return Origin(tuple(function) if function else None, name, place, module)


def _is_plain(value: ir.Value) -> bool:
    return value.dtype is not None and not isinstance(value.type, (ir.SequenceType, ir.OptionalType))


_LARGE = 1 << 16
"""Bytes of a weight of which shape inference needs only the type."""


def _infer_types(model: ir.Model) -> None:
    """Adds missing types by shape inference; a model on which inference fails stays unchanged."""
    light = model.clone()
    for name, weight in list(light.graph.initializers.items()):
        if weight.const_value is not None and weight.const_value.nbytes > _LARGE:
            del light.graph.initializers[name]
            weight.const_value = None
            if not weight.is_graph_input():
                light.graph.inputs.append(weight)
    try:
        inferred = onnx.shape_inference.infer_shapes(ir.to_proto(light))
    except Exception:
        return
    known = values_by_name(model.graph)
    for info in inferred.graph.value_info:
        value = known.get(info.name)
        if value is not None and value.dtype is None and info.type.HasField("tensor_type"):
            value.dtype = ir.DataType(info.type.tensor_type.elem_type)
