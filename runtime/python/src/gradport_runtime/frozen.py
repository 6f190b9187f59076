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
                self._values[name] = ort.OrtValue.ortvalue_from_numpy(self._view((self._entries or {})[name]))
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
        self._entries = entries

    def _view(self, entry: Mapping[str, Any]) -> np.ndarray:
        start, end = entry["data_offsets"]
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
        if not 0 <= start <= end <= self._bytes.size or end - start != dtype.itemsize * math.prod(shape):
            raise ValueError("offsets, dtype and shape do not fit")
        return np.asarray(self._bytes[start:end]).view(dtype).reshape(shape)

    def _damaged(self, part: str) -> BundleError:
        return BundleError(Code.FILE_DAMAGED, f"{self._path} is not a whole safetensors file: {part} cannot be read.")
