"""Implicit type promotion made explicit, by the rules of torch's exporter.

Private in torch, and used here:
- `torch.onnx._internal.fx.passes.type_promotion`: its rules;
- `torch._guards.detect_fake_mode`: the fake mode of a graph's values.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.fx
from torch._dispatch.python import enable_python_dispatcher
from torch._guards import detect_fake_mode
from torch.fx.traceback import preserve_node_meta

from gradport.compat.quiet import quiet
from gradport.compat.torch.operators import aten, drop_absent

__all__ = ["promote_types"]

_ASSERTIONS = drop_absent(
    aten.sym_constrain_range_for_size.default,
    aten._assert_async.default,
    aten._assert_async.msg,
    aten._assert_scalar.default,
    aten._assert_tensor_metadata.default,
)


def promote_types(graph_module: torch.fx.GraphModule) -> None:
    """Makes implicit type promotion explicit, in place, and drops assertions."""
    from torch.onnx._internal.fx.passes import type_promotion

    class Promotion(type_promotion._TypePromotionInterpreter):
        """torch's pass runs every node again; this one runs only the nodes that change."""

        def run_node(self, node: torch.fx.Node) -> Any:
            if node.op != "call_function" or "val" not in node.meta:
                return torch.fx.Interpreter.run_node(self, node)
            rule = type_promotion.get_type_promotion_rule(node, self.type_promotion_table)
            if rule is not None and not _is_of_one_type(node):
                with self._set_current_node(node):
                    self._maybe_promote_node(node, rule)
            return node.meta["val"]

    graph = graph_module.graph
    values = [node.meta["val"] for node in graph.nodes if node.op == "placeholder"]
    mode = detect_fake_mode(values)
    with quiet(), mode or contextlib.nullcontext(), enable_python_dispatcher(), preserve_node_meta():
        Promotion(graph_module, type_promotion.TypePromotionTable()).run(*values)
    for node in reversed(list(graph.nodes)):
        if node.target in _ASSERTIONS:
            graph.erase_node(node)


def _is_of_one_type(node: torch.fx.Node) -> bool:
    """Whether all inputs of a node have the floating dtype of its result."""
    result = node.meta["val"]
    if not isinstance(result, torch.Tensor) or result.dtype not in (torch.float32, torch.float64):
        return False
    inputs = [argument.meta.get("val") for argument in node.all_input_nodes]
    numbers = [argument for argument in (*node.args, *node.kwargs.values()) if not isinstance(argument, torch.fx.Node)]
    return not numbers and all(isinstance(value, torch.Tensor) and value.dtype == result.dtype for value in inputs)
