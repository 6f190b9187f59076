"""Makes max pooling over nan give nan, with the index of the window's last nan, as in torch.

ONNX Runtime's MaxPool ignores nan. If the sum of the pooled values is nan, so that some may be nan, max pooling over
the indices of the nan values finds the windows that contain a nan; otherwise the plain MaxPool runs. Only a MaxPool
whose indices are read is rewritten, because a gradient needs them.

https://onnx.ai/onnx/operators/onnx__MaxPool.html, https://onnx.ai/onnx/operators/onnx__If.html
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gradport.lowering.passes.replacing import Replacement, is_node

__all__ = ["PoolNan", "pool_nan", "propagate_nan"]

_DTYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


class PoolNan(ir.passes.InPlacePass):
    """Rewrites every MaxPool whose indices are read."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a MaxPool was rewritten."""
        modified = False
        for node in list(model.graph):
            if is_node(node, "MaxPool") and len(node.outputs) == 2:
                pooled = node.inputs[0]
                if pooled is not None and node.outputs[0].dtype in _DTYPES and _is_read(node.outputs[1]):
                    _rewrite(model.graph, node, pooled)
                    modified = True
        return ir.passes.PassResult(model, modified=modified)


def _is_read(value: ir.Value) -> bool:
    """Whether a graph output depends on a value."""
    return value.is_graph_output() or any(
        use.node.graph is not value.graph or any(_is_read(output) for output in use.node.outputs)
        for use in value.uses()
    )


def _places_of_nan(new: Replacement, pooled: ir.Value) -> ir.Value:
    """The index of each nan in its image, from one; zero for other elements. In float32, exact up to 2^24."""
    mask = new.add("Cast", [new.add("IsNaN", [pooled])], to=ir.DataType.FLOAT)
    flat = new.add("Reshape", [mask, new.constant(np.array([0, 0, -1]))])
    nothing = new.add("Mul", [flat, new.constant(np.float32(0))])
    ones = new.add("Add", [nothing, new.constant(np.float32(1))])
    places = new.add("CumSum", [ones, new.constant(np.array(2))])
    shaped = new.add("Reshape", [places, new.add("Shape", [pooled])])
    masked = new.add("Mul", [shaped, mask], like=pooled)
    masked.type = ir.TensorType(ir.DataType.FLOAT)
    return masked


def pool_nan(new: Replacement, node: ir.Node, pooled: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Adds max pooling over values that may be nan; returns the maxima and their indices over the whole batch."""
    maxima, places = new.copy(node, [pooled])
    last_nan, where = new.copy(node, [_places_of_nan(new, pooled)])
    last_nan.type = ir.TensorType(ir.DataType.FLOAT)
    holds = new.add("Greater", [last_nan, new.constant(np.float32(0))])
    nan = new.add("CastLike", [new.constant(np.float32(np.nan)), maxima])
    return (
        new.add("Where", [holds, nan, maxima], like=node.outputs[0]),
        new.add("Where", [holds, where, places], like=node.outputs[1]),
    )


def propagate_nan(graph: ir.Graph, node: ir.Node) -> None:
    """Rewrites a MaxPool whose indices nothing reads: the maximum of a window with a nan is nan."""
    pooled = node.inputs[0]
    assert pooled is not None
    new, plain, careful = Replacement(node), Replacement(node), Replacement(node)
    any_nan = new.add("IsNaN", [new.add("ReduceSum", [pooled], keepdims=0)])
    plain.set_outputs(*plain.copy(node, [pooled], outputs=1))
    careful.set_outputs(pool_nan(careful, node, pooled)[0])
    result = new.choose(any_nan, careful.graph("nan"), plain.graph("plain"), like=node.outputs[0])
    node.outputs[0].replace_all_uses_with(result, replace_graph_outputs=True)
    graph.insert_before(node, new.nodes)


def _rewrite(graph: ir.Graph, node: ir.Node, pooled: ir.Value) -> None:
    new, plain, careful = Replacement(node), Replacement(node), Replacement(node)
    any_nan = new.add("IsNaN", [new.add("ReduceSum", [pooled], keepdims=0)])
    plain.set_outputs(*plain.copy(node, [pooled]))
    careful.set_outputs(*pool_nan(careful, node, pooled))
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
    chosen.outputs[1].type = ir.TensorType(ir.DataType.INT64)
    new.nodes.append(chosen)
    new.replace_node(graph, *chosen.outputs)
