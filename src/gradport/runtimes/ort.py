"""ONNX Runtime as a runtime: its CPU provider at each optimization level, and CUDA if installed."""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import torch

from gradport.errors import ProgramError
from gradport.model.program import Program, require_fitting
from gradport.model.sessions import new_session, run_session, session_options

__all__ = ["LEVELS", "Absent", "NoKernel", "cpu", "cuda", "cuda_is_absent", "make_session_runner", "unoptimized"]

LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
"""Names of the levels below the default level of sessions (https://onnxruntime.ai/docs/performance/
model-optimizations/graph-optimizations.html)."""

_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})
"""By default the provider multiplies float32 matrices in TF32, to 11 bits; torch does so only on request."""

Runner = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


class NoKernel(ProgramError):
    """The runtime has no kernel for an operator in this dtype or opset, which is neither right nor wrong."""


class Absent(ProgramError):
    """The runtime is not installed."""


def cpu(program: Program) -> Runner:
    """ONNX Runtime's CPU provider, as `Program.run` uses it."""
    _classify_error(program.session)
    return lambda tensors: _classify_error(lambda: program.run_named(tensors))


def make_session_runner(program: Program, level: str) -> Runner:
    """ONNX Runtime's CPU provider at one of `LEVELS`."""
    options = session_options(LEVELS[level])
    session = _classify_error(lambda: new_session(program.model, options))
    return _runner(program, session)


def unoptimized(program: Program) -> Runner:
    """ONNX Runtime's CPU provider without graph optimizations."""
    return make_session_runner(program, "disabled")


def cuda_is_absent() -> str | None:
    """The reason why there is no CUDA provider, or None if there is one."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "The installed ONNX Runtime has no CUDA provider; install onnxruntime-gpu."
    return None if torch.cuda.is_available() else "This machine has no CUDA device."


def cuda(program: Program) -> Runner:
    """ONNX Runtime's CUDA provider; after each run the profile must show that CUDA ran some nodes."""

    def run(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            options = session_options()
            options.enable_profiling = True
            options.profile_file_prefix = str(pathlib.Path(folder) / "profile")
            session = _classify_error(lambda: new_session(program.model, options, (_CUDA, "CPUExecutionProvider")))
            results = _runner(program, session)(tensors)
            by_provider = nodes_by_provider(pathlib.Path(session.end_profiling()))
        if not by_provider.get("CUDAExecutionProvider"):
            raise ProgramError(f"The CUDA provider ran none of the nodes ({by_provider or 'no node ran'}).")
        return results

    return run


def nodes_by_provider(profile: pathlib.Path) -> dict[str, int]:
    """The number of nodes that each provider ran, from ONNX Runtime's profile."""
    counts: dict[str, int] = {}
    for event in json.loads(profile.read_text("utf-8")):
        provider = event.get("args", {}).get("provider")
        if event.get("cat") == "Node" and provider:
            counts[provider] = counts.get(provider, 0) + 1
    return counts


def _runner(program: Program, session: Any) -> Runner:
    specs = program.inputs

    def run(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        given = tuple(spec for spec in specs if spec.name in tensors)
        require_fitting(given, tensors)
        return run_session(session, {spec.name: tensors[spec.name] for spec in given})

    return run


def _classify_error(attempt: Callable[[], Any]) -> Any:
    """A missing kernel is reported as "no kernel", not as a failure of the model."""
    try:
        return attempt()
    except ProgramError as error:
        if "NOT_IMPLEMENTED" in str(error):
            raise NoKernel(str(error)) from error
        raise
