"""from_onnx: a torch module from an ONNX model."""

from __future__ import annotations

import fnmatch
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx
import onnx.inliner
import onnx.shape_inference
import onnx_ir as ir
import torch

import gradport.importing.rows  # noqa: F401
from gradport.errors import SpecError, first_line
from gradport.importing.functions import ours
from gradport.importing.module import ImportedModule
from gradport.importing.plan import Plan, plan_of
from gradport.importing.table import rows

__all__ = ["from_onnx"]

_BACKWARDS = (None, "derivative")


def from_onnx(
    path_or_model: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    *,
    train: str | Sequence[str] | None = None,
    backward: str | None = None,
) -> torch.nn.Module:
    """A torch module that computes what an ONNX model computes, and can be differentiated, exported and trained.

    Args:
        path_or_model: a file, or a model in memory.
        train: names or patterns (`"classifier.*"`) of the initializers that require a gradient; None: all that are
            floating-point and have a dimension (numbers of formulas have none).
        backward: the gradient of a custom Function whose backward the file does not contain: None: it is refused when
            somebody asks for it; "derivative": that of its forward.

    Returns:
        The module. A call of a function of the file is a submodule, under the name of the node. Its parameters are the
        floating-point initializers, its buffers the others, under their names; means
        and variances of normalizations, and numbers such as scales of a Resize, are buffers too.
        `forward` takes the graph's inputs in their order; it returns the output, or a dict of the outputs by name.
        The module is in eval mode: normalizations have the statistics of the file, Dropout keeps everything; `train()`
        turns both on (`module.fixed` names them).

    Raises:
        SpecError: the file cannot be read, or a pattern of `train` fits no initializer.
        ExportError: the model has an operator, an attribute or a dtype that the module cannot carry; all are named.
    """
    if backward not in _BACKWARDS:
        raise SpecError(f"backward={backward!r} is not valid; give None or 'derivative'.")
    model = _inlined(_read(path_or_model))
    plan = plan_of(model)
    trained = _trained(plan, train)
    return ImportedModule(plan, trained, derive=backward == "derivative").eval()


def _read(source: Any) -> onnx.ModelProto:
    if isinstance(source, onnx.ModelProto):
        return source
    if isinstance(source, ir.Model):
        return ir.to_proto(source)
    if hasattr(source, "model") and isinstance(source.model, ir.Model):
        return ir.to_proto(source.model)
    path = pathlib.Path(source)
    if not path.is_file():
        raise SpecError(f"{path} is not a file; give the path of an ONNX file.")
    try:
        return onnx.load(path)
    except Exception as error:
        raise SpecError(f"{path} is not an ONNX file that can be read: {first_line(error, 200)}") from error


def _inlined(proto: onnx.ModelProto) -> ir.Model:
    """The model without calls of operators that have no row and that ONNX defines by others, and without functions that
    call one."""
    proto = onnx.shape_inference.infer_shapes(proto)  # the definition of an operator may depend on dtypes
    known = {(row.domain, row.op_type) for row in rows()} | {("", name) for name in ("If", "Loop", "Scan", "Constant")}
    kept = list(known | {key for key, function in _functions(proto).items() if _is_known(function, proto, known)})
    inlined = onnx.inliner.inline_selected_functions(proto, kept, exclude=True, inline_schema_functions=True)
    return ir.from_proto(inlined)


def _functions(proto: onnx.ModelProto) -> dict[tuple[str, str], onnx.FunctionProto]:
    return {(function.domain, function.name): function for function in proto.functions}


def _is_known(function: onnx.FunctionProto, proto: onnx.ModelProto, known: set[tuple[str, str]]) -> bool:
    """Whether a function is a phase of a custom Function, or every node in it has a row or calls a known function."""
    functions = _functions(proto)
    if ours(function.name):
        return True
    for node in _nodes(function.node):
        key = ("" if node.domain == "ai.onnx" else node.domain, node.op_type)
        inner = functions.get(key)
        if not (key in known if inner is None else _is_known(inner, proto, known)):
            return False
    return True


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes and those of the graphs in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _trained(plan: Plan, wanted: str | Sequence[str] | None) -> set[str]:
    names = plan.parameters
    if wanted is None:
        return {name for name in names if plan.initializers[name].dim()}
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    found = {pattern: fnmatch.filter(names, pattern) for pattern in patterns}
    missing = [pattern for pattern, matches in found.items() if not matches]
    if missing:
        known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise SpecError(f"train={missing[0]!r} fits no floating-point initializer; the file has {known or 'none'}.")
    return {name for matches in found.values() for name in matches}
