"""CastLike becomes Cast, and a constant that is cast becomes a constant of that type.

ONNX Runtime has no kernel for CastLike: it expands the operator, and before that its constant folding prints a warning
for each one. The types are known here, since ONNX's schemas say which outputs have the type of which inputs.

https://onnx.ai/onnx/operators/onnx__CastLike.html, https://onnx.ai/onnx/operators/onnx__Cast.html
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import onnx
import onnx_ir as ir

from gradport.rewrite.replacing import Replacement, constant_value

__all__ = ["write_casts"]

_FOLDED = 64
"""Elements up to which a constant is cast here."""


def write_casts(model: ir.Model) -> None:
    """Rewrites every CastLike whose type can be told, in place, those of subgraphs too."""
    opset = model.opset_imports[""]
    for graph in model.graphs():
        for node in list(graph):
            _infer_types(node, opset)
            if node.op_type == "CastLike" and not node.domain:
                _write_cast(graph, node)


def _write_cast(graph: ir.Graph | ir.Function | ir.GraphView, node: ir.Node) -> None:
    value, like = node.inputs
    if value is None or like is None or like.dtype is None or not isinstance(graph, ir.Graph):
        return
    made = Replacement(node)
    numbers = constant_value(value)
    if value.dtype is like.dtype:
        result = value
    elif numbers is not None and numbers.size <= _FOLDED and _is_plain(like.dtype):
        tensor = ir.tensor(numbers.astype(like.dtype.numpy()), dtype=like.dtype)
        result = made.add("Constant", [], value=tensor)
        result.dtype, result.shape = like.dtype, ir.Shape(numbers.shape)
    else:
        result = made.add("Cast", [value], to=like.dtype)
        result.dtype, result.shape = like.dtype, value.shape
    if node.outputs[0].is_graph_output() and result is value:
        result = made.add("Identity", [value], like=value)
    if result is not value:
        result.name = node.outputs[0].name  # within a subgraph nobody names it later
    made.put(graph, result)


def _is_plain(dtype: ir.DataType) -> bool:
    """Whether numpy, with the help of ml_dtypes, casts to it as ONNX does."""
    return dtype.is_floating_point() or dtype.is_integer() or dtype is ir.DataType.BOOL


def _infer_types(node: ir.Node, opset: int) -> None:
    """Gives the outputs of a node their types where its inputs tell."""
    if node.domain or all(output.dtype is not None for output in node.outputs):
        return
    for output, dtype in zip(node.outputs, _types_of(node, opset), strict=False):
        if output.dtype is None and dtype is not None:
            output.dtype = dtype


def _types_of(node: ir.Node, opset: int) -> Sequence[ir.DataType | None]:
    if node.op_type == "Cast":
        return [ir.DataType(node.attributes["to"].as_int())]
    if node.op_type == "Constant":
        tensor = ir.convenience.get_const_tensor(node.outputs[0])
        return [None if tensor is None else tensor.dtype]
    if node.op_type == "CastLike":
        return [None if node.inputs[1] is None else node.inputs[1].dtype]
    kinds, results = _signature(node.op_type, opset)
    known = {kind: value.dtype for kind, value in zip(kinds, node.inputs, strict=False) if value is not None}
    return [kind if isinstance(kind, ir.DataType) else known.get(kind) for kind in results]


@functools.cache
def _signature(op_type: str, opset: int) -> tuple[tuple[str, ...], tuple[str | ir.DataType, ...]]:
    """The type variable of each input, and of each output its variable or its type."""
    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return (), ()
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    kinds = [parameter.type_str for parameter in schema.inputs]
    if schema.inputs and schema.inputs[-1].option is variadic:
        kinds += [schema.inputs[-1].type_str] * 64
    allowed = {constraint.type_param_str: list(constraint.allowed_type_strs) for constraint in schema.type_constraints}
    return tuple(kinds), tuple(_fixed(parameter.type_str, allowed) for parameter in schema.outputs)


_FIXED = {
    "tensor(bool)": ir.DataType.BOOL,
    "tensor(int64)": ir.DataType.INT64,
    "tensor(int32)": ir.DataType.INT32,
    "tensor(float)": ir.DataType.FLOAT,
    "tensor(double)": ir.DataType.DOUBLE,
}


def _fixed(kind: str, allowed: dict[str, list[str]]) -> str | ir.DataType:
    """A type variable, or the type where a schema allows one only (the `T1` of Equal is always bool)."""
    types = allowed.get(kind, [kind])
    return _FIXED.get(types[0], kind) if len(types) == 1 else kind
