"""Weights that never change, held in 16, 8 or 4 bits and unpacked where they are used.

- int8 and int4: symmetric, blocks of 32 along the last axis, one float32 scale a block. Each use gets a
  DequantizeLinear of its own. A Gather of rows reads packed rows; int4 rows are unpacked by arithmetic, since
  ONNX Runtime gathers no int4.
- float16: each use gets a Cast of its own.

Each unpacking waits for the other operand of its consumer: its scales (or the float16 weight) pass a Reshape to their
own shape plus a zero computed from that operand. Otherwise a runtime would merge the copies, unpack all layers before
the first one runs, or fold a Cast, and hold every weight in 32 bits.

https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch

from gradport.lowering.passes.replacing import Replacement, is_node
from gradport.lowering.passes.waiting import UNARY, hold_until, operand_beside

__all__ = ["BLOCK", "Packed", "PackedForm", "UnpackWeights", "pack"]

BLOCK = 32

_LARGEST = {"int8": 127, "int4": 7}


class PackedForm(enum.StrEnum):
    """How frozen weights are stored."""

    FLOAT16 = "float16"
    INT8 = "int8"
    INT4 = "int4"


@dataclasses.dataclass(frozen=True)
class Packed:
    """A weight of shape `(rows, columns)` in fewer bits.

    Attributes:
        form: how.
        values: float16 or whole numbers, of the weight's shape.
        scales: `(rows, ceil(columns / BLOCK))` float32; None in float16.
        weight: the float32 weight that they stand for.
    """

    form: PackedForm
    values: np.ndarray
    scales: np.ndarray | None
    weight: torch.Tensor


def pack(weight: torch.Tensor, form: PackedForm) -> Packed:
    """Packs a float32 weight of two dimensions."""
    array = weight.detach().numpy()
    if form is PackedForm.FLOAT16:
        half = array.astype(np.float16)
        return Packed(form, half, None, torch.from_numpy(half.astype(np.float32)))
    rows, columns = array.shape
    count = -(-columns // BLOCK)
    padded = np.zeros((rows, count * BLOCK), np.float32)
    padded[:, :columns] = array
    blocks = padded.reshape(rows, count, BLOCK)
    scales = np.abs(blocks).max(axis=2) / np.float32(_LARGEST[form])
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    whole = np.rint(blocks / scales[:, :, None])
    unpacked = (whole.astype(np.float32) * scales[:, :, None]).reshape(rows, -1)[:, :columns]
    values = whole.reshape(rows, -1)[:, :columns].astype(np.int8)
    return Packed(form, values, scales, torch.from_numpy(np.ascontiguousarray(unpacked)))


class UnpackWeights(ir.passes.InPlacePass):
    """Replaces initializers, by their names, by packed ones."""

    def __init__(self, packed: Mapping[str, Packed]) -> None:
        self._packed = dict(packed)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for name, packed in self._packed.items():
            value = model.graph.initializers.get(name)
            if value is not None and value.uses():
                _unpack(model.graph, value, packed)
                modified = True
        if modified:
            model.graph.sort()  # a transposition may stand before the operand that its weight waits for
        return ir.passes.PassResult(model, modified=modified)


def _split_readers(graph: ir.Graph, value: ir.Value) -> None:
    """Gives each reader of a transposed or reshaped weight a node of its own, so that forward and backward unpack it
    separately and the weight in 32 bits does not live from one to the other."""
    for node, _ in list(value.uses()):
        if node.graph is not graph or node.domain or node.op_type not in UNARY:
            continue
        _split_readers(graph, node.outputs[0])
        for number, (reader, index) in enumerate(list(node.outputs[0].uses())[1:]):
            new = Replacement(node)
            (twin,) = new.copy(node, node.inputs)
            new.nodes[0].name = f"{node.name}_reader_{number}"
            reader.replace_input_with(index, twin)
            graph.insert_before(node, new.nodes)


def _unpack(graph: ir.Graph, value: ir.Value, packed: Packed) -> None:
    _split_readers(graph, value)
    name = str(value.name)
    if packed.form is PackedForm.INT4:
        nibbles = ir.Tensor(packed.values.astype(ml_dtypes.int4), dtype=ir.DataType.INT4)
        whole = _initializer(graph, f"{name}.int4", nibbles)
    else:
        whole = _initializer(graph, f"{name}.{packed.form}", ir.Tensor(packed.values))
    scales = None if packed.scales is None else _initializer(graph, f"{name}.scales", ir.Tensor(packed.scales))
    rows: ir.Value | None = None
    for node, index in list(value.uses()):
        replacement = Replacement(node)
        if is_node(node, "Gather") and index == 0 and _axis(node) == 0:
            if packed.form is PackedForm.INT4 and rows is None:
                rows = _initializer(graph, f"{name}.nibbles", ir.Tensor(_nibbles(packed.values)))
            unpacked = _gather(replacement, packed, rows or whole, scales, node.inputs[1], node.outputs[0])
            replacement.replace_node(node.graph or graph, unpacked)
            continue
        node.replace_input_with(index, _whole(replacement, packed, whole, scales, operand_beside(node, value), value))
        (node.graph or graph).insert_before(node, replacement.nodes)
    del graph.initializers[name]
    if not whole.uses():
        del graph.initializers[str(whole.name)]


def _whole(
    replacement: Replacement,
    packed: Packed,
    whole: ir.Value,
    scales: ir.Value | None,
    awaited: ir.Value | None,
    like: ir.Value,
) -> ir.Value:
    """The weight in float32."""
    if scales is None:
        late = whole if awaited is None else hold_until(replacement, whole, awaited)
        return replacement.add("Cast", [late], like=like, to=ir.DataType.FLOAT)
    late = scales if awaited is None else hold_until(replacement, scales, awaited)
    return replacement.add("DequantizeLinear", [whole, late], like=like, axis=1, block_size=BLOCK)


def _gather(
    replacement: Replacement,
    packed: Packed,
    rows: ir.Value,
    scales: ir.Value | None,
    indices: ir.Value | None,
    like: ir.Value,
) -> ir.Value:
    """Rows of the weight in float32: packed rows are gathered, then unpacked."""
    gathered = replacement.add("Gather", [rows, indices], axis=0)
    if scales is None:
        return replacement.add("Cast", [gathered], like=like, to=ir.DataType.FLOAT)
    assert packed.scales is not None
    columns = packed.values.shape[1]
    if packed.form is PackedForm.INT4:
        gathered = _unpack_nibbles(replacement, gathered, columns)
    flat = replacement.add("Reshape", [gathered, replacement.constant(np.array([-1, columns], np.int64))])
    of_rows = replacement.add("Gather", [scales, indices], axis=0)
    of_rows = replacement.add(
        "Reshape", [of_rows, replacement.constant(np.array([-1, packed.scales.shape[1]], np.int64))]
    )
    unpacked = replacement.add("DequantizeLinear", [flat, of_rows], axis=1, block_size=BLOCK)
    width = replacement.constant(np.array([columns], np.int64))
    shape = replacement.add("Concat", [replacement.add("Shape", [indices]), width], axis=0)
    return replacement.add("Reshape", [unpacked, shape], like=like)


def _nibbles(values: np.ndarray) -> np.ndarray:
    """Two columns a byte, each plus 8, the first in the low half; `(rows, ceil(columns / 2))` uint8."""
    shifted = (values + 8).astype(np.uint8)
    if shifted.shape[1] % 2:
        shifted = np.pad(shifted, ((0, 0), (0, 1)))
    return shifted[:, 0::2] | shifted[:, 1::2] << 4


def _unpack_nibbles(replacement: Replacement, bytes_: ir.Value, columns: int) -> ir.Value:
    """Whole numbers from -8 to 7 as int8, `(n, columns)`."""
    width = -(-columns // 2)
    flat = replacement.add("Reshape", [bytes_, replacement.constant(np.array([-1, width, 1], np.int64))])
    low = replacement.add("BitwiseAnd", [flat, replacement.constant(np.array(15, np.uint8))])
    high = replacement.add("BitShift", [flat, replacement.constant(np.array(4, np.uint8))], direction="RIGHT")
    both = replacement.add("Concat", [low, high], axis=2)
    signed = replacement.add("Cast", [both], to=ir.DataType.INT32)
    shifted = replacement.add("Sub", [signed, replacement.constant(np.array(8, np.int32))])
    small = replacement.add("Cast", [shifted], to=ir.DataType.INT8)
    rows = replacement.add("Reshape", [small, replacement.constant(np.array([-1, 2 * width], np.int64))])
    if columns == 2 * width:
        return rows
    start, end = replacement.constant(np.array([0], np.int64)), replacement.constant(np.array([columns], np.int64))
    return replacement.add("Slice", [rows, start, end, replacement.constant(np.array([1], np.int64))])


def _axis(node: ir.Node) -> int:
    attribute = node.attributes.get("axis")
    return 0 if attribute is None else attribute.as_int()


def _initializer(graph: ir.Graph, name: str, tensor: ir.Tensor[Any]) -> ir.Value:
    tensor.name = name
    value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers[name] = value
    return value
