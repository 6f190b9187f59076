"""Looks for rows of scores that are masked as a whole only if there may be one, in graphs with gradients.

The softmax of attention is zero in such rows (`operators.attention`). The masks over all scores take three times as
long as the softmax. A row is masked if its maximum is -inf; so a branch computes the masks, if the smallest maximum is
-inf or nan.

https://onnx.ai/onnx/operators/onnx__Softmax.html, https://onnx.ai/onnx/operators/onnx__If.html
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnx_ir as ir

from gradport.lowering.lower import BACKWARD
from gradport.lowering.passes.replacing import Replacement, constant_value, is_node, only_producer

__all__ = ["MaskRowsInBranch"]


class MaskRowsInBranch(ir.passes.InPlacePass):
    """Rewrites every `Where(masked, zeros, Softmax(x))`, where `masked` says that all scores of a row are -inf."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a softmax was rewritten."""
        if not any(BACKWARD in node.metadata_props for node in model.graph):  # other tools read a forward without If
            return ir.passes.PassResult(model, modified=False)
        found = [each for node in model.graph if (each := _find(node)) is not None]
        for each in found:
            _rewrite(model.graph, each)
        return ir.passes.PassResult(model, modified=bool(found))


@dataclasses.dataclass(frozen=True)
class _MaskedSoftmax:
    """The nodes of the softmax of attention.

    Attributes:
        masks: Equal, Cast, ReduceMin and Cast, which find the rows.
        softmax: of the same scores.
        select: takes zeros in these rows.
    """

    masks: tuple[ir.Node, ir.Node, ir.Node, ir.Node]
    softmax: ir.Node
    select: ir.Node


def _find(select: ir.Node) -> _MaskedSoftmax | None:
    if not is_node(select, "Where"):
        return None
    to_bool, softmax = only_producer(select.inputs[0], "Cast"), only_producer(select.inputs[2], "Softmax")
    whole = None if to_bool is None else only_producer(to_bool.inputs[0], "ReduceMin")
    to_number = None if whole is None else only_producer(whole.inputs[0], "Cast")
    equal = None if to_number is None else only_producer(to_number.inputs[0], "Equal")
    if to_bool is None or softmax is None or whole is None or to_number is None or equal is None:
        return None
    lowest = constant_value(equal.inputs[1])
    if lowest is None or lowest.size != 1 or lowest.item() != -math.inf or equal.inputs[0] is not softmax.inputs[0]:
        return None
    axes = constant_value(whole.inputs[1]) if len(whole.inputs) > 1 else None
    axis = softmax.attributes.get_int("axis", -1)
    if axes is None or axes.tolist() != [axis]:
        return None
    return _MaskedSoftmax((equal, to_number, whole, to_bool), softmax, select)


def _rewrite(graph: ir.Graph, found: _MaskedSoftmax) -> None:
    equal, _, whole, _ = found.masks
    scores, lowest = equal.inputs
    assert scores is not None and lowest is not None
    new, plain, careful = (Replacement(found.select) for _ in range(3))
    largest = new.add("ReduceMax", [scores, whole.inputs[1]], keepdims=0)
    one = new.add("CastLike", [new.constant(np.ones(1, np.float32)), scores])
    with_one = new.add("Concat", [new.add("Reshape", [largest, new.constant([-1])]), one], axis=0)  # also without rows
    no_row_is_masked = new.add("Greater", [new.add("ReduceMin", [with_one], keepdims=0), lowest])  # False at nan
    plain.set_outputs(plain.copy(found.softmax, [scores])[0])
    value = scores
    for node in found.masks:
        (value,) = careful.copy(node, [value, *node.inputs[1:]])
    (softmax,) = careful.copy(found.softmax, [scores])
    zero = careful.add("CastLike", [careful.constant(np.float32(0)), scores])
    careful.set_outputs(careful.copy(found.select, [value, zero, softmax])[0])
    branches = plain.graph("plain"), careful.graph("masked")
    new.replace_node(graph, new.choose(no_row_is_masked, *branches, like=found.select.outputs[0]))
    graph.remove([found.softmax, *reversed(found.masks)], safe=True)
