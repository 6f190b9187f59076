"""Writes a reproducer for maintainers: the one node that differs, as a model with inputs and expected outputs.

The folder has the layout of ONNX's backend tests (`model.onnx`, `test_data_set_0/input_0.pb`, `output_0.pb`), a
`repro.py` that needs only onnxruntime, and `versions.json`. It contains no names, paths or weights of the subject
except the values that the node reads.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import string
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir

from gradport.errors import OutputError
from gradport.evidence.evidence import environment
from gradport.model.subgraphs import values_read
from gradport.proving.intermediates import fetch_values
from gradport.runtimes.ort import unoptimized
from gradport.runtimes.reference_evaluator import to_numpy
from gradport.verifying.found import FaultyNode

__all__ = ["write_reproducer"]

_WRITTEN_OUT = 64
"""Maximum number of elements of an array that repro.py contains as text."""

_SCRIPT = string.Template(
    '''"""$op_type, ai.onnx opset $opset: compares ONNX Runtime with the expected results; needs only onnxruntime."""

import pathlib
import sys

import numpy as np
import onnxruntime

here = pathlib.Path(__file__).parent
nan, inf = float("nan"), float("inf")
inputs = {
$inputs}
expected = {
$outputs}
session = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
results = dict(zip(expected, session.run(list(expected), inputs)))
print("onnxruntime", onnxruntime.__version__)
same = True
for name, wanted in expected.items():
    found = results[name]
    print(f"{name}: found {found.ravel()[:8]}, expected {wanted.ravel()[:8]}")
    same &= found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-3, atol=1e-5, equal_nan=True)
print("agrees" if same else "DIFFERS")
sys.exit(not same)
'''
)


def write_reproducer(found: FaultyNode, folder: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the folder, completely or not at all; replaces an earlier reproducer of this name.

    Args:
        found: the node with its inputs and expected values.
        folder: the folder to write.

    Raises:
        OutputError: the folder cannot be written.
        ProgramError: the values that the node reads cannot be computed.
    """
    folder = pathlib.Path(folder)
    model, inputs, outputs = _extract(found)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".gradport-") as scratch:
            complete = pathlib.Path(scratch) / "reproducer"
            _fill(complete, model, inputs, outputs, found)
            if folder.exists():
                if not (folder / "repro.py").is_file():
                    raise OutputError(f"{folder} exists and is not a reproducer; give another folder.")
                shutil.rmtree(folder)
            complete.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return folder


def _extract(found: FaultyNode) -> tuple[ir.Model, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A model of only this node, with inputs x0, x1, ... and outputs y0, ...; constants become initializers."""
    graph = found.model.model.graph
    node = next(node for node in graph if node.name == found.flat_name)
    read = list(dict.fromkeys(values_read(node)))
    constants = {value: tensor for value in read if (tensor := _constant(value)) is not None}
    wanted = [str(value.name) for value in read if value not in constants and str(value.name) not in found.feeds]
    values = found.feeds | fetch_values(found.model, unoptimized, found.feeds, wanted)
    proto = onnx.GraphProto(name="reproducer")
    proto.node.append(ir.to_proto(node))
    names: dict[str, str] = {}
    inputs: dict[str, np.ndarray] = {}
    for value in read:
        name = names[str(value.name)] = f"x{len(names)}"
        if value in constants:
            proto.initializer.append(onnx.numpy_helper.from_array(constants[value], name))
            continue
        inputs[name] = to_numpy(values[str(value.name)])
        proto.input.append(_info(name, inputs[name], value))
    outputs: dict[str, np.ndarray] = {}
    for index, value in enumerate(v for v in node.outputs if str(v.name) in found.expected):
        name = names[str(value.name)] = f"y{index}"
        outputs[name] = to_numpy(found.expected[str(value.name)])
        proto.output.append(_info(name, outputs[name], value))
    _rename(proto.node[0], names)
    opset = found.model.model.opset_imports.get("", 1)
    model = onnx.helper.make_model(
        proto, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=found.model.model.ir_version
    )
    return ir.from_proto(model), inputs, outputs


def _fill(
    folder: pathlib.Path,
    model: ir.Model,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    found: FaultyNode,
) -> None:
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    ir.save(model, folder / "model.onnx")
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for index, (name, array) in enumerate(arrays.items()):
            onnx.save_tensor(onnx.numpy_helper.from_array(array, name), str(data / f"{kind}_{index}.pb"))
    script = _SCRIPT.substitute(
        op_type=found.op_type,
        opset=model.opset_imports.get("", 0),
        inputs=_entries(inputs, folder),
        outputs=_entries(outputs, folder),
    )
    (folder / "repro.py").write_text(script, "utf-8")
    entries = {"operator": found.op_type, "half": found.phase, "who": found.culprit, "versions": environment()}
    (folder / "versions.json").write_text(json.dumps(entries, indent=1) + "\n", "utf-8")


def _entries(arrays: Mapping[str, np.ndarray], folder: pathlib.Path) -> str:
    """The lines of a dict of arrays in repro.py."""
    return "".join(f'    "{name}": {_code(name, array, folder)},\n' for name, array in arrays.items())


def _code(name: str, array: np.ndarray, folder: pathlib.Path) -> str:
    """An array as Python source; a long array is saved as a file."""
    if array.size <= _WRITTEN_OUT and array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
        return f"np.array({array.tolist()}, dtype=np.{array.dtype.name}).reshape({array.shape})"
    np.save(folder / f"{name}.npy", array)
    return f'np.load(here / "{name}.npy")'


def _constant(value: ir.Value) -> np.ndarray | None:
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else np.array(tensor.numpy())


def _info(name: str, array: np.ndarray, value: ir.Value) -> onnx.ValueInfoProto:
    dtype = value.dtype.value if value.dtype is not None else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, dtype, array.shape)


def _rename(node: Any, names: Mapping[str, str]) -> None:
    """Renames the values of a node and of its subgraphs; removes the node's name and metadata."""
    node.ClearField("name")
    node.ClearField("doc_string")
    del node.metadata_props[:]
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, f"unused_{i}" if name else "") for i, name in enumerate(node.output)]
    for graph in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
        for inner in graph.node:
            inner.input[:] = [names.get(name, name) for name in inner.input]
            inner.ClearField("doc_string")
            del inner.metadata_props[:]
        for output in graph.output:
            output.name = names.get(output.name, output.name)
