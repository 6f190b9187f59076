"""The structure of a Program: nodes, bytes, and its local functions with the values that pass between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir

from gradport.model.program import Program

__all__ = ["nodes"]


def nodes(program: Program) -> dict[str, Any]:
    """Measures sizes and structure.

    Returns:
        `opset`, `nodes` and `bytes` of the whole file, `inputs`, `outputs`, `operators` (count by name), and
        `functions`: for each local function its entry of `Program.functions`, its `nodes`, and `passes`, the functions
        that read its results, each with the names of these values.
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
    """The functions that read the results of a function, with the names of these values. A forward's backward also
    counts for saved values that are arguments of the forward."""
    known = {function.name: function for function in model.functions.values()}
    readers: dict[str, set[str]] = {}
    for body in (model.graph, *(function.graph for function in model.functions.values())):
        for node in (node for node in body if node.op_type == name):
            results = [str(value.name) for value in known[name].graph.outputs] if name in known else []
            for place, value in enumerate(node.outputs):
                result = results[place] if place < len(results) else str(value.name)
                for reader in _readers(value, known, name):
                    readers.setdefault(reader, set()).add(result)
            for argument in (value for value in node.inputs if value is not None):
                for reader in _readers(argument, known, name):
                    if reader.rpartition(".backward")[0] == name.rpartition(".forward")[0] != "":
                        readers.setdefault(reader, set()).add(str(argument.name))
    return {reader: sorted(what) for reader, what in readers.items()}


def _readers(value: ir.Value, known: Mapping[str, ir.Function], name: str) -> Iterator[str]:
    yield from (use.node.op_type for use in value.uses() if use.node.op_type in known and use.node.op_type != name)
