"""The translation inside torch's exporter: its registry of lowerings, its table of decompositions, FX to onnx-ir.

Private in torch, and used here: `torch.onnx._internal.exporter` and `torch.onnx._constants`. Replaced while a registry
is built: `_schemas.op_signature_from_function`, so that a signature is computed once, not once per opset.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.fx

from gradport.compat.onnxscript import skip_parsing
from gradport.compat.quiet import quiet
from gradport.compat.torch.tracing import without_collection

__all__ = ["decompositions", "default_opset", "has_lowering", "lowerings", "translate"]


def default_opset() -> int:
    """The default opset of `torch.onnx.export`."""
    from torch.onnx import _constants

    return int(_constants.ONNX_DEFAULT_OPSET)


def lowerings(opset_version: int) -> Any:
    """A new copy of the exporter's registry of lowerings at one opset."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with quiet(), skip_parsing(), _remember_signatures():
        return ONNXRegistry.from_torchlib(opset_version)


@contextlib.contextmanager
def _remember_signatures() -> Iterator[None]:
    from torch.onnx._internal.exporter import _schemas

    compute = _schemas.op_signature_from_function

    def cached(function: Any, *args: Any, **options: Any) -> Any:
        if function not in _SIGNATURES:
            _SIGNATURES[function] = compute(function, *args, **options)
        return _SIGNATURES[function]

    _schemas.op_signature_from_function = cached
    try:
        yield
    finally:
        _schemas.op_signature_from_function = compute


_SIGNATURES: dict[Any, Any] = {}


def decompositions(registry: Any, left_out: Iterable[Any]) -> dict[Any, Any]:
    """Decompositions of the operators without a lowering in the registry, and of the operators in `left_out`."""
    from torch.onnx._internal.exporter import _decomp

    with quiet():
        implemented = set(_decomp.get_onnx_implemented_overloads(registry))
        return dict(_decomp.create_onnx_friendly_decomposition_table(implemented - set(left_out)))


def has_lowering(node: torch.fx.Node, registry: Any) -> bool:
    """Whether the registry has a lowering for a node."""
    from torch.onnx._internal.exporter import _dispatching

    return _dispatching.dispatch(node, registry)[0] is not None


def translate(graph_module: torch.fx.GraphModule, registry: Any) -> Any:
    """Translates a functional graph, whose placeholders are all user inputs, to an ONNX model (`onnx_ir.Model`)."""
    from torch.onnx._internal.exporter._core import _exported_program_to_onnx_program

    with quiet(), without_collection():
        return _exported_program_to_onnx_program(_Exported(graph_module), registry=registry).model  # type: ignore[arg-type]


class _Exported:
    """The parts of a `torch.export.ExportedProgram` that the translation reads; torch's class rejects unknown
    operators, and the graphs contain gradport's own."""

    def __init__(self, graph_module: torch.fx.GraphModule) -> None:
        from torch.export.graph_signature import (
            ExportGraphSignature,
            InputKind,
            InputSpec,
            OutputKind,
            OutputSpec,
            TensorArgument,
        )

        nodes = list(graph_module.graph.nodes)
        (results,) = nodes[-1].args
        inputs = [node for node in nodes if node.op == "placeholder"]
        self.graph_module = graph_module
        self.graph_signature = ExportGraphSignature(
            [InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None) for node in inputs],
            [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None) for node in results],
        )
        self.range_constraints: dict[Any, Any] = {}
        self.constants: dict[str, Any] = {}

    def named_parameters(self) -> Iterator[Any]:
        """Empty: parameters are inputs here, and become initializers later."""
        return iter(())

    def named_buffers(self) -> Iterator[Any]:
        """Empty, as for parameters."""
        return iter(())
