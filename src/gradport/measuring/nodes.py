"""What a Program is made of: nodes, bytes, and its local functions with what goes from one to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir

from gradport.model.program import Program

__all__ = ["nodes"]


def nodes(program: Program) -> dict[str, Any]:
    """Sizes and structure.

    Returns:
        `opset`, `nodes` and `bytes` of the whole file, `inputs`, `outputs`, `operators` (count by name), and
        `functions`: for each local function what `Program.functions` says, its `nodes`, and `passes`, the functions
        that take what it gives, each with the names of what is handed over.
    """
    model = program.model
    bodies = [model.graph, *(function.graph for function in model.functions.values())]
    operators: dict[str, int] = {}
    for body in bodies:
        for node in body:
            operators[node.op_type] = operators.get(node.op_type, 0) + 1
    sizes = {function.name: len(list(function.graph)) for function in model.functions.values()}
    return {
        "opset": program.opset,
        "nodes": sum(operators.values()),
        "bytes": len(ir.to_proto(model).SerializeToString()),
        "inputs": [spec.name for spec in program.inputs],
        "outputs": [spec.name for spec in program.outputs],
        "operators": dict(sorted(operators.items(), key=lambda item: -item[1])),
        "functions": [
            {**dataclasses.asdict(info), "nodes": sizes.get(info.name, 0), "passes": _passes(model, info.name)}
            for info in program.functions
        ],
    }


def _passes(model: ir.Model, name: str) -> dict[str, list[str]]:
    """The functions that read what a function gives, and what of it; of a forward also its backward, which reads what
    was saved and is an argument of the forward too."""
    known = {function.name: function for function in model.functions.values()}
    found: dict[str, set[str]] = {}
    for body in (model.graph, *(function.graph for function in model.functions.values())):
        for node in (node for node in body if node.op_type == name):
            given = [str(value.name) for value in known[name].graph.outputs] if name in known else []
            for place, value in enumerate(node.outputs):
                said = given[place] if place < len(given) else str(value.name)
                for reader in _readers(value, known, name):
                    found.setdefault(reader, set()).add(said)
            for taken in (value for value in node.inputs if value is not None):
                for reader in _readers(taken, known, name):
                    if reader.rpartition(".backward")[0] == name.rpartition(".forward")[0] != "":
                        found.setdefault(reader, set()).add(str(taken.name))
    return {reader: sorted(what) for reader, what in found.items()}


def _readers(value: ir.Value, known: Mapping[str, ir.Function], name: str) -> Iterator[str]:
    yield from (use.node.op_type for use in value.uses() if use.node.op_type in known and use.node.op_type != name)
