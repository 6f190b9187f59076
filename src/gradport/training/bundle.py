"""A Training: the models of a bundle with their state, in memory; saved as a folder and read back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import gradport_runtime
import numpy as np
import onnx_ir as ir
import torch
from gradport_runtime.bundle import FROZEN, MANIFEST, STATE, Bundle, inside
from gradport_runtime.checkpoints import Checkpoint, read_checkpoint, write_checkpoint

from gradport.errors import OutputError, ProgramError
from gradport.exporting.export_step import write_back
from gradport.model.loading import load
from gradport.model.program import Program
from gradport.training.frozen import FrozenWeights

__all__ = ["Training", "load_training"]


class Training:
    """What `export_training` gives: a bundle that is not on disk yet.

    Attributes:
        programs: gradients, apply, evaluate and predict, by name.
        inference: the prediction whose weights a runtime writes.
        manifest: what `training.json` holds.
    """

    def __init__(
        self,
        programs: Mapping[str, Program],
        inference: ir.Model,
        manifest: Mapping[str, Any],
        state: Mapping[str, torch.Tensor],
    ) -> None:
        self.programs = dict(programs)
        self.inference = inference
        self.manifest = dict(manifest)
        self._state = dict(state)

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the starting state by name: parameters, buffers, and what the optimizer keeps."""
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the bundle. Nothing half-written is left behind; an earlier bundle in the folder is replaced.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        folder = os.path.abspath(os.fspath(folder))
        _require_replaceable(folder)
        try:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            with tempfile.TemporaryDirectory(dir=os.path.dirname(folder), prefix=".gradport-") as scratch:
                whole = os.path.join(scratch, "bundle")
                os.mkdir(whole)
                self._write(whole)
                if os.path.isdir(folder):
                    shutil.move(folder, os.path.join(scratch, "before"))
                os.replace(whole, folder)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error

    def write_back(
        self,
        state: Mapping[str, torch.Tensor | np.ndarray],
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Writes a state, such as `Trainer.state()` gives, into a module and its optimizer.

        Raises:
            SpecError: a name that the module or the optimizer does not have, or another shape; nothing was written.
        """
        write_back({name: torch.as_tensor(value) for name, value in state.items()}, module, optimizer)

    def _write(self, folder: str) -> None:
        models = {name: program.model for name, program in self.programs.items()} | {"inference": self.inference}
        frozen = FrozenWeights(models)
        frozen.save(folder)
        for name, model in models.items():
            location = frozen.exported_name if name == "inference" and frozen.exported_name else FROZEN
            ir.save(frozen.refer(model, folder, location), os.path.join(folder, f"{name}.onnx"))
        arrays = {name: tensor.numpy() for name, tensor in self._state.items()}
        write_checkpoint(os.path.join(folder, STATE), Checkpoint(arrays, 0, 0), self.manifest["identity"])
        with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
            json.dump(_with_frozen(self.manifest, models, frozen), file, indent=1, ensure_ascii=False)

    def __repr__(self) -> str:
        return f"Training({self.manifest['subject']}, {len(self._state)} state tensors)"


def load_training(folder: str | os.PathLike[str]) -> Training:
    """Reads a bundle that `Training.save` wrote.

    Raises:
        ProgramError: the folder is not a bundle, or is damaged.
    """
    folder = os.fspath(folder)
    try:
        bundle = Bundle.read(folder)
        checkpoint = read_checkpoint(inside(folder, STATE), bundle.identity, bundle.state)
    except gradport_runtime.Error as error:
        raise ProgramError(str(error)) from error
    programs = {name: load(model.path) for name, model in bundle.models.items() if name != "inference"}
    inference = ir.load(bundle.model("inference").path)
    state = {name: torch.from_numpy(checkpoint.state[name]) for name in bundle.state}
    return Training(programs, inference, bundle.manifest, state)


def _with_frozen(manifest: Mapping[str, Any], models: Mapping[str, ir.Model], frozen: FrozenWeights) -> dict[str, Any]:
    """The manifest with the frozen weights: those that models share, and the file beside an exported model."""
    entries = dict(manifest["models"])
    for name, model in models.items():
        shared = {} if name == "inference" else frozen.initializers(model)
        entries[name] = {**entries[name], **({"initializers": shared} if shared else {})}
    if frozen.exported_name:
        entries["inference"] = {**entries["inference"], "frozen": frozen.exported_name}
    return {**manifest, "models": entries}


def _require_replaceable(folder: str) -> None:
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.isfile(os.path.join(folder, MANIFEST)):
        raise OutputError(f"{folder} exists and is not a training bundle; save under another name, or move it.")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{folder} is a file; a bundle is a folder.")
