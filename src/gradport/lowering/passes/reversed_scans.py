"""Lets a Scan read and write its rows backward in place of reversing whole tensors.

torch's scan has one direction: a recurrence from the last row to the first reverses its rows before and after. Each
reversal is a Slice with step -1 that copies the tensor; ONNX's Scan has a direction for every input and output.

https://onnx.ai/onnx/operators/onnx__Scan.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from gradport.lowering.lower import REGION
from gradport.lowering.passes.replacing import constant_value, is_node

__all__ = ["ReverseScans"]

_LAST = np.iinfo(np.int64).min


class ReverseScans(ir.passes.InPlacePass):
    """Moves reversals along the first axis into the directions of the Scan that reads them, or whose rows they read."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The model, and whether a reversal was moved."""
        modified = False
        for graph in model.graphs():
            for node in graph:
                if is_node(node, "Scan") and _is_along_first_axis(node):
                    modified |= _reverse_inputs(node) | _reverse_outputs(node)
        return ir.passes.PassResult(model, modified=modified)


def _is_along_first_axis(scan: ir.Node) -> bool:
    axes = [scan.attributes.get(f"scan_{side}_axes") for side in ("input", "output")]
    return all(one is None or not any(one.as_ints()) for one in axes)


def _reverse_inputs(scan: ir.Node) -> bool:
    first = len(scan.inputs) - scan.attributes["num_scan_inputs"].as_int()
    directions = _directions(scan, "input", len(scan.inputs) - first)
    before = list(directions)
    for index in range(len(directions)):
        while (flip := _producer(scan.inputs[first + index])) is not None and _can_move(flip, scan):
            scan.replace_input_with(first + index, flip.inputs[0])
            directions[index] ^= 1
    return _set_directions(scan, "input", before, directions)


def _reverse_outputs(scan: ir.Node) -> bool:
    first = len(scan.inputs) - scan.attributes["num_scan_inputs"].as_int()
    directions = _directions(scan, "output", len(scan.outputs) - first)
    before = list(directions)
    for index, value in enumerate(scan.outputs[first:]):
        while reversals := _reversals(value, scan):
            for node in reversals:
                node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
                assert node.graph is not None
                node.graph.remove(node, safe=True)
            directions[index] ^= 1
    return _set_directions(scan, "output", before, directions)


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _reversals(rows: ir.Value, scan: ir.Node) -> list[ir.Node]:
    """The reversals of a Scan's rows if nothing else reads them; of several, none may give an output of the graph."""
    readers = [use.node for use in rows.uses()]
    if rows.is_graph_output() or not all(_can_move(node, scan) for node in readers):
        return []
    gives_output = any(node.outputs[0].is_graph_output() for node in readers)
    return readers if len(readers) == 1 or not gives_output else []


def _can_move(node: ir.Node, scan: ir.Node) -> bool:
    """Whether a node reverses its input along the first axis in the same call of a custom Function as the Scan."""
    return _is_reversal(node) and node.metadata_props.get(REGION) == scan.metadata_props.get(REGION)


def _directions(scan: ir.Node, side: str, count: int) -> list[int]:
    attribute = scan.attributes.get(f"scan_{side}_directions")
    return [0] * count if attribute is None else list(attribute.as_ints())


def _set_directions(scan: ir.Node, side: str, before: Sequence[int], after: Sequence[int]) -> bool:
    if before == after:
        return False
    name = f"scan_{side}_directions"
    scan.attributes[name] = ir.AttrInt64s(name, after)
    return True


def _is_reversal(node: ir.Node) -> bool:
    """Whether a node reverses its input along the first axis."""
    if not is_node(node, "Slice") or len(node.inputs) != 5:
        return False
    constants = [constant_value(value) for value in node.inputs[1:]]
    return all(
        one is not None and one.size == 1 and int(one.reshape(-1)[0]) == wanted
        for one, wanted in zip(constants, (-1, _LAST, 0, -1), strict=True)
    )
