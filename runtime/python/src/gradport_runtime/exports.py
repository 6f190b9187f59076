"""The inference model with trained weights, written without an ONNX library.

`inference.onnx` names its weights as external data at fixed offsets of one file. That file is written from the state,
and its name in the model, a placeholder of the same length, is replaced by one that holds a checksum of the weights.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import numpy as np

from gradport_runtime.bundle import FROZEN, Bundle, inside
from gradport_runtime.errors import BundleError, Code
from gradport_runtime.files import replace_file

__all__ = ["PLACEHOLDER", "write_inference"]

PLACEHOLDER = b"weights-0000000000000000.data"


def write_inference(bundle: Bundle, state: Mapping[str, np.ndarray], path: str) -> None:
    """Writes the model to `path`, and beside it the trained weights and the frozen ones.

    Raises:
        BundleError: the bundle has no inference model, or a file cannot be written.
    """
    model = bundle.model("inference")
    entry = bundle.manifest["models"]["inference"]
    with open(model.path, "rb") as file:
        text = file.read()
    data = bytearray(int(entry["data"]["bytes"]))
    for tensor in entry["data"]["tensors"]:
        raw = np.ascontiguousarray(state[tensor["name"]]).tobytes()
        data[tensor["offset"] : tensor["offset"] + len(raw)] = raw
    name = f"weights-{hashlib.sha256(data).hexdigest()[:16]}.data"
    folder = os.path.dirname(os.path.abspath(path))
    try:
        if data:
            _write(os.path.join(folder, name), bytes(data))
        frozen = entry.get("frozen")
        if frozen:
            _copy(inside(bundle.folder, FROZEN), os.path.join(folder, os.path.basename(str(frozen))))
        _write(path, text.replace(PLACEHOLDER, name.encode()))
    except OSError as error:
        raise BundleError(Code.RUNTIME, f"{path} cannot be written: {error.strerror or error}.") from error


def _copy(source: str, path: str) -> None:
    with open(source, "rb") as file:
        _write(path, file.read())


def _write(path: str, data: bytes) -> None:
    with replace_file(path) as scratch, open(scratch, "wb") as file:
        file.write(data)
