"""Max pooling over nan gives nan, as torch's does, and the place of the window's last nan as its maximum.

ONNX Runtime's MaxPool takes the largest number of a window and passes nan over. Where the sum of what is pooled is nan
- then some of it may be - the windows that hold a nan are found by pooling the places of them, which grow; else the
MaxPool stands as it was. Only a MaxPool whose places are read is rewritten: it is one that a gradient needs.

https://onnx.ai/onnx/operators/onnx__MaxPool.html, https://onnx.ai/onnx/operators/onnx__If.html
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement

__all__ = ["PoolNan"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


class PoolNan(ir.passes.InPlacePass):
    """Rewrites every MaxPool whose places are read."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a MaxPool was rewritten."""
        modified = False
        for node in list(model.graph):
            if node.op_type == "MaxPool" and not node.domain and len(node.outputs) == 2:
                pooled = node.inputs[0]
                if pooled is not None and node.outputs[0].dtype in _DTYPES and _is_read(node.outputs[1]):
                    _rewrite(model.graph, node, pooled)
                    modified = True
        return ir.passes.PassResult(model, modified=modified)


def _is_read(value: ir.Value) -> bool:
    """Whether something of the graph's results comes from it."""
    return value.is_graph_output() or any(
        use.node.graph is not value.graph or any(_is_read(output) for output in use.node.outputs)
        for use in value.uses()
    )


def _places_of_nan(made: Replacement, pooled: ir.Value) -> ir.Value:
    """Where a nan stands its place in the image, counted from one; zero elsewhere. In float32, exact up to 2^24."""
    mask = made.add("Cast", [made.add("IsNaN", [pooled])], to=ir.DataType.FLOAT)
    flat = made.add("Reshape", [mask, made.constant(np.array([0, 0, -1]))])
    nothing = made.add("Mul", [flat, made.constant(np.float32(0))])
    ones = made.add("Add", [nothing, made.constant(np.float32(1))])
    places = made.add("CumSum", [ones, made.constant(np.array(2))])
    shaped = made.add("Reshape", [places, made.add("Shape", [pooled])])
    found = made.add("Mul", [shaped, mask], like=pooled)
    found.type = ir.TensorType(ir.DataType.FLOAT)
    return found


def _rewrite(graph: ir.Graph, node: ir.Node, pooled: ir.Value) -> None:
    made, plain, careful = Replacement(node), Replacement(node), Replacement(node)
    any_nan = made.add("IsNaN", [made.add("ReduceSum", [pooled], keepdims=0)])
    plain.give(*plain.copy(node, [pooled]))
    maxima, places = careful.copy(node, [pooled])
    held, where = careful.copy(node, [_places_of_nan(careful, pooled)])
    held.type = ir.TensorType(ir.DataType.FLOAT)
    holds = careful.add("Greater", [held, careful.constant(np.float32(0))])
    nan = careful.add("CastLike", [careful.constant(np.float32(np.nan)), maxima])
    careful.give(
        careful.add("Where", [holds, nan, maxima], like=node.outputs[0]),
        careful.add("Where", [holds, where, places], like=node.outputs[1]),
    )
    chosen = ir.node(
        "If",
        [any_nan],
        {"then_branch": careful.graph("nan"), "else_branch": plain.graph("plain")},
        num_outputs=2,
    )
    chosen.metadata_props.update(node.metadata_props)
    chosen.name = f"{node.name}_If"
    for before, after in zip(node.outputs, chosen.outputs, strict=True):
        after.shape, after.type = before.shape, before.type
    made.nodes.append(chosen)
    made.put(graph, *chosen.outputs)
