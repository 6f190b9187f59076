"""The values that cross the border of each Region: inputs and outputs of its function, their order and names.

All of it is determined from the flat graph, before any node is moved.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir

from gradport.lowering.lower import REGION
from gradport.model.subgraphs import values_read
from gradport.operators.markers import MARK_DOMAIN
from gradport.subject.ports import Phase
from gradport.subject.signature import forward_parameters
from gradport.tracing import Region

__all__ = [
    "Border",
    "Crossings",
    "Named",
    "argument_names",
    "formal_outputs",
    "kept_border",
    "opaque_border",
    "region_key",
]

Named = list[tuple[str, ir.Value | None]]


@dataclasses.dataclass
class Border:
    """A function's signature at one call: (name, value) in order; the value is None if absent."""

    inputs: Named
    outputs: Named


@dataclasses.dataclass
class Crossings:
    """The values that cross the border of one Region.

    Attributes:
        enter, leave, save: the values marked at the border.
        reads: outside values that its nodes read, without constants, in order of first use.
        gives: values of its nodes that are read outside, in order.
        makes: all values of its nodes.
    """

    enter: list[ir.Value] = dataclasses.field(default_factory=list)
    leave: list[ir.Value] = dataclasses.field(default_factory=list)
    save: list[ir.Value] = dataclasses.field(default_factory=list)
    reads: dict[ir.Value, None] = dataclasses.field(default_factory=dict)
    gives: list[ir.Value] = dataclasses.field(default_factory=list)
    makes: set[ir.Value] = dataclasses.field(default_factory=set)

    @staticmethod
    def of(
        graph: ir.Graph, keys: Iterable[int], parents: Mapping[int, int | None], constants: set[ir.Value]
    ) -> dict[int, Crossings]:
        """The crossings of these Regions; removes the mark nodes from the graph.

        Args:
            graph: the flat graph.
            keys: the Regions that become functions.
            parents: the enclosing Region of each.
            constants: initializers that do not cross, because each body has its own copy.
        """
        crossings = {key: Crossings() for key in keys}
        for node in [node for node in graph if node.domain == MARK_DOMAIN]:
            key = node.attributes["region"].as_int()
            if key in crossings:
                setattr(crossings[key], node.op_type, [value for value in node.inputs if value is not None])
            graph.remove(node, safe=True)
        for node in graph:
            for key in _enclosing_regions(region_key(node), parents):
                crossings[key].makes.update(node.outputs)
        results = set(graph.outputs)
        for node in graph:
            _note_reads(node, parents, crossings, constants)
            _note_gives(node, parents, crossings, results)
        return crossings


def region_key(node: ir.Node) -> int | None:
    """The innermost Region of a node; None for a Constant, because every Region copies the constants that it needs."""
    if node.op_type == "Constant" and node.domain == "":
        return None
    key = node.metadata_props.get(REGION)
    return None if key is None else int(key)


def opaque_border(region: Region, crossings: dict[int, Crossings], regions: Mapping[int, Region]) -> Border:
    """The signature of an opaque node, whose number of inputs and outputs is fixed.

    Forward: from tensor arguments in order to tensor outputs by position, then all other saved values.
    Backward: from saved values and one cotangent for each tensor output to one gradient for each tensor argument.
    All other crossing values (a closure, the gradient of a parameter) follow at the end.
    """
    own = crossings[region.key]
    if region.phase is Phase.FORWARD:
        inputs = _forward_inputs(region, own)
        outputs = _extend(_forward_outputs(region, own), "saved", [*_list_saved(own), *own.gives])
    else:
        saved = _saved_values(own, crossings.get(region.forward, own) if region.forward is not None else own)
        inputs = [*saved, *_cotangents(region, own, regions)]
        outputs = _extend(_gradients(region, own, regions), "captured_grad", own.gives)
    return Border(_extend(inputs, "capture", own.reads), outputs)


def formal_outputs(border: Border) -> Named:
    """The outputs of a body: without absent outputs at the end, which ONNX Runtime drops from a node."""
    outputs = list(border.outputs)
    while outputs and outputs[-1][1] is None:
        outputs.pop()
    return outputs


def kept_border(region: Region, crossings: dict[int, Crossings], regions: Mapping[int, Region]) -> Border:
    """The signature of a kept function: that of an opaque node without unused inputs and outputs."""
    own = crossings[region.key]
    border = opaque_border(region, crossings, regions)
    used = {*own.reads, *own.enter}
    given = {*own.gives, *own.leave}
    return Border(
        [(name, value) for name, value in border.inputs if value in used],
        [(name, value) for name, value in border.outputs if value in given],
    )


def _note_reads(
    node: ir.Node, parents: Mapping[int, int | None], crossings: dict[int, Crossings], constants: set[ir.Value]
) -> None:
    for value in _values_read_by(node):
        for key in _enclosing_regions(region_key(node), parents):
            if value not in crossings[key].makes and value not in constants:
                crossings[key].reads[value] = None


def _note_gives(
    node: ir.Node, parents: Mapping[int, int | None], crossings: dict[int, Crossings], results: set[ir.Value]
) -> None:
    for value in node.outputs:
        users = [set(_enclosing_regions(region_key(user), parents)) for user in value.consumers()]
        for key in _enclosing_regions(region_key(node), parents):
            if value in results or any(key not in user for user in users):
                crossings[key].gives.append(value)


def _values_read_by(node: ir.Node) -> Iterator[ir.Value]:
    return (value for value in values_read(node) if not _is_constant(value))


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "Constant" and producer.domain == ""


def _enclosing_regions(key: int | None, parents: Mapping[int, int | None]) -> Iterator[int]:
    """A Region and its enclosing Regions, innermost first."""
    while key is not None:
        yield key
        key = parents[key]


def _forward_inputs(region: Region, own: Crossings) -> Named:
    names = argument_names(region.function, len(region.entered))
    return [(name, own.enter[at]) for name, at in zip(names, region.entered, strict=True) if at is not None]


def _forward_outputs(region: Region, own: Crossings) -> Named:
    values = [own.leave[at] for at in region.left if at is not None]
    return [("output" if len(values) == 1 else f"output_{index}", value) for index, value in enumerate(values)]


def _list_saved(own: Crossings) -> list[ir.Value]:
    """Saved values of a forward that are neither its inputs nor its outputs."""
    return [value for value in own.save if value in own.makes and value not in own.leave]


def _saved_values(own: Crossings, forward: Crossings) -> Named:
    """The values of `save_for_backward`, then other values that the context carries."""
    known = {*forward.enter, *forward.leave} | forward.makes
    carried = [value for value in own.reads if value in known and value not in own.enter]
    values = list(dict.fromkeys([*forward.save, *carried]))
    return [(f"saved_{index}", value) for index, value in enumerate(values)]


def _cotangents(region: Region, own: Crossings, regions: Mapping[int, Region]) -> Named:
    outputs = regions[region.forward].left if region.forward is not None else ()
    values = [None if at is None else own.enter[at] for at in region.entered]
    if len(outputs) == len(values):
        values = [value for value, output in zip(values, outputs, strict=True) if output is not None]
    name = "cotangent_output"
    return [(name if len(values) == 1 else f"{name}_{index}", value) for index, value in enumerate(values)]


def _gradients(region: Region, own: Crossings, regions: Mapping[int, Region]) -> Named:
    arguments = regions[region.forward].entered if region.forward is not None else region.left
    values = [None if at is None else own.leave[at] for at in region.left]
    named = zip(argument_names(region.function, len(values)), values, strict=True)
    if len(arguments) != len(values):
        return [(f"grad_{name}", value) for name, value in named]
    return [(f"grad_{name}", value) for (name, value), at in zip(named, arguments, strict=True) if at is not None]


def _extend(named: Named, prefix: str, values: Iterable[ir.Value]) -> Named:
    present = {value for _, value in named}
    extra = [value for value in dict.fromkeys(values) if value not in present]
    return named + [(f"{prefix}_{index}", value) for index, value in enumerate(extra)]


def argument_names(function: type, count: int) -> list[str]:
    """Names of the forward's parameters without ctx; `args_<n>` if Python has no name."""
    names = [p.name for p in forward_parameters(function) if p.kind is not inspect.Parameter.VAR_POSITIONAL][:count]
    return names + [f"args_{index}" for index in range(len(names), count)]
