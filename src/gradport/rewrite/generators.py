"""Random inputs become ONNX's own generators: RandomUniformLike and RandomNormalLike.

https://onnx.ai/onnx/operators/onnx__RandomUniformLike.html, https://onnx.ai/onnx/operators/onnx__RandomNormalLike.html
"""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import sympy

from gradport.errors import ExportError
from gradport.program import NAMES, Program, RandomSpec

__all__ = ["draw_at_run_time"]

_OPERATORS = {"uniform": ("RandomUniformLike", {"low": 0.0, "high": 1.0}), "normal": ("RandomNormalLike", {})}


def draw_at_run_time(program: Program) -> Program:
    """Replaces every random input by a node that draws it, in the same model.

    Raises:
        ExportError: its shape is no product of the sizes of other inputs.
    """
    graph = program.model.graph
    random = {spec.name: spec for spec in program.random}
    values = {str(value.name): value for value in graph.inputs}
    made: list[ir.Node] = []
    for name, spec in random.items():
        nodes = _drawn(spec, values, random)
        values[name].replace_all_uses_with(nodes[-1].outputs[0])
        made += nodes
    if made:
        for node in reversed(made):
            graph.insert_before(graph[0], node)
        kept = [value for value in graph.inputs if value.name not in random]
        graph.inputs.clear()
        graph.inputs.extend(kept)
        names = json.loads(program.model.metadata_props[NAMES])
        program.model.metadata_props[NAMES] = json.dumps([entry for entry in names if entry["name"] not in random])
    return Program(program.model)


def _drawn(spec: RandomSpec, values: dict[str, ir.Value], random: dict[str, RandomSpec]) -> list[ir.Node]:
    """Nodes that make one draw; the last one's output is it."""
    nodes: list[ir.Node] = []

    def add(op_type: str, inputs: list[ir.Value], **attributes: object) -> ir.Value:
        node = ir.node(op_type, inputs, attributes)  # type: ignore[arg-type]
        node.name = f"{spec.name}_{op_type}_{len(nodes)}"
        node.outputs[0].name = f"{spec.name}_{len(nodes)}"
        nodes.append(node)
        return node.outputs[0]

    def number(value: int) -> ir.Value:
        return add("Constant", [], value=ir.tensor(np.array([value], dtype=np.int64)))

    def size(dim: int | str) -> ir.Value:
        if isinstance(dim, int):
            return number(dim)
        total = number(1)
        for factor, power in sympy.sympify(dim).as_powers_dict().items():
            if not (power.is_Integer and power > 0 and (factor.is_Integer or factor.is_Symbol)):
                raise ExportError(
                    f"{spec.name!r} has the size {dim}, which is no product of input sizes; export with random='input'."
                )
            one = number(int(factor)) if factor.is_Integer else _read(str(factor), spec, values, random, add)
            for _ in range(int(power)):
                total = add("Mul", [total, one])
        return total

    dtype = ir.tensor_adapters.from_torch_dtype(spec.dtype)
    zero = add("Constant", [], value=ir.tensor([0.0], dtype=dtype))
    if spec.shape:
        shape = add("Concat", [size(dim) for dim in spec.shape], axis=0)
    else:
        shape = add("Constant", [], value=ir.tensor(np.zeros((0,), dtype=np.int64)))
    operator, attributes = _OPERATORS[spec.distribution]
    drawn = add(operator, [add("Expand" if spec.shape else "Reshape", [zero, shape])], dtype=dtype.value, **attributes)
    drawn.dtype, drawn.shape = dtype, values[spec.name].shape
    return nodes


def _read(symbol: str, spec: RandomSpec, values: dict[str, ir.Value], random: dict[str, RandomSpec], add) -> ir.Value:  # type: ignore[no-untyped-def]
    """The size that a dynamic dimension has in the input that shows it."""
    for name, value in values.items():
        for axis, dim in enumerate(value.shape or ()):
            if name not in random and not isinstance(dim, int) and str(dim.value) == symbol:
                found: ir.Value = add("Shape", [value], start=axis, end=axis + 1)
                return found
    raise ExportError(f"{spec.name!r} has the size {symbol!r}, which no input shows; export with random='input'.")
