"""Infers types of values without a type: ONNX's schemas say which outputs have the type of which inputs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import onnx
import onnx_ir as ir

__all__ = ["infer_types", "signature"]


def infer_types(node: ir.Node, opset: int) -> None:
    """Sets the types of a node's outputs if its inputs determine them."""
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
    kinds, results = signature(node.op_type, opset)
    known = {kind: value.dtype for kind, value in zip(kinds, node.inputs, strict=False) if value is not None}
    return [kind if isinstance(kind, ir.DataType) else known.get(kind) for kind in results]


@functools.cache
def signature(op_type: str, opset: int) -> tuple[tuple[str, ...], tuple[str | ir.DataType, ...]]:
    """The type variable of each input, and the type variable or the type of each output."""
    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return (), ()
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    kinds = [parameter.type_str for parameter in schema.inputs]
    if schema.inputs and schema.inputs[-1].option is variadic:
        kinds += [schema.inputs[-1].type_str] * 64
    allowed = {constraint.type_param_str: list(constraint.allowed_type_strs) for constraint in schema.type_constraints}
    return tuple(kinds), tuple(_fixed_type(parameter.type_str, allowed) for parameter in schema.outputs)


_FIXED = {
    "tensor(bool)": ir.DataType.BOOL,
    "tensor(int64)": ir.DataType.INT64,
    "tensor(int32)": ir.DataType.INT32,
    "tensor(float)": ir.DataType.FLOAT,
    "tensor(double)": ir.DataType.DOUBLE,
}


def _fixed_type(kind: str, allowed: dict[str, list[str]]) -> str | ir.DataType:
    """A type variable, or the type if the schema allows only one (the `T1` of Equal is always bool)."""
    types = allowed.get(kind, [kind])
    return _FIXED.get(types[0], kind) if len(types) == 1 else kind
