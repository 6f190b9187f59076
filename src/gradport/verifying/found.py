"""The first node that differs: its position in the graph, its source line, and its expected values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import onnx_ir as ir
import torch

from gradport.proving.intermediates import Flat, Make, fetch_values
from gradport.subject.ports import Phase

__all__ = ["FaultyNode", "describe", "rename_inputs", "series"]


@dataclasses.dataclass(frozen=True)
class FaultyNode:
    """The first node that differs.

    Attributes:
        node: its name in the graph or function that contains it.
        op_type: its operator.
        function: domain and name of the local function that contains it, or None.
        phase: forward or backward.
        module: path of the PyTorch module that it comes from, or None.
        place: the user's source line, or None.
        values: the distance of each node's value, in the order of the graph, for a plot.
        model: the flat graph.
        flat_name: the node's name in the flat graph.
        feeds: the inputs of the flat graph.
        expected: the expected values of the node by name; empty if unknown.
        culprit: who is wrong, according to the verdict.
        sentence: a description for people.
    """

    node: str
    op_type: str
    function: tuple[str, str] | None
    phase: Phase
    module: str | None
    place: str | None
    values: tuple[dict[str, object], ...]
    model: Flat
    flat_name: str
    feeds: dict[str, torch.Tensor]
    expected: dict[str, torch.Tensor]
    culprit: str
    sentence: str


def describe(
    given: Flat,
    feeds: dict[str, torch.Tensor],
    found: tuple[ir.Node, Sequence[dict[str, object]]],
    truth: Make | None,
    beside: Flat,
    why: str,
    culprit: str,
) -> FaultyNode:
    """Describes a node; its expected values come from the model `beside` in the runtime `truth`, if there is one."""
    node, series = found
    name = str(node.name)
    origin = given.origins[name]
    known_better = beside.origins.get(name, origin)
    phase = Phase.BACKWARD if name in given.backward() else Phase.FORWARD
    inside = f" of the function {'::'.join(origin.function)}" if origin.function else ""
    module, place = origin.module or known_better.module, origin.place or known_better.place
    if place is None:  # the place of a constant is the place of its reader
        readers = [beside.origins.get(str(use.node.name)) for value in node.outputs for use in value.uses()]
        place = next((reader.place for reader in readers if reader is not None and reader.place), None)
    where = (f" in module {module!r}" if module else "") + (f" at {place}" if place else "")
    expected: dict[str, torch.Tensor] = {}
    if truth is not None:
        expected = fetch_values(
            beside, truth, rename_inputs(feeds, beside), [str(value.name) for value in node.outputs if value.name]
        )
    return FaultyNode(
        node=origin.name,
        op_type=node.op_type,
        function=origin.function,
        phase=phase,
        module=module,
        place=place,
        values=tuple(dict(entry) for entry in series),
        model=given,
        flat_name=name,
        feeds=feeds,
        expected=expected,
        culprit=culprit,
        sentence=(
            f"The first node that differs is {origin.name!r} ({node.op_type}){inside}, "
            f"in the {phase} pass{where}: {why}."
        ),
    )


def rename_inputs(feeds: Mapping[str, torch.Tensor], model: Flat) -> dict[str, torch.Tensor]:
    """The inputs of one model under the names of another model, which takes the same inputs in the same order."""
    renamed = dict(zip(feeds, (str(value.name) for value in model.model.graph.inputs), strict=False))
    return {renamed.get(name, name): tensor for name, tensor in feeds.items()}


def series(model: Flat, nodes: Sequence[ir.Node], far: Sequence[float], first: ir.Node) -> list[dict[str, object]]:
    """The entry of every node in Evidence: its distance, its place, and whether it is the first that differs."""
    backward = model.backward()
    return [
        {
            "node": str(node.name),
            "op": node.op_type,
            "half": Phase.BACKWARD if node.name in backward else Phase.FORWARD,
            "place": model.origins[str(node.name)].place,
            "relative": relative,
            "first": node is first,
        }
        for node, relative in zip(nodes, far, strict=True)
    ]
