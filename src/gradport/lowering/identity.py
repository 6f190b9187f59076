"""The identity of a local function: its domain, its name, and the hash of its body, which makes the name unique.

Equal (domain, name) means an equal body in every exported file, independent of the process, the order of imports and
the hash seed: the hash covers all parts of the body that a runtime reads, in the order of the body.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator

import onnx_ir as ir

from gradport.model.subgraphs import subgraphs
from gradport.subject.names import unique
from gradport.subject.paths import importable
from gradport.subject.ports import Phase
from gradport.subject.signature import source_of

__all__ = ["body_hash", "domain_of", "hash_name", "rename_canonically"]


def domain_of(function: type) -> str:
    """The importable name of the module whose file defines the class.

    Without an importable name: the file's stem, also if the file ran as `__main__`; `__main__` without a file.
    """
    if function.__module__ != "__main__":
        return function.__module__
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)  # set by `python -m package.module`
    if spec is not None:
        return str(spec.name)
    file, _ = source_of(function)
    return importable(file)[1] if file and os.path.isfile(file) else "__main__"


def hash_name(function: type, phase: Phase, graph: ir.Graph) -> str:
    """`<qualified name>.<phase>.<hash>` of a canonically named body."""
    return f"{function.__qualname__}.{phase}.{body_hash(graph)}"


def body_hash(graph: ir.Graph) -> str:
    """Eight hex digits of a hash over inputs, outputs, opsets and nodes of a canonically named body."""
    digest = hashlib.sha256()
    for part in _describe_body(graph):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:8]


def rename_canonically(graph: ir.Graph, outputs: Iterable[str]) -> None:
    """Gives every value and node of a body a name that depends only on the body and on its inputs' names."""
    taken = {str(value.name) for value in graph.inputs}
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = unique(name, taken)
    named = {*graph.inputs, *graph.outputs}
    _rename_nodes(graph, "", named, taken)


def _rename_nodes(graph: ir.Graph, prefix: str, named: set[ir.Value], taken: set[str]) -> None:
    """Names by position; names in a subgraph include the position of its node."""
    for count, node in enumerate(graph):
        node.name = f"n{prefix}{count}"
        for index, value in enumerate(node.outputs):
            if value not in named and value.name != "":
                stem = f"v{prefix}{count}"
                value.name = unique(stem if len(node.outputs) == 1 else f"{stem}_{index}", taken)
        for place, subgraph in enumerate(subgraphs(node)):
            subgraph.name = f"g{prefix}{count}_{place}"
            for index, value in enumerate(subgraph.inputs):
                value.name = unique(f"i{prefix}{count}_{place}_{index}", taken)
            _rename_nodes(subgraph, f"{prefix}{count}_{place}_", named, taken)


def _describe_body(graph: ir.Graph) -> Iterator[bytes]:
    """The body as byte strings in its own order; unordered parts are sorted."""
    yield "\n".join(str(value.name) for value in graph.inputs).encode()
    yield "\n".join(str(value.name) for value in graph.outputs).encode()
    yield repr(sorted(graph.opset_imports.items())).encode()
    for initializer in sorted(graph.initializers):
        yield initializer.encode()
        constant = graph.initializers[initializer].const_value
        assert constant is not None
        yield from _tensor(constant)
    for node in graph:
        yield repr((node.domain, node.op_type, node.overload)).encode()
        yield "\n".join("" if value is None else str(value.name) for value in node.inputs).encode()
        yield "\n".join(str(value.name) for value in node.outputs).encode()
        for name in sorted(node.attributes):
            yield name.encode()
            yield from _attribute(node.attributes[name])


def _attribute(attribute: ir.Attr) -> Iterator[bytes]:
    yield attribute.type.name.encode()
    if attribute.type == ir.AttributeType.TENSOR:
        yield from _tensor(attribute.as_tensor())
    elif attribute.type == ir.AttributeType.GRAPH:
        yield from _describe_body(attribute.as_graph())
    elif attribute.type in (ir.AttributeType.TENSORS, ir.AttributeType.GRAPHS):
        parts = attribute.value
        yield str(len(parts)).encode()
        for part in parts:
            yield from _describe_body(part) if isinstance(part, ir.Graph) else _tensor(part)
    else:
        value = attribute.value
        yield repr(tuple(value) if isinstance(value, (list, tuple)) else value).encode()


def _tensor(tensor: ir.TensorProtocol) -> Iterator[bytes]:
    yield repr((tensor.dtype.name, tuple(int(dim) for dim in tensor.shape))).encode()  # type: ignore[arg-type]
    yield tensor.tobytes()
