"""Weights that never change, once on disk: a safetensors file that the models refer to as external data.

ONNX external data is a file, an offset and a length (https://onnx.ai/onnx/repo-docs/ExternalData.html), and a
safetensors file is a header and then the bytes of each tensor (https://huggingface.co/docs/safetensors), so the models
read it as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import safetensors.numpy
from gradport_runtime.bundle import FROZEN

__all__ = ["FrozenWeights"]

_SMALL = 1024
"""Bytes up to which a constant stays inside the model."""


_AS_BYTES = frozenset({ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.BFLOAT16})
"""Types that safetensors does not have in numpy: the file has their bytes."""

_NOT_SHARED = _AS_BYTES - {ir.DataType.INT4}


class FrozenWeights:
    """The large initializers of several models, each once by its contents."""

    def __init__(self, models: Mapping[str, ir.Model]) -> None:
        self._names: dict[str, str] = {}
        self._tensors: dict[str, ir.TensorProtocol] = {}
        for model in models.values():
            for name, tensor in _large(model):
                digest = _digest(tensor)
                if digest not in self._names:
                    unique = name if name not in self._tensors else f"{name}.{digest[:8]}"
                    self._names[digest] = unique
                    self._tensors[unique] = tensor

    def save(self, folder: str) -> None:
        """Writes the file; nothing where there is no large weight."""
        if self._tensors:
            arrays = {name: _as_array(tensor) for name, tensor in self._tensors.items()}
            int4 = {name: _shape(tensor) for name, tensor in self._tensors.items() if tensor.dtype is ir.DataType.INT4}
            metadata = {"gradport": "frozen", **({"int4": json.dumps(int4)} if int4 else {})}
            safetensors.numpy.save_file(arrays, os.path.join(folder, FROZEN), metadata)

    @property
    def exported_name(self) -> str:
        """The name of the file beside an exported inference model; empty where there is none."""
        digest = hashlib.sha256("".join(sorted(self._names)).encode()).hexdigest()[:16]
        return f"frozen-{digest}.safetensors" if self._tensors else ""

    def initializers(self, model: ir.Model) -> dict[str, str]:
        """The name in the file of each large initializer of a model, without those that no runtime takes as a value."""
        shared = [(name, tensor) for name, tensor in _large(model) if tensor.dtype not in _NOT_SHARED]
        named = {name: self._names.get(_digest(tensor)) for name, tensor in shared}
        return {name: found for name, found in named.items() if found}

    def refer(self, model: ir.Model, folder: str, location: str = FROZEN) -> ir.Model:
        """A copy of a model whose large initializers are read from the file in `folder`, under the name `location`."""
        if not self._tensors:
            return model
        places = _places(os.path.join(folder, FROZEN))
        copy = model.clone()
        for name, tensor in _large(copy):
            offset, length = places[self._names[_digest(tensor)]]
            copy.graph.initializers[name].const_value = ir.ExternalTensor(
                location,
                offset,
                length,
                tensor.dtype,
                shape=ir.Shape(_shape(tensor)),
                name=name,
                base_dir=folder,
            )
        return copy


def _large(model: ir.Model) -> list[tuple[str, ir.TensorProtocol]]:
    found = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _SMALL and not isinstance(tensor, ir.ExternalTensor):
            found.append((str(name), tensor))
    return found


def _as_array(tensor: ir.TensorProtocol) -> np.ndarray:
    """The tensor; as its bytes where safetensors has no such dtype in numpy."""
    if tensor.dtype in _AS_BYTES:
        return np.frombuffer(tensor.tobytes(), np.uint8)
    return tensor.numpy()


def _shape(tensor: ir.TensorProtocol) -> list[int]:
    return [int(size) for size in tensor.numpy().shape]


def _digest(tensor: ir.TensorProtocol) -> str:
    head = f"{tensor.dtype.name} {tuple(tensor.shape)}".encode()
    return hashlib.sha256(head + tensor.tobytes()).hexdigest()


def _places(path: str) -> dict[str, tuple[int, int]]:
    """Offset and length in the file of each tensor."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    return {
        name: (8 + size + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }
