"""What stands inside a model: its flat graph, where each node of it came from, and the values that it computes."""

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
"""What the notes of torch's exporter begin with."""

_TRACED_LINE = re.compile(r'File "([^"\n]+)", line (\d+)')
_TORCH_FOLDER = "/site-packages/torch/"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a node of the flat graph stands in the file.

    Attributes:
        function: domain and name of the local function that holds it, or None.
        name: of the node there.
        place: the user's source line, where the file or the memory knows it.
        module: the path of the module whose call it comes from, likewise.
    """

    function: tuple[str, str] | None
    name: str
    place: str | None
    module: str | None


@dataclasses.dataclass(frozen=True)
class Flat:
    """A model without local functions.

    Attributes:
        model: a copy; every value has a name, and a type where inference finds one.
        origins: of each node, by the node's name.
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
    """The values of these names, as a runtime computes them.

    Args:
        flat_model: whose they are.
        make: the runtime.
        feeds: graph inputs by name.
        names: of values; those without a known type are left out.

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
    """What the nodes of a graph give, by name."""
    return {str(value.name): value for node in graph for value in node.outputs if value.name}


def _mark(graph: ir.Graph, function: list[str] | None) -> None:
    for index, node in enumerate(graph):
        name = node.name or f"{node.op_type}_{index}"
        known = [node.meta.get(PLACE) or node.metadata_props.get(PLACE) or _place_of_torch(node)]
        known += [node.meta.get(MODULE) or node.metadata_props.get(MODULE) or _module_of_torch(node)]
        node.metadata_props[_BODY] = json.dumps([function, name, *known])


def _place_of_torch(node: ir.Node) -> str | None:
    """The user's line in the notes that torch's exporter leaves at a node: the innermost that is not torch's own."""
    lines = _TRACED_LINE.findall(node.metadata_props.get(_TORCH + "stack_trace", ""))
    own = [f"{file}:{line}" for file, line in lines if _TORCH_FOLDER not in file]
    return own[-1] if own else None


def _module_of_torch(node: ir.Node) -> str | None:
    """The path of the module in those notes; the last of its parts is the operator."""
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


def _infer_types(model: ir.Model) -> None:
    """Types of what the functions' bodies left open; a model that inference refuses stays as it is."""
    held = {
        name: value.const_value for name, value in model.graph.initializers.items() if value.const_value is not None
    }
    try:
        for name in held:  # weights say nothing that their types do not
            if held[name].nbytes > 1 << 16:
                model.graph.initializers[name].const_value = None
        inferred = onnx.shape_inference.infer_shapes(ir.to_proto(model))
    except Exception:
        return
    finally:
        for name, tensor in held.items():
            model.graph.initializers[name].const_value = tensor
    known = values_by_name(model.graph)
    for info in inferred.graph.value_info:
        value = known.get(info.name)
        if value is not None and value.dtype is None and info.type.HasField("tensor_type"):
            value.dtype = ir.DataType(info.type.tensor_type.elem_type)
