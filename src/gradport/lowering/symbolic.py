"""Replays an existing `symbolic(g, ...)` onto onnx-ir, for the forward of a Function.

Supported are `g.op("Relu", x)`, `g.op("com.acme::Fast", x, alpha_f=0.5)`, `outputs=n`, and constants as
`g.op("Constant", value_t=tensor)`. All other methods of a graph or value belong to the old exporter; they raise an
error with their name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor, to_torch_dtype

from gradport.errors import Error, ExportError
from gradport.lowering.lower import FlatModel
from gradport.lowering.outline import OutlinedRegion
from gradport.subject.signature import source_of

__all__ = ["replay_symbolic"]

_KINDS = {
    "f": (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS, float),
    "i": (ir.AttributeType.INT, ir.AttributeType.INTS, int),
    "s": (ir.AttributeType.STRING, ir.AttributeType.STRINGS, str),
}


def replay_symbolic(flat: FlatModel, outlined: OutlinedRegion) -> list[ir.Node]:
    """Computes the forward's results with its `symbolic()`; returns the new nodes.

    The call of the kept function stays for values that only the backward reads; without such values it is unused and
    removed later.

    Raises:
        ExportError: the Function has no `symbolic`, or it cannot be replayed.
    """
    region, call = outlined.region, outlined.call
    graph = _Graph(flat, region.function)
    arguments = [
        region.statics.get(position) if at is None else graph.value(call.inputs[at])
        for position, at in enumerate(region.entered)
    ]
    symbolic = getattr(region.function, "symbolic", None)
    if symbolic is None:
        raise graph.refusal("has no symbolic()")
    try:
        results = symbolic(graph, *arguments)
    except Error:
        raise
    except Exception as error:
        raise graph.refusal(f"its symbolic() cannot be replayed ({type(error).__name__}: {error})") from error
    results = list(results) if isinstance(results, (tuple, list)) else [results]
    count = sum(at is not None for at in region.left)
    if len(results) != count or not all(isinstance(result, _Value) for result in results):
        raise graph.refusal(f"its symbolic() returns {len(results)} values for {count} outputs")
    _substitute(flat, outlined, graph.nodes, [result.value for result in results])
    return graph.nodes


def _substitute(flat: FlatModel, outlined: OutlinedRegion, nodes: list[ir.Node], results: list[ir.Value]) -> None:
    main, call = flat.model.graph, outlined.call
    for index, result in enumerate(results):
        if result.producer() not in nodes or results.index(result) != index:
            nodes.append(ir.Node("", "Identity", [result]))
            result = results[index] = nodes[-1].outputs[0]
        output = call.outputs[index]
        result.shape, result.type = output.shape, output.type
        result.name = output.name
        output.name = f"{output.name}_kept"
        for user, position in list(output.uses()):
            user.replace_input_with(position, result)
        for position, value in enumerate(main.outputs):
            if value is output:
                main.outputs[position] = result
    main.insert_before(call, nodes)


class _Graph:
    """The `g` of a symbolic."""

    def __init__(self, flat: FlatModel, function: type) -> None:
        self.nodes: list[ir.Node] = []
        self._flat = flat
        self._function = function

    def op(self, name: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; `name` may have a domain, `com.acme::Fast`."""
        domain, _, op_type = name.rpartition("::")
        domain = "" if domain in ("", "onnx", "ai.onnx") else domain
        node = ir.Node(
            domain,
            op_type,
            [self._input(value) for value in inputs],
            [self._attribute(key, value) for key, value in attributes.items() if value is not None],
            num_outputs=outputs,
        )
        if domain:
            self._flat.model.graph.opset_imports.setdefault(domain, 1)
        self.nodes.append(node)
        values = tuple(_Value(value, self) for value in node.outputs)
        return values[0] if outputs == 1 else values

    def __getattr__(self, name: str) -> Any:
        raise self.refusal(f"its symbolic() uses g.{name}, which is not supported")

    def refusal(self, what: str) -> ExportError:
        """An error with the Function and its place."""
        file, line = source_of(self._function)
        return ExportError(
            f"{self._function.__qualname__} ({file}:{line}) {what}; export it with functions='keep' instead."
        )

    def value(self, value: ir.Value | None) -> _Value | None:
        """The wrapper of a value; None for an absent value."""
        return None if value is None else _Value(value, self)

    def _input(self, value: Any) -> ir.Value | None:
        if value is None or isinstance(value, _Value):
            return None if value is None else value.value
        if isinstance(value, torch.Tensor):
            return self.op("Constant", value_t=value).value
        raise self.refusal(f"its symbolic() passes a {type(value).__name__} as an input of an operator")

    def _attribute(self, key: str, value: Any) -> ir.Attr:
        name, _, kind = key.rpartition("_")
        if kind == "t" and isinstance(value, torch.Tensor):
            return ir.AttrTensor(name, TorchTensor(value.detach().contiguous()))
        if kind in _KINDS and name:
            single, plural, convert = _KINDS[kind]
            if isinstance(value, Sequence) and not isinstance(value, str):
                return ir.Attr(name, plural, [convert(item) for item in value])
            return ir.Attr(name, single, convert(value))
        raise self.refusal(f"its symbolic() sets the attribute {key}={value!r:.40}, whose kind is unknown")


class _Value:
    """A value in a symbolic; `type()` has its sizes and dtype."""

    def __init__(self, value: ir.Value, graph: _Graph) -> None:
        self.value = value
        self._graph = graph

    def type(self) -> _Value:
        """The value itself, which has sizes, rank and dtype."""
        return self

    def sizes(self) -> list[int | None] | None:
        """Sizes, None for a dynamic one."""
        shape = self.value.shape
        return None if shape is None else [dim if isinstance(dim, int) else None for dim in shape]

    def dim(self) -> int | None:
        """Rank."""
        return None if self.value.shape is None else len(self.value.shape)

    def dtype(self) -> torch.dtype | None:
        """Torch dtype."""
        return None if self.value.dtype is None else to_torch_dtype(self.value.dtype)

    def setType(self, other: Any) -> None:
        """Has no effect: types are inferred from the graph."""

    def __getattr__(self, name: str) -> Any:
        raise self._graph.refusal(f"its symbolic() uses .{name} of a value, which is not supported")
