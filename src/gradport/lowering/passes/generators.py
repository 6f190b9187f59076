"""Replaces random inputs by ONNX's generators: RandomUniformLike and RandomNormalLike.

The value that was an input keeps its name, so that the file can be split again: into the generators, whose distribution
is tested, and the rest, which is compared with eager with the draws as inputs.

https://onnx.ai/onnx/operators/onnx__RandomUniformLike.html, https://onnx.ai/onnx/operators/onnx__RandomNormalLike.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from gradport.errors import ExportError, SpecError
from gradport.model.program import NAMES, Program, RandomSpec
from gradport.subject.expressions import fold, parse
from gradport.subject.ports import Role

__all__ = ["draw_at_run_time", "expose_draws", "extract_generators"]

_OPERATORS = {"uniform": ("RandomUniformLike", {"low": 0.0, "high": 1.0}), "normal": ("RandomNormalLike", {})}

_LATER_ROLES = (Role.STATE, Role.LEARNING_RATE)
"""Roles of the inputs that follow the random inputs."""


def draw_at_run_time(program: Program) -> Program:
    """Replaces every random input by a node that draws it, in the same model.

    Raises:
        ExportError: a shape cannot be computed from the shapes of other inputs.
    """
    graph = program.model.graph
    state = program.state()
    random = {spec.name: spec for spec in program.random}
    values = {str(value.name): value for value in graph.inputs}
    new_nodes: list[ir.Node] = []
    for name, spec in random.items():
        nodes = _Draw(spec, [value for name, value in values.items() if name not in random]).nodes()
        values[name].replace_all_uses_with(nodes[-1].outputs[0])
        nodes[-1].outputs[0].type, nodes[-1].outputs[0].shape = values[name].type, values[name].shape
        new_nodes += nodes
    if new_nodes:
        first = graph[0]
        for node in new_nodes:
            graph.insert_before(first, node)
        _set_inputs(program.model, [value for value in graph.inputs if value.name not in random])
        for name in random:
            values[name].name = f"{name}_before"
        for node in new_nodes:
            if node.op_type in ("RandomUniformLike", "RandomNormalLike"):
                node.outputs[0].name = node.metadata_props.pop("draws")
    return Program(program.model, state)


def expose_draws(program: Program) -> Program:
    """A Program whose draws are inputs instead of generators; a Program without generators is returned unchanged."""
    drawn = _draw_names(program)
    if not drawn:
        return program
    model = program.model.clone()
    roles = {spec.name: spec.role for spec in program.inputs}
    inputs = list(model.graph.inputs)
    at = next((at for at, value in enumerate(inputs) if roles[str(value.name)] in _LATER_ROLES), len(inputs))
    names = json.loads(model.metadata_props[NAMES])
    for value in _values(model, drawn):
        name = str(value.name)
        stand_in = ir.Value(name=name, shape=value.shape, type=value.type)
        value.name = f"{name}_drawn"
        value.replace_all_uses_with(stand_in)
        inputs.insert(at, stand_in)
        at += 1
        names.append({"name": name, "role": Role.RANDOM, "of": None})
    _set_inputs(model, inputs)
    model.metadata_props[NAMES] = json.dumps(names, ensure_ascii=False)
    common.RemoveUnusedNodesPass()(model)
    return Program(model, program.state())


def extract_generators(program: Program) -> Program | None:
    """A model of only the generators of a Program, with one output for each draw; None without generators."""
    drawn = _draw_names(program)
    if not drawn:
        return None
    model = program.model.clone()
    values = _values(model, drawn)
    model.graph.outputs.clear()
    model.graph.outputs.extend(values)
    model.metadata_props.pop(NAMES)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    _set_inputs(model, [value for value in model.graph.inputs if value.uses()])
    return Program(model)


def _draw_names(program: Program) -> list[str]:
    """The names of the draws that are not inputs of the Program."""
    known = program.provenance.get("distributions", {})
    inputs = {spec.name for spec in program.inputs}
    return [name for name in known if name not in inputs]


def _values(model: ir.Model, names: Sequence[str]) -> list[ir.Value]:
    by_name = {str(value.name): value for node in model.graph for value in node.outputs}
    return [by_name[name] for name in names if name in by_name]


def _set_inputs(model: ir.Model, inputs: Sequence[ir.Value]) -> None:
    kept = {str(value.name) for value in inputs}
    gone = {str(value.name) for value in model.graph.inputs} - kept
    model.graph.inputs.clear()
    model.graph.inputs.extend(inputs)
    if NAMES in model.metadata_props:
        names = json.loads(model.metadata_props[NAMES])
        kept_names = [entry for entry in names if entry["name"] not in gone]
        model.metadata_props[NAMES] = json.dumps(kept_names, ensure_ascii=False)


class _Draw:
    """The nodes of one draw; the output of the last node is the draw."""

    def __init__(self, spec: RandomSpec, inputs: Sequence[ir.Value]) -> None:
        self._spec = spec
        self._inputs = inputs
        self._nodes: list[ir.Node] = []

    def nodes(self) -> list[ir.Node]:
        spec = self._spec
        dtype = ir.tensor_adapters.from_torch_dtype(spec.dtype)
        operator, attributes = _OPERATORS[spec.distribution]
        zero = self._add("Constant", [], value=ir.tensor([0.0], dtype=dtype))
        if spec.shape:
            room = self._add("Expand", [zero, self._add("Concat", [self._size(dim) for dim in spec.shape], axis=0)])
        else:
            nothing = self._add("Constant", [], value=ir.tensor(np.zeros((0,), dtype=np.int64)))
            room = self._add("Reshape", [zero, nothing])
        self._add(operator, [room], dtype=dtype.value, **attributes)
        self._nodes[-1].metadata_props["draws"] = spec.name
        return self._nodes

    def _size(self, dim: int | str) -> ir.Value:
        if isinstance(dim, int):
            return self._add_constant(dim)
        try:
            expression = parse(dim)
        except SpecError as error:
            raise ExportError(
                f"{self._spec.name!r} has the size {dim}, which the graph cannot compute; export with random='input'."
            ) from error
        return fold(expression, self._add_constant, self._add_size, self._add_operation)

    def _add_operation(self, operator: str, operands: Sequence[ir.Value]) -> ir.Value:
        if operator == "//":  # ONNX's Div rounds towards zero
            whole, by = operands
            return self._add("Div", [self._add("Sub", [whole, self._add("Mod", [whole, by])]), by])
        names = {"+": "Add", "-": "Sub", "*": "Mul", "%": "Mod", "max": "Max", "min": "Min"}
        return self._add(names[operator], list(operands))

    def _add_constant(self, value: int) -> ir.Value:
        return self._add("Constant", [], value=ir.tensor(np.array([value], dtype=np.int64)))

    def _add_size(self, symbol: str) -> ir.Value:
        """The size of a dynamic dimension, from an input that has it."""
        for value in self._inputs:
            for axis, dim in enumerate(value.shape or ()):
                if not isinstance(dim, int) and str(dim.value) == symbol:
                    return self._add("Shape", [value], start=axis, end=axis + 1)
        raise ExportError(
            f"{self._spec.name!r} has the size {symbol!r}, which no input has; export with random='input'."
        )

    def _add(self, op_type: str, inputs: Sequence[ir.Value], **attributes: object) -> ir.Value:
        node = ir.node(op_type, inputs, attributes)  # type: ignore[arg-type]
        node.name = f"{self._spec.name}_{op_type}_{len(self._nodes)}"
        node.outputs[0].name = f"{self._spec.name}_{len(self._nodes)}"
        self._nodes.append(node)
        return node.outputs[0]
