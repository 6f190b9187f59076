"""Weights that never change, once in memory for all models of a bundle: views of a mapped safetensors file.

A session of ONNX Runtime reads external data into its own memory. Sessions that get a value as an initializer share it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from gradport_runtime.bundle import FROZEN, Model
from gradport_runtime.errors import BundleError, Code

__all__ = ["FrozenWeights"]

_DTYPES = {
    "BOOL": np.bool_,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I8": np.int8,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
}

_INT4 = 22
"""Number of the type in ONNX."""


class FrozenWeights:
    """The tensors of `frozen.safetensors`, mapped when the first model asks for one.

    Args:
        folder: of the bundle.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, FROZEN)
        self._values: dict[str, Any] = {}
        self._entries: dict[str, Any] | None = None

    def initializers(self, model: Model) -> dict[str, Any]:
        """The values of the initializers that the model shares with others, by the name of the initializer.

        Raises:
            BundleError: the file is damaged, or lacks a tensor.
        """
        return {name: self._value(tensor) for name, tensor in model.frozen.items()}

    def _value(self, name: str) -> Any:
        if self._entries is None:
            self._map()
        if name not in self._values:
            try:
                entry = (self._entries or {})[name]
                self._values[name] = self._int4(name, entry) if name in self._int4_shapes else self._view(entry)
            except (KeyError, TypeError, ValueError) as error:
                raise self._damaged(f"the tensor {name!r}") from error
        return self._values[name]

    def _map(self) -> None:
        try:
            with open(self._path, "rb") as file:
                size = int.from_bytes(file.read(8), "little")
                if size > os.path.getsize(self._path):
                    raise ValueError("the header is larger than the file")
                entries: Mapping[str, Any] = json.loads(file.read(size))
            self._bytes = np.memmap(self._path, np.uint8, mode="r", offset=8 + size)
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged("its header") from error
        if not isinstance(entries, dict):
            raise self._damaged("its header")
        try:
            shapes = json.loads(entries.get("__metadata__", {}).get("int4", "{}"))
            self._int4_shapes = {str(name): [int(size) for size in shape] for name, shape in shapes.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise self._damaged("its metadata") from error
        self._start, self._entries = 8 + size, entries

    def _view(self, entry: Mapping[str, Any]) -> Any:
        """An OrtValue on the mapped file."""
        start, end = entry["data_offsets"]
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        if not 0 <= start <= end <= self._bytes.size or end - start != dtype.itemsize * math.prod(shape):
            raise ValueError("offsets, dtype and shape do not fit")
        return ort.OrtValue.ortvalue_from_numpy(np.asarray(self._bytes[start:end]).view(dtype).reshape(shape))

    def _int4(self, name: str, entry: Mapping[str, Any]) -> Any:
        """An OrtValue of numbers of 4 bits.

        ONNX Runtime wants an array of one byte a number and reads the first half of its bytes. The other half is never
        touched, so it takes no memory.
        """
        start, end = entry["data_offsets"]
        shape = self._int4_shapes[name]
        count = math.prod(shape)
        if not 0 <= start <= end <= self._bytes.size or end - start != (count + 1) // 2 or min(shape, default=0) < 1:
            raise ValueError("offsets and shape do not fit")
        numbers = np.zeros(count, np.uint8)
        with open(self._path, "rb") as file:
            file.seek(self._start + start)
            file.readinto(numbers[: end - start].data)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(numbers.reshape(shape), _INT4)

    def _damaged(self, part: str) -> BundleError:
        return BundleError(Code.FILE_DAMAGED, f"{self._path} is not a whole safetensors file: {part} cannot be read.")
