"""training.json: what a runtime needs to know of a bundle. Its schema is training.schema.json beside this file."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

import torch
from gradport_runtime.bundle import DTYPES, FORMAT

import gradport
from gradport.errors import ExportError
from gradport.model.program import Program, TensorSpec
from gradport.subject.ports import Role

__all__ = ["GRADIENTS", "build_manifest", "schema", "successors"]

GRADIENTS, APPLY, EVALUATE, PREDICT, INFERENCE = "gradients", "apply", "evaluate", "predict", "inference"


def build_manifest(
    programs: Mapping[str, Program],
    state: Mapping[str, torch.Tensor],
    schedule: Mapping[str, tuple[float, ...]],
    inference: Mapping[str, Any],
    subject: str,
    *,
    skips: bool,
) -> dict[str, Any]:
    """The manifest of a bundle.

    Args:
        programs: gradients, apply, evaluate, predict.
        state: the starting state.
        schedule: the values of each learning-rate input.
        inference: the data entry of the inference model.
        subject: name of the trained Subject.
        skips: whether a step that is not finite is skipped inside apply.onnx.

    Raises:
        ExportError: a tensor has a dtype that a runtime does not read.
    """
    models = {name: _model(name, program) for name, program in programs.items()}
    models[INFERENCE] = {
        "file": f"{INFERENCE}.onnx",
        "inputs": [port for port in models[PREDICT]["inputs"] if port["role"] != Role.STATE],
        "outputs": models[PREDICT]["outputs"],
        "random": models[PREDICT]["random"],
        "data": inference,
    }
    metrics = [port["name"] for port in models[GRADIENTS]["outputs"] if port["role"] == "metric"]
    return {
        "format": FORMAT,
        "gradport": gradport.__version__,
        "torch": torch.__version__,
        "subject": subject,
        "identity": _identity(models, state),
        "models": models,
        "state": [_state_entry(name, tensor) for name, tensor in state.items()],
        "schedule": {name: list(values) for name, values in schedule.items()},
        "metrics": metrics,
        "skips": skips,
    }


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema of `training.json`."""
    text = (importlib.resources.files("gradport.training") / "training.schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def successors(program: Program) -> list[tuple[str, str]]:
    """Each state input and the output that replaces it, by name."""
    return [(str(spec.of), spec.name) for spec in program.outputs if spec.role is Role.NEW_STATE]


def _model(name: str, program: Program) -> dict[str, Any]:
    measured = name in (GRADIENTS, EVALUATE)
    return {
        "file": f"{name}.onnx",
        "inputs": [_port(spec, spec.role) for spec in program.inputs],
        "outputs": [
            _port(spec, "metric" if measured and spec.role is Role.OUTPUT else spec.role) for spec in program.outputs
        ],
        "random": [{"name": spec.name, "distribution": spec.distribution} for spec in program.random],
    }


def _port(spec: TensorSpec, role: str) -> dict[str, Any]:
    of = spec.name if role == Role.STATE else spec.of
    return {
        "name": spec.name,
        "dtype": _dtype(spec.name, spec.dtype),
        "shape": list(spec.shape),
        "role": role,
        "of": of,
    }


def _state_entry(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    role = "optimizer" if name.startswith(("optim.", "loss_scale.")) else "weight"
    return {"name": name, "dtype": _dtype(name, tensor.dtype), "shape": list(tensor.shape), "role": role, "of": None}


def _dtype(name: str, dtype: torch.dtype) -> str:
    text = str(dtype).removeprefix("torch.")
    if text not in DTYPES:
        raise ExportError(f"{name!r} is {text}, which a training bundle does not hold; train in float32 or float16.")
    return text


def _identity(models: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> str:
    """Bundles with equal state names, dtypes, shapes and ports share their checkpoints."""
    said = repr([(n, str(t.dtype), tuple(t.shape)) for n, t in state.items()]) + repr(sorted(models.items()))
    return hashlib.sha256(said.encode()).hexdigest()[:32]
