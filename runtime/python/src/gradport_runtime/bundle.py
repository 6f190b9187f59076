"""A bundle as it lies on disk: the manifest `training.json`, checked, and the files beside it.

A bundle may come from anybody. File names stay inside the folder, unknown fields are ignored, and a newer format is
refused.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradport_runtime.errors import BundleError, Code
from gradport_runtime.shapes import Size

__all__ = ["DTYPES", "FORMAT", "FROZEN", "MANIFEST", "STATE", "Bundle", "Draw", "Model", "Port", "inside"]

FORMAT = 1
"""The newest bundle format that this package reads."""

MANIFEST, STATE, FROZEN = "training.json", "state.safetensors", "frozen.safetensors"
"""Files of a bundle beside its models."""

DTYPES = {
    name: np.dtype(name)
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
}
"""The dtypes of ports, by the names that numpy and torch share."""


@dataclasses.dataclass(frozen=True)
class Port:
    """One input or output of a model.

    Attributes:
        name: in the model.
        dtype: of the tensor.
        shape: sizes; a dynamic one is a name or an expression.
        role: argument, target, random, state, lr, gradient, loss, metric, output or new_state.
        of: the name that it belongs to: the parameter of a gradient, the state of a new state; else "".
    """

    name: str
    dtype: np.dtype
    shape: tuple[Size, ...]
    role: str
    of: str


@dataclasses.dataclass(frozen=True)
class Draw:
    """One random input of a model: what is drawn for it."""

    name: str
    distribution: str


@dataclasses.dataclass(frozen=True)
class Model:
    """One model of the bundle.

    Attributes:
        path: of the .onnx file.
        inputs, outputs: in the model's order.
        draws: the random inputs, in order; a draw's number is its place here.
        frozen: the tensor in `frozen.safetensors` of each initializer that models share, by the initializer's name.
    """

    path: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    draws: tuple[Draw, ...]
    frozen: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A folder that trains.

    Attributes:
        folder: where it lies.
        identity: what tells its checkpoints from those of another bundle.
        models: by name: gradients, apply, evaluate, predict, and inference where there is one.
        state: every state tensor, by name.
        skips: whether apply.onnx skips a step that is not finite; then a loss that is not finite is not an error.
        schedule: for each learning-rate input its value at each step; after the last one it stays.
        manifest: the whole manifest.
    """

    folder: str
    identity: str
    models: Mapping[str, Model]
    state: Mapping[str, Port]
    schedule: Mapping[str, tuple[float, ...]]
    skips: bool
    manifest: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Bundle:
        """Reads and checks the manifest.

        Raises:
            BundleError: it is missing, damaged, newer than this package, or names a file outside the folder.
        """
        folder = os.fspath(folder)
        manifest = _load(os.path.join(folder, MANIFEST))
        if not isinstance(manifest.get("format"), int):
            raise _invalid("it has no format number")
        if manifest["format"] > FORMAT:
            text = f"The bundle {folder} has format {manifest['format']}; this package reads {FORMAT}: update it."
            raise BundleError(Code.FORMAT_NEWER, text)
        try:
            models = {name: _model(folder, entry) for name, entry in manifest["models"].items()}
            state = {entry["name"]: _port(entry) for entry in manifest["state"]}
            schedule = {name: tuple(float(v) for v in values) for name, values in manifest["schedule"].items()}
            identity = str(manifest["identity"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _invalid(f"{type(error).__name__}: {error}") from error
        if not all(schedule.values()):
            raise _invalid("a schedule has no value")
        missing = {"gradients", "apply"} - models.keys()
        if missing:
            raise BundleError(Code.MODEL_MISSING, f"The bundle {folder} has no model {', '.join(sorted(missing))}.")
        return cls(folder, identity, models, state, schedule, manifest.get("skips") is True, manifest)

    def model(self, name: str) -> Model:
        """A model of the bundle.

        Raises:
            BundleError: the bundle has none of this name.
        """
        if name not in self.models:
            raise BundleError(Code.MODEL_MISSING, f"The bundle {self.folder} has no model {name}.")
        return self.models[name]


def inside(folder: str, name: Any) -> str:
    """The path of a file of the bundle.

    Raises:
        BundleError: the name leads outside the folder, or the file does not exist.
    """
    if not isinstance(name, str) or not name or "\\" in name or ":" in name or "\0" in name:
        raise BundleError(Code.PATH_OUTSIDE, f"{name!r} is not the name of a file of the bundle.")
    if name.startswith("/") or ".." in name.split("/"):
        raise BundleError(Code.PATH_OUTSIDE, f"{name!r} leads outside the bundle.")
    path = os.path.join(folder, *name.split("/"))
    root = os.path.realpath(folder)
    if os.path.commonpath((root, os.path.realpath(path))) != root:
        raise BundleError(Code.PATH_OUTSIDE, f"{name!r} leads outside the bundle.")
    if not os.path.isfile(path):
        raise BundleError(Code.FILE_MISSING, f"{path}: file not found.")
    return path


def _load(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
    except FileNotFoundError as error:
        raise BundleError(Code.FILE_MISSING, f"{path}: file not found.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(Code.MANIFEST_INVALID, f"{path} is not JSON.") from error
    if not isinstance(manifest, dict):
        raise _invalid("it is not an object")
    return manifest


def _model(folder: str, entry: Mapping[str, Any]) -> Model:
    inputs = tuple(_port(port) for port in entry["inputs"])
    draws = tuple(Draw(str(draw["name"]), str(draw["distribution"])) for draw in entry.get("random", ()))
    known = {port.name for port in inputs}
    for draw in draws:
        if draw.name not in known or draw.distribution not in ("uniform", "normal"):
            raise ValueError(f"the draw {draw.name} is not a random input")
    frozen = {str(name): str(tensor) for name, tensor in entry.get("initializers", {}).items()}
    return Model(inside(folder, entry["file"]), inputs, tuple(_port(port) for port in entry["outputs"]), draws, frozen)


def _port(entry: Mapping[str, Any]) -> Port:
    shape = tuple(entry["shape"])
    if not all(isinstance(size, (int, str)) for size in shape):
        raise ValueError(f"{entry['name']} has a size that is neither a number nor an expression")
    return Port(str(entry["name"]), DTYPES[entry["dtype"]], shape, str(entry["role"]), str(entry.get("of") or ""))


def _invalid(reason: str) -> BundleError:
    return BundleError(Code.MANIFEST_INVALID, f"{MANIFEST} does not have the form of a bundle: {reason}.")
