"""State on disk as safetensors: the starting state of a bundle, and checkpoints.

Source: https://huggingface.co/docs/safetensors. A file is written beside its place and moved there when it is whole.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import safetensors
import safetensors.numpy

from gradport_runtime.bundle import Port
from gradport_runtime.errors import CheckpointError, Code
from gradport_runtime.files import replace_file

__all__ = ["Checkpoint", "read_checkpoint", "require_state", "write_checkpoint"]

_MARK = "gradport"

_PART = 64 * 2**20
"""Bytes that are read before a file is opened again."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A state and where the training stands.

    Attributes:
        state: the tensors by name; those that were read are the reader's own.
        step: steps that were taken.
        seed: of the random draws.
    """

    state: Mapping[str, np.ndarray]
    step: int
    seed: int


def read_checkpoint(path: str, identity: str, state: Mapping[str, Port]) -> Checkpoint:
    """Reads a file that `write_checkpoint` wrote.

    Args:
        path: of the file.
        identity: of the bundle that it must belong to.
        state: the state tensors that it must hold.

    Raises:
        CheckpointError: the file is missing or damaged, belongs to another bundle, or holds other tensors.
    """
    if not os.path.isfile(path):
        raise CheckpointError(Code.FILE_MISSING, f"{path}: file not found.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
        tensors = dict(_read_tensors(path, names))
        step, seed = int(metadata.get("step", 0)), int(metadata.get("seed", 0))
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(Code.FILE_DAMAGED, f"{path} is not a whole safetensors file: {error}.") from error
    if metadata.get(_MARK) != "state" or metadata.get("bundle") != identity:
        raise CheckpointError(Code.OTHER_BUNDLE, f"{path} is not a checkpoint of this bundle.")
    require_state(path, tensors, state)
    return Checkpoint(tensors, step, seed)


def _read_tensors(path: str, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a file. It is opened again after each part: what a mapped file has read counts as memory."""
    waiting = list(reversed(names))
    while waiting:
        size = 0
        with safetensors.safe_open(path, framework="numpy") as file:
            while waiting and size < _PART:
                name = waiting.pop()
                tensor = np.require(file.get_tensor(name), requirements=["C", "W"])
                size += tensor.nbytes
                yield name, tensor


def require_state(source: str, tensors: Mapping[str, np.ndarray], state: Mapping[str, Port]) -> None:
    """Checks names, dtypes and shapes.

    Raises:
        CheckpointError: the first that differs.
    """
    missing, surplus = sorted(state.keys() - tensors.keys()), sorted(tensors.keys() - state.keys())
    if missing or surplus:
        said = f"{', '.join(missing[:3])} missing" if missing else f"{', '.join(surplus[:3])} unknown"
        raise CheckpointError(Code.STATE_DIFFERS, f"{source} holds another state: {said}.")
    for name, port in state.items():
        tensor = tensors[name]
        if tensor.dtype != port.dtype or tensor.shape != port.shape:
            text = f"{source}: {name!r} is {tensor.dtype}{list(tensor.shape)}, not {port.dtype}{list(port.shape)}."
            raise CheckpointError(Code.STATE_DIFFERS, text)


def write_checkpoint(path: str, checkpoint: Checkpoint, identity: str) -> None:
    """Writes a state file; a crash while it is written keeps the file that was there.

    Raises:
        CheckpointError: the file cannot be written, or would replace a file that is not a state of gradport.
    """
    if os.path.exists(path) and not _is_marked(path):
        raise CheckpointError(
            Code.OTHER_BUNDLE, f"{path} exists and is not a checkpoint; save under another name, or move that file."
        )
    metadata = {_MARK: "state", "bundle": identity, "step": str(checkpoint.step), "seed": str(checkpoint.seed)}
    state = {name: np.asarray(tensor, order="C") for name, tensor in checkpoint.state.items()}
    try:
        with replace_file(path) as scratch:
            safetensors.numpy.save_file(state, scratch, metadata)
    except OSError as error:
        raise CheckpointError(Code.RUNTIME, f"{path} cannot be written: {error.strerror or error}.") from error


def _is_marked(path: str) -> bool:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get(_MARK) == "state"
    except (OSError, safetensors.SafetensorError):
        return False
