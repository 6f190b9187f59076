"""The runtimes that a model is run in: one function each, from a model to something that takes and gives tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from gradport.errors import ProgramError, SpecError
from gradport.program import Program, require_fitting

__all__ = ["RUNTIMES", "Runner", "runners"]

Runner = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


def runners(program: Program, names: Sequence[str] | None) -> dict[str, Runner | ProgramError]:
    """A runner for each runtime, or the reason why it does not take this model.

    Raises:
        SpecError: a runtime that is not known.
    """
    made: dict[str, Runner | ProgramError] = {}
    for name in RUNTIMES if names is None else names:
        if name not in RUNTIMES:
            raise SpecError(f"runtimes names {name!r}; known are {', '.join(RUNTIMES)}.")
        try:
            made[name] = RUNTIMES[name](program)
        except ProgramError as error:
            made[name] = error
    return made


def _onnxruntime(program: Program) -> Runner:
    """ONNX Runtime's CPU provider, as `Program.run` uses it."""
    program.session()
    return program.run_named


def _reference(program: Program) -> Runner:
    """`onnx.reference.ReferenceEvaluator`: slow, written from the operators' own definitions."""
    from onnx.reference import ReferenceEvaluator

    overloaded = [function.name for function in program.model.functions.values() if function.overload]
    if overloaded:
        raise ProgramError(f"The reference evaluator ignores overloads, and {overloaded[0]!r} has several.")
    try:
        evaluator = ReferenceEvaluator(ir.to_proto(program.model))
    except Exception as error:
        raise ProgramError(f"The reference evaluator does not take this model: {_first_line(error)}") from error
    specs = program.inputs
    wanted = {spec.name: spec.dtype for spec in program.outputs}

    def run(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        require_fitting(specs, tensors)
        feeds = {name: _to_numpy(tensor) for name, tensor in tensors.items()}
        try:
            with np.errstate(all="ignore"):
                results = evaluator.run(None, feeds)
        except Exception as error:
            raise ProgramError(f"The reference evaluator fails on this model: {_first_line(error)}") from error
        return {
            name: _to_torch(result, wanted[name])
            for name, result in zip(evaluator.output_names, results, strict=True)  # type: ignore[arg-type]
        }

    return run


RUNTIMES: dict[str, Callable[[Program], Runner]] = {"onnxruntime": _onnxruntime, "reference": _reference}


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor).contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(ir.DataType.BFLOAT16.numpy())
    return tensor.numpy()


def _to_torch(result: Any, dtype: torch.dtype) -> torch.Tensor:
    array = np.asarray(result)
    array = np.ascontiguousarray(array).reshape(array.shape)  # a 0-d array stays one
    if dtype == torch.bfloat16 and array.dtype.itemsize == 2:
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".") + "."
