"""The state of a training step as a safetensors file beside its model.

The file has a mark in its metadata, so that `save` never replaces another safetensors file.

Source: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch

from gradport.errors import OutputError, ProgramError, first_line

__all__ = ["read_state", "require_replaceable", "state_file_of", "write_state"]

_MARK = {"gradport": "state", "gradport.format": "2"}


def state_file_of(model: str) -> str:
    """The path of a model's state file: `step.safetensors` for `step.onnx`."""
    return os.path.splitext(model)[0] + ".safetensors"


def write_state(path: str, state: Mapping[str, torch.Tensor]) -> None:
    """Writes the tensors by name."""
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, _MARK)


def require_replaceable(path: str) -> None:
    """Checks that a state file may be written to this path.

    Raises:
        OutputError: the file exists and is not a state file of gradport.
    """
    if os.path.exists(path) and not _is_marked(path):
        raise OutputError(
            f"{path} exists and is not a state file of gradport; save the model under another name, or move that file."
        )


def read_state(path: str) -> dict[str, torch.Tensor]:
    """Reads a file written by `write_state`.

    Raises:
        ProgramError: the file is not a state file of gradport, or is damaged.
    """
    if not _is_marked(path):
        raise ProgramError(f"{path} is not a state file of gradport.")
    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise ProgramError(f"{path} is damaged: {first_line(error)}") from error


def _is_marked(path: str) -> bool:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("gradport") == "state"
    except (OSError, safetensors.SafetensorError):
        return False
