"""Reads an ONNX file of any source; a corrupt file, or one that refers to files outside its folder, is rejected.

Only the file itself and external data in its folder or below are read, as ONNX requires
(https://onnx.ai/onnx/repo-docs/ExternalData.html): no absolute path, no `..`, no link that leaves the folder, no range
beyond the end of the data file. Every tensor must have the number of bytes that its shape and type require.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
import torch

from gradport.errors import ProgramError, first_line
from gradport.model.program import FORMAT, FORMAT_VERSION, FUNCTIONS, NAMES, PROVENANCE, Program, require_fitting
from gradport.model.sessions import weight
from gradport.model.state_files import read_state, state_file_of
from gradport.subject.ports import Role

__all__ = ["load"]

_IN_MEMORY = 1 << 30
"""Maximum size of external data that are read at once, so that a session of the model reads no other file."""

_ELEMENTS = 1 << 40
"""Maximum number of elements of a tensor."""


def load(path: str | os.PathLike[str]) -> Program:
    """Reads an ONNX file, and for a training step its starting state from `<name>.safetensors` beside it.

    If this state file is missing, the Program loads, and `state()` raises an error that names the file. Training steps
    of an older gradport, which have their state as initializers, are also read.

    Raises:
        ProgramError: the file is missing, is not an ONNX model, or is corrupt or unsafe.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ProgramError(f"{path}: file not found.")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ProgramError(f"{path} is not an ONNX model: {first_line(error)}") from error
    if not len(proto.graph.output):
        raise ProgramError(f"{path} is not an ONNX model: it has no graph outputs.")
    folder = pathlib.Path(path).resolve().parent
    for where, tensor in _tensors(proto):
        fault = _fault(tensor, folder)
        if fault:
            raise ProgramError(f"{path} is corrupt or unsafe: the tensor {tensor.name or 'of ' + where!r} {fault}.")
    try:
        model = ir.from_proto(proto)
        ir.external_data.set_base_dir(model.graph, os.path.dirname(path))
        if weight(model) < _IN_MEMORY:
            ir.external_data.load_to_model(model)
        _require_readable(model)
    except Exception as error:
        raise ProgramError(f"{path} is not an ONNX model: {first_line(error)}") from error
    return _load_state(model, path)


def _load_state(model: ir.Model, path: str) -> Program:
    """The Program with the starting state of its state inputs."""
    state = {spec.name: spec for spec in Program(model).inputs if spec.role == Role.STATE}
    if not state:
        return Program(model)
    initializers = {name: model.graph.initializers[name] for name in state if name in model.graph.initializers}
    if initializers:  # format 1
        starts = {name: _tensor_of(value) for name, value in initializers.items()}
        for name in initializers:
            del model.graph.initializers[name]
        model.metadata_props[FORMAT] = str(FORMAT_VERSION)
        return Program(model, starts)
    file = state_file_of(path)
    if not os.path.isfile(file):
        return Program(model, without_state=f"{file}: file not found; it holds the starting state of {path}.")
    starts = read_state(file)
    for name, spec in state.items():
        if name not in starts:
            raise ProgramError(f"{file} does not belong to {path}: it has no {name!r}.")
        require_fitting((spec,), {name: starts[name]})
    return Program(model, {name: starts[name] for name in state})


def _tensor_of(value: ir.Value) -> torch.Tensor:
    assert value.const_value is not None and value.dtype is not None
    array = np.array(value.const_value.numpy())
    if value.dtype is ir.DataType.BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _require_readable(model: ir.Model) -> None:
    """Raises now for errors that would occur later: names that are not text, values without a type, invalid metadata
    of gradport."""
    if weight(model) < _IN_MEMORY:
        ir.to_proto(model)
    for key, wanted in ((NAMES, ("name", "role", "of")), (FUNCTIONS, ("domain", "name", "overload", "phase"))):
        for entry in json.loads(model.metadata_props.get(key, "[]")):
            _ = [entry[part] for part in wanted]
            _ = Role(entry.get("role", Role.OUTPUT))  # raises for an unknown role
    version = int(model.metadata_props.get(FORMAT, "1"))
    if version > FORMAT_VERSION:
        raise ValueError(f"it has format {version}, and this gradport reads {FORMAT_VERSION}; update gradport")
    provenance = json.loads(model.metadata_props.get(PROVENANCE, "{}"))
    for key, kind in (("wrt", list), ("outputs", list), ("options", dict), ("distributions", dict)):
        if not isinstance(provenance.get(key, kind()), kind):
            raise ValueError(f"its {PROVENANCE} has the invalid entry {key}={provenance[key]!r}")
    program = Program(model)
    _ = (program.inputs, program.outputs, program.functions, program.random)


def _tensors(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor of a model, with the name of its node or graph."""
    yield from _tensors_of_graph(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _tensors_of_node(node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield from (("the graph", tensor) for tensor in graph.initializer)
    for sparse in graph.sparse_initializer:
        yield from (("the graph", tensor) for tensor in (sparse.values, sparse.indices))
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield node.op_type, attribute.t
        yield from ((node.op_type, tensor) for tensor in attribute.tensors)
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from _tensors_of_graph(graph)


def _fault(tensor: onnx.TensorProto, folder: pathlib.Path) -> str | None:
    """The fault of a tensor, as the end of a sentence, or None."""
    if any(dim < 0 for dim in tensor.dims):
        return f"has the shape {list(tensor.dims)}"
    count = math.prod(tensor.dims)
    if count > _ELEMENTS:
        return f"has {count} elements, more than any machine can hold"
    try:
        dtype = ir.DataType(tensor.data_type)
        bits = dtype.bitwidth if dtype != ir.DataType.STRING else 0
    except (ValueError, TypeError, KeyError):
        return f"has the data type {tensor.data_type}, which is unknown in ONNX"
    size = (count * bits + 7) // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return _external_fault(tensor, folder, size)
    if tensor.HasField("raw_data") and bits and len(tensor.raw_data) != size:
        return f"has {len(tensor.raw_data)} bytes, but its shape and type require {size}"
    return None


def _external_fault(tensor: onnx.TensorProto, folder: pathlib.Path, size: int) -> str | None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    data = folder / location
    if not location or os.path.isabs(location) or ".." in pathlib.PurePath(location).parts or "\0" in location:
        return f"is stored at {location!r}, which is outside the model's folder"
    if not data.resolve().is_relative_to(folder):
        return f"is stored at {location!r}, a link that leaves the model's folder"
    if not data.is_file():
        return f"is stored at {location!r}, which is not a file"
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError:
        return "has an offset or a length that is not a number"
    if offset < 0 or length < 0 or offset + length > data.stat().st_size or length < size:
        return f"needs bytes {offset} to {offset + max(length, size)} of {location!r}, which is too short"
    return None
