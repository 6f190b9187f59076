"""Computes operators on narrow integers and booleans in a wider type, if ONNX or ONNX Runtime's CPU does not have them.

A sum of booleans is true if it is not zero, as in torch: `or`; a product is `and`. `test/lowering/test_narrow.py`
checks each operator with the installed ONNX Runtime.
"""

from __future__ import annotations

import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement
from gradport.lowering.passes.types import infer_types, signature

__all__ = ["LACKING", "Widen"]

_BOOL, _INT8, _UINT8 = ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.UINT8
_INT16, _UINT16, _UINT32 = ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.UINT32

_WIDER = {
    _BOOL: ir.DataType.INT32,
    _INT8: ir.DataType.INT32,
    _UINT8: ir.DataType.INT32,
    _INT16: ir.DataType.INT32,
    _UINT16: ir.DataType.INT32,
    _UINT32: ir.DataType.INT64,
}

_SHORT = (_INT16, _UINT16)
_NARROW = (_INT8, _UINT8, *_SHORT, _UINT32)

LACKING: dict[str, tuple[ir.DataType, ...]] = {
    **dict.fromkeys(("Add", "Mul", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"), (_BOOL,)),
    **dict.fromkeys(("Min", "Max", "Where"), (_BOOL, *_SHORT)),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ArgMax", "ArgMin"), (_BOOL, *_SHORT, _UINT32)),
    **dict.fromkeys(("ReduceSum", "ReduceProd", "CumSum", "Einsum"), (_BOOL, *_NARROW)),
    "Neg": (_UINT8, _UINT16, _UINT32),
    "Pow": _NARROW,
    "Pad": _SHORT,
    "TopK": (_BOOL, _UINT16, _UINT32),
    "Trilu": _NARROW,
    "MatMul": (_BOOL, _INT8, _UINT8, *_SHORT),
    "NonZero": (_INT8, *_SHORT, _UINT32),
}
"""By operator, its unsupported types."""


class Widen(ir.passes.InPlacePass):
    """Rewrites operators of `LACKING`, also in subgraphs."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether an operator was rewritten."""
        opset, modified = model.opset_imports[""], False
        for graph in model.graphs():
            for node in list(graph):
                infer_types(node, opset)
                if not node.domain and node.op_type in LACKING and isinstance(graph, ir.Graph):
                    modified |= _widen(graph, node, opset)
        return ir.passes.PassResult(model, modified=modified)


def _widen(graph: ir.Graph, node: ir.Node, opset: int) -> bool:
    """Rewrites one operator; returns whether an input has a type that the operator lacks."""
    kinds, results = signature(node.op_type, opset)
    at = 1 if node.op_type == "Where" else 0  # the condition remains a boolean
    lacking = LACKING[node.op_type]
    narrow = {
        place: given.dtype
        for place, given in enumerate(node.inputs)
        if place >= at and given is not None and given.dtype in lacking
    }
    if not narrow:
        return False
    new = Replacement(node)
    inputs = [
        new.add("Cast", [given], to=_WIDER[narrow[place]]) if place in narrow else given
        for place, given in enumerate(node.inputs)
    ]
    outputs = new.copy(node, inputs)
    own = {kinds[place]: dtype for place, dtype in narrow.items()}
    narrowed = []
    for before, after, result in zip(node.outputs, outputs, results, strict=False):
        if result in own:
            after.type = ir.TensorType(_WIDER[own[result]])
            narrowed.append(new.add("Cast", [after], like=before, to=own[result]))
        else:
            narrowed.append(after)
    for before, after in zip(node.outputs, narrowed, strict=True):
        after.name = before.name  # values in subgraphs are not named later
    new.replace_node(graph, *narrowed)
    return True
